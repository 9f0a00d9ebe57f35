//! A network with two inputs and two outputs, made for this project: an image and a vector of measurements become logits and
//! a map.
//!
//! The vector scales the image's channels, as in FiLM ("FiLM: Visual Reasoning with a General Conditioning Layer", Perez et
//! al. 2017, arXiv 1709.07871); both streams meet once more in front of the logits.

use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::prelude::*;
use burn::tensor::activation::{relu, sigmoid};
use burn_sfp::prelude::{GraphModule, Shrink};

use crate::blocks::{ConvNorm, global_mean};

/// Configuration of a [`TwoStreams`].
#[derive(Config, Debug)]
pub struct TwoStreamsConfig {
    /// Channels of the convolutions; each halves the resolution.
    pub widths: Vec<usize>,
    /// Length of the vector.
    pub vector: usize,
    /// Width of the vector's layers.
    pub hidden: usize,
    /// Channels of the images.
    #[config(default = 3)]
    pub channels: usize,
    /// Number of classes.
    #[config(default = 10)]
    pub classes: usize,
    /// Channels of the map.
    #[config(default = 1)]
    pub maps: usize,
}

impl TwoStreamsConfig {
    /// Images whose sides are multiples of 16 (64x64 pixels, say), vectors of 16 numbers, ten classes, a map of one channel.
    ///
    /// 620,875 parameters; published nowhere.
    pub fn standard() -> Self {
        Self::new(vec![32, 64, 128, 256], 16, 128)
    }

    /// A reduced variant for tests: sides are multiples of 4, vectors of 5 numbers, four classes, a map of two channels.
    pub fn tiny() -> Self {
        Self::new(vec![8, 12], 5, 10).with_classes(4).with_maps(2)
    }

    /// Makes the network.
    pub fn init(&self, device: &Device) -> TwoStreams {
        let inputs = std::iter::once(self.channels).chain(self.widths.iter().copied());
        let down = inputs.zip(&self.widths).map(|(input, &output)| ConvNorm::new([input, output], 3, 2, 1, device));
        let (first, last) = (self.widths[0], self.widths[self.widths.len() - 1]);
        // Back through the same widths; at the image's resolution as many as at half of it.
        let outputs = self.widths.iter().rev().skip(1).copied().chain([first]);
        let up = self.widths.iter().rev().zip(outputs).map(|(&input, output)| {
            ConvTranspose2dConfig::new([input, output], [2, 2]).with_stride([2, 2]).init(device)
        });
        TwoStreams {
            down: down.collect(),
            first: LinearConfig::new(self.vector, self.hidden).init(device),
            second: LinearConfig::new(self.hidden, self.hidden).init(device),
            gate: LinearConfig::new(self.hidden, last).init(device),
            classifier: LinearConfig::new(last + self.hidden, self.classes).init(device),
            up: up.collect(),
            map: Conv2dConfig::new([first, self.maps], [1, 1]).init(device),
        }
    }
}

/// An image and a vector in, logits and a map out.
///
/// `[samples, channels, height, width]` and `[samples, vector]` to `[samples, classes]` and `[samples, maps, height, width]`.
#[derive(Module, Debug, Shrink)]
pub struct TwoStreams {
    /// The image's convolutions.
    pub down: Vec<ConvNorm>,
    /// The vector's first layer.
    pub first: Linear,
    /// The vector's second layer.
    pub second: Linear,
    /// From the vector to a factor for each of the image's channels.
    pub gate: Linear,
    /// Both streams to logits.
    pub classifier: Linear,
    /// Back to the image's resolution.
    pub up: Vec<ConvTranspose2d>,
    /// 1x1, to the map.
    pub map: Conv2d,
}

impl GraphModule for TwoStreams {
    type Inputs = (Tensor<4>, Tensor<2>);
    type Outputs = (Tensor<2>, Tensor<4>);

    fn run(&self, (images, vectors): Self::Inputs) -> Self::Outputs {
        let x = self.down.iter().fold(images, |x, block| relu(block.forward(x)));
        let v = relu(self.second.forward(relu(self.first.forward(vectors))));
        let gate = sigmoid(self.gate.forward(v.clone()));
        let [samples, channels] = gate.dims();
        let x = x * gate.reshape([samples, channels, 1, 1]);
        let logits = self.classifier.forward(Tensor::cat(vec![global_mean(x.clone()), v], 1));
        let x = self.up.iter().fold(x, |x, up| relu(up.forward(x)));
        (logits, self.map.forward(x))
    }

    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_size() {
        let config = TwoStreamsConfig::standard();
        let running: usize = 2 * config.widths.iter().sum::<usize>();
        assert_eq!(config.init(&Device::flex()).num_params() - running, 620_875);
    }

    #[test]
    fn tiny_runs() {
        let device = Device::flex();
        let model = TwoStreamsConfig::tiny().init(&device);
        for samples in [1, 3] {
            let images = Tensor::random([samples, 3, 16, 8], burn::tensor::Distribution::Default, &device);
            let vectors = Tensor::random([samples, 5], burn::tensor::Distribution::Default, &device);
            let (logits, map) = model.run((images, vectors));
            assert_eq!((logits.dims(), map.dims()), ([samples, 4], [samples, 2, 16, 8]));
            assert!(logits.is_finite().all().into_scalar::<bool>());
            assert!(map.is_finite().all().into_scalar::<bool>());
        }
    }
}
