//! U-Net ("U-Net: Convolutional Networks for Biomedical Image Segmentation", Ronneberger et al. 2015, arXiv 1505.04597).
//!
//! Its convolutions are padded here, so that the map has the image's size and the skip connections need no cropping; the
//! parameters are the paper's.

use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::prelude::*;
use burn::tensor::activation::relu;
use burn_sfp::prelude::{GraphModule, Shrink};

use crate::blocks::padding;

/// Configuration of a [`Unet`].
#[derive(Config, Debug)]
pub struct UnetConfig {
    /// Channels at each resolution, the finest first.
    pub widths: Vec<usize>,
    /// Channels of the images.
    #[config(default = 1)]
    pub channels: usize,
    /// Number of classes.
    #[config(default = 2)]
    pub classes: usize,
}

impl UnetConfig {
    /// The paper's network: one channel, two classes; sides are multiples of 16.
    ///
    /// The paper gives no number of parameters; implementations of it count 31,030,658 (31.03 M).
    pub fn original() -> Self {
        Self::new(vec![64, 128, 256, 512, 1024])
    }

    /// A reduced variant for tests: three resolutions, sides are multiples of 4.
    pub fn tiny() -> Self {
        Self::new(vec![8, 12, 16])
    }

    /// Makes the network.
    pub fn init(&self, device: &Device) -> Unet {
        let inputs = std::iter::once(self.channels).chain(self.widths.iter().copied());
        let down = inputs.zip(&self.widths).map(|(input, &output)| Convs::new(input, output, device));
        let up = self.widths.windows(2).rev().map(|pair| Up::new(pair[1], pair[0], device));
        Unet {
            down: down.collect(),
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            up: up.collect(),
            head: Conv2dConfig::new([self.widths[0], self.classes], [1, 1]).init(device),
        }
    }
}

/// Down to coarse maps and up again; each map on the way up sees the one of its size on the way down.
///
/// `[samples, channels, height, width]` to `[samples, classes, height, width]`.
#[derive(Module, Debug, Shrink)]
pub struct Unet {
    /// The way down, a pooling between any two.
    pub down: Vec<Convs>,
    /// 2x2.
    pub pool: MaxPool2d,
    /// The way up.
    pub up: Vec<Up>,
    /// 1x1, to the classes of every pixel.
    pub head: Conv2d,
}

impl GraphModule for Unet {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<4>;

    fn run(&self, images: Tensor<4>) -> Tensor<4> {
        let mut x = images;
        let mut skips = Vec::with_capacity(self.down.len());
        for (index, convs) in self.down.iter().enumerate() {
            if index > 0 {
                x = self.pool.forward(x);
            }
            x = convs.forward(x);
            skips.push(x.clone());
        }
        // The coarsest map goes straight up.
        skips.pop();
        for (up, skip) in self.up.iter().zip(skips.into_iter().rev()) {
            x = up.forward(x, skip);
        }
        self.head.forward(x)
    }

    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        Some(self)
    }
}

/// Two 3x3 convolutions, each followed by ReLU.
#[derive(Module, Debug, Shrink)]
pub struct Convs {
    /// Changes the number of channels.
    pub first: Conv2d,
    /// Keeps it.
    pub second: Conv2d,
}

impl Convs {
    fn new(input: usize, output: usize, device: &Device) -> Self {
        let conv = |input| Conv2dConfig::new([input, output], [3, 3]).with_padding(padding(1)).init(device);
        Self { first: conv(input), second: conv(output) }
    }

    /// `[samples, input, height, width]` to `[samples, output, height, width]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        relu(self.second.forward(relu(self.first.forward(x))))
    }
}

/// Doubles the resolution and joins the map from the way down.
#[derive(Module, Debug, Shrink)]
pub struct Up {
    /// 2x2 with stride 2.
    pub upsample: ConvTranspose2d,
    /// Over both maps together.
    pub convs: Convs,
}

impl Up {
    fn new(input: usize, output: usize, device: &Device) -> Self {
        let upsample = ConvTranspose2dConfig::new([input, output], [2, 2]).with_stride([2, 2]);
        Self { upsample: upsample.init(device), convs: Convs::new(2 * output, output, device) }
    }

    /// `[samples, input, height, width]` and a map of twice the size to `[samples, output, 2 * height, 2 * width]`.
    pub fn forward(&self, x: Tensor<4>, skip: Tensor<4>) -> Tensor<4> {
        self.convs.forward(Tensor::cat(vec![skip, self.upsample.forward(x)], 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_size() {
        assert_eq!(UnetConfig::original().init(&Device::flex()).num_params(), 31_030_658);
    }

    #[test]
    fn tiny_runs() {
        let model = UnetConfig::tiny().init(&Device::flex());
        crate::testing::runs(|x| model.run(x), [1, 1, 16, 24], [1, 2, 16, 24]);
    }
}
