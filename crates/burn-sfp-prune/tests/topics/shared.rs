//! Modules that are called twice and weights that are used in two ways.

use burn::module::{Module, Param};
use burn::nn::conv::Conv2d;
use burn::nn::{Embedding, EmbeddingConfig, Linear};
use burn::tensor::activation::relu;
use burn::tensor::{Int, Tensor, TensorData};
use burn_sfp_graph::GraphModule;
use burn_sfp_prune::GroupCut;

use crate::support::*;

/// One layer, twice in a row.
#[derive(Module, Debug)]
struct Twice {
    stem: Conv2d,
    again: Conv2d,
    fc: Linear,
}

graph!(Twice: Tensor<4> => Tensor<2>, |net, x| {
    let x = relu(net.stem.forward(x));
    let x = relu(net.again.forward(x));
    net.fc.forward(mean(relu(net.again.forward(x))))
});

#[test]
fn a_layer_called_twice() {
    let net = random(Twice { stem: conv(2, 6), again: conv(6, 6), fc: linear(6, 3) });
    let x = input([2, 2, 4, 4]);
    assert_eq!(capture(&net, &x).layer("again").unwrap().calls, 2);
    let smaller = prune(&net, &x, 0.5);
    // What it makes is what it reads: the same filters leave on both sides.
    let stay = strongest(&together(&[&norms(&net.stem.weight, 0), &norms(&net.again.weight, 0)]), 3);
    for (path, axis) in
        [("stem.weight", 0), ("again.weight", 0), ("again.weight", 1), ("again.bias", 0), ("fc.weight", 0)]
    {
        assert_eq!(kept(&smaller.plan, path, axis), stay, "{path}");
    }
    let gone = gone(&stay, 6);
    let zero = silence(
        &net,
        &[("stem.weight", 0, &gone), ("stem.bias", 0, &gone), ("again.weight", 0, &gone), ("again.bias", 0, &gone)],
    );
    assert!(difference(smaller.model.run(x.clone()), zero.run(x.clone())) < TOLERANCE);
    sweep(&net, &x, GroupCut::WithinGroups);
}

/// One encoder for two inputs.
#[derive(Module, Debug)]
struct Siamese {
    encoder: Linear,
    fc: Linear,
}

graph!(Siamese: (Tensor<2>, Tensor<2>) => Tensor<2>, |net, (x, y)| {
    let both = [x, y].map(|x| relu(net.encoder.forward(x)));
    net.fc.forward(Tensor::cat(both.to_vec(), 1))
});

#[test]
fn an_encoder_for_two_inputs() {
    let net = random(Siamese { encoder: linear(4, 6), fc: linear(12, 3) });
    let x = (input([3, 4]), input([3, 4]) * 0.5 + 0.25);
    let smaller = prune(&net, &x, 0.5);
    let stay = strongest(&norms(&net.encoder.weight, 1), 3);
    let both: Vec<usize> = stay.iter().copied().chain(stay.iter().map(|k| 6 + k)).collect();
    assert_eq!(kept(&smaller.plan, "fc.weight", 0), both);
    let gone = gone(&stay, 6);
    let zero = silence(&net, &[("encoder.weight", 1, &gone), ("encoder.bias", 0, &gone)]);
    assert!(difference(smaller.model.run(x.clone()), zero.run(x.clone())) < TOLERANCE);
    sweep(&net, &x, GroupCut::WithinGroups);
}

