//! What is said of a module that does not follow fits its cause.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
use burn::tensor::activation::{relu, softmax};
use burn_sfp_graph::GraphModule;
use burn_sfp_nn::{Scope, Shrink};
use burn_sfp_prune::{Budget, GroupCut, Magnitude, Planner, PruneError};

use crate::support::*;

fn strict<M: GraphModule>(net: &M, x: &M::Inputs, ratio: f64) -> PruneError {
    let planner = Planner::new().budget(Budget::PerLayer(ratio)).strict();
    prune_with(net, x, &planner, &Magnitude::l2()).unwrap_err()
}

/// An attention that stores how many heads it has and how wide they are.
#[derive(Module, Debug)]
struct Heads {
    qkv: Linear,
    out: Linear,
    heads: usize,
    width: usize,
    /// A number of its own: computed from the width, it would change with it.
    scale: f64,
}

impl Heads {
    fn new() -> Self {
        Self { qkv: linear(8, 48), out: linear(16, 8), heads: 4, width: 4, scale: 0.5 }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [b, t, _] = x.dims();
        let qkv = self.qkv.forward(x).reshape([b, t, 3, self.heads, self.width]).permute([2, 0, 3, 1, 4]);
        let part = |k: usize| qkv.clone().narrow(0, k, 1).squeeze_dim::<4>(0);
        let weights = part(0).matmul(part(1).swap_dims(2, 3)).mul_scalar(self.scale);
        let mixed = softmax(weights, 3).matmul(part(2));
        self.out.forward(mixed.swap_dims(1, 2).reshape([b, t, self.heads * self.width]))
    }
}

macro_rules! attentive {
    ($net:ident, $heads:ty) => {
        #[derive(Module, Debug, Shrink)]
        struct $net {
            a: Linear,
            heads: $heads,
            fc: Linear,
        }
        graph!(shrink $net: Tensor<3> => Tensor<2>, |net, x| {
            let x = net.heads.inner.forward(relu(net.a.forward(x)));
            net.fc.forward(relu(x).mean_dim(1).squeeze_dim(1))
        });
        impl $net {
            fn new() -> Self {
                random(Self { a: linear(4, 8), heads: <$heads>::new(), fc: linear(8, 3) })
            }
        }
    };
}

/// Counts its heads anew: whole ones have left.
#[derive(Module, Debug)]
struct WholeHeads {
    inner: Heads,
}

impl WholeHeads {
    fn new() -> Self {
        Self { inner: Heads::new() }
    }
}

impl Shrink for WholeHeads {
    fn shrink(&mut self, _scope: &mut Scope<'_>) {
        self.inner.heads = self.inner.qkv.weight.dims()[1] / (3 * self.inner.width);
    }
}

attentive!(CountsWhole, WholeHeads);

/// Counts its heads anew, and what is left inside of them.
#[derive(Module, Debug)]
struct AnyHeads {
    inner: Heads,
}

impl AnyHeads {
    fn new() -> Self {
        Self { inner: Heads::new() }
    }
}

impl Shrink for AnyHeads {
    fn shrink(&mut self, scope: &mut Scope<'_>) {
        let inner = &mut self.inner;
        let Some(columns) = scope.axis("inner.qkv.weight", 1) else { return };
        let (queries, width) = (columns.before / 3, inner.width);
        let mut heads: Vec<usize> = columns.keep.iter().filter(|&&k| k < queries).map(|k| k / width).collect();
        heads.dedup();
        inner.width = columns.keep.len() / (3 * heads.len());
        inner.heads = heads.len();
    }
}

attentive!(CountsAny, AnyHeads);

#[test]
fn a_shrink_that_counts_whole_heads() {
    let x = input([2, 5, 4]);
    // By default the other coordinate is taken.
    let net = CountsWhole::new();
    let smaller = prune(&net, &x, 0.5).model.heads.inner;
    assert_eq!((smaller.heads, smaller.width, smaller.qkv.weight.dims()[1]), (2, 4, 24));
    let error = strict(&net, &x, 0.5);
    holds(error, &["after layer `heads.inner.qkv`", "`group_cut(GroupCut::WholeGroups)` cuts whole heads"]);
    let planner = Planner::new().group_cut(GroupCut::WholeGroups).strict();
    assert!(prune_with(&net, &x, &planner, &Magnitude::l2()).is_ok());
    // One that counts either way follows either cut.
    for (cut, heads, width) in [(GroupCut::WithinGroups, 4, 2), (GroupCut::WholeGroups, 2, 4)] {
        let planner = Planner::new().group_cut(cut).strict();
        let smaller = prune_with(&CountsAny::new(), &x, &planner, &Magnitude::l2()).unwrap().model.heads.inner;
        assert_eq!((smaller.heads, smaller.width, smaller.qkv.weight.dims()[1]), (heads, width, 24));
    }
    sweep(&CountsAny::new(), &x, GroupCut::WholeGroups);
}

