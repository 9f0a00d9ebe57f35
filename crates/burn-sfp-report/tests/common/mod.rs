//! A small network with a residual block, and what comes of pruning it.

#![allow(dead_code, reason = "each test file uses a part")]

use burn::module::{Module, Param};
use burn::nn::attention::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use burn_sfp_core::{AnalyzeConfig, TensorCalibration};
use burn_sfp_graph::{GraphModule, Network};
use burn_sfp_prune::{Afcc, Magnitude, Planner, Pruned, PrunedModule, Pruner, SfpRanking};

pub const LABELS: usize = 6;
const SIDE: usize = 6;

#[derive(Module, Debug)]
pub struct Net {
    stem: Conv2d,
    narrow: Conv2d,
    wide: Conv2d,
    head: Linear,
}

impl GraphModule for Net {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.stem.forward(x));
        let branch = self.wide.forward(relu(self.narrow.forward(x.clone())));
        let x: Tensor<2> = relu(x + branch).mean_dim(3).mean_dim(2).flatten(1, 3);
        self.head.forward(x)
    }
}

/// Values between -1 and 1, always the same ones.
pub fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// A weight of a layer with so many inputs, always the same one.
fn weight<const D: usize>(shape: [usize; D], inputs: usize, seed: u64, device: &Device) -> Param<Tensor<D>> {
    let scale = (3.0 / inputs as f32).sqrt();
    let values: Vec<f32> = noise(shape.iter().product(), seed).into_iter().map(|value| value * scale).collect();
    Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), device))
}

fn conv(from: usize, to: usize, seed: u64, device: &Device) -> Conv2d {
    let config = Conv2dConfig::new([from, to], [3, 3]).with_padding(PaddingConfig2d::Same).with_bias(false);
    let mut conv = config.init(device);
    conv.weight = weight([to, from, 3, 3], 9 * from, seed, device);
    conv
}

pub fn net(device: &Device) -> Net {
    let mut head = LinearConfig::new(12, LABELS).with_bias(false).init(device);
    head.weight = weight([12, LABELS], 12, 4, device);
    Net { stem: conv(3, 12, 1, device), narrow: conv(12, 8, 2, device), wide: conv(8, 12, 3, device), head }
}

/// Samples of which each label has a picture of its own, and their labels.
pub fn samples(device: &Device) -> (Tensor<4>, Vec<usize>) {
    let labels: Vec<usize> = (0..8 * LABELS).map(|sample| sample % LABELS).collect();
    let size = 3 * SIDE * SIDE;
    let mut values = Vec::new();
    for (sample, &label) in labels.iter().enumerate() {
        let (picture, own) = (noise(size, 100 + label as u64), noise(size, 1_000 + sample as u64));
        values.extend(picture.iter().zip(own).map(|(a, b)| a + 0.3 * b));
    }
    let shape = [labels.len(), 3, SIDE, SIDE];
    (Tensor::from_data(TensorData::new(values, shape), device), labels)
}

pub fn analysis_config() -> AnalyzeConfig {
    AnalyzeConfig::new().with_state(true).with_accuracy(true)
}

/// The network pruned by ranking, half of each layer, and the captured original.
pub fn ranked(config: AnalyzeConfig) -> (Pruned<Net>, Network) {
    let device = Device::flex();
    let net = net(&device);
    let (images, labels) = samples(&device);
    let calibration = TensorCalibration::new(images.clone(), labels, 16);
    let pruned =
        Pruner::new(&calibration).policy(SfpRanking::new()).ratio(0.5).config(config).analyze_and_prune(&net).unwrap();
    (pruned, Network::capture(&net, &images).unwrap())
}

/// The network without the connections that AFCC removes.
pub fn connections() -> Pruned<Net> {
    let device = Device::flex();
    let (images, labels) = samples(&device);
    let calibration = TensorCalibration::new(images, labels, 16);
    Pruner::new(&calibration).policy(Afcc::new()).config(analysis_config()).analyze_and_prune(&net(&device)).unwrap()
}

/// The network pruned by its weights alone.
pub fn by_weights() -> PrunedModule<Net> {
    let device = Device::flex();
    Planner::new().prune(&net(&device), &samples(&device).0, &Magnitude::l2()).unwrap()
}

/// A network with many labels, analysed with its state kept.
#[derive(Module, Debug)]
pub struct ManyLabels {
    hidden: Linear,
    head: Linear,
}

impl GraphModule for ManyLabels {
    type Inputs = Tensor<2>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<2>) -> Tensor<2> {
        self.head.forward(relu(self.hidden.forward(x)))
    }
}

pub fn many_labels(labels: usize) -> Pruned<ManyLabels> {
    let device = Device::flex();
    let init = |from, to| LinearConfig::new(from, to).init(&device);
    let net = ManyLabels { hidden: init(16, 512), head: init(512, labels) };
    let images = Tensor::from_data(TensorData::new(noise(16 * labels, 5), [labels, 16]), &device);
    let calibration = TensorCalibration::new(images, (0..labels).collect(), 64);
    let config = AnalyzeConfig::new().with_state(true);
    Pruner::new(&calibration).policy(SfpRanking::new()).ratio(0.5).config(config).analyze_and_prune(&net).unwrap()
}

/// Residual blocks one after the other.
#[derive(Module, Debug)]
pub struct Tower {
    stem: Linear,
    blocks: Vec<Linear>,
    head: Linear,
}

impl GraphModule for Tower {
    type Inputs = Tensor<2>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<2>) -> Tensor<2> {
        let x = self.stem.forward(x);
        let x = self.blocks.iter().fold(x, |x, block| x.clone() + relu(block.forward(x)));
        self.head.forward(x)
    }
}

/// A pruned tower, and the captured original.
pub fn tower(blocks: usize) -> (PrunedModule<Tower>, Network) {
    let device = Device::flex();
    let init = |from, to| LinearConfig::new(from, to).init(&device);
    let tower = Tower { stem: init(4, 8), blocks: (0..blocks).map(|_| init(8, 8)).collect(), head: init(8, 2) };
    let input = Tensor::from_data(TensorData::new(noise(8, 3), [2, 4]), &device);
    let network = Network::capture(&tower, &input).unwrap();
    (Planner::new().prune(&tower, &input, &Magnitude::l2()).unwrap(), network)
}

/// A network with attention.
#[derive(Module, Debug)]
pub struct Attentive {
    attention: MultiHeadAttention,
    classifier: Linear,
}

impl GraphModule for Attentive {
    type Inputs = Tensor<3>;
    type Outputs = Tensor<2>;
    fn run(&self, tokens: Tensor<3>) -> Tensor<2> {
        let mixed = self.attention.forward(MhaInput::self_attn(tokens)).context;
        self.classifier.forward(mixed.mean_dim(1).squeeze_dim::<2>(1))
    }
}

pub fn attentive() -> Pruned<Attentive> {
    let device = Device::flex();
    let net = Attentive {
        attention: MultiHeadAttentionConfig::new(12, 3).init(&device),
        classifier: LinearConfig::new(12, 4).init(&device),
    };
    let tokens = Tensor::from_data(TensorData::new(noise(16 * 5 * 12, 9), [16, 5, 12]), &device);
    let calibration = TensorCalibration::new(tokens, (0..16).map(|sample| sample % 4).collect(), 8);
    let pruner = Pruner::new(&calibration).policy(SfpRanking::new()).ratio(0.5).config(analysis_config());
    pruner.analyze_and_prune(&net).unwrap()
}
