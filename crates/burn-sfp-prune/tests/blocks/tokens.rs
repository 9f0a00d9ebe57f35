//! Blocks of transformers, and a whole encoder in an option.

use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation::{gelu, softmax};
use burn::tensor::{Device, Tensor};
use burn_sfp_graph::{GraphModule, Network};
use burn_sfp_nn::Shrink;
use burn_sfp_prune::{BlockScore, Keep, Magnitude, Planner, PolicyExt};

use crate::draw::{drawn, uniform};
use crate::random::{check_planned, scores};

const WIDTH: usize = 8;

#[derive(Module, Debug, Shrink)]
struct Block {
    norm_a: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    norm_b: LayerNorm,
    up: Linear,
    down: Linear,
}

/// The mask is the same for all blocks, and computed from the tokens outside of them.
#[derive(Module, Debug, Shrink)]
struct Tokens {
    embed: Linear,
    blocks: Vec<Block>,
    neck: Option<Vec<Block>>,
    norm: LayerNorm,
    head: Linear,
}

impl Block {
    fn new(device: &Device) -> Self {
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        let norm = || LayerNormConfig::new(WIDTH).init(device);
        let (query, key, value) = (linear(WIDTH, WIDTH), linear(WIDTH, WIDTH), linear(WIDTH, WIDTH));
        let (out, up, down) = (linear(WIDTH, WIDTH), linear(WIDTH, 3 * WIDTH), linear(3 * WIDTH, WIDTH));
        Self { norm_a: norm(), query, key, value, out, norm_b: norm(), up, down }
    }

    fn forward(&self, x: Tensor<3>, mask: Tensor<3>) -> Tensor<3> {
        let y = self.norm_a.forward(x.clone());
        let weights = self.query.forward(y.clone()).matmul(self.key.forward(y.clone()).swap_dims(1, 2));
        let y = softmax(weights + mask, 2).matmul(self.value.forward(y));
        let x = x + self.out.forward(y);
        x.clone() + self.down.forward(gelu(self.up.forward(self.norm_b.forward(x))))
    }
}

impl GraphModule for Tokens {
    type Inputs = Tensor<3>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<3>) -> Tensor<2> {
        let mask = x.clone().mean_dim(2).swap_dims(1, 2);
        let mut x = self.embed.forward(x);
        for block in self.blocks.iter().chain(self.neck.iter().flatten()) {
            x = block.forward(x, mask.clone());
        }
        let x = self.norm.forward(x).mean_dim(1);
        self.head.forward(x.flatten(1, 2))
    }
    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        Some(self)
    }
}

fn tokens(device: &Device) -> Tokens {
    let blocks = |count: usize| (0..count).map(|_| Block::new(device)).collect::<Vec<Block>>();
    Tokens {
        embed: LinearConfig::new(4, WIDTH).init(device),
        blocks: blocks(4),
        neck: Some(blocks(2)),
        norm: LayerNormConfig::new(WIDTH).init(device),
        head: LinearConfig::new(WIDTH, 3).init(device),
    }
}

#[test]
fn blocks_of_a_transformer_go() {
    let device = Device::flex();
    let model = drawn(tokens(&device));
    let x = uniform([2, 5, 4], -1.0, 1.0, &device);
    let network = Network::capture(&model, &x).unwrap();
    let paths: Vec<&str> = network.blocks().iter().map(|block| block.path()).collect();
    // The option around the last two can go as a whole; so can each of them, which is offered in its place.
    assert_eq!(paths, ["blocks.0", "blocks.1", "blocks.2", "blocks.3", "neck.0", "neck.1"]);
    for (seed, share) in [(1, 0.8), (2, 0.5), (3, 0.3), (4, 0.2)] {
        let policy = Magnitude::l2().with_blocks(BlockScore::Given(scores(&network, seed * 7919, 0.5)));
        let planner = Planner::new().budget(Keep::macs(share).by_cost(seed % 2 == 0));
        let smaller = planner.prune(&model, &x, &policy).unwrap();
        assert!(!smaller.plan.blocks.is_empty());
        check_planned(&model, &x, &smaller).unwrap();
    }
}
