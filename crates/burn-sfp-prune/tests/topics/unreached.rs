//! Parameters that the forward pass never reaches: the plan lists them with what to do, and with their pass they shrink too.

use burn::module::{Module, Param};
use burn::nn::{BatchNorm, BatchNormConfig, Linear};
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn_sfp_prune::{Budget, Magnitude, Planner};

use crate::support::*;

fn half() -> Planner {
    Planner::new().budget(Budget::PerLayer(0.5))
}

/// A head that only training runs.
#[derive(Module, Debug)]
struct Auxiliary {
    a: Linear,
    fc: Linear,
    aux: Linear,
}

impl Auxiliary {
    fn training(&self, x: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let features = relu(self.a.forward(x));
        (self.fc.forward(features.clone()), self.aux.forward(features))
    }
}

graph!(Auxiliary: Tensor<2> => Tensor<2>, |net, x| net.fc.forward(relu(net.a.forward(x))));

#[test]
fn a_head_for_training_alone() {
    let (net, x) = (random(Auxiliary { a: linear(4, 8), fc: linear(8, 3), aux: linear(8, 3) }), input([2, 4]));
    let smaller = prune_with(&net, &x, &half(), &Magnitude::l2()).unwrap();
    assert_eq!(smaller.plan.unreached, ["aux"]);
    holds(smaller.plan.summary(), &["`aux` is not reached", "`Planner::also`", "exclude what feeds it"]);
    assert_eq!(smaller.model.aux.weight.dims(), [8, 3]);
    let with = half().also(x.clone(), |net: &Auxiliary, x| net.training(x));
    let smaller = prune_with(&net, &x, &with, &Magnitude::l2()).unwrap();
    assert!(smaller.plan.unreached.is_empty());
    let zeroed = smaller.plan.zeroed(&net).unwrap();
    assert!(difference(smaller.model.training(x.clone()), zeroed.training(x.clone())) < TOLERANCE);
    // Or what feeds it stays.
    let smaller = prune_with(&net, &x, &half().exclude(["a"]), &Magnitude::l2()).unwrap();
    assert_eq!(smaller.model.training(x).1.dims(), [2, 3]);
}

/// Heads in a list, of which one is used, and a projection inside of a struct with a normalisation.
#[derive(Module, Debug)]
struct Projection {
    layer: Linear,
    norm: BatchNorm,
}

#[derive(Module, Debug)]
struct Several {
    trunk: Linear,
    heads: Vec<Linear>,
    projection: Option<Projection>,
}

graph!(Several: Tensor<2> => Tensor<2>, |net, x| net.heads[1].forward(relu(net.trunk.forward(x))));

#[test]
fn heads_in_a_list_and_a_projection() {
    let norm = BatchNormConfig::new(5).init(&device());
    let net = Several {
        trunk: linear(4, 8),
        heads: (0..3).map(|_| linear(8, 3)).collect(),
        projection: Some(Projection { layer: linear(8, 5), norm }),
    };
    let (net, x) = (random(net), input([2, 4]));
    let plan = prune_with(&net, &x, &half(), &Magnitude::l2()).unwrap().plan;
    assert_eq!(plan.unreached, ["heads.0", "heads.2", "projection.layer", "projection.norm"]);
    for path in &plan.unreached {
        holds(plan.summary(), &[&format!("`{path}` is not reached")]);
    }
    let all = half()
        .also(x.clone(), |net: &Several, x| {
            let x = relu(net.trunk.forward(x));
            (net.heads[0].forward(x.clone()), net.heads[2].forward(x))
        })
        .also(x.clone(), |net: &Several, x| {
            let projection = net.projection.as_ref().unwrap();
            projection.norm.forward(projection.layer.forward(relu(net.trunk.forward(x))))
        });
    let smaller = prune_with(&net, &x, &all, &Magnitude::l2()).unwrap();
    assert!(smaller.plan.unreached.is_empty());
    assert!(smaller.model.heads.iter().all(|head| head.weight.dims() == [4, 3]));
    assert_eq!(smaller.model.projection.unwrap().layer.weight.dims(), [4, 5]);
}

/// Bare parameters, of which the pass reads one.
#[derive(Module, Debug)]
struct Bare {
    a: Linear,
    scale: Param<Tensor<1>>,
    centers: Param<Tensor<2>>,
    b: Linear,
}

graph!(Bare: Tensor<2> => Tensor<2>, |net, x| net.b.forward(relu(net.a.forward(x)) * net.scale.val().unsqueeze()));

#[test]
fn a_bare_parameter_of_a_loss() {
    let net = random(Bare { a: linear(4, 8), scale: bare([8]), centers: bare([3, 8]), b: linear(8, 3) });
    let x = input([2, 4]);
    let smaller = prune_with(&net, &x, &half(), &Magnitude::l2()).unwrap();
    assert_eq!(smaller.plan.unreached, ["centers"]);
    holds(smaller.plan.summary(), &["`centers` is not reached"]);
    assert_eq!((smaller.model.scale.dims(), smaller.model.centers.dims()), ([4], [3, 8]));
    // The distances of a loss to its centres, as a pass.
    let distances = |net: &Bare, x: Tensor<2>| {
        let features = relu(net.a.forward(x)) * net.scale.val().unsqueeze();
        features.matmul(net.centers.val().transpose())
    };
    let smaller = prune_with(&net, &x, &half().also(x.clone(), distances), &Magnitude::l2()).unwrap();
    assert_eq!((smaller.model.centers.dims(), smaller.plan.unreached.len()), ([3, 4], 0));
    assert_eq!(distances(&smaller.model, x).dims(), [2, 3]);
}
