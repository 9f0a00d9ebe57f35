//! The network: what docs/getting-started.md shows, with other widths.

use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::prelude::*;
use burn::tensor::activation::relu;
use burn_sfp::prelude::*;

use crate::data::CLASSES;

#[derive(Module, Debug)]
pub struct Conv {
    conv: Conv2d,
    norm: BatchNorm,
}

impl Conv {
    fn new(from: usize, to: usize, stride: usize, device: &Device) -> Self {
        let conv = Conv2dConfig::new([from, to], [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1));
        let conv = conv.with_stride([stride, stride]).with_bias(false);
        Self { conv: conv.init(device), norm: BatchNormConfig::new(to).init(device) }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.norm.forward(self.conv.forward(x))
    }
}

/// Four convolutions, the middle two of them a residual block. `[samples, 1, 16, 16]` to `[samples, 6]`.
#[derive(Module, Debug)]
pub struct Net {
    stem: Conv,
    inside: Conv,
    back: Conv,
    down: Conv,
    pool: AdaptiveAvgPool2d,
    classifier: Linear,
}

impl Net {
    pub fn new(device: &Device) -> Self {
        Self {
            stem: Conv::new(1, 16, 1, device),
            inside: Conv::new(16, 24, 1, device),
            back: Conv::new(24, 16, 1, device),
            down: Conv::new(16, 32, 2, device),
            pool: AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            classifier: LinearConfig::new(32, CLASSES).init(device),
        }
    }
}

impl GraphModule for Net {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;

    fn run(&self, images: Tensor<4>) -> Tensor<2> {
        let x = relu(self.stem.forward(images));
        let block = self.back.forward(relu(self.inside.forward(x.clone())));
        let x = relu(self.down.forward(relu(x + block)));
        self.classifier.forward(self.pool.forward(x).flatten(1, 3))
    }
}
