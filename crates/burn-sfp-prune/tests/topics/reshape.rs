//! Reshapes: flattened maps, maps made of features, shuffled channels, channels that become pixels.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{Linear, PixelShuffle, PixelShuffleConfig};
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn_sfp_graph::GraphError;
use burn_sfp_graph::GraphModule;
use burn_sfp_prune::{Budget, GroupCut, Magnitude, Planner, PruneError};

use crate::support::*;

#[derive(Module, Debug)]
struct Flat {
    a: Conv2d,
    fc: Linear,
}

graph!(Flat: Tensor<4> => Tensor<2>, |net, x| net.fc.forward(relu(net.a.forward(x)).flatten::<2>(1, 3)));

#[test]
fn flatten() {
    let net = random(Flat { a: conv(2, 6), fc: linear(6 * 12, 3) });
    let x = input([3, 2, 3, 4]);
    let smaller = prune(&net, &x, 0.5);
    let stay = strongest(&norms(&net.a.weight, 0), 3);
    assert_eq!(kept(&smaller.plan, "a.weight", 0), stay);
    // A channel is a run of 3 * 4 features.
    let features: Vec<usize> = stay.iter().flat_map(|k| 12 * k..12 * (k + 1)).collect();
    assert_eq!(kept(&smaller.plan, "fc.weight", 0), features);
    let gone = gone(&stay, 6);
    let zero = silence(&net, &[("a.weight", 0, &gone), ("a.bias", 0, &gone)]);
    assert!(difference(smaller.model.run(x.clone()), zero.run(x.clone())) < TOLERANCE);
    sweep(&net, &x, GroupCut::WithinGroups);
}

/// A generator: features become maps of 2x3 pixels.
#[derive(Module, Debug)]
struct Unflat {
    fc: Linear,
    a: Conv2d,
}

graph!(Unflat: Tensor<2> => Tensor<4>, |net, x| {
    let x = relu(net.fc.forward(x));
    let [samples, features] = x.dims();
    net.a.forward(x.reshape([samples, features / 6, 2, 3]))
});

#[test]
fn unflatten() {
    let net = random(Unflat { fc: linear(5, 8 * 6), a: conv(8, 2) });
    let x = input([3, 5]);
    let smaller = prune(&net, &x, 0.5);
    // Six features are one channel and leave together.
    let stay = strongest(&folded(&norms(&net.fc.weight, 1), 6, GroupCut::WholeGroups), 4);
    assert_eq!(kept(&smaller.plan, "a.weight", 1), stay);
    let features: Vec<usize> = stay.iter().flat_map(|k| 6 * k..6 * (k + 1)).collect();
    assert_eq!(kept(&smaller.plan, "fc.weight", 1), features);
    assert_eq!(kept(&smaller.plan, "fc.bias", 0), features);
    sweep(&net, &x, GroupCut::WithinGroups);
    sweep(&net, &x, GroupCut::WholeGroups);
}

/// Two groups that are mixed by transposing them.
#[derive(Module, Debug)]
struct Shuffle {
    a: Conv2d,
    b: Conv2d,
}

graph!(Shuffle: Tensor<4> => Tensor<4>, |net, x| {
    let x = relu(net.a.forward(x));
    let [samples, channels, height, width] = x.dims();
    let groups = x.reshape([samples, 2, channels / 2, height, width]);
    net.b.forward(groups.swap_dims(1, 2).reshape([samples, channels, height, width]))
});

#[test]
fn shuffled_channels() {
    let net = random(Shuffle { a: conv(2, 8), b: conv(8, 3) });
    let x = input([2, 2, 4, 4]);
    let smaller = prune(&net, &x, 0.5);
    let inner = strongest(&folded(&norms(&net.a.weight, 0), 4, GroupCut::WithinGroups), 2);
    let before: Vec<usize> = inner.iter().copied().chain(inner.iter().map(|k| 4 + k)).collect();
    let after: Vec<usize> = inner.iter().flat_map(|k| [2 * k, 2 * k + 1]).collect();
    assert_eq!(kept(&smaller.plan, "a.weight", 0), before);
    assert_eq!(kept(&smaller.plan, "b.weight", 1), after);
    sweep(&net, &x, GroupCut::WithinGroups);

    // The number of groups is written in the forward pass and cannot change.
    let planner = Planner::new().budget(Budget::PerLayer(0.5)).group_cut(GroupCut::WholeGroups);
    let error = prune_with(&net, &x, &planner.clone().strict(), &Magnitude::l2()).unwrap_err();
    assert!(matches!(error, PruneError::Graph(GraphError::GraphMismatch { .. })));
    holds(error, &["layer `a`", "written in its forward pass"]);
    // Without `strict` members of the groups leave in place of whole groups.
    let smaller = prune_with(&net, &x, &planner, &Magnitude::l2()).unwrap();
    assert_eq!(kept(&smaller.plan, "a.weight", 0), before);
}

/// Super-resolution: four channels become one of twice the height and width.
#[derive(Module, Debug)]
struct Upscale {
    a: Conv2d,
    shuffle: PixelShuffle,
    b: Conv2d,
}

graph!(Upscale: Tensor<4> => Tensor<4>, |net, x| net.b.forward(net.shuffle.forward(relu(net.a.forward(x)))));

#[test]
fn shuffled_pixels() {
    let net = random(Upscale { a: conv(2, 6 * 4), shuffle: PixelShuffleConfig::new(2).init(), b: conv(6, 3) });
    let x = input([2, 2, 3, 3]);
    let smaller = prune(&net, &x, 0.5);
    let stay = strongest(&folded(&norms(&net.a.weight, 0), 4, GroupCut::WholeGroups), 3);
    let before: Vec<usize> = stay.iter().flat_map(|k| 4 * k..4 * (k + 1)).collect();
    assert_eq!(kept(&smaller.plan, "b.weight", 1), stay);
    assert_eq!(kept(&smaller.plan, "a.weight", 0), before);
    sweep(&net, &x, GroupCut::WithinGroups);
    sweep(&net, &x, GroupCut::WholeGroups);
}
