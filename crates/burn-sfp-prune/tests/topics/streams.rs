//! Residual streams of networks whose root-mean-square normalisations cannot be reached: no epsilon changes.

use burn::module::{Module, Param};
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig, RmsNorm, RmsNormConfig};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::{Int, Tensor};
use burn_sfp_graph::GraphModule;
use burn_sfp_prune::{Budget, Magnitude, Planner, PrunePlan};

use crate::support::*;

fn plain(from: usize, to: usize) -> Linear {
    LinearConfig::new(from, to).with_bias(false).init(&device())
}

/// A normalisation of one's own, with other field names and powers than Burn's.
#[derive(Module, Debug)]
struct OwnNorm {
    weight: Param<Tensor<1>>,
    eps: f64,
}

impl OwnNorm {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let scale = (x.clone().powf_scalar(2.0).mean_dim(2) + self.eps).sqrt().recip();
        x * scale * self.weight.val().unsqueeze()
    }
}

/// A block of a decoder, with a cache of keys and values where the network runs token by token.
#[derive(Module, Debug)]
struct Block {
    attention_norm: RmsNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    norm: OwnNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

const HEADS: usize = 2;

impl Block {
    fn new(width: usize) -> Self {
        Self {
            attention_norm: RmsNormConfig::new(width).with_epsilon(0.1).init(&device()),
            query: plain(width, width),
            key: plain(width, width),
            value: plain(width, width),
            output: plain(width, width),
            norm: OwnNorm { weight: bare([width]), eps: 0.2 },
            gate: plain(width, 10),
            up: plain(width, 10),
            down: linear(10, width),
        }
    }

    fn split(x: Tensor<3>) -> Tensor<4> {
        let [samples, tokens, all] = x.dims();
        x.reshape([samples, tokens, HEADS, all / HEADS]).swap_dims(1, 2)
    }

