//! ShuffleNetV2: Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", ECCV 2018.

use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::prelude::*;
use burn::tensor::activation::relu;
use burn_sfp::prelude::{GraphModule, Shrink};

use crate::blocks::{ConvNorm, global_mean, padding, scale};

/// Configuration of a [`ShuffleNetV2`].
#[derive(Config, Debug)]
pub struct ShuffleNetV2Config {
    /// Channels of each stage.
    pub channels: Vec<usize>,
    /// Units of each stage; the first one halves height and width.
    #[config(default = "vec![4, 8, 4]")]
    pub units: Vec<usize>,
    /// Channels of the first convolution.
    #[config(default = 24)]
    pub stem: usize,
    /// Channels of the last convolution.
    #[config(default = 1024)]
    pub features: usize,
    /// Multiplies all widths.
    #[config(default = 1.0)]
    pub width: f64,
    /// Number of classes.
    #[config(default = 1000)]
    pub classes: usize,
}

impl ShuffleNetV2Config {
    /// Width 1 of the paper's table 5.
    pub fn x1_0() -> Self {
        Self::new(vec![116, 232, 464])
    }

    /// For tests: a quarter of the width, two or three units a stage, 10 classes. Images of 32x32 pixels are large enough.
    pub fn small(self) -> Self {
        self.with_units(vec![2, 3, 2]).with_width(0.25).with_classes(10)
    }

    /// Makes the network.
    pub fn init(&self, device: &Device) -> ShuffleNetV2 {
        // Even, so that a stage can be split in halves.
        let wide = |channels| scale(channels, self.width, 4);
        let stem = wide(self.stem);
        let mut channels = stem;
        let mut units = Vec::new();
        for (&output, &count) in self.channels.iter().zip(&self.units) {
            let half = wide(output) / 2;
            units.push(Unit::Down(Down::new(channels, half, device)));
            units.extend((1..count).map(|_| Unit::Keep(Branch::new(half, half, 1, device))));
            channels = 2 * half;
        }
        let features = wide(self.features);
        ShuffleNetV2 {
            stem: ConvNorm::new([3, stem], 3, 2, 1, device),
            pool: MaxPool2dConfig::new([3, 3]).with_strides([2, 2]).with_padding(padding(1)).init(),
            units,
            last: ConvNorm::new([channels, features], 1, 1, 1, device),
            classifier: LinearConfig::new(features, self.classes).init(device),
        }
    }
}

/// Units that work on half of the channels and shuffle the halves.
///
/// `[samples, 3, height, width]` to `[samples, classes]`.
#[derive(Module, Debug, Shrink)]
pub struct ShuffleNetV2 {
    /// The first convolution.
    pub stem: ConvNorm,
    /// 3x3, behind the stem.
    pub pool: MaxPool2d,
    /// The units of all stages.
    pub units: Vec<Unit>,
    /// The last convolution, 1x1.
    pub last: ConvNorm,
    /// Reads the mean of all positions.
    pub classifier: Linear,
}

impl GraphModule for ShuffleNetV2 {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;

    fn run(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.pool.forward(relu(self.stem.forward(images)));
        let x = self.units.iter().fold(x, |x, unit| unit.forward(x));
        self.classifier.forward(global_mean(relu(self.last.forward(x))))
    }

    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        Some(self)
    }
}

/// A unit, with its channels shuffled at the end.
#[expect(clippy::large_enum_variant, reason = "Burn has no boxed modules")]
#[derive(Module, Debug, Shrink)]
pub enum Unit {
    /// Passes one half of the channels on as it is, the other through the branch.
    Keep(Branch),
    /// Halves height and width.
    Down(Down),
}

impl Unit {
    /// Both halves of the output, shuffled.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let (left, right) = match self {
            Self::Keep(branch) => {
                let mut halves = x.chunk(2, 1).into_iter();
                let (Some(left), Some(right)) = (halves.next(), halves.next()) else {
                    panic!("a unit needs at least two channels to split");
                };
                (left, branch.forward(right))
            }
            Self::Down(down) => (down.left(x.clone()), down.right.forward(x)),
        };
        shuffle(Tensor::cat(vec![left, right], 1))
    }
}

/// A branch for each half of the output, both with stride 2.
#[derive(Module, Debug, Shrink)]
pub struct Down {
    /// 3x3, each channel on its own.
    pub depthwise: ConvNorm,
    /// 1x1.
    pub point: ConvNorm,
    /// The other half.
    pub right: Branch,
}

impl Down {
    fn new(input: usize, half: usize, device: &Device) -> Self {
        Self {
            depthwise: ConvNorm::depthwise(input, 3, 2, device),
            point: ConvNorm::new([input, half], 1, 1, 1, device),
            right: Branch::new(input, half, 2, device),
        }
    }

    /// The first half of the output.
    pub fn left(&self, x: Tensor<4>) -> Tensor<4> {
        relu(self.point.forward(self.depthwise.forward(x)))
    }
}

/// A depthwise convolution between two 1x1 convolutions.
#[derive(Module, Debug, Shrink)]
pub struct Branch {
    /// 1x1.
    pub first: ConvNorm,
    /// 3x3, each channel on its own, with the stride; linear.
    pub depthwise: ConvNorm,
    /// 1x1.
    pub second: ConvNorm,
}

impl Branch {
    fn new(input: usize, half: usize, stride: usize, device: &Device) -> Self {
        Self {
            first: ConvNorm::new([input, half], 1, 1, 1, device),
            depthwise: ConvNorm::depthwise(half, 3, stride, device),
            second: ConvNorm::new([half, half], 1, 1, 1, device),
        }
    }

    /// `[samples, input, height, width]` to `[samples, half, height / stride, width / stride]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.depthwise.forward(relu(self.first.forward(x)));
        relu(self.second.forward(x))
    }
}

/// Takes channels from both halves in turn.
fn shuffle(x: Tensor<4>) -> Tensor<4> {
    let [samples, channels, height, width] = x.dims();
    x.reshape([samples, 2, channels / 2, height, width]).swap_dims(1, 2).reshape([samples, channels, height, width])
}
