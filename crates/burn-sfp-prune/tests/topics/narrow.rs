//! Layers with one filter, and squeeze and excitation, which multiplies channels by values of their own.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, BatchNormConfig, Linear};
use burn::tensor::Tensor;
use burn::tensor::activation::{relu, sigmoid};
use burn_sfp_graph::GraphModule;
use burn_sfp_prune::GroupCut;

use crate::support::*;

/// A bottleneck of one channel.
#[derive(Module, Debug)]
struct Bottleneck {
    a: Conv2d,
    one: Conv2d,
    norm: BatchNorm,
    b: Conv2d,
    fc: Linear,
}

graph!(Bottleneck: Tensor<4> => Tensor<2>, |net, x| {
    let one = relu(net.norm.forward(net.one.forward(relu(net.a.forward(x)))));
    net.fc.forward(mean(relu(net.b.forward(one))))
});

#[test]
fn a_layer_with_one_filter() {
    let norm = BatchNormConfig::new(1).init(&device());
    let net = random(Bottleneck { a: conv(2, 6), one: conv(6, 1), norm, b: conv(1, 6), fc: linear(6, 3) });
    let x = input([2, 2, 4, 4]);
    let smaller = prune(&net, &x, 0.5);
    assert_eq!(smaller.model.one.weight.dims(), [1, 3, 3, 3]);
    assert_eq!(smaller.model.b.weight.dims(), [3, 1, 3, 3]);
    assert_eq!(kept(&smaller.plan, "one.weight", 1), strongest(&norms(&net.a.weight, 0), 3));
    assert_eq!(cut(&smaller.plan, "one.weight", 0), None);
    sweep(&net, &x, GroupCut::WithinGroups);
}

/// One map says where to look.
#[derive(Module, Debug)]
struct Look {
    a: Conv2d,
    look: Conv2d,
    fc: Linear,
}

graph!(Look: Tensor<4> => (Tensor<2>, Tensor<4>), |net, x| {
    let x = relu(net.a.forward(x));
    let look = sigmoid(net.look.forward(x.clone()));
    (net.fc.forward(mean(x * look.clone())), look)
});

#[test]
fn one_map_for_all_channels() {
    let net = random(Look { a: conv(2, 8), look: point(8, 1), fc: linear(8, 3) });
    let x = input([2, 2, 4, 4]);
    let smaller = prune(&net, &x, 0.5);
    let stay = strongest(&norms(&net.a.weight, 0), 4);
    for (path, axis) in [("a.weight", 0), ("look.weight", 1), ("fc.weight", 0)] {
        assert_eq!(kept(&smaller.plan, path, axis), stay, "{path}");
    }
    let network = capture(&net, &x);
    let reason = network.layer("look").unwrap().not_prunable.clone();
    assert_eq!(reason.as_deref(), Some("it is an output of the network"));
    sweep(&net, &x, GroupCut::WithinGroups);
}

#[derive(Module, Debug)]
struct Excite {
    a: Conv2d,
    squeeze: Linear,
    excite: Linear,
    b: Conv2d,
}

graph!(Excite: Tensor<4> => Tensor<2>, |net, x| {
    let x = net.a.forward(x);
    let [samples, channels, _, _] = x.dims();
    let gate = sigmoid(net.excite.forward(relu(net.squeeze.forward(mean(x.clone())))));
    mean(net.b.forward(x * gate.reshape([samples, channels, 1, 1])))
});

#[test]
fn squeeze_and_excitation() {
    let net = random(Excite { a: conv(2, 8), squeeze: linear(8, 4), excite: linear(4, 8), b: conv(8, 3) });
    let x = input([2, 2, 4, 4]);
    let smaller = prune(&net, &x, 0.5);
    let stay = strongest(&together(&[&norms(&net.a.weight, 0), &norms(&net.excite.weight, 1)]), 4);
    for (path, axis) in
        [("a.weight", 0), ("squeeze.weight", 0), ("excite.weight", 1), ("excite.bias", 0), ("b.weight", 1)]
    {
        assert_eq!(kept(&smaller.plan, path, axis), stay, "{path}");
    }
    let inner = strongest(&norms(&net.squeeze.weight, 1), 2);
    assert_eq!(kept(&smaller.plan, "excite.weight", 0), inner);
    // By hand: the gate of a removed channel is not zero, but what it is multiplied with is.
    let (a, inner) = (gone(&stay, 8), gone(&inner, 4));
    let zero = silence(
        &net,
        &[("a.weight", 0, &a), ("a.bias", 0, &a), ("squeeze.weight", 1, &inner), ("squeeze.bias", 0, &inner)],
    );
    assert!(difference(smaller.model.run(x.clone()), zero.run(x.clone())) < TOLERANCE);
    sweep(&net, &x, GroupCut::WithinGroups);
}
