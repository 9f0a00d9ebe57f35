//! VGG: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015.

use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::prelude::*;
use burn::tensor::activation::relu;
use burn_sfp::prelude::{GraphModule, Shrink};

use crate::blocks::{padding, scale};

/// Configuration of a [`Vgg`].
#[derive(Config, Debug)]
pub struct VggConfig {
    /// Output channels of the convolutions of each stage; a pooling ends a stage.
    pub stages: Vec<Vec<usize>>,
    /// Nodes of the two hidden linear layers.
    #[config(default = 4096)]
    pub hidden: usize,
    /// Height and width of the images: the linear layers see every position. A multiple of 2 to the number of stages.
    #[config(default = 224)]
    pub side: usize,
    /// Multiplies all widths.
    #[config(default = 1.0)]
    pub width: f64,
    /// Number of classes.
    #[config(default = 1000)]
    pub classes: usize,
}

impl VggConfig {
    /// Configuration A of the paper: 8 convolutions.
    pub fn vgg11() -> Self {
        Self::new(vec![vec![64], vec![128], vec![256; 2], vec![512; 2], vec![512; 2]])
    }

    /// Configuration D of the paper: 13 convolutions.
    pub fn vgg16() -> Self {
        Self::new(vec![vec![64; 2], vec![128; 2], vec![256; 3], vec![512; 3], vec![512; 3]])
    }

    /// For tests: an eighth of the width, images of 32x32 pixels, 10 classes.
    pub fn small(self) -> Self {
        self.with_width(0.125).with_hidden(512).with_side(32).with_classes(10)
    }

    /// Makes the network.
    pub fn init(&self, device: &Device) -> Vgg {
        let mut channels = 3;
        let mut conv = |&output: &usize| {
            let output = scale(output, self.width, 1);
            let conv = Conv2dConfig::new([channels, output], [3, 3]).with_padding(padding(1)).init(device);
            channels = output;
            conv
        };
        let stages: Vec<Vec<Conv2d>> =
            self.stages.iter().map(|widths| widths.iter().map(&mut conv).collect()).collect();
        let side = self.side >> stages.len();
        let hidden = scale(self.hidden, self.width, 1);
        Vgg {
            stages,
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            hidden: [
                LinearConfig::new(channels * side * side, hidden).init(device),
                LinearConfig::new(hidden, hidden).init(device),
            ],
            dropout: DropoutConfig::new(0.5).init(),
            classifier: LinearConfig::new(hidden, self.classes).init(device),
        }
    }
}

/// Stages of 3x3 convolutions without normalisation, three linear layers.
///
/// `[samples, 3, side, side]` to `[samples, classes]`.
#[derive(Module, Debug, Shrink)]
pub struct Vgg {
    /// The convolutions of each stage.
    pub stages: Vec<Vec<Conv2d>>,
    /// 2x2, after each stage.
    pub pool: MaxPool2d,
    /// The hidden linear layers.
    pub hidden: [Linear; 2],
    /// After each hidden layer.
    pub dropout: Dropout,
    /// The last layer.
    pub classifier: Linear,
}

impl GraphModule for Vgg {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;

    fn run(&self, images: Tensor<4>) -> Tensor<2> {
        let features = self.stages.iter().fold(images, |x, stage| {
            let x = stage.iter().fold(x, |x, conv| relu(conv.forward(x)));
            self.pool.forward(x)
        });
        let hidden =
            self.hidden.iter().fold(features.flatten(1, 3), |x, linear| self.dropout.forward(relu(linear.forward(x))));
        self.classifier.forward(hidden)
    }

    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        Some(self)
    }
}
