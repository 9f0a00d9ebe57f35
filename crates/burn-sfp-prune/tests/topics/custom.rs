//! Layers of one's own with plain fields, with and without `Shrink`.

use burn::module::{Module, Param};
use burn::nn::conv::Conv2d;
use burn::nn::{GroupNorm, GroupNormConfig, Linear};
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn_sfp_graph::GraphError;
use burn_sfp_graph::GraphModule;
use burn_sfp_nn::{Scope, Shrink};
use burn_sfp_prune::{Budget, GroupCut, Magnitude, Planner, PruneError};

use crate::support::*;

/// Scales channels and remembers how many there are.
#[derive(Module, Debug)]
struct Scale {
    by: Param<Tensor<1>>,
    channels: usize,
}

impl Scale {
    fn new(channels: usize) -> Self {
        Self { by: bare([channels]), channels }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        x * self.by.val().reshape([1, self.channels, 1, 1])
    }
}

impl Shrink for Scale {
    fn shrink(&mut self, scope: &mut Scope<'_>) {
        if let Some(change) = scope.axis("by", 0) {
            assert_eq!((change.before, change.keep.len()), (self.channels, self.by.dims()[0]));
            self.channels = change.keep.len();
        }
    }
}

#[derive(Module, Debug, Shrink)]
#[shrink(crate = burn_sfp_nn)]
struct Followed {
    stem: Conv2d,
    scales: Vec<Scale>,
    fc: Linear,
}

graph!(shrink Followed: Tensor<4> => Tensor<2>, |net, x| {
    let x = net.scales.iter().fold(net.stem.forward(x), |x, scale| relu(scale.forward(x)));
    net.fc.forward(mean(x))
});

#[test]
fn a_layer_that_follows() {
    let net = random(Followed { stem: conv(2, 6), scales: vec![Scale::new(6), Scale::new(6)], fc: linear(6, 3) });
    let x = input([2, 2, 4, 4]);
    let smaller = prune(&net, &x, 0.5);
    let stay = strongest(&norms(&net.stem.weight, 0), 3);
    assert_eq!(kept(&smaller.plan, "scales.0.by", 0), stay);
    assert_eq!(kept(&smaller.plan, "scales.1.by", 0), stay);
    assert!(smaller.model.scales.iter().all(|scale| scale.channels == 3));
    let gone = gone(&stay, 6);
    let zero = silence(&net, &[("scales.1.by", 0, &gone)]);
    assert!(difference(smaller.model.run(x.clone()), zero.run(x.clone())) < TOLERANCE);
    sweep(&net, &x, GroupCut::WithinGroups);
}

/// The same without `Shrink`.
#[derive(Module, Debug)]
struct Left {
    stem: Conv2d,
    scale: Scale,
    fc: Linear,
}

graph!(Left: Tensor<4> => Tensor<2>, |net, x| net.fc.forward(mean(net.scale.forward(net.stem.forward(x)))));

fn refused<M: GraphModule<Inputs = Tensor<4>>>(net: &M) -> PruneError {
    let planner = Planner::new().budget(Budget::PerLayer(0.5)).strict();
    prune_with(net, &input([2, 2, 4, 4]), &planner, &Magnitude::l2()).unwrap_err()
}

#[test]
fn a_layer_that_stays_behind() {
    let net = random(Left { stem: conv(2, 6), scale: Scale::new(6), fc: linear(6, 3) });
    let error = refused(&net);
    assert!(matches!(error, PruneError::Graph(GraphError::GraphMismatch { .. })));
    holds(
        error,
        &["after layer `scale.by`", "compute it from `dims()`", "implement `Shrink` for the struct that stores it"],
    );
}

/// A stored width that does no harm to the shapes, but to the result: the sum over channels is divided by it.
#[derive(Module, Debug)]
struct Halves {
    stem: Conv2d,
    fc: Linear,
    half: usize,
}

graph!(Halves: Tensor<4> => Tensor<2>, |net, x| {
    let x = relu(net.stem.forward(x));
    let first = x.clone().slice([0..x.dims()[0], 0..net.half.min(x.dims()[1])]);
    net.fc.forward(mean(first))
});

#[test]
fn a_slice_at_a_stored_channel() {
    // Half of 12 channels, of which half leave: all six that remain would be read where three are planned.
    let error = refused(&random(Halves { stem: conv(2, 12), fc: linear(6, 3), half: 6 }));
    assert!(matches!(error, PruneError::Graph(GraphError::GraphMismatch { .. })));
    holds(error, &["after layer `stem`", "`Shrink`"]);
}

/// A block of one's own around a layer of Burn that counts its groups.
#[derive(Module, Debug, Shrink)]
struct Block {
    conv: Conv2d,
    norm: GroupNorm,
}

#[derive(Module, Debug)]
struct Without {
    blocks: Vec<Block>,
    fc: Linear,
}

impl Block {
    fn new(from: usize, to: usize) -> Self {
        Self { conv: conv(from, to), norm: GroupNormConfig::new(3, to).init(&device()) }
    }
}

fn blocks() -> Without {
    random(Without { blocks: vec![Block::new(2, 6), Block::new(6, 9)], fc: linear(9, 3) })
}

fn through(blocks: &[Block], fc: &Linear, x: Tensor<4>) -> Tensor<2> {
    fc.forward(mean(blocks.iter().fold(x, |x, block| relu(block.norm.forward(block.conv.forward(x))))))
}

graph!(Without: Tensor<4> => Tensor<2>, |net, x| through(&net.blocks, &net.fc, x));

#[derive(Module, Debug, Shrink)]
struct With {
    blocks: Vec<Block>,
    fc: Linear,
}

// The line of the error's message.
impl GraphModule for With {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<4>) -> Tensor<2> {
        through(&self.blocks, &self.fc, x)
    }
    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        Some(self)
    }
}

#[test]
fn the_message_says_which_line_to_add() {
    let net = blocks();
    let error = refused(&net);
    assert!(matches!(&error, PruneError::NeedsShrink { path, .. } if path == "blocks.0.norm"), "{error}");
    holds(
        error,
        &[
            "layer `blocks.0.norm` (GroupNorm)",
            "add `Shrink` to the derives of the model",
            "fn shrinkable(&mut self) -> Option<&mut dyn Shrink> { Some(self) }",
        ],
    );
    let Without { blocks, fc } = net;
    let x = input([2, 2, 4, 4]);
    let followed = prune(&With { blocks, fc }, &x, 0.5);
    let norms: Vec<(usize, usize)> =
        followed.model.blocks.iter().map(|block| (block.norm.num_groups, block.norm.num_channels)).collect();
    assert_eq!(norms, [(2, 4), (2, 6)]);
}