/// A shortcut where the widths are equal.
#[derive(Module, Debug)]
struct Shortcuts {
    blocks: Vec<Linear>,
    fc: Linear,
}

graph!(Shortcuts: Tensor<2> => Tensor<2>, |net, x| {
    let block = |x: Tensor<2>, block: &Linear| {
        let y = relu(block.forward(x.clone()));
        if y.dims() == x.dims() { x + y } else { y }
    };
    net.fc.forward(net.blocks.iter().fold(x, block))
});

/// As many steps as the width says.
#[derive(Module, Debug)]
struct Steps {
    a: Linear,
    b: Linear,
}

graph!(Steps: Tensor<2> => Tensor<2>, |net, x| {
    let x = net.a.forward(x);
    let steps = x.dims()[1] / 2;
    net.b.forward((0..steps).fold(x, |x, _| x.tanh()))
});

/// Another activation where the layer is narrow.
#[derive(Module, Debug)]
struct Narrow {
    a: Linear,
    b: Linear,
}

graph!(Narrow: Tensor<2> => Tensor<2>, |net, x| {
    let x = net.a.forward(x);
    net.b.forward(if x.dims()[1] > 5 { x.tanh() } else { relu(x) })
});

#[test]
fn a_branch_on_widths() {
    let x = input([2, 4]);
    let texts = ["takes another way where widths are smaller", "branch on a field", "`exclude`"];
    let net = random(Shortcuts { blocks: vec![linear(4, 8), linear(8, 12)], fc: linear(12, 3) });
    holds(strict(&net, &x, 0.5), &texts);
    let plan = prune(&net, &x, 0.5).plan;
    holds(why(&plan, "blocks.0"), &texts);
    assert_eq!(plan.layer("blocks.1").unwrap().filters_after, 6);
    let net = random(Steps { a: linear(4, 8), b: linear(8, 3) });
    holds(strict(&net, &x, 0.5), &texts);
    holds(why(&prune(&net, &x, 0.5).plan, "a"), &texts);
    let net = random(Narrow { a: linear(4, 8), b: linear(8, 3) });
    holds(strict(&net, &x, 0.5), &texts);
    holds(why(&prune(&net, &x, 0.5).plan, "a"), &texts);
}

/// All axes of length 1 go.
#[derive(Module, Debug)]
struct Squeezed {
    a: Conv2d,
    fc: Linear,
    named: bool,
}

graph!(Squeezed: Tensor<4> => Tensor<2>, |net, x| {
    let x = relu(net.a.forward(x)).mean_dim(3).mean_dim(2);
    net.fc.forward(if net.named { x.squeeze_dims::<2>(&[2, 3]) } else { x.squeeze::<2>() })
});

/// The same of tokens.
#[derive(Module, Debug)]
struct SqueezedTokens {
    a: Linear,
    fc: Linear,
}

graph!(SqueezedTokens: Tensor<3> => Tensor<2>, |net, x| net.fc.forward(relu(net.a.forward(x)).mean_dim(1).squeeze::<2>()));

#[test]
fn a_squeeze_of_a_channel_that_is_left_alone() {
    let x = input([2, 3, 4, 4]);
    let texts = ["`squeeze()` drops every axis of length 1", "`squeeze_dim`"];
    let net = |named| random(Squeezed { a: conv(3, 8), fc: linear(8, 3), named });
    holds(strict(&net(false), &x, 0.9), &texts);
    holds(why(&prune(&net(false), &x, 0.9).plan, "a"), &texts);
    // While more channels stay, it is right; with the axes named, always.
    assert_eq!(prune(&net(false), &x, 0.5).model.fc.weight.dims(), [4, 3]);
    assert_eq!(prune(&net(true), &x, 0.9).model.fc.weight.dims(), [1, 3]);
    let net = random(SqueezedTokens { a: linear(4, 8), fc: linear(8, 3) });
    holds(strict(&net, &input([2, 5, 4]), 0.95), &texts);
    assert_eq!(prune(&net, &input([2, 5, 4]), 0.5).model.fc.weight.dims(), [4, 3]);
}

/// A frozen normalisation: scale and shift are tensors, not parameters.
#[derive(Module, Debug)]
struct Frozen {
    a: Linear,
    scale: Tensor<1>,
    shift: Tensor<1>,
    b: Linear,
}

graph!(Frozen: Tensor<2> => Tensor<2>, |net, x| {
    let x = net.a.forward(x) * net.scale.clone().unsqueeze() + net.shift.clone().unsqueeze();
    net.b.forward(relu(x))
});

/// The way out.
#[derive(Module, Debug)]
struct Thawed {
    a: Linear,
    scale: Param<Tensor<1>>,
    shift: Param<Tensor<1>>,
    b: Linear,
}

