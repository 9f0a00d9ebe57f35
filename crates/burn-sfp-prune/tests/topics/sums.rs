//! Sums, means and maxima over channels: what is zero adds nothing to them.

use burn::module::{Module, Param};
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, BatchNormConfig, Linear};
use burn::tensor::Tensor;
use burn::tensor::activation::{gelu, relu, sigmoid};
use burn_sfp_graph::GraphModule;
use burn_sfp_nn::{Scope, Shrink};
use burn_sfp_prune::{BiasCorrection, Budget, GroupCut, Magnitude, Planner, PrunePlan};

use crate::support::*;

type Bare<const D: usize> = Param<Tensor<D>>;

fn half() -> Planner {
    Planner::new().budget(Budget::PerLayer(0.5))
}

/// Prunes by half and by every other share, and says which layers lost filters.
pub fn smaller_layers<M: GraphModule>(net: &M, x: &M::Inputs) -> Vec<String> {
    sweep(net, x, GroupCut::WithinGroups);
    let plan = prune(net, x, 0.5).plan;
    let smaller = plan.layers.iter().filter(|layer| layer.filters_after < layer.filters_before);
    smaller.map(|layer| layer.path.clone()).collect()
}

/// The reason why a layer keeps its filters.
pub fn reason<M: GraphModule>(net: &M, x: &M::Inputs, path: &str) -> String {
    why(&prune(net, x, 0.5).plan, path).to_string()
}

/// What a network computes of an embedding and a table of centres.
#[derive(Clone, Copy, Debug)]
enum Compared {
    /// The cosine (CLIP, ArcFace).
    Cosine,
    /// The cosine with the sum of absolute values in place of the length.
    Manhattan,
    /// The cosine with any power.
    Power,
    /// The squared distance.
    Distance,
    /// The sum of absolute differences.
    Absolute,
    /// The largest absolute difference.
    Chebyshev,
    /// The squared distance, multiplied out.
    Product,
    /// The product with the sum of everything.
    Everything,
}

#[derive(Module, Debug)]
struct Embedding {
    a: Linear,
    embed: Linear,
    centres: Bare<2>,
    #[module(skip)]
    by: Compared,
}

graph!(Embedding: Tensor<2> => Tensor<2>, |net, x| {
    let e = net.embed.forward(relu(net.a.forward(x)));
    let c = net.centres.val();
    // `[samples, centres, width]`.
    let apart = || e.clone().unsqueeze_dim::<3>(1) - c.clone().unsqueeze::<3>();
    match net.by {
        Compared::Cosine => {
            let e = e.clone() / e.square().sum_dim(1).sqrt();
            e.matmul((c.clone() / c.square().sum_dim(1).sqrt()).transpose()) * 16.0
        }
        Compared::Manhattan => {
            let e = e.clone() / (e.abs().sum_dim(1) + 1e-4);
            e.matmul((c.clone() / c.abs().sum_dim(1)).transpose())
        }
        Compared::Power => {
            let e = e.clone() / e.abs().powf_scalar(3.0).sum_dim(1).powf_scalar(1.0 / 3.0).clamp_min(1e-6);
            e.matmul(c.transpose())
        }
        Compared::Distance => -apart().square().sum_dim(2).squeeze_dim::<2>(2),
        Compared::Absolute => -apart().abs().sum_dim(2).squeeze_dim::<2>(2),
        Compared::Chebyshev => -apart().abs().max_dim(2).squeeze_dim::<2>(2),
        Compared::Product => {
            let squares = e.clone().powi_scalar(2).sum_dim(1);
            let own = (c.clone() * c.clone()).sum_dim(1).transpose();
            e.matmul(c.transpose()) * 2.0 - squares - own
        }
        Compared::Everything => e.clone().matmul(c.transpose()) * e.square().sum().sqrt().unsqueeze::<2>(),
    }
});

#[test]
fn unit_vectors_and_distances() {
    use Compared::*;
    for by in [Cosine, Manhattan, Power, Distance, Absolute, Chebyshev, Product, Everything] {
        let net = random(Embedding { a: linear(4, 8), embed: linear(8, 10), centres: bare([3, 10]), by });
        let x = input([2, 4]);
        assert_eq!(smaller_layers(&net, &x)[..2], ["a", "embed"], "{by:?}");
        let plan = prune(&net, &x, 0.5).plan;
        assert_eq!(kept(&plan, "centres", 1), kept(&plan, "embed.weight", 1), "{by:?}");
    }
}

/// A map whose channels some operation runs along.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Along {
    /// Unit vectors at each position.
    Unit,
    /// The sum as a map of attention.
    Attention,
    /// The maximum of values that are not negative.
    Maximum,
    /// The maximum of any values.
    AnyMaximum,
    /// The mean, taken in by the weight of the next layer.
    Mean,
    /// The mean, taken in by nothing.
    Gate,
    /// The mean with a number added.
    Shifted,
    /// Mean and maximum side by side (CBAM).
    Both,
    /// The sum of what is not zero without its weights.
    Sigmoid,
    /// The least.
    Minimum,
    /// The variance.
    Variance,
}

