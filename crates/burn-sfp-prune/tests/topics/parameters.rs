//! Parameters that belong to no layer, and layers that are never called.

use burn::module::{Module, Param};
use burn::nn::conv::Conv2d;
use burn::nn::{Linear, PRelu, PReluConfig};
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn_sfp_graph::GraphModule;
use burn_sfp_prune::GroupCut;

use crate::support::*;

/// Scales and shifts of channels, flat and shaped like the maps.
#[derive(Module, Debug)]
struct Scaled {
    a: Conv2d,
    flat: Param<Tensor<1>>,
    shaped: Param<Tensor<4>>,
    slopes: PRelu,
    b: Conv2d,
}

graph!(Scaled: Tensor<4> => Tensor<2>, |net, x| {
    let x = net.a.forward(x);
    let channels = x.dims()[1];
    let x = x * net.flat.val().reshape([1, channels, 1, 1]) + net.shaped.val();
    mean(net.b.forward(net.slopes.forward(x)))
});

#[test]
fn scales_of_channels() {
    let net = Scaled {
        a: conv(3, 6),
        flat: bare([6]),
        shaped: bare([1, 6, 1, 1]),
        slopes: PReluConfig::new().with_num_parameters(6).init(&device()),
        b: conv(6, 4),
    };
    let net = random(net);
    let x = input([2, 3, 4, 4]);
    let smaller = prune(&net, &x, 0.5);
    let stay = strongest(&norms(&net.a.weight, 0), 3);
    for (path, axis) in [("a.weight", 0), ("flat", 0), ("shaped", 1), ("slopes.alpha", 0), ("b.weight", 1)] {
        assert_eq!(kept(&smaller.plan, path, axis), stay, "{path}");
    }
    assert_eq!(smaller.model.shaped.dims(), [1, 3, 1, 1]);
    let gone = gone(&stay, 6);
    let zero = silence(&net, &[("a.weight", 0, &gone), ("a.bias", 0, &gone), ("flat", 0, &gone), ("shaped", 1, &gone)]);
    assert!(difference(smaller.model.run(x.clone()), zero.run(x.clone())) < TOLERANCE);
    sweep(&net, &x, GroupCut::WithinGroups);
}

/// One slope for all channels.
#[derive(Module, Debug)]
struct Slope {
    a: Conv2d,
    slope: PRelu,
    b: Conv2d,
}

graph!(Slope: Tensor<4> => Tensor<2>, |net, x| mean(net.b.forward(net.slope.forward(net.a.forward(x)))));

#[test]
fn one_slope_for_all_channels() {
    let net = random(Slope { a: conv(3, 6), slope: PReluConfig::new().init(&device()), b: conv(6, 4) });
    let x = input([2, 3, 4, 4]);
    let smaller = prune(&net, &x, 0.5);
    assert_eq!(smaller.model.slope.alpha.dims(), [1]);
    assert_eq!(kept(&smaller.plan, "b.weight", 1), strongest(&norms(&net.a.weight, 0), 3));
    sweep(&net, &x, GroupCut::WithinGroups);
}

/// Matrices that a product reads directly.
#[derive(Module, Debug)]
struct Bare {
    first: Param<Tensor<2>>,
    second: Param<Tensor<2>>,
    shift: Param<Tensor<1>>,
}

graph!(Bare: Tensor<2> => Tensor<2>, |net, x| {
    let x = relu(x.matmul(net.first.val()) + net.shift.val().unsqueeze());
    // This one counts its outputs first.
    x.matmul(net.second.val().transpose())
});

#[test]
fn bare_matrices() {
    let net = random(Bare { first: bare([5, 8]), second: bare([3, 8]), shift: bare([8]) });
    let x = input([4, 5]);
    let smaller = prune(&net, &x, 0.5);
    let stay = strongest(&norms(&net.first, 1), 4);
    for (path, axis) in [("first", 1), ("shift", 0), ("second", 1)] {
        assert_eq!(kept(&smaller.plan, path, axis), stay, "{path}");
    }
    assert_eq!((smaller.model.first.dims(), smaller.model.second.dims()), ([5, 4], [3, 4]));
    let gone = gone(&stay, 8);
    let zero = silence(&net, &[("first", 1, &gone), ("shift", 0, &gone)]);
    assert!(difference(smaller.model.run(x.clone()), zero.run(x.clone())) < TOLERANCE);
    sweep(&net, &x, GroupCut::WithinGroups);
}

/// A layer and a parameter that the forward pass never reads.
#[derive(Module, Debug)]
struct Unused {
    a: Linear,
    never: Linear,
    fc: Linear,
    nothing: Param<Tensor<1>>,
    maybe: Option<Linear>,
}

graph!(Unused: Tensor<2> => Tensor<2>, |net, x| net.fc.forward(relu(net.a.forward(x))));

#[test]
fn unused_parameters() {
    let net = Unused {
        a: linear(4, 8),
        never: linear(8, 8),
        fc: linear(8, 3),
        nothing: bare([8]),
        maybe: Some(linear(3, 3)),
    };
    let net = random(net);
    let x = input([3, 4]);
    let smaller = prune(&net, &x, 0.5);
    assert_eq!(kept(&smaller.plan, "a.weight", 1), strongest(&norms(&net.a.weight, 1), 4));
    let (before, after) = (&net, &smaller.model);
    assert_eq!(values(before.never.weight.val()), values(after.never.weight.val()));
    assert_eq!(values(before.nothing.val()), values(after.nothing.val()));
    assert_eq!(after.never.weight.dims(), [8, 8]);
    assert!(smaller.plan.layer("never").is_none());
    sweep(&net, &x, GroupCut::WithinGroups);
}
