//! PreAct ResNet: He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016, in the form common for CIFAR.

use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::prelude::*;
use burn::tensor::activation::relu;
use burn_sfp::prelude::{GraphModule, Shrink};

use crate::blocks::{conv, global_mean, scale};

/// Configuration of a [`PreActResNet`].
#[derive(Config, Debug)]
pub struct PreActResNetConfig {
    /// Blocks of each stage.
    pub blocks: Vec<usize>,
    /// Channels of the first stage, doubled with every stage.
    #[config(default = 64)]
    pub channels: usize,
    /// Whether a normalisation and a ReLU follow the last block, as in the paper; the common 18-layer form has none.
    #[config(default = false)]
    pub last_norm: bool,
    /// Multiplies all widths.
    #[config(default = 1.0)]
    pub width: f64,
    /// Number of classes.
    #[config(default = 10)]
    pub classes: usize,
}

impl PreActResNetConfig {
    /// 18 layers for images of 32x32 pixels.
    pub fn preact_resnet18() -> Self {
        Self::new(vec![2, 2, 2, 2])
    }

    /// For tests: an eighth of the width. Images of 16x16 pixels are large enough.
    pub fn small(self) -> Self {
        self.with_width(0.125)
    }

    /// Makes the network.
    pub fn init(&self, device: &Device) -> PreActResNet {
        let stem = scale(self.channels, self.width, 1);
        let mut channels = stem;
        let mut blocks = Vec::new();
        for (stage, &count) in self.blocks.iter().enumerate() {
            let output = scale(self.channels << stage, self.width, 1);
            for index in 0..count {
                let stride = if index == 0 && stage > 0 { 2 } else { 1 };
                blocks.push(PreActBlock::new([channels, output], stride, device));
                channels = output;
            }
        }
        PreActResNet {
            stem: conv([3, stem], 3, 1, 1, device),
            blocks,
            last_norm: self.last_norm.then(|| BatchNormConfig::new(channels).init(device)),
            classifier: LinearConfig::new(channels, self.classes).init(device),
        }
    }
}

/// Residual blocks that normalise before they convolve, so that the way around stays an identity.
///
/// `[samples, 3, height, width]` to `[samples, classes]`.
#[derive(Module, Debug, Shrink)]
pub struct PreActResNet {
    /// The first convolution; the first block brings its normalisation.
    pub stem: Conv2d,
    /// The blocks of all stages.
    pub blocks: Vec<PreActBlock>,
    /// Behind the last block.
    pub last_norm: Option<BatchNorm>,
    /// Reads the mean of all positions.
    pub classifier: Linear,
}

impl GraphModule for PreActResNet {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;

    fn run(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.blocks.iter().fold(self.stem.forward(images), |x, block| block.forward(x));
        let x = match &self.last_norm {
            Some(norm) => relu(norm.forward(x)),
            None => x,
        };
        self.classifier.forward(global_mean(x))
    }

    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        Some(self)
    }
}

/// Normalisation, ReLU, convolution, twice, and a way around.
#[derive(Module, Debug, Shrink)]
pub struct PreActBlock {
    /// Of the input.
    pub first_norm: BatchNorm,
    /// 3x3, with the stride.
    pub first: Conv2d,
    /// Between the convolutions.
    pub second_norm: BatchNorm,
    /// 3x3.
    pub second: Conv2d,
    /// 1x1, reads the normalised input; where the shape changes.
    pub shortcut: Option<Conv2d>,
}

impl PreActBlock {
    fn new([input, output]: [usize; 2], stride: usize, device: &Device) -> Self {
        let changes = stride != 1 || input != output;
        Self {
            first_norm: BatchNormConfig::new(input).init(device),
            first: conv([input, output], 3, stride, 1, device),
            second_norm: BatchNormConfig::new(output).init(device),
            second: conv([output, output], 3, 1, 1, device),
            shortcut: changes.then(|| conv([input, output], 1, stride, 1, device)),
        }
    }

    /// Adds what the convolutions make of `x`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let active = relu(self.first_norm.forward(x.clone()));
        let around = match &self.shortcut {
            Some(shortcut) => shortcut.forward(active.clone()),
            None => x,
        };
        let through = relu(self.second_norm.forward(self.first.forward(active)));
        self.second.forward(through) + around
    }
}