    fn forward(&self, x: Tensor<3>, cache: Option<(Tensor<4>, Tensor<4>)>) -> Tensor<3> {
        let y = self.attention_norm.forward(x.clone());
        let [q, mut k, mut v] =
            [&self.query, &self.key, &self.value].map(|layer| Self::split(layer.forward(y.clone())));
        if let Some((keys, values)) = cache {
            let [samples, heads, tokens, width] = k.dims();
            let written = [0..samples, 0..heads, 3..3 + tokens, 0..width];
            k = keys.slice_assign(written.clone(), k);
            v = values.slice_assign(written, v);
        }
        let mixed = softmax(q.matmul(k.swap_dims(2, 3)) * 0.5, 3).matmul(v).swap_dims(1, 2);
        let [samples, tokens, heads, width] = mixed.dims();
        let x = x + self.output.forward(mixed.reshape([samples, tokens, heads * width]));
        let y = self.norm.forward(x.clone());
        x + self.down.forward(relu(self.gate.forward(y.clone())) * self.up.forward(y))
    }
}

/// A decoder. Its head is a layer of its own, or the table of its embedding.
#[derive(Module, Debug)]
struct Decoder {
    tokens: Embedding,
    positions: Param<Tensor<2>>,
    blocks: Vec<Block>,
    norm: RmsNorm,
    head: Option<Linear>,
    cached: bool,
    /// A normalisation without a parameter right behind the embedding.
    bare: bool,
}

const TOKENS: usize = 7;

impl Decoder {
    fn new(tied: bool, cached: bool, bare_norm: bool) -> Self {
        let width = 8;
        random(Self {
            tokens: EmbeddingConfig::new(TOKENS, width).init(&device()),
            positions: bare([4, width]),
            blocks: (0..2).map(|_| Block::new(width)).collect(),
            norm: RmsNormConfig::new(width).with_epsilon(0.1).init(&device()),
            head: (!tied).then(|| plain(width, TOKENS)),
            cached,
            bare: bare_norm,
        })
    }
}

impl GraphModule for Decoder {
    type Inputs = Tensor<2, Int>;
    type Outputs = Tensor<3>;
    fn run(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let mut x = self.tokens.forward(tokens) + self.positions.val().unsqueeze();
        if self.bare {
            x = x.clone() / (x.clone().square().mean_dim(2) + 0.3).sqrt();
        }
        for block in &self.blocks {
            let cache = self.cached.then(|| {
                let [samples, _, _] = x.dims();
                let width = block.key.weight.dims()[1] / HEADS;
                let empty = Tensor::zeros([samples, HEADS, 9, width], &x.device());
                (empty.clone(), empty)
            });
            x = block.forward(x, cache);
        }
        let x = self.norm.forward(x);
        match &self.head {
            Some(head) => head.forward(x),
            None => x.matmul(self.tokens.weight.val().transpose().unsqueeze()),
        }
    }
}

fn tokens() -> Tensor<2, Int> {
    Tensor::from_ints([[0, 3, 6, 2], [5, 1, 1, 4]], &device())
}

fn half(net: &Decoder) -> PrunePlan {
    let planner = Planner::new().budget(Budget::PerLayer(0.5));
    prune_with(net, &tokens(), &planner, &Magnitude::l2()).unwrap().plan
}

#[test]
fn streams_lose_channels_without_another_epsilon() {
    for tied in [false, true] {
        for cached in [false, true] {
            for bare in [false, true] {
                let net = Decoder::new(tied, cached, bare);
                let plan = half(&net);
                let what = format!("tied {tied}, cached {cached}, bare {bare}");
                for layer in ["tokens", "blocks.0.output", "blocks.1.down"] {
                    assert_eq!(plan.layer(layer).map(|layer| layer.filters_after), Some(4), "{what}: {plan:?}");
                }
                assert!(plan.fields.is_empty());
                sweep(&net, &tokens(), burn_sfp_prune::GroupCut::WithinGroups);
            }
        }
    }
}

/// Two runs of the same blocks, as with a cache: all tokens, and then the last one again. The head, which is the table, reads one token of
/// each, or both side by side, or only the second.
#[derive(Module, Debug)]
struct Twice {
    decoder: Decoder,
    #[module(skip)]
    read: Read,
}

#[derive(Clone, Copy, Debug)]
enum Read {
    Each,
    Both,
    Second,
}

impl GraphModule for Twice {
    type Inputs = Tensor<2, Int>;
    type Outputs = (Tensor<3>, Tensor<3>);
    fn run(&self, tokens: Tensor<2, Int>) -> Self::Outputs {
        let net = &self.decoder;
        let run = |tokens: Tensor<2, Int>| {
            let x = net.tokens.forward(tokens);
            let x = net.norm.forward(net.blocks.iter().fold(x, |x, block| block.forward(x, None)));
            let last = x.dims()[1] - 1;
            x.slice_dim(1, last..last + 1)
        };
        let head = |x: Tensor<3>| x.matmul(net.tokens.weight.val().transpose().unsqueeze());
        let (first, second) = (run(tokens.clone()), run(tokens.slice_dim(1, 3..4)));
        match self.read {
            Read::Each => (head(first), head(second)),
            Read::Both => {
                let both = head(Tensor::cat(vec![first, second], 1));
                (both.clone(), both)
            }
            Read::Second => (head(second.clone()), head(second)),
        }
    }
}

#[test]
fn streams_that_run_twice() {
    for read in [Read::Each, Read::Both, Read::Second] {
        let net = Twice { decoder: Decoder::new(true, false, false), read };
        let planner = Planner::new().budget(Budget::PerLayer(0.5));
        let plan = prune_with(&net, &tokens(), &planner, &Magnitude::l2()).unwrap().plan;
        for layer in ["decoder.tokens", "decoder.blocks.0.output", "decoder.blocks.1.down"] {
            assert_eq!(plan.layer(layer).map(|layer| layer.filters_after), Some(4), "{read:?}: {}", plan.summary());
        }
        assert!(plan.fields.is_empty());
    }
}

/// Something else reads the stream: scaling it would change that, and no epsilon can be reached.
#[derive(Module, Debug)]
struct Leaky {
    tokens: Embedding,
    norm: RmsNorm,
    a: Linear,
    b: Linear,
}

impl GraphModule for Leaky {
    type Inputs = Tensor<2, Int>;
    type Outputs = Tensor<3>;
    fn run(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let x = self.tokens.forward(tokens);
        self.a.forward(self.norm.forward(x.clone())) + self.b.forward(x.tanh())
    }
}

#[test]
fn a_stream_that_something_else_reads_stays() {
    let net = Leaky {
        tokens: EmbeddingConfig::new(TOKENS, 8).init(&device()),
        norm: RmsNormConfig::new(8).with_epsilon(0.1).init(&device()),
        a: linear(8, 3),
        b: linear(8, 3),
    };
    let net = random(net);
    let planner = Planner::new().budget(Budget::PerLayer(0.5));
    let plan = prune_with(&net, &tokens(), &planner, &Magnitude::l2()).unwrap().plan;
    holds(why(&plan, "tokens"), &["layer `norm` (RmsNorm) keeps `epsilon`"]);
}
