//! What the tests share: networks, given scores, and what a plan keeps.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::nn::attention::MultiHeadAttentionConfig;
use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use burn_sfp_core::Analysis;
use burn_sfp_graph::{GraphModule, Layer, Network};
use burn_sfp_nn::HeadAttention;
use burn_sfp_prune::{Connections, Normalizer, PolicyContext, PruneError, PrunePlan, Ranking, RankingPolicy};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::inspect::edited;

pub fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

pub fn linear(from: usize, to: usize) -> Linear {
    LinearConfig::new(from, to).init(&Device::flex())
}

fn conv(from: usize, to: usize, groups: usize) -> Conv2d {
    let config = Conv2dConfig::new([from, to], [3, 3]).with_groups(groups);
    config.with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).init(&Device::flex())
}

fn transposed(from: usize, to: usize, groups: usize) -> ConvTranspose2d {
    let config = ConvTranspose2dConfig::new([from, to], [3, 3]).with_padding([1, 1]);
    config.with_groups(groups).init(&Device::flex())
}

/// The model with random parameters; only variances are positive.
pub fn random<M: Module>(model: M, seed: u64) -> M {
    let mut rng = rng(seed);
    edited(&model, |path, _, values| {
        let low = if path.ends_with("running_var") { 0.5 } else { -0.9 };
        values.iter_mut().for_each(|value| *value = rng.random_range(low..1.0));
    })
}

/// Every way in which a weight may be stored.
#[derive(Module, Debug)]
pub struct Kinds {
    pub first: Conv2d,
    pub norm: BatchNorm,
    pub grouped: Conv2d,
    pub depthwise: Conv2d,
    pub up: ConvTranspose2d,
    pub up_grouped: ConvTranspose2d,
    pub wide: Linear,
    pub one: Linear,
    pub fc: Linear,
}

impl Kinds {
    pub fn new(seed: u64) -> Self {
        let net = Self {
            first: conv(2, 8, 1),
            norm: BatchNormConfig::new(8).init(&Device::flex()),
            grouped: conv(8, 8, 2),
            depthwise: conv(8, 8, 8),
            up: transposed(8, 6, 1),
            up_grouped: transposed(6, 6, 2),
            wide: linear(6, 75),
            one: linear(75, 1),
            fc: linear(1, 3),
        };
        random(net, seed)
    }

    pub fn network(&self) -> Network {
        Network::capture(self, &Tensor::zeros([2, 2, 4, 4], &Device::flex())).unwrap()
    }
}

impl GraphModule for Kinds {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.norm.forward(self.first.forward(x)));
        let x = relu(self.depthwise.forward(relu(self.grouped.forward(x))));
        let x = relu(self.up_grouped.forward(relu(self.up.forward(x))));
        let [samples, channels, _, _] = x.dims();
        let x = x.mean_dim(3).mean_dim(2).reshape([samples, channels]);
        self.fc.forward(relu(self.one.forward(relu(self.wide.forward(x)))))
    }
}

/// `block` adds to what `stem` makes, so that their nodes are tied; `inner` is tied to nothing.
#[derive(Module, Debug)]
pub struct Residual {
    pub stem: Linear,
    pub block: Linear,
    pub inner: Linear,
    pub fc: Linear,
}

impl Residual {
    pub fn new() -> Self {
        random(Self { stem: linear(4, 8), block: linear(8, 8), inner: linear(8, 6), fc: linear(6, 3) }, 2)
    }

    pub fn network(&self) -> Network {
        Network::capture(self, &Self::input()).unwrap()
    }

    pub fn input() -> Tensor<2> {
        Tensor::from_floats([[1., 0., 0.5, -1.], [0., 1., -1., 0.3], [-1., 0.2, 1., 0.]], &Device::flex())
    }
}

impl GraphModule for Residual {
    type Inputs = Tensor<2>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<2>) -> Tensor<2> {
        let x = relu(self.stem.forward(x));
        let x = relu(x.clone() + self.block.forward(x));
        self.fc.forward(relu(self.inner.forward(x)))
    }
}

