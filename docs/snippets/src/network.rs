//! The network and the data that the hidden lines of the pages use. `getting-started.md` shows the same network.

use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::prelude::*;
use burn::tensor::activation::relu;
use burn_sfp::prelude::{GraphModule, Shrink};

/// A 3x3 convolution that keeps the size of the map, and its batch normalisation.
#[derive(Module, Debug, Shrink)]
pub struct Conv {
    /// The convolution, without bias.
    pub conv: Conv2d,
    /// The normalisation.
    pub norm: BatchNorm,
}

impl Conv {
    /// Makes the layer.
    pub fn new(from: usize, to: usize, device: &Device) -> Self {
        let conv = Conv2dConfig::new([from, to], [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1));
        Self { conv: conv.with_bias(false).init(device), norm: BatchNormConfig::new(to).init(device) }
    }

    /// `[samples, from, height, width]` to `[samples, to, height, width]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.norm.forward(self.conv.forward(x))
    }
}

/// A small network with a residual block, `[samples, 1, height, width]` to `[samples, 4]`.
#[derive(Module, Debug)]
pub struct Net {
    /// The first convolution.
    pub stem: Conv,
    /// The first convolution of the block.
    pub inside: Conv,
    /// The second one, whose output is added to the input of the block.
    pub back: Conv,
    /// The mean over the positions.
    pub pool: AdaptiveAvgPool2d,
    /// The classifier.
    pub classifier: Linear,
}

impl Net {
    /// Makes the network, always with the same weights.
    pub fn new(device: &Device) -> Self {
        device.seed(1);
        Self {
            stem: Conv::new(1, 16, device),
            inside: Conv::new(16, 32, device),
            back: Conv::new(32, 16, device),
            pool: AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            classifier: LinearConfig::new(16, 4).init(device),
        }
    }

    /// The logits.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = relu(self.stem.forward(images));
        let block = self.back.forward(relu(self.inside.forward(x.clone())));
        self.classifier.forward(self.pool.forward(relu(x + block)).flatten(1, 3))
    }
}

impl GraphModule for Net {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;

    fn run(&self, images: Tensor<4>) -> Tensor<2> {
        self.forward(images)
    }
}

/// A network with residual blocks in a list, `[samples, 1, height, width]` to `[samples, 4]`.
#[derive(Module, Debug, Shrink)]
pub struct Residual {
    /// The first convolution.
    pub stem: Conv,
    /// The blocks, of one convolution each.
    pub blocks: Vec<Conv>,
    /// The classifier.
    pub classifier: Linear,
}

impl Residual {
    /// Makes the network, always with the same weights.
    pub fn new(device: &Device) -> Self {
        device.seed(1);
        let blocks = (0..4).map(|_| Conv::new(8, 8, device)).collect();
        Self { stem: Conv::new(1, 8, device), blocks, classifier: LinearConfig::new(8, 4).init(device) }
    }
}

impl GraphModule for Residual {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;

    fn run(&self, images: Tensor<4>) -> Tensor<2> {
        let stem = relu(self.stem.forward(images));
        let x = self.blocks.iter().fold(stem, |x, block| relu(x.clone() + block.forward(x)));
        self.classifier.forward(x.mean_dim(3).mean_dim(2).flatten(1, 3))
    }

    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        Some(self)
    }
}

/// Sixteen images of 8x8 pixels, `[16, 1, 8, 8]`, with a bright bar whose place says the label, and the labels (0 to 3).
pub fn samples(device: &Device) -> (Tensor<4>, Vec<usize>) {
    let labels: Vec<usize> = (0..16).map(|sample| sample % 4).collect();
    let pixel = |sample: usize, row: usize| if row / 2 == sample % 4 { 1.0 } else { 0.1 * (sample / 4) as f32 };
    let pixels: Vec<f32> = (0..16 * 64).map(|at| pixel(at / 64, at / 8 % 8)).collect();
    (Tensor::from_data(TensorData::new(pixels, [16, 1, 8, 8]), device), labels)
}
