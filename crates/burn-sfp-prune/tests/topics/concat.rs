//! Concatenation of channels: once, in a cascade, and with a split behind it.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, BatchNormConfig, Linear};
use burn::tensor::Tensor;
use burn::tensor::activation::{relu, sigmoid};
use burn_sfp_graph::GraphModule;
use burn_sfp_prune::GroupCut;

use crate::support::*;

#[derive(Module, Debug)]
struct Concat {
    a: Conv2d,
    b: Conv2d,
    c: Conv2d,
    fc: Linear,
}

graph!(Concat: Tensor<4> => Tensor<2>, |net, x| {
    let both = Tensor::cat(vec![net.a.forward(x.clone()), relu(net.b.forward(x))], 1);
    net.fc.forward(mean(relu(net.c.forward(both))))
});

#[test]
fn concat() {
    let net = random(Concat { a: conv(3, 4), b: conv(3, 6), c: conv(10, 5), fc: linear(5, 3) });
    let x = input([2, 3, 5, 5]);
    let smaller = prune(&net, &x, 0.5);
    let a = strongest(&norms(&net.a.weight, 0), 2);
    let b = strongest(&norms(&net.b.weight, 0), 3);
    let plan = &smaller.plan;
    assert_eq!((kept(plan, "a.weight", 0), kept(plan, "a.bias", 0)), (a.clone(), a.clone()));
    assert_eq!(kept(plan, "b.weight", 0), b);
    // The inputs of c are those of a, then those of b.
    let both: Vec<usize> = a.iter().copied().chain(b.iter().map(|k| 4 + k)).collect();
    assert_eq!(kept(plan, "c.weight", 1), both);
    assert_eq!(smaller.model.c.weight.dims(), [3, 5, 3, 3]);
    // By hand: filters without weights and bias are what was removed.
    let (a, b) = (gone(&a, 4), gone(&b, 6));
    let c = gone(&kept(plan, "c.weight", 0), 5);
    let zero = silence(
        &net,
        &[
            ("a.weight", 0, &a),
            ("a.bias", 0, &a),
            ("b.weight", 0, &b),
            ("b.bias", 0, &b),
            ("c.weight", 0, &c),
            ("c.bias", 0, &c),
        ],
    );
    assert!(difference(smaller.model.run(x.clone()), zero.run(x.clone())) < TOLERANCE);
    sweep(&net, &x, GroupCut::WithinGroups);
}

#[derive(Module, Debug)]
struct Cascade {
    layers: Vec<Conv2d>,
    norm: BatchNorm,
    fc: Linear,
}

graph!(Cascade: Tensor<4> => Tensor<2>, |net, x| {
    let mut all = relu(net.layers[0].forward(x));
    for layer in &net.layers[1..] {
        let next = relu(layer.forward(all.clone()));
        all = Tensor::cat(vec![next, all], 1);
    }
    net.fc.forward(mean(net.norm.forward(all)))
});

#[test]
fn cascaded_concat() {
    let layers = vec![conv(2, 4), conv(4, 4), conv(8, 6)];
    let net = random(Cascade { layers, norm: BatchNormConfig::new(14).init(&device()), fc: linear(14, 3) });
    let x = input([2, 2, 4, 4]);
    let smaller = prune(&net, &x, 0.5);
    let plan = &smaller.plan;
    let stay: Vec<Vec<usize>> =
        net.layers.iter().map(|layer| strongest(&norms(&layer.weight, 0), layer.weight.dims()[0] / 2)).collect();
    // The newest come first: 6 of layer 2, 4 of layer 1, 4 of layer 0.
    let after = |parts: &[(&Vec<usize>, usize)]| -> Vec<usize> {
        parts.iter().flat_map(|(stay, offset)| stay.iter().map(move |k| offset + k)).collect()
    };
    assert_eq!(kept(plan, "layers.2.weight", 1), after(&[(&stay[1], 0), (&stay[0], 4)]));
    let all = after(&[(&stay[2], 0), (&stay[1], 6), (&stay[0], 10)]);
    for (path, axis) in [("fc.weight", 0), ("norm.gamma", 0), ("norm.running_mean", 0)] {
        assert_eq!(kept(plan, path, axis), all, "{path}");
    }
    sweep(&net, &x, GroupCut::WithinGroups);
}

/// The halves of what was concatenated do not end where the parts did.
#[derive(Module, Debug)]
struct Regroup {
    a: Conv2d,
    b: Conv2d,
    c: Conv2d,
    d: Conv2d,
    fc: Linear,
}

graph!(Regroup: Tensor<4> => Tensor<2>, |net, x| {
    let both = Tensor::cat(vec![relu(net.a.forward(x.clone())), relu(net.b.forward(x))], 1);
    let halves = both.chunk(2, 1);
    let c = net.c.forward(halves[0].clone());
    let d = sigmoid(net.d.forward(halves[1].clone()));
    net.fc.forward(mean(c * d))
});

#[test]
fn concat_and_split() {
    // 4 and 12 channels, halves of 8.
    let net = random(Regroup { a: conv(2, 4), b: conv(2, 12), c: conv(8, 6), d: conv(8, 6), fc: linear(6, 3) });
    let x = input([2, 2, 4, 4]);
    let smaller = prune(&net, &x, 0.5);
    let plan = &smaller.plan;
    // Both halves lose the same places, wherever these came from.
    let scores: Vec<f64> = norms(&net.a.weight, 0).into_iter().chain(norms(&net.b.weight, 0)).collect();
    let half = strongest(&folded(&scores, 8, GroupCut::WithinGroups), 4);
    assert_eq!(kept(plan, "c.weight", 1), half);
    assert_eq!(kept(plan, "d.weight", 1), half);
    let all: Vec<usize> = half.iter().copied().chain(half.iter().map(|k| 8 + k)).collect();
    let (a, b): (Vec<usize>, Vec<usize>) = all.iter().partition(|&&k| k < 4);
    assert_eq!(cut(plan, "a.weight", 0).unwrap_or((0..4).collect()), a);
    assert_eq!(kept(plan, "b.weight", 0), b.iter().map(|k| k - 4).collect::<Vec<_>>());
    // c and d are multiplied.
    assert_eq!(kept(plan, "c.weight", 0), kept(plan, "d.weight", 0));
    let both = together(&[&norms(&net.c.weight, 0), &norms(&net.d.weight, 0)]);
    assert_eq!(kept(plan, "fc.weight", 0), strongest(&both, 3));
    sweep(&net, &x, GroupCut::WithinGroups);
}
