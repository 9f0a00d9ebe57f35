//! ResNet: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016. ResNeXt: Xie et al., "Aggregated Residual
//! Transformations for Deep Neural Networks", CVPR 2017.

use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::prelude::*;
use burn::tensor::activation::relu;
use burn_sfp::prelude::{GraphModule, Shrink};

use crate::blocks::{ConvNorm, global_mean, padding, scale};

/// Channels of the stem, and of the blocks of the first stage without bottleneck.
const STEM: usize = 64;
/// How much wider a bottleneck's output is than the same stage without bottleneck.
const EXPANSION: usize = 4;

/// Configuration of a [`ResNet`].
#[derive(Config, Debug)]
pub struct ResNetConfig {
    /// Blocks of each stage.
    pub blocks: Vec<usize>,
    /// Channels inside the bottlenecks of the first stage, doubled with every stage; without it blocks of two 3x3
    /// convolutions.
    #[config(default = "None")]
    pub bottleneck: Option<usize>,
    /// Groups of the 3x3 convolution of a bottleneck.
    #[config(default = 1)]
    pub groups: usize,
    /// Multiplies all widths.
    #[config(default = 1.0)]
    pub width: f64,
    /// Number of classes.
    #[config(default = 1000)]
    pub classes: usize,
}

impl ResNetConfig {
    /// 18 layers.
    pub fn resnet18() -> Self {
        Self::new(vec![2, 2, 2, 2])
    }

    /// 50 layers, bottlenecks with the stride in the 3x3 convolution.
    pub fn resnet50() -> Self {
        Self::new(vec![3, 4, 6, 3]).with_bottleneck(Some(64))
    }

    /// 50 layers, bottlenecks of 32 groups with 4 channels each.
    pub fn resnext50_32x4d() -> Self {
        Self::new(vec![3, 4, 6, 3]).with_bottleneck(Some(128)).with_groups(32)
    }

    /// For tests: an eighth of the width, at most 4 groups, 10 classes. Images of 32x32 pixels are large enough.
    pub fn small(self) -> Self {
        let groups = self.groups.min(4);
        self.with_width(0.125).with_groups(groups).with_classes(10)
    }

    /// Makes the network.
    pub fn init(&self, device: &Device) -> ResNet {
        let stem = scale(STEM, self.width, 1);
        let mut channels = stem;
        let mut blocks = Vec::new();
        for (stage, &count) in self.blocks.iter().enumerate() {
            for index in 0..count {
                let stride = if index == 0 && stage > 0 { 2 } else { 1 };
                let block = self.block(channels, stage, stride, device);
                channels = block.channels();
                blocks.push(block);
            }
        }
        ResNet {
            stem: ConvNorm::new([3, stem], 7, 2, 1, device),
            pool: MaxPool2dConfig::new([3, 3]).with_strides([2, 2]).with_padding(padding(1)).init(),
            blocks,
            classifier: LinearConfig::new(channels, self.classes).init(device),
        }
    }

    fn block(&self, input: usize, stage: usize, stride: usize, device: &Device) -> Block {
        let plain = scale(STEM << stage, self.width, 1);
        let (branch, output) = match self.bottleneck {
            None => {
                let first = ConvNorm::new([input, plain], 3, stride, 1, device);
                (vec![first, ConvNorm::new([plain, plain], 3, 1, 1, device)], plain)
            }
            Some(inner) => {
                let (inner, output) = (scale(inner << stage, self.width, self.groups), EXPANSION * plain);
                let branch = vec![
                    ConvNorm::new([input, inner], 1, 1, 1, device),
                    ConvNorm::new([inner, inner], 3, stride, self.groups, device),
                    ConvNorm::new([inner, output], 1, 1, 1, device),
                ];
                (branch, output)
            }
        };
        let changes = stride != 1 || input != output;
        Block { branch, shortcut: changes.then(|| ConvNorm::new([input, output], 1, stride, 1, device)) }
    }
}

/// Residual blocks behind a 7x7 convolution.
///
/// `[samples, 3, height, width]` to `[samples, classes]`.
#[derive(Module, Debug, Shrink)]
pub struct ResNet {
    /// The first convolution.
    pub stem: ConvNorm,
    /// 3x3, behind the stem.
    pub pool: MaxPool2d,
    /// The blocks of all stages.
    pub blocks: Vec<Block>,
    /// Reads the mean of all positions.
    pub classifier: Linear,
}

impl GraphModule for ResNet {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;

    fn run(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.pool.forward(relu(self.stem.forward(images)));
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        self.classifier.forward(global_mean(x))
    }

    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        Some(self)
    }
}

/// Convolutions with ReLU between them, and a way around.
#[derive(Module, Debug, Shrink)]
pub struct Block {
    /// Two 3x3 convolutions, or 1x1, 3x3 and 1x1.
    pub branch: Vec<ConvNorm>,
    /// The way around where the shape changes.
    pub shortcut: Option<ConvNorm>,
}

impl Block {
    /// Channels of the output.
    pub fn channels(&self) -> usize {
        self.branch.last().map_or(0, |layer| layer.norm.gamma.lazy_shape()[0])
    }

    /// Adds what the branch makes of `x`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let around = match &self.shortcut {
            Some(shortcut) => shortcut.forward(x.clone()),
            None => x.clone(),
        };
        let through = self.branch.iter().enumerate().fold(x, |x, (index, layer)| {
            let x = if index > 0 { relu(x) } else { x };
            layer.forward(x)
        });
        relu(through + around)
    }
}
