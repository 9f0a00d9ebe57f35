//! Concatenation along axes that carry no features: tokens, samples, image rows.

use burn::module::{Module, Param};
use burn::nn::conv::Conv2d;
use burn::nn::{Embedding, EmbeddingConfig, Linear};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::{Int, Tensor, TensorData};
use burn_sfp_graph::GraphModule;
use burn_sfp_prune::GroupCut;

use crate::support::*;

/// Patches with a class token before and a position added; the class token's output is classified.
#[derive(Module, Debug)]
struct Tokens {
    patches: Linear,
    class: Param<Tensor<3>>,
    positions: Param<Tensor<3>>,
    mix: Linear,
    fc: Linear,
}

graph!(Tokens: Tensor<3> => Tensor<2>, |net, x| {
    let x = net.patches.forward(x);
    let [samples, _, width] = x.dims();
    let class = net.class.val().expand([samples, 1, width]);
    let x = Tensor::cat(vec![class, x], 1) + net.positions.val();
    let x = relu(net.mix.forward(x.clone())) + x;
    let weights = softmax(x.clone().matmul(x.clone().swap_dims(1, 2)), 2);
    net.fc.forward(weights.matmul(x).narrow(1, 0, 1).squeeze_dim(1))
});

#[test]
fn tokens() {
    let net = Tokens {
        patches: linear(4, 8),
        class: bare([1, 1, 8]),
        positions: bare([1, 6, 8]),
        mix: linear(8, 8),
        fc: linear(8, 3),
    };
    let net = random(net);
    let x = input([2, 5, 4]);
    let smaller = prune(&net, &x, 0.5);
    let tied = together(&[&norms(&net.patches.weight, 1), &norms(&net.mix.weight, 1)]);
    let stay = strongest(&tied, 4);
    for (path, axis) in [
        ("patches.weight", 1),
        ("class", 2),
        ("positions", 2),
        ("mix.weight", 0),
        ("mix.weight", 1),
        ("mix.bias", 0),
        ("fc.weight", 0),
    ] {
        assert_eq!(kept(&smaller.plan, path, axis), stay, "{path}");
    }
    assert_eq!(smaller.model.positions.dims(), [1, 6, 4]);
    let gone = gone(&stay, 8);
    let zero = silence(
        &net,
        &[
            ("patches.weight", 1, &gone),
            ("patches.bias", 0, &gone),
            ("class", 2, &gone),
            ("positions", 2, &gone),
            ("mix.weight", 1, &gone),
            ("mix.bias", 0, &gone),
        ],
    );
    assert!(difference(smaller.model.run(x.clone()), zero.run(x.clone())) < TOLERANCE);
    sweep(&net, &x, GroupCut::WithinGroups);
}

/// A picture and its mirror image as one batch, and two rows of pictures below each other.
#[derive(Module, Debug)]
struct Stacked {
    a: Conv2d,
    b: Conv2d,
    c: Conv2d,
}

graph!(Stacked: (Tensor<4>, Tensor<4>) => Tensor<2>, |net, (x, y)| {
    let samples = x.dims()[0];
    let both = relu(net.a.forward(Tensor::cat(vec![x.clone(), x.flip([3])], 0)));
    let mirrored = both.clone().narrow(0, 0, samples) + both.narrow(0, samples, samples);
    mean(net.c.forward(Tensor::cat(vec![mirrored, relu(net.b.forward(y))], 2)))
});

#[test]
fn samples_and_rows() {
    let net = random(Stacked { a: conv(2, 6), b: conv(3, 6), c: conv(6, 4) });
    let x = (input([2, 2, 4, 4]), input([2, 3, 5, 4]));
    let smaller = prune(&net, &x, 0.5);
    // What stands below each other has the same channels.
    let stay = strongest(&together(&[&norms(&net.a.weight, 0), &norms(&net.b.weight, 0)]), 3);
    for (path, axis) in [("a.weight", 0), ("b.weight", 0), ("c.weight", 1)] {
        assert_eq!(kept(&smaller.plan, path, axis), stay, "{path}");
    }
    sweep(&net, &x, GroupCut::WithinGroups);
}

/// Words.
#[derive(Module, Debug)]
struct Words {
    words: Embedding,
    hidden: Linear,
    fc: Linear,
}

graph!(Words: Tensor<2, Int> => Tensor<2>, |net, x| {
    let x = relu(net.hidden.forward(net.words.forward(x)));
    net.fc.forward(x.mean_dim(1).squeeze_dim(1))
});

#[test]
fn embedding() {
    let words = EmbeddingConfig::new(10, 6).init(&device());
    let net = random(Words { words, hidden: linear(6, 8), fc: linear(8, 3) });
    let x = Tensor::from_data(TensorData::new(vec![1i64, 9, 0, 4, 4, 7], [2, 3]), &device());
    let smaller = prune(&net, &x, 0.5);
    let stay = strongest(&norms(&net.words.weight, 1), 3);
    assert_eq!(kept(&smaller.plan, "words.weight", 1), stay);
    assert_eq!(kept(&smaller.plan, "hidden.weight", 0), stay);
    // No word is removed.
    assert_eq!(smaller.model.words.weight.dims(), [10, 3]);
    let gone = gone(&stay, 6);
    let hidden = gone_of(&smaller.plan, "hidden.weight", 1, 8);
    let zero = silence(&net, &[("words.weight", 1, &gone), ("hidden.weight", 1, &hidden), ("hidden.bias", 0, &hidden)]);
    assert!(difference(smaller.model.run(x.clone()), zero.run(x.clone())) < TOLERANCE);
    sweep(&net, &x, GroupCut::WithinGroups);
}