graph!(Thawed: Tensor<2> => Tensor<2>, |net, x| {
    let x = net.a.forward(x) * net.scale.val().unsqueeze() + net.shift.val().unsqueeze();
    net.b.forward(relu(x))
});

/// As detection networks write it: statistics and an affine map, in a layer of its own, several times.
#[derive(Module, Debug)]
struct FrozenNorm {
    mean: Tensor<1>,
    variance: Tensor<1>,
    gamma: Option<Tensor<1>>,
}

impl FrozenNorm {
    fn new(width: usize, affine: bool) -> Self {
        let filled = |value: f64| Tensor::full([width], value, &device());
        Self { mean: filled(0.25), variance: filled(2.0), gamma: affine.then(|| filled(1.5)) }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let scale = (self.variance.clone() + 1e-5).sqrt().recip();
        let x = (x - self.mean.clone().unsqueeze()) * scale.unsqueeze();
        match &self.gamma {
            Some(gamma) => x * gamma.clone().unsqueeze(),
            None => x,
        }
    }
}

#[derive(Module, Debug)]
struct Detector {
    layers: Vec<Linear>,
    norms: Vec<FrozenNorm>,
    last: Linear,
}

graph!(Detector: Tensor<2> => Tensor<2>, |net, x| {
    let layers = net.layers.iter().zip(&net.norms);
    net.last.forward(layers.fold(x, |x, (layer, norm)| relu(norm.forward(layer.forward(x)))))
});

/// A constant that the pass makes has no name.
#[derive(Module, Debug)]
struct Made {
    a: Linear,
    b: Linear,
}

graph!(Made: Tensor<2> => Tensor<2>, |net, x| {
    let x = net.a.forward(x);
    let steps = Tensor::<1>::from_floats([1., 2., 3., 4., 5., 6., 7., 8.], &x.device());
    net.b.forward(x * steps.unsqueeze())
});

#[test]
fn tensors_that_are_no_parameters_are_named() {
    let x = input([2, 4]);
    let filled = |value: f64| Tensor::full([8], value, &device());
    let net = random(Frozen { a: linear(4, 8), scale: filled(2.0), shift: filled(1.0), b: linear(8, 3) });
    let plan = prune(&net, &x, 0.5).plan;
    holds(why(&plan, "a"), &["`scale`, a tensor", "no parameter", "`Param`", "`set_require_grad(false)`"]);
    holds(plan.summary(), &["a keeps its filters: it meets `scale`"]);
    let frozen = |values: Tensor<1>| Param::from_tensor(values).set_require_grad(false);
    let (a, b) = (net.a.clone(), net.b.clone());
    let thawed = Thawed { a, scale: frozen(filled(2.0)), shift: frozen(filled(1.0)), b };
    assert!(difference(thawed.run(x.clone()), net.run(x.clone())) < TOLERANCE);
    let smaller = prune(&thawed, &x, 0.5).model;
    assert_eq!((smaller.a.weight.dims(), smaller.scale.dims(), smaller.shift.is_require_grad()), ([4, 4], [4], false));

    let net = random(Detector {
        layers: vec![linear(4, 6), linear(6, 8)],
        norms: vec![FrozenNorm::new(6, false), FrozenNorm::new(8, true)],
        last: linear(8, 3),
    });
    let plan = prune(&net, &x, 0.5).plan;
    holds(why(&plan, "layers.0"), &["`norms.0.mean`, a tensor"]);
    holds(why(&plan, "layers.1"), &["`norms.1.mean`, a tensor"]);
    let net = random(Made { a: linear(4, 8), b: linear(8, 3) });
    holds(why(&prune(&net, &x, 0.5).plan, "a"), &["it meets an input of the network or a constant"]);
    // Computed from another one.
    let net = random(Scaled { a: linear(4, 8), variance: filled(2.0), b: linear(8, 3) });
    holds(why(&prune(&net, &x, 0.5).plan, "a"), &["`variance`, a tensor"]);
}

#[derive(Module, Debug)]
struct Scaled {
    a: Linear,
    variance: Tensor<1>,
    b: Linear,
}

graph!(Scaled: Tensor<2> => Tensor<2>, |net, x| {
    let deviation = (net.variance.clone() + 1e-5).sqrt();
    net.b.forward(relu(net.a.forward(x) / deviation.unsqueeze()))
});

/// Bounds of a slice that are written down.
#[derive(Module, Debug)]
struct Bounds {
    a: Linear,
    b: Linear,
}

graph!(Bounds: Tensor<2> => Tensor<2>, |net, x| {
    let x = relu(net.a.forward(x));
    net.b.forward(x.narrow(1, 2, 2))
});

#[test]
fn bounds_of_slices() {
    let (net, x) = (random(Bounds { a: linear(4, 8), b: linear(2, 3) }), input([2, 4]));
    holds(strict(&net, &x, 0.5), &["(Slice) after layer `a`", "compute it from `dims()`", "`Shrink`"]);
}
