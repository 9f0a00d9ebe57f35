//! Fully connected networks, one of them small enough to be computed on paper.

use burn::module::{Module, Param};
use burn::nn::{BatchNorm, BatchNormConfig, Linear};
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn_sfp_graph::GraphModule;
use burn_sfp_prune::{Budget, GroupCut, Magnitude, Planner};

use crate::support::*;

#[derive(Module, Debug)]
struct Mlp {
    a: Linear,
    norm: BatchNorm,
    b: Linear,
    c: Linear,
}

graph!(Mlp: Tensor<2> => Tensor<2>, |net, x| {
    let x = relu(net.norm.forward(net.a.forward(x)));
    net.c.forward(relu(net.b.forward(x)))
});

#[test]
fn three_layers() {
    let norm = BatchNormConfig::new(8).init(&device());
    let net = random(Mlp { a: linear(4, 8), norm, b: linear(8, 6), c: linear(6, 3) });
    let x = input([3, 4]);
    let smaller = prune(&net, &x, 0.5);
    let plan = &smaller.plan;
    let (a, b) = (strongest(&norms(&net.a.weight, 1), 4), strongest(&norms(&net.b.weight, 1), 3));
    for (path, axis, stay) in [
        ("a.weight", 1, &a),
        ("a.bias", 0, &a),
        ("norm.gamma", 0, &a),
        ("norm.beta", 0, &a),
        ("norm.running_mean", 0, &a),
        ("norm.running_var", 0, &a),
        ("b.weight", 0, &a),
        ("b.weight", 1, &b),
        ("b.bias", 0, &b),
        ("c.weight", 0, &b),
    ] {
        assert_eq!(&kept(plan, path, axis), stay, "{path}");
    }
    assert_eq!(
        (plan.parameters_before, plan.parameters_after),
        (32 + 8 + 16 + 48 + 6 + 18 + 3, 16 + 4 + 8 + 12 + 3 + 9 + 3)
    );
    assert_eq!((plan.macs_before, plan.macs_after), (32 + 48 + 18, 16 + 12 + 9));
    let (a, b) = (gone(&a, 8), gone(&b, 6));
    let zero = silence(&net, &[("norm.gamma", 0, &a), ("norm.beta", 0, &a), ("b.weight", 1, &b), ("b.bias", 0, &b)]);
    assert!(difference(smaller.model.run(x.clone()), zero.run(x.clone())) < TOLERANCE);
    sweep(&net, &x, GroupCut::WithinGroups);
}

#[derive(Module, Debug)]
struct Paper {
    hidden: Linear,
    out: Linear,
}

graph!(Paper: Tensor<2> => Tensor<2>, |net, x| net.out.forward(relu(net.hidden.forward(x))));

#[test]
fn computed_on_paper() {
    let mut net = Paper { hidden: linear(2, 4), out: linear(4, 1) };
    // Columns (1, 0), (-3, 4), (0, 2), (0.5, 0.5): norms 1, 5, 2, 0.7.
    let weight = Tensor::from_floats([[1.0, -3.0, 0.0, 0.5], [0.0, 4.0, 2.0, 0.5]], &device());
    net.hidden.weight = Param::from_tensor(weight);
    net.hidden.bias = Some(Param::from_tensor(Tensor::from_floats([0.5, -1.0, 1.0, 2.0], &device())));
    net.out.weight = Param::from_tensor(Tensor::from_floats([[10.0], [2.0], [3.0], [7.0]], &device()));
    net.out.bias = Some(Param::from_tensor(Tensor::from_floats([0.25], &device())));
    let x = Tensor::from_floats([[1.0, 2.0]], &device());
    let smaller = prune(&net, &x, 0.5);
    assert_eq!(kept(&smaller.plan, "hidden.weight", 1), [1, 2]);
    assert_eq!(values(smaller.model.hidden.weight.val()), [-3.0, 0.0, 4.0, 2.0]);
    // Hidden: -3 + 8 - 1 = 4 and 4 + 1 = 5; out: 2 * 4 + 3 * 5 + 0.25.
    assert_eq!(values(smaller.model.run(x)), [23.25]);
}

/// Layers without bias, and a budget over all of them.
#[test]
fn a_global_budget() {
    let norm = BatchNormConfig::new(8).init(&device());
    let net = random(Mlp { a: linear(4, 8), norm, b: linear(8, 6), c: linear(6, 3) });
    let x = input([3, 4]);
    let planner = Planner::new().budget(Budget::Global(0.5));
    let plan = prune_with(&net, &x, &planner, &Magnitude::l2()).unwrap().plan;
    let both: Vec<f64> = norms(&net.a.weight, 1).into_iter().chain(norms(&net.b.weight, 1)).collect();
    let (a, b): (Vec<usize>, Vec<usize>) = strongest(&both, 7).into_iter().partition(|&k| k < 8);
    assert_eq!(cut(&plan, "a.weight", 1).unwrap_or((0..8).collect()), a);
    assert_eq!(cut(&plan, "b.weight", 1).unwrap_or((0..6).collect()), b.iter().map(|k| k - 8).collect::<Vec<_>>());
}