#[derive(Module, Debug)]
struct Map {
    stem: Conv2d,
    spatial: Conv2d,
    one: Conv2d,
    body: Conv2d,
    fc: Linear,
    #[module(skip)]
    along: Along,
}

graph!(Map: Tensor<4> => Tensor<2>, |net, x| {
    let x = net.stem.forward(x);
    let y = match net.along {
        Along::Unit => {
            let x = relu(x);
            x.clone() / (x.square().sum_dim(1) + 1e-3).sqrt()
        }
        Along::Attention => {
            let x = x.tanh();
            x.clone() * sigmoid(x.abs().sum_dim(1))
        }
        Along::Maximum => {
            let x = relu(x);
            x.clone() * sigmoid(x.max_dim(1))
        }
        Along::AnyMaximum => x.clone() * sigmoid(x.max_dim(1)),
        Along::Mean => {
            let x = gelu(x);
            x.clone() * sigmoid(net.one.forward(x.mean_dim(1) * 0.5))
        }
        Along::Shifted => x.clone() * sigmoid(net.one.forward(x.mean_dim(1) + -0.5)),
        Along::Gate => x.clone() * sigmoid(x.mean_dim(1)),
        Along::Both => {
            let x = relu(x);
            // The gate of the channels, then that of the positions.
            let x = x.clone() * sigmoid(x.clone().mean_dim(3).mean_dim(2));
            let both = Tensor::cat(vec![x.clone().mean_dim(1), x.clone().max_dim(1)], 1);
            x * sigmoid(net.spatial.forward(both))
        }
        Along::Sigmoid => {
            let x = sigmoid(x);
            x.clone() / x.sum_dim(1)
        }
        Along::Minimum => {
            let x = relu(x);
            x.clone() - x.min_dim(1)
        }
        Along::Variance => x.clone() / (x.var(1) + 0.1).sqrt(),
    };
    net.fc.forward(mean(relu(net.body.forward(y))))
});

fn map(along: Along) -> Map {
    random(Map { stem: conv(2, 8), spatial: conv(2, 1), one: conv(1, 1), body: conv(8, 6), fc: linear(6, 3), along })
}

#[test]
fn maps_along_their_channels() {
    let x = input([2, 2, 5, 5]);
    for along in [Along::Unit, Along::Attention, Along::Maximum, Along::Mean, Along::Both] {
        let smaller = smaller_layers(&map(along), &x);
        assert_eq!(smaller, ["stem", "body"], "{along:?}");
    }
    for (along, texts) in [
        (Along::AnyMaximum, ["MaxDim runs along its channels", "may be negative"]),
        (Along::Shifted, ["MeanDim runs along its channels", "AddScalar cannot take the factor"]),
        (Along::Gate, ["MeanDim runs along its channels", "Sigmoid cannot take the factor"]),
        (Along::Sigmoid, ["SumDim runs along its channels", "not zero without their weights"]),
        (Along::Minimum, ["MinDim runs along its channels", ""]),
        (Along::Variance, ["MeanDim runs along its channels", "Sub cannot take the factor"]),
    ] {
        let net = map(along);
        assert_eq!(smaller_layers(&net, &x), ["body"], "{along:?}");
        holds(reason(&net, &x, "stem"), &texts);
    }
}

#[test]
fn the_weight_behind_a_mean_takes_its_factor() {
    let (net, x) = (map(Along::Both), input([2, 2, 5, 5]));
    let smaller = prune(&net, &x, 0.5);
    let scaled: Vec<f32> = values(smaller.model.spatial.weight.val());
    let before: Vec<f32> = values(net.spatial.weight.val());
    // Four of eight channels: the mean is twice as large. The maximum is what it was.
    let expected = before.iter().enumerate().map(|(at, weight)| if at < 9 { weight * 0.5 } else { *weight });
    assert_eq!(scaled, expected.collect::<Vec<f32>>());
    // The plan holds it, also as a file.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plan.json");
    smaller.plan.save(&file).unwrap();
    let plan = PrunePlan::load(&file).unwrap();
    assert_eq!(plan, smaller.plan);
    let again = plan.apply(&net).unwrap();
    assert!(difference(again.run(x.clone()), smaller.model.run(x)) < TOLERANCE);
}

/// A mean over all features, taken in by a linear layer, by a vector, and by two layers.
#[derive(Module, Debug)]
struct Means {
    a: Linear,
    gate: Linear,
    scale: Bare<2>,
    fc: Linear,
    #[module(skip)]
    way: usize,
}