/// Scores and keep masks that are given.
#[derive(Clone, Debug, Default)]
pub struct Given {
    pub name: &'static str,
    pub ranking: Ranking,
}

impl Given {
    pub fn new(name: &'static str, scores: &[(&str, &[f64])]) -> Self {
        let filters = scores.iter().map(|(path, scores)| (path.to_string(), scores.to_vec())).collect();
        Self { name, ranking: Ranking { filters, ..Ranking::default() } }
    }

    pub fn with_mask(mut self, path: &str, mask: Connections) -> Self {
        self.ranking.connections.insert(path.into(), mask);
        self
    }

    pub fn with_normalizer(mut self, normalizer: Normalizer) -> Self {
        self.ranking.normalizer = Some(normalizer);
        self
    }
}

impl RankingPolicy for Given {
    fn name(&self) -> String {
        self.name.into()
    }
    fn rank(&self, _: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        Ok(self.ranking.clone())
    }
}

/// What a policy returns.
pub fn try_rank<'a>(
    policy: &dyn RankingPolicy,
    network: &'a Network,
    analysis: Option<&'a Analysis>,
) -> Result<Ranking, PruneError> {
    policy.rank(&PolicyContext::new(network, analysis))
}

pub fn rank(policy: &dyn RankingPolicy, network: &Network) -> Ranking {
    try_rank(policy, network, None).unwrap()
}

/// The incoming weights of each filter, read from the stored parameter.
pub fn weights(network: &Network, layer: &Layer) -> Vec<Vec<f64>> {
    let stored: Vec<f64> = network.parameter_data(&format!("{}.weight", layer.path)).unwrap().iter::<f64>().collect();
    let (filters, groups) = (layer.filters, layer.groups);
    let inputs = layer.inputs / groups;
    let size = stored.len() / (filters * inputs);
    let kernel = |filter: usize, input: usize| {
        let at = if layer.kind.is_linear() || layer.kind.is_transposed() {
            let (group, member) = (filter / (filters / groups), filter % (filters / groups));
            (group * inputs + input) * (filters / groups) + member
        } else {
            filter * inputs + input
        };
        stored[at * size..(at + 1) * size].to_vec()
    };
    (0..filters).map(|filter| (0..inputs).flat_map(|input| kernel(filter, input)).collect()).collect()
}

/// The filters of a layer that a plan keeps.
pub fn kept(plan: &PrunePlan, path: &str, filters: usize) -> Vec<usize> {
    let layer = plan.layers.iter().find(|layer| layer.path == path).unwrap();
    let cut = plan.cuts.iter().find(|cut| cut.path == layer.weight);
    let axis = cut.and_then(|cut| cut.axes.iter().find(|axis| axis.axis == layer.kind.output_axis()));
    axis.map_or_else(|| (0..filters).collect(), |axis| axis.keep.clone())
}

/// Whether two scores agree to rounding.
pub fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-9)
}

pub fn all_near(found: &BTreeMap<String, Vec<f64>>, path: &str, expected: &[f64]) {
    let found = &found[path];
    assert_eq!(found.len(), expected.len(), "{path}");
    assert!(found.iter().zip(expected).all(|(a, b)| near(*a, *b)), "{path}: {found:?}, expected {expected:?}");
}

/// An attention between two linear layers.
#[derive(Module, Debug)]
pub struct Attentive {
    embed: Linear,
    attention: HeadAttention,
    fc: Linear,
}

impl GraphModule for Attentive {
    type Inputs = Tensor<3>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<3>) -> Tensor<2> {
        let x = self.attention.self_attention(self.embed.forward(x));
        self.fc.forward(x.mean_dim(1).squeeze_dim::<2>(1))
    }
}

impl Attentive {
    /// Of four features a token, with a stream of 12.
    pub fn new(heads: usize, classes: usize) -> Self {
        let attention = MultiHeadAttentionConfig::new(12, heads).with_dropout(0.0).init(&Device::flex()).into();
        Self { embed: linear(4, 12), attention, fc: linear(12, classes) }
    }
}
