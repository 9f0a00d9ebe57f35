//! Channels that are split: chunks, slices at fractions of the width, widths that are written down.

use burn::module::Module;
use burn::nn::Linear;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
use burn::tensor::activation::{relu, sigmoid};
use burn_sfp_graph::GraphError;
use burn_sfp_graph::GraphModule;
use burn_sfp_nn::{Scope, Shrink};
use burn_sfp_prune::{Budget, GroupCut, Magnitude, Planner, PruneError};

use crate::support::*;

/// A gated linear unit.
#[derive(Module, Debug)]
struct Gated {
    a: Conv2d,
    fc: Linear,
}

graph!(Gated: Tensor<4> => Tensor<2>, |net, x| {
    let halves = net.a.forward(x).chunk(2, 1);
    net.fc.forward(mean(halves[0].clone() * sigmoid(halves[1].clone())))
});

#[test]
fn chunks() {
    let net = random(Gated { a: conv(3, 8), fc: linear(4, 3) });
    let x = input([2, 3, 4, 4]);
    let smaller = prune(&net, &x, 0.5);
    let half = strongest(&folded(&norms(&net.a.weight, 0), 4, GroupCut::WithinGroups), 2);
    let both: Vec<usize> = half.iter().copied().chain(half.iter().map(|k| 4 + k)).collect();
    assert_eq!(kept(&smaller.plan, "a.weight", 0), both);
    assert_eq!(kept(&smaller.plan, "fc.weight", 0), half);
    let gone = gone(&half, 4);
    let zero = silence(&net, &[("a.weight", 0, &gone), ("a.bias", 0, &gone)]);
    assert!(difference(smaller.model.run(x.clone()), zero.run(x.clone())) < TOLERANCE);
    sweep(&net, &x, GroupCut::WithinGroups);
}

/// A quarter, a quarter and a half, with three readers.
#[derive(Module, Debug)]
struct Fractions {
    a: Conv2d,
    first: Conv2d,
    second: Conv2d,
    third: Conv2d,
    fc: Linear,
}

graph!(Fractions: Tensor<4> => Tensor<2>, |net, x| {
    let x = relu(net.a.forward(x));
    let width = x.dims()[1];
    let part = |from: usize, to: usize| x.clone().narrow(1, from, to - from);
    let first = net.first.forward(part(0, width / 4));
    let second = net.second.forward(part(width / 4, width / 2));
    let third = net.third.forward(part(width / 2, width));
    net.fc.forward(mean(relu(first + second + third)))
});

#[test]
fn slices_at_fractions_of_the_width() {
    let net = Fractions { a: conv(2, 16), first: conv(4, 6), second: conv(4, 6), third: conv(8, 6), fc: linear(6, 3) };
    let net = random(net);
    let x = input([2, 2, 4, 4]);
    let smaller = prune(&net, &x, 0.5);
    let plan = &smaller.plan;
    // A quarter, a quarter and a half of what stays, which are the filters that stay of each part.
    let stay = kept(plan, "a.weight", 0);
    for (layer, from, to, left) in [("first", 0, 4, 2), ("second", 4, 8, 2), ("third", 8, 16, 4)] {
        let part: Vec<usize> = stay.iter().filter(|k| (from..to).contains(*k)).map(|k| k - from).collect();
        assert_eq!(part.len(), left, "{layer}");
        assert_eq!(kept(plan, &format!("{layer}.weight"), 1), part, "{layer}");
    }
    let tied = together(&[&norms(&net.first.weight, 0), &norms(&net.second.weight, 0), &norms(&net.third.weight, 0)]);
    assert_eq!(kept(plan, "fc.weight", 0), strongest(&tied, 3));
    sweep(&net, &x, GroupCut::WithinGroups);
}

/// Widths of its parts in plain fields.
#[derive(Module, Debug)]
struct Widths {
    a: Conv2d,
    b: Conv2d,
    c: Conv2d,
    widths: [usize; 2],
}

impl Widths {
    fn new() -> Self {
        random(Self { a: conv(2, 12), b: conv(4, 5), c: conv(8, 5), widths: [4, 8] })
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let parts = relu(self.a.forward(x)).split_with_sizes(self.widths.to_vec(), 1);
        self.b.forward(parts[0].clone()) + self.c.forward(parts[1].clone())
    }
}

#[derive(Module, Debug)]
struct Fixed {
    parts: Widths,
}

graph!(Fixed: Tensor<4> => Tensor<4>, |net, x| net.parts.forward(x));

#[derive(Module, Debug)]
struct Followed {
    parts: Widths,
}

graph!(shrink Followed: Tensor<4> => Tensor<4>, |net, x| net.parts.forward(x));

impl Shrink for Followed {
    fn shrink(&mut self, _scope: &mut Scope<'_>) {
        self.parts.widths = [self.parts.b.weight.dims()[1], self.parts.c.weight.dims()[1]];
    }
}

#[test]
fn widths_that_are_written_down() {
    let x = input([2, 2, 4, 4]);
    let net = Followed { parts: Widths::new() };
    let smaller = prune(&net, &x, 0.5);
    // Each part by itself: half of all, wherever they are.
    let widths = smaller.model.parts.widths;
    let dims = [&smaller.model.parts.b, &smaller.model.parts.c].map(|layer| layer.weight.dims()[1]);
    assert_eq!((widths, widths.iter().sum()), (dims, 6));
    let stay = strongest(&norms(&net.parts.a.weight, 0), 6);
    assert_eq!(kept(&smaller.plan, "parts.a.weight", 0), stay);
    sweep(&net, &x, GroupCut::WithinGroups);

    let net = Fixed { parts: Widths::new() };
    let planner = Planner::new().budget(Budget::PerLayer(0.5));
    let error = prune_with(&net, &x, &planner.clone().strict(), &Magnitude::l2()).unwrap_err();
    assert!(matches!(error, PruneError::Graph(GraphError::GraphMismatch { .. })));
    holds(error, &["`parts.a`", "`Shrink`", "`dims()`"]);
    // Without `strict` the layer stays.
    let plan = prune_with(&net, &x, &planner, &Magnitude::l2()).unwrap().plan;
    holds(why(&plan, "parts.a"), &["`parts.a`", "`Shrink`", "`dims()`"]);
}
