//! What cannot be pruned is told as a typed error or a reason that says where and what to do; the model stays as it was.

use burn::module::Module;
use burn::nn::Linear;
use burn::nn::conv::Conv2d;
use burn::tensor::activation::relu;
use burn::tensor::{Int, Tensor, TensorData};
use burn_sfp_core::{AnalyzeConfig, NoProgress, SfpError, SfpModule, TensorCalibration, analyze_network};
use burn_sfp_graph::GraphError;
use burn_sfp_graph::GraphModule;
use burn_sfp_graph::Network;
use burn_sfp_nn::Shrink;
use burn_sfp_prune::{Afcc, Budget, Magnitude, Planner, PruneError};

use crate::support::*;

fn half() -> Planner {
    Planner::new().budget(Budget::PerLayer(0.5))
}

#[derive(Module, Debug)]
struct Mlp {
    a: Linear,
    b: Linear,
}

impl Mlp {
    fn new(hidden: usize) -> Self {
        random(Self { a: linear(4, hidden), b: linear(hidden, 3) })
    }
}

impl GraphModule for Mlp {
    type Inputs = Tensor<2>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<2>) -> Tensor<2> {
        self.b.forward(relu(self.a.forward(x)))
    }
}

/// Picks two values of every sample by their coordinates.
#[derive(Module, Debug)]
struct Picks {
    a: Linear,
    b: Linear,
    c: Linear,
}

graph!(Picks: Tensor<2> => Tensor<2>, |net, x| {
    let x = relu(net.a.forward(x));
    let at = Tensor::<2, Int>::from_data(TensorData::new(vec![0i64, 3, 1, 5], [2, 2]), &x.device());
    let picked: Tensor<1> = x.gather_nd(at);
    net.c.forward(relu(net.b.forward(picked.reshape([2, 1]))))
});

#[test]
fn an_operation_that_is_not_followed() {
    let net = random(Picks { a: linear(4, 6), b: linear(1, 8), c: linear(8, 3) });
    let x = input([2, 4]);
    let plan = prune_with(&net, &x, &half(), &Magnitude::l2()).unwrap().plan;
    let kept_a = plan.unpruned.iter().find(|kept| kept.path == "a").unwrap();
    holds(&kept_a.reason, &["(GatherNd)", "is not followed"]);
    holds(plan.summary(), &["a keeps its filters: operation"]);
    // What comes after it is pruned.
    assert_eq!(kept(&plan, "c.weight", 0), strongest(&norms(&net.b.weight, 1), 4));
}

#[derive(Module, Debug)]
struct Single {
    only: Linear,
}

graph!(Single: Tensor<2> => Tensor<2>, |net, x| net.only.forward(x));

/// Everything is an output: a plan that removes nothing and says why.
#[test]
fn nothing_to_prune() {
    let net = random(Single { only: linear(4, 3) });
    let x = input([2, 4]);
    let smaller = prune_with(&net, &x, &half(), &Magnitude::l2()).unwrap();
    let plan = &smaller.plan;
    assert!(plan.cuts.is_empty() && plan.channels.is_empty());
    assert_eq!((plan.unpruned[0].path.as_str(), plan.parameters_after), ("only", plan.parameters_before));
    holds(plan.summary(), &["only keeps its filters: it is an output of the network"]);
    assert_eq!(bytes(&smaller.model), bytes(&net));
}

#[test]
fn a_layer_would_be_empty() {
    let net = Mlp::new(6);
    let x = input([3, 4]);
    for budget in [Budget::PerLayer(1.0), Budget::Global(1.0)] {
        let error = prune_with(&net, &x, &Planner::new().budget(budget), &Magnitude::l2()).unwrap_err();
        assert!(matches!(error, PruneError::Config { .. }));
        holds(error, &["ratio is 1", "at least 0 and below 1"]);
    }
    // No two filters share four of three labels.
    let before = bytes(&net);
    let data = TensorCalibration::new(input([6, 4]), vec![0, 1, 2, 0, 1, 2], 6);
    let deep = Deep::new();
    let (network, analysis) = analyze_network(&deep, &data, &AnalyzeConfig::new(), &NoProgress).unwrap();
    for shared in [0, 4, usize::MAX, (1 << 32) + 1] {
        let error = Planner::new().plan(&network, &analysis, &Afcc::new().shared_labels(shared)).unwrap_err();
        assert!(matches!(&error, PruneError::Config { .. }), "{error}");
        holds(error, &[&format!("shared labels is {shared}"), "at least 1 and at most the number of classes"]);
    }
    assert_eq!(bytes(&net), before);
}

/// Three layers, of which the second reads filters.
#[derive(Module, Debug)]
struct Deep {
    a: Linear,
    b: Linear,
    c: Linear,
}

impl Deep {
    fn new() -> Self {
        random(Self { a: linear(4, 6), b: linear(6, 6), c: linear(6, 3) })
    }
}

impl GraphModule for Deep {
    type Inputs = Tensor<2>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<2>) -> Tensor<2> {
        self.c.forward(relu(self.b.forward(relu(self.a.forward(x)))))
    }
}