graph!(Means: Tensor<2> => Tensor<2>, |net, x| {
    let x = relu(net.a.forward(x));
    let mean = x.clone().mean_dim(1);
    let gate: Tensor<2> = match net.way {
        0 => net.gate.forward(mean.square()),
        1 => (x.clone().square().mean_dim(1).sqrt() * net.scale.val()).tanh(),
        2 => net.gate.forward(relu(mean) * 3.0).tanh(),
        _ => (net.scale.val() * mean).tanh() + net.gate.forward(x.clone().abs().mean_dim(1)),
    };
    net.fc.forward(x) * gate
});

#[test]
fn means_taken_in_by_what_follows() {
    for way in 0..4 {
        let net = Means { a: linear(4, 8), gate: linear(1, 3), scale: bare([1, 3]), fc: linear(8, 3), way };
        assert_eq!(smaller_layers(&random(net), &input([3, 4])), ["a"], "{way}");
    }
}

/// Global response normalisation (ConvNeXt V2), its channels last.
#[derive(Module, Debug)]
struct Response {
    gamma: Bare<1>,
    beta: Bare<1>,
    epsilon: f64,
    #[module(skip)]
    literal: bool,
}

impl Shrink for Response {
    fn shrink(&mut self, scope: &mut Scope<'_>) {
        if let Some(epsilon) = scope.value("epsilon") {
            self.epsilon = epsilon;
        }
    }
}

impl Response {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let epsilon = if self.literal { 1e-6 } else { self.epsilon };
        let gx = x.clone().square().sum_dim(1).sum_dim(2).sqrt();
        let nx = gx.clone() / (gx.mean_dim(3) + epsilon);
        self.gamma.val().unsqueeze() * (x.clone() * nx) + self.beta.val().unsqueeze() + x
    }
}

#[derive(Module, Debug, Shrink)]
struct Block {
    stem: Conv2d,
    expand: Linear,
    response: Response,
    shrink: Linear,
    fc: Linear,
}

graph!(shrink Block: Tensor<4> => Tensor<2>, |net, x| {
    let x = net.stem.forward(x);
    let y = x.clone().permute([0, 2, 3, 1]);
    let y = net.shrink.forward(net.response.forward(gelu(net.expand.forward(y))));
    net.fc.forward(mean(x + y.permute([0, 3, 1, 2])))
});

/// The same without access to its fields.
#[derive(Module, Debug)]
struct Closed {
    net: Block,
}

graph!(Closed: Tensor<4> => Tensor<2>, |net, x| net.net.run(x));

fn block(epsilon: f64, literal: bool) -> Block {
    let response = Response { gamma: bare([12]), beta: bare([12]), epsilon, literal };
    random(Block { stem: conv(2, 4), expand: linear(4, 12), response, shrink: linear(12, 4), fc: linear(4, 3) })
}

#[test]
fn global_response_normalisation() {
    let x = input([2, 2, 5, 5]);
    // Epsilon is a field, and large enough to be seen.
    let net = block(0.5, false);
    let plan = prune(&net, &x, 0.5).plan;
    assert_eq!(plan.layer("expand").unwrap().filters_after, 6, "{:?}", plan.unpruned);
    sweep(&net, &x, GroupCut::WithinGroups);
    assert!((prune(&net, &x, 0.5).model.response.epsilon - 1.0).abs() < 1e-12);
    // It is a number in the code, and too small to be seen.
    let net = Closed { net: block(0.0, true) };
    assert!(smaller_layers(&net, &x).contains(&"net.expand".to_string()));
    // It is a field that nothing can set.
    let net = Closed { net: block(0.5, false) };
    assert!(!smaller_layers(&net, &x).contains(&"net.expand".to_string()));
    holds(reason(&net, &x, "net.expand"), &["epsilon"]);
}

/// A normalised channel before a sum: without its weights it is a constant that is not zero.
#[derive(Module, Debug)]
struct Constant {
    stem: Conv2d,
    norm: BatchNorm,
    body: Conv2d,
    fc: Linear,
}

graph!(Constant: Tensor<4> => Tensor<2>, |net, x| {
    let x = relu(net.norm.forward(net.stem.forward(x)));
    let x = x.clone() / (x.square().sum_dim(1) + 0.1).sqrt();
    net.fc.forward(mean(relu(net.body.forward(x))))
});

#[test]
fn constants_count_as_zero_where_they_are_summed() {
    let net = Constant {
        stem: conv(2, 8),
        norm: BatchNormConfig::new(8).init(&device()),
        body: point(8, 6),
        fc: linear(6, 3),
    };
    let (net, x) = (random(net), input([2, 2, 5, 5]));
    assert_eq!(smaller_layers(&net, &x), ["stem", "body"]);
    let planner = half().bias_correction(BiasCorrection::Constants);
    let plan = prune_with(&net, &x, &planner, &Magnitude::l2()).unwrap().plan;
    assert!(plan.bias_corrections.is_empty());
}
