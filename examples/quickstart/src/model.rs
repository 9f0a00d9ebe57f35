//! The networks: a small VGG, and a linear model to compare with.

use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::prelude::*;
use burn::tensor::activation::relu;
use burn_sfp::prelude::GraphModule;

use crate::canvas::SIDE;
use crate::font::CLASSES;

/// Configuration of a [`Vgg`].
#[derive(Config, Debug)]
pub struct VggConfig {
    /// Output channels of each convolution; a pooling follows every second one.
    #[config(default = "vec![12, 16, 32, 48, 64, 96]")]
    pub widths: Vec<usize>,
    /// Number of classes.
    #[config(default = "CLASSES")]
    pub classes: usize,
}

impl VggConfig {
    /// Makes the network for images of 24x24 pixels.
    pub fn init(&self, device: &Device) -> Vgg {
        let inputs = std::iter::once(1).chain(self.widths.iter().copied());
        let blocks = inputs.zip(&self.widths).map(|(input, &output)| Block::new(input, output, device)).collect();
        let side = SIDE >> (self.widths.len() / 2);
        let features = self.widths.last().copied().unwrap_or(1) * side * side;
        Vgg {
            blocks,
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            classifier: LinearConfig::new(features, self.classes).with_bias(false).init(device),
        }
    }
}

/// Pairs of 3x3 convolutions with normalisation and ReLU, a pooling after each pair, one linear layer.
///
/// `[samples, 1, 24, 24]` to `[samples, classes]`.
#[derive(Module, Debug)]
pub struct Vgg {
    /// The convolutions.
    pub blocks: Vec<Block>,
    /// 2x2, after every second block.
    pub pool: MaxPool2d,
    /// The classifier, without bias.
    pub classifier: Linear,
}

impl GraphModule for Vgg {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;

    fn run(&self, images: Tensor<4>) -> Tensor<2> {
        let mut x = images;
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward(x);
            if index % 2 == 1 {
                x = self.pool.forward(x);
            }
        }
        self.classifier.forward(x.flatten(1, 3))
    }
}

/// A 3x3 convolution that keeps the size, batch normalisation, ReLU.
#[derive(Module, Debug)]
pub struct Block {
    /// The convolution; the normalisation brings the bias.
    pub conv: Conv2d,
    /// The normalisation.
    pub norm: BatchNorm,
}

impl Block {
    fn new(input: usize, output: usize, device: &Device) -> Self {
        let conv = Conv2dConfig::new([input, output], [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1));
        Self { conv: conv.with_bias(false).init(device), norm: BatchNormConfig::new(output).init(device) }
    }

    /// `[samples, input, height, width]` to `[samples, output, height, width]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        relu(self.norm.forward(self.conv.forward(x)))
    }
}

/// One linear layer on the pixels: how far one gets without a network.
///
/// `[samples, 1, 24, 24]` to `[samples, classes]`.
#[derive(Module, Debug)]
pub struct Pixels {
    /// The layer.
    pub linear: Linear,
}

impl Pixels {
    /// Makes the model.
    pub fn new(device: &Device) -> Self {
        Self { linear: LinearConfig::new(SIDE * SIDE, CLASSES).init(device) }
    }
}

impl GraphModule for Pixels {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;

    fn run(&self, images: Tensor<4>) -> Tensor<2> {
        self.linear.forward(images.flatten(1, 3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        let device = Device::flex();
        let images = Tensor::<4>::zeros([3, 1, SIDE, SIDE], &device);
        let vgg = VggConfig::new().with_widths(vec![4, 4, 8, 8]).init(&device);
        assert_eq!(vgg.run(images.clone()).dims(), [3, CLASSES]);
        assert_eq!(vgg.classifier.weight.dims(), [8 * 6 * 6, CLASSES]);
        assert_eq!(Pixels::new(&device).run(images).dims(), [3, CLASSES]);
    }
}