/// Centres a batch, if there is one.
#[derive(Module, Debug)]
struct Centred {
    inner: Mlp,
}

impl GraphModule for Centred {
    type Inputs = Tensor<2>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<2>) -> Tensor<2> {
        let x = if x.dims()[0] > 2 { x.clone() - x.mean_dim(0) } else { x };
        self.inner.logits(x)
    }
}

#[test]
fn a_graph_that_depends_on_the_batch() {
    let net = Centred { inner: Mlp::new(6) };
    let before = bytes(&net);
    // Batches of 4 and 1.
    let data = TensorCalibration::new(input([5, 4]), vec![0, 1, 2, 0, 1], 4);
    let error = analyze_network(&net, &data, &AnalyzeConfig::new(), &NoProgress).unwrap_err();
    assert!(matches!(error, SfpError::Graph(GraphError::GraphChanges { found: 1, expected: 4, .. })), "{error}");
    holds(error, &["a batch of 1 samples", "one of 4", "depends on the batch size"]);
    assert_eq!(bytes(&net), before);
    // A plan is made from the one batch that was captured; where the weights are the same in both graphs it holds for both.
    let smaller = prune_with(&net, &input([4, 4]), &half(), &Magnitude::l2()).unwrap();
    let (one, zeroed) = (input([1, 4]), smaller.plan.zeroed(&net).unwrap());
    assert!(difference(smaller.model.run(one.clone()), zeroed.run(one)) < TOLERANCE);
}

#[derive(Module, Debug)]
struct Depthwise {
    stem: Conv2d,
    deep: Conv2d,
    fc: Linear,
}

graph!(Depthwise: Tensor<4> => Tensor<2>, |net, x| net.fc.forward(mean(relu(net.deep.forward(net.stem.forward(x))))));

/// [`Depthwise`] with what the message asks for.
#[derive(Module, Debug, Shrink)]
struct Followed {
    stem: Conv2d,
    deep: Conv2d,
    fc: Linear,
}

graph!(shrink Followed: Tensor<4> => Tensor<2>, |net, x| {
    net.fc.forward(mean(relu(net.deep.forward(net.stem.forward(x)))))
});

#[test]
fn a_depthwise_network_without_shrink() {
    let net = random(Depthwise { stem: conv(2, 6), deep: grouped(6, 6, 6), fc: linear(6, 3) });
    let x = input([2, 2, 4, 4]);
    let error = prune_with(&net, &x, &half().strict(), &Magnitude::l2()).unwrap_err();
    assert!(matches!(&error, PruneError::NeedsShrink { path, before: 6.0, after: 3.0, .. } if path == "deep"));
    holds(
        error,
        &[
            "layer `deep` (Conv2d)",
            "`groups`",
            "from 6 to 3",
            "add `Shrink` to the derives",
            "fn shrinkable(&mut self) -> Option<&mut dyn Shrink> { Some(self) }",
        ],
    );
    let plan = prune_with(&net, &x, &half(), &Magnitude::l2()).unwrap().plan;
    for layer in ["stem", "deep"] {
        holds(why(&plan, layer), &["layer `deep` (Conv2d) keeps `groups`", "`Shrink` among the derives"]);
    }
    let Depthwise { stem, deep, fc } = net;
    assert_eq!(prune(&Followed { stem, deep, fc }, &x, 0.5).model.deep.groups, 3);
}

#[test]
fn a_plan_made_for_another_model() {
    let x = input([3, 4]);
    let plan = prune_with(&Mlp::new(6), &x, &half(), &Magnitude::l2()).unwrap().plan;
    let other = Mlp::new(8);
    let before = bytes(&other);
    let error = plan.apply(&other).unwrap_err();
    assert!(matches!(error, PruneError::ModelMismatch { .. }));
    holds(error, &["parameter `a.weight` has shape [4, 8], the plan's [4, 6]", "make a plan from this model"]);
    let error = plan.apply(&Deep::new()).unwrap_err();
    assert!(matches!(error, PruneError::ModelMismatch { .. }));
    assert!(matches!(plan.zeroed(&other).unwrap_err(), PruneError::ModelMismatch { .. }));
    assert_eq!(bytes(&other), before);
}

#[test]
fn a_forward_pass_that_fails() {
    let net = random(Single { only: linear(4, 3) });
    let error = prune_with(&net, &input([2, 5]), &half(), &Magnitude::l2()).unwrap_err();
    assert!(matches!(&error, PruneError::Graph(GraphError::Forward { after: None, .. })), "{error}");
    holds(error, &["[2, 5]", "run `logits` (or `run`) on the same input"]);
    // Half-way: the layer before is named.
    let net = random(Deep { b: linear(5, 6), ..Deep::new() });
    let error = Network::capture(&net, &input([2, 4])).unwrap_err();
    assert!(matches!(&error, GraphError::Forward { after: Some(layer), .. } if layer == "a"), "{error}");
    holds(error, &["after layer `a`"]);
}
