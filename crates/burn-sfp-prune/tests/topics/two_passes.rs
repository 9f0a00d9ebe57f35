//! Several forward passes in one plan, and parameters that no pass reaches.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn_sfp_core::TensorCalibration;
use burn_sfp_graph::GraphModule;
use burn_sfp_prune::{Budget, Magnitude, Planner, PruneError, Pruner};

use crate::support::*;

/// A classifier with an auxiliary head for training, which reads the trunk's middle.
#[derive(Module, Debug)]
struct Auxiliary {
    first: Linear,
    second: Linear,
    head: Linear,
    hidden: Linear,
    auxiliary: Linear,
}

impl Auxiliary {
    fn new() -> Self {
        random(Self {
            first: linear(4, 8),
            second: linear(8, 6),
            head: linear(6, 3),
            hidden: linear(8, 10),
            auxiliary: linear(10, 3),
        })
    }

    fn training(&self, x: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let middle = relu(self.first.forward(x));
        let logits = self.head.forward(relu(self.second.forward(middle.clone())));
        (logits, self.auxiliary.forward(relu(self.hidden.forward(middle))))
    }
}

graph!(Auxiliary: Tensor<2> => Tensor<2>, |net, x| {
    net.head.forward(relu(net.second.forward(relu(net.first.forward(x)))))
});

fn half() -> Planner {
    Planner::new().budget(Budget::PerLayer(0.5))
}

#[test]
fn what_is_not_reached_is_named() {
    let plan = prune(&Auxiliary::new(), &input([2, 4]), 0.5).plan;
    assert_eq!(plan.unreached, ["hidden", "auxiliary"]);
    holds(plan.summary(), &["warning: `hidden` is not reached", "`Planner::also`", "exclude what feeds it"]);
}

#[test]
fn both_passes_fit_afterwards() {
    let net = Auxiliary::new();
    let x = input([2, 4]);
    // Another batch size, too.
    let planner = half().also(input([3, 4]), Auxiliary::training);
    let smaller = prune_with(&net, &x, &planner, &Magnitude::l2()).unwrap();
    assert!(smaller.plan.unreached.is_empty());
    assert_eq!(smaller.model.hidden.weight.dims(), [4, 5]);
    let zeroed = smaller.plan.zeroed(&net).unwrap();
    assert!(difference(smaller.model.training(x.clone()), zeroed.training(x.clone())) < TOLERANCE);
    // The auxiliary head costs parameters, and no multiply-adds of the main pass.
    let alone = prune_with(&net, &x, &half(), &Magnitude::l2()).unwrap().plan;
    assert_eq!((smaller.plan.macs_before, smaller.plan.macs_after), (alone.macs_before, alone.macs_after));
}

#[test]
fn the_pruner_takes_them_too() {
    let net = Auxiliary::new();
    let data = TensorCalibration::new(input([6, 4]), vec![0, 1, 2, 0, 1, 2], 6);
    let pruner = Pruner::new(&data).policy(Magnitude::l2()).ratio(0.5).also(input([3, 4]), Auxiliary::training);
    let pruned = pruner.analyze_and_prune(&net).unwrap();
    assert!(pruned.plan.unreached.is_empty());
    // What the logits do not run is not ranked: `hidden` keeps its filters and follows `first`.
    assert_eq!((pruned.model.first.weight.dims(), pruned.model.hidden.weight.dims()), ([4, 4], [4, 10]));
    assert_eq!(pruned.model.training(input([2, 4])).1.dims(), [2, 3]);
}

#[test]
fn a_pass_of_another_model() {
    #[derive(Module, Debug)]
    struct Other {
        a: Linear,
    }
    graph!(Other: Tensor<2> => Tensor<2>, |net, x| net.a.forward(x));
    let planner = half().also(input([2, 4]), Other::run);
    let error = prune_with(&Auxiliary::new(), &input([2, 4]), &planner, &Magnitude::l2()).unwrap_err();
    assert!(matches!(error, PruneError::OtherModel { .. }));
    holds(error, &["Other", "Auxiliary"]);
}
