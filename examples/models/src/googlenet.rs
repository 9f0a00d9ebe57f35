//! GoogLeNet: Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, without the auxiliary classifiers, and with the batch
//! normalisation that Ioffe and Szegedy, ICML 2015, added.

use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::prelude::*;
use burn::tensor::activation::relu;
use burn_sfp::prelude::{GraphModule, Shrink};

use crate::blocks::{ConvNorm, global_mean, padding, scale};

/// Table 1 of the paper, stage by stage: channels of 1x1; of 3x3 and the 1x1 before it; of the wide kernel and the 1x1 before
/// it; of the 1x1 behind the pooling.
const STAGES: [&[[usize; 6]]; 3] = [
    &[[64, 96, 128, 16, 32, 32], [128, 128, 192, 32, 96, 64]],
    &[
        [192, 96, 208, 16, 48, 64],
        [160, 112, 224, 24, 64, 64],
        [128, 128, 256, 24, 64, 64],
        [112, 144, 288, 32, 64, 64],
        [256, 160, 320, 32, 128, 128],
    ],
    &[[256, 160, 320, 32, 128, 128], [384, 192, 384, 48, 128, 128]],
];

/// Configuration of a [`GoogLeNet`].
#[derive(Config, Debug)]
pub struct GoogLeNetConfig {
    /// Side of the widest kernels: 5 in the paper, 3 in torchvision, whose sizes are the ones often quoted.
    #[config(default = 3)]
    pub wide_kernel: usize,
    /// Multiplies all widths.
    #[config(default = 1.0)]
    pub width: f64,
    /// Number of classes.
    #[config(default = 1000)]
    pub classes: usize,
}

impl GoogLeNetConfig {
    /// As in torchvision.
    pub fn googlenet() -> Self {
        Self::new()
    }

    /// For tests: an eighth of the width, 10 classes. Images of 32x32 pixels are large enough.
    pub fn small(self) -> Self {
        self.with_width(0.125).with_classes(10)
    }

    /// Makes the network.
    pub fn init(&self, device: &Device) -> GoogLeNet {
        let wide = |channels| scale(channels, self.width, 1);
        let pool = |side| MaxPool2dConfig::new([side, side]).with_strides([2, 2]).with_ceil_mode(true).init();
        let mut channels = wide(192);
        let stages = STAGES.map(|stage| {
            let inception = |widths: &[usize; 6]| {
                let block = Inception::new(channels, widths.map(wide), self.wide_kernel, device);
                channels = [0, 2, 4, 5].iter().map(|&at| wide(widths[at])).sum();
                block
            };
            stage.iter().map(inception).collect()
        });
        GoogLeNet {
            stem: unit([3, wide(64)], 7, 2, device),
            reduce: unit([wide(64), wide(64)], 1, 1, device),
            second: unit([wide(64), wide(192)], 3, 1, device),
            pools: [pool(3), pool(3), pool(3), pool(2)],
            stages: stages.into(),
            dropout: DropoutConfig::new(0.2).init(),
            classifier: LinearConfig::new(channels, self.classes).init(device),
        }
    }
}

/// Inception blocks behind three convolutions.
///
/// `[samples, 3, height, width]` to `[samples, classes]`.
#[derive(Module, Debug, Shrink)]
pub struct GoogLeNet {
    /// 7x7.
    pub stem: ConvNorm,
    /// 1x1.
    pub reduce: ConvNorm,
    /// 3x3.
    pub second: ConvNorm,
    /// Behind the stem, and in front of each stage.
    pub pools: [MaxPool2d; 4],
    /// The blocks of each stage.
    pub stages: Vec<Vec<Inception>>,
    /// In front of the classifier.
    pub dropout: Dropout,
    /// Reads the mean of all positions.
    pub classifier: Linear,
}

impl GraphModule for GoogLeNet {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;

    fn run(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.pools[0].forward(relu(self.stem.forward(images)));
        let x = relu(self.second.forward(relu(self.reduce.forward(x))));
        let x = self
            .stages
            .iter()
            .zip(&self.pools[1..])
            .fold(x, |x, (stage, pool)| stage.iter().fold(pool.forward(x), |x, block| block.forward(x)));
        self.classifier.forward(self.dropout.forward(global_mean(x)))
    }

    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        Some(self)
    }
}

/// Four branches side by side.
#[derive(Module, Debug, Shrink)]
pub struct Inception {
    /// 1x1.
    pub point: ConvNorm,
    /// 1x1, then 3x3.
    pub middle: [ConvNorm; 2],
    /// 1x1, then the wide kernel.
    pub wide: [ConvNorm; 2],
    /// 3x3, keeps the size.
    pub pool: MaxPool2d,
    /// 1x1, behind the pooling.
    pub pooled: ConvNorm,
}

impl Inception {
    fn new(input: usize, widths: [usize; 6], wide_kernel: usize, device: &Device) -> Self {
        let [point, middle_inner, middle, wide_inner, wide, pooled] = widths;
        Self {
            point: unit([input, point], 1, 1, device),
            middle: [unit([input, middle_inner], 1, 1, device), unit([middle_inner, middle], 3, 1, device)],
            wide: [unit([input, wide_inner], 1, 1, device), unit([wide_inner, wide], wide_kernel, 1, device)],
            pool: MaxPool2dConfig::new([3, 3]).with_strides([1, 1]).with_padding(padding(1)).init(),
            pooled: unit([input, pooled], 1, 1, device),
        }
    }

    /// Concatenates the branches.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let chain = |layers: &[ConvNorm], x| layers.iter().fold(x, |x, layer| relu(layer.forward(x)));
        let branches = vec![
            relu(self.point.forward(x.clone())),
            chain(&self.middle, x.clone()),
            chain(&self.wide, x.clone()),
            relu(self.pooled.forward(self.pool.forward(x))),
        ];
        Tensor::cat(branches, 1)
    }
}

/// A convolution whose normalisation has the larger epsilon common for this network.
fn unit(channels: [usize; 2], kernel: usize, stride: usize, device: &Device) -> ConvNorm {
    let mut unit = ConvNorm::new(channels, kernel, stride, 1, device);
    unit.norm.epsilon = 1e-3;
    unit
}