/// A tied autoencoder: one matrix encodes, its transpose decodes.
#[derive(Module, Debug)]
struct Tied {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

graph!(Tied: Tensor<2> => Tensor<2>, |net, x| {
    let code = relu(x.matmul(net.weight.val()) + net.bias.val().unsqueeze());
    code.matmul(net.weight.val().transpose())
});

#[test]
fn a_tied_autoencoder() {
    let net = random(Tied { weight: bare([5, 8]), bias: bare([8]) });
    let x = input([3, 5]);
    let smaller = prune(&net, &x, 0.5);
    // Features of the code leave; those of input and output cannot.
    let stay = strongest(&norms(&net.weight, 1), 4);
    assert_eq!(kept(&smaller.plan, "weight", 1), stay);
    assert_eq!((cut(&smaller.plan, "weight", 0), smaller.model.weight.dims()), (None, [5, 4]));
    let gone = gone(&stay, 8);
    let zero = silence(&net, &[("weight", 1, &gone), ("bias", 0, &gone)]);
    assert!(difference(smaller.model.run(x.clone()), zero.run(x.clone())) < TOLERANCE);
    sweep(&net, &x, GroupCut::WithinGroups);
}

/// A language model: the table of words makes the logits too.
#[derive(Module, Debug)]
struct Language {
    words: Embedding,
    hidden: Linear,
    back: Linear,
}

graph!(Language: Tensor<2, Int> => Tensor<3>, |net, x| {
    let x = net.words.forward(x);
    let x = x.clone() + net.back.forward(relu(net.hidden.forward(x)));
    x.matmul(net.words.weight.val().transpose().unsqueeze())
});

#[test]
fn an_embedding_that_makes_the_logits() {
    let words = EmbeddingConfig::new(7, 6).init(&device());
    let net = random(Language { words, hidden: linear(6, 8), back: linear(8, 6) });
    let x = Tensor::from_data(TensorData::new(vec![1i64, 6, 0, 4, 4, 2], [2, 3]), &device());
    let smaller = prune(&net, &x, 0.5);
    let stay = strongest(&together(&[&norms(&net.words.weight, 1), &norms(&net.back.weight, 1)]), 3);
    for (path, axis) in [("words.weight", 1), ("hidden.weight", 0), ("back.weight", 1)] {
        assert_eq!(kept(&smaller.plan, path, axis), stay, "{path}");
    }
    assert_eq!(smaller.model.words.weight.dims(), [7, 3]);
    sweep(&net, &x, GroupCut::WithinGroups);
}

/// The same values as a matrix of 6 rows and as one of 4: no column of one is a row or a column of the other.
#[derive(Module, Debug)]
struct Torn {
    weight: Param<Tensor<2>>,
    stem: Linear,
    hidden: Linear,
    fc: Linear,
}

graph!(Torn: Tensor<2> => Tensor<2>, |net, x| {
    let x = relu(net.stem.forward(x)).matmul(net.weight.val());
    let x = relu(x).matmul(net.weight.val().reshape([4, 6]));
    net.fc.forward(relu(net.hidden.forward(x)))
});

#[test]
fn a_weight_that_is_read_in_two_shapes_stays() {
    let net = random(Torn { weight: bare([6, 4]), stem: linear(3, 6), hidden: linear(6, 8), fc: linear(8, 2) });
    let x = input([3, 3]);
    let smaller = prune(&net, &x, 0.5);
    assert_eq!(smaller.model.weight.dims(), [6, 4]);
    for path in ["stem", "weight"] {
        let kept = smaller.plan.unpruned.iter().find(|kept| kept.path == path).unwrap();
        assert_eq!(kept.reason, "a reshape cuts across its channel axis");
    }
    assert_eq!(kept(&smaller.plan, "fc.weight", 0), strongest(&norms(&net.hidden.weight, 1), 4));
    sweep(&net, &x, GroupCut::WithinGroups);
}

/// A square matrix, forwards and backwards: its rows are its columns, in the other order.
#[derive(Module, Debug)]
struct Mirror {
    stem: Linear,
    weight: Param<Tensor<2>>,
    fc: Linear,
}

graph!(Mirror: Tensor<2> => Tensor<2>, |net, x| {
    let x = relu(net.stem.forward(x)).matmul(net.weight.val());
    let x = relu(x.flip([1])).matmul(net.weight.val());
    net.fc.forward(relu(x))
});

#[test]
fn a_weight_that_is_read_backwards() {
    let net = random(Mirror { stem: linear(3, 6), weight: bare([6, 6]), fc: linear(6, 2) });
    let x = input([3, 3]);
    let smaller = prune(&net, &x, 0.5);
    // Index k of one side is index 5 - k of the other.
    let stay = kept(&smaller.plan, "weight", 0);
    let mut back: Vec<usize> = stay.iter().map(|k| 5 - k).collect();
    back.sort_unstable();
    assert_eq!(kept(&smaller.plan, "weight", 1), back);
    assert_eq!(kept(&smaller.plan, "stem.weight", 1), stay);
    assert_eq!(kept(&smaller.plan, "fc.weight", 0), back);
    sweep(&net, &x, GroupCut::WithinGroups);
}
