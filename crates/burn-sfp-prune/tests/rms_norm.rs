//! Root-mean-square normalisation loses channels exactly; Burn's attention does not, the library's does.

#[path = "common/draw.rs"]
mod draw;

use burn::module::Module;
use burn::nn::attention::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig};
use burn::nn::{Linear, LinearConfig, RmsNorm, RmsNormConfig};
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor};
use burn_sfp_graph::GraphModule;
use burn_sfp_graph::Network;
use burn_sfp_nn::HeadAttention;
use burn_sfp_nn::Shrink;
use burn_sfp_prune::{Budget, GroupCut, Magnitude, Planner};
use draw::{drawn, uniform};

#[derive(Module, Debug, Shrink)]
struct Stream {
    embed: Linear,
    first: RmsNorm,
    attention: HeadAttention,
    second: RmsNorm,
    up: Linear,
    down: Linear,
    last: RmsNorm,
    head: Linear,
}

impl Stream {
    fn new(device: &Device) -> Self {
        let norm = || {
            let mut norm = RmsNormConfig::new(12).with_epsilon(0.1).init(device);
            norm.gamma = norm.gamma.map(|gamma| uniform(gamma.dims(), 0.5, 1.5, device));
            norm
        };
        drawn(Self {
            embed: LinearConfig::new(5, 12).init(device),
            first: norm(),
            attention: MultiHeadAttentionConfig::new(12, 3).with_dropout(0.0).init(device).into(),
            second: norm(),
            up: LinearConfig::new(12, 20).init(device),
            down: LinearConfig::new(20, 12).init(device),
            last: norm(),
            head: LinearConfig::new(12, 4).init(device),
        })
    }
}

impl GraphModule for Stream {
    type Inputs = Tensor<3>;
    type Outputs = Tensor<3>;
    fn run(&self, x: Tensor<3>) -> Tensor<3> {
        let x = self.embed.forward(x);
        let x = x.clone() + self.attention.self_attention(self.first.forward(x));
        let x = x.clone() + self.down.forward(silu(self.up.forward(self.second.forward(x))));
        self.head.forward(self.last.forward(x))
    }
    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        Some(self)
    }
}

#[test]
fn a_residual_stream_with_rms_normalisation_shrinks_exactly() {
    let device = Device::flex();
    let model = Stream::new(&device);
    let x = uniform([2, 6, 5], -1.7, 1.7, &device);
    for blocks in [GroupCut::WithinGroups, GroupCut::WholeGroups] {
        let planner = Planner::new().budget(Budget::PerLayer(0.5)).group_cut(blocks);
        let smaller = planner.prune(&model, &x, &Magnitude::l2()).unwrap();
        assert_eq!(smaller.model.embed.weight.dims(), [5, 6]);
        assert_eq!(smaller.model.up.weight.dims(), [6, 10]);
        assert!((smaller.model.last.epsilon - 0.2).abs() < 1e-12);
        let heads = if blocks == GroupCut::WholeGroups { 2 } else { 3 };
        assert_eq!(smaller.model.attention.n_heads, heads);
        assert!(smaller.plan.unpruned.iter().all(|kept| kept.path == "head"), "{:?}", smaller.plan.unpruned);
        let expected = smaller.plan.zeroed(&model).unwrap().run(x.clone());
        let off = (smaller.model.run(x.clone()) - expected).abs().max().into_scalar::<f32>();
        assert!(off < 1e-5, "{off}");
    }
}

#[derive(Module, Debug)]
struct Burns {
    embed: Linear,
    attention: MultiHeadAttention,
    head: Linear,
}

impl GraphModule for Burns {
    type Inputs = Tensor<3>;
    type Outputs = Tensor<3>;
    fn run(&self, x: Tensor<3>) -> Tensor<3> {
        self.head.forward(self.attention.forward(MhaInput::self_attn(self.embed.forward(x))).context)
    }
}

#[test]
fn burns_attention_is_left_whole_and_says_what_to_do() {
    let device = Device::flex();
    let model = Burns {
        embed: LinearConfig::new(5, 8).init(&device),
        attention: MultiHeadAttentionConfig::new(8, 2).init(&device),
        head: LinearConfig::new(8, 4).init(&device),
    };
    let network = Network::capture(&model, &Tensor::zeros([1, 3, 5], &device)).unwrap();
    for layer in network.layers().iter().filter(|layer| layer.path != "head") {
        let reason = layer.not_prunable.clone().unwrap_or_default();
        assert!(reason.contains("`HeadAttention` of burn-sfp-nn"), "{}: {reason}", layer.path);
    }
}
