//! DenseNet: Huang et al., "Densely Connected Convolutional Networks", CVPR 2017.

use burn::nn::conv::Conv2d;
use burn::nn::pool::{AvgPool2d, AvgPool2dConfig, MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::prelude::*;
use burn::tensor::activation::relu;
use burn_sfp::prelude::{GraphModule, Shrink};

use crate::blocks::{ConvNorm, conv, global_mean, padding};

/// Configuration of a [`DenseNet`].
#[derive(Config, Debug)]
pub struct DenseNetConfig {
    /// Layers of each block.
    pub blocks: Vec<usize>,
    /// Channels that each layer adds.
    #[config(default = 32)]
    pub growth: usize,
    /// Channels inside a layer, in multiples of the growth.
    #[config(default = 4)]
    pub bottleneck: usize,
    /// Channels of the first convolution, in multiples of the growth.
    #[config(default = 2)]
    pub stem: usize,
    /// Number of classes.
    #[config(default = 1000)]
    pub classes: usize,
}

impl DenseNetConfig {
    /// 121 layers, growth 32.
    pub fn densenet121() -> Self {
        Self::new(vec![6, 12, 24, 16])
    }

    /// For tests: growth 8, blocks of two or three layers, 10 classes. Images of 32x32 pixels are large enough.
    pub fn small(self) -> Self {
        Self { blocks: vec![2, 3, 3, 2], ..self }.with_growth(8).with_classes(10)
    }

    /// Makes the network.
    pub fn init(&self, device: &Device) -> DenseNet {
        let stem = self.stem * self.growth;
        let mut channels = stem;
        let mut blocks = Vec::new();
        for (index, &layers) in self.blocks.iter().enumerate() {
            let inner = self.bottleneck * self.growth;
            let dense = |layer| DenseLayer::new([channels + layer * self.growth, inner, self.growth], device);
            let layers: Vec<DenseLayer> = (0..layers).map(dense).collect();
            channels += layers.len() * self.growth;
            let last = index + 1 == self.blocks.len();
            blocks.push(DenseBlock { layers, transition: (!last).then(|| Transition::new(channels, device)) });
            if !last {
                channels /= 2;
            }
        }
        DenseNet {
            stem: ConvNorm::new([3, stem], 7, 2, 1, device),
            pool: MaxPool2dConfig::new([3, 3]).with_strides([2, 2]).with_padding(padding(1)).init(),
            blocks,
            last_norm: BatchNormConfig::new(channels).init(device),
            classifier: LinearConfig::new(channels, self.classes).init(device),
        }
    }
}

/// Blocks whose layers read everything that was made before them.
///
/// `[samples, 3, height, width]` to `[samples, classes]`.
#[derive(Module, Debug, Shrink)]
pub struct DenseNet {
    /// The first convolution.
    pub stem: ConvNorm,
    /// 3x3, behind the stem.
    pub pool: MaxPool2d,
    /// The dense blocks.
    pub blocks: Vec<DenseBlock>,
    /// Behind the last block.
    pub last_norm: BatchNorm,
    /// Reads the mean of all positions.
    pub classifier: Linear,
}

impl GraphModule for DenseNet {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;

    fn run(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.pool.forward(relu(self.stem.forward(images)));
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        self.classifier.forward(global_mean(relu(self.last_norm.forward(x))))
    }

    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        Some(self)
    }
}

/// Dense layers, and a transition to the next block.
#[derive(Module, Debug, Shrink)]
pub struct DenseBlock {
    /// The layers.
    pub layers: Vec<DenseLayer>,
    /// Behind every block but the last.
    pub transition: Option<Transition>,
}

impl DenseBlock {
    /// Concatenates what each layer makes of all before it.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.layers.iter().fold(x, |x, layer| Tensor::cat(vec![x.clone(), layer.forward(x)], 1));
        match &self.transition {
            Some(transition) => transition.forward(x),
            None => x,
        }
    }
}

/// Normalisation, ReLU and convolution, twice: 1x1, then 3x3.
#[derive(Module, Debug, Shrink)]
pub struct DenseLayer {
    /// Of the input.
    pub first_norm: BatchNorm,
    /// 1x1.
    pub first: Conv2d,
    /// Between the convolutions.
    pub second_norm: BatchNorm,
    /// 3x3.
    pub second: Conv2d,
}

impl DenseLayer {
    fn new([input, inner, output]: [usize; 3], device: &Device) -> Self {
        Self {
            first_norm: BatchNormConfig::new(input).init(device),
            first: conv([input, inner], 1, 1, 1, device),
            second_norm: BatchNormConfig::new(inner).init(device),
            second: conv([inner, output], 3, 1, 1, device),
        }
    }

    /// The channels that the layer adds.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.first.forward(relu(self.first_norm.forward(x)));
        self.second.forward(relu(self.second_norm.forward(x)))
    }
}

/// Halves channels, height and width.
#[derive(Module, Debug, Shrink)]
pub struct Transition {
    /// Of the input.
    pub norm: BatchNorm,
    /// 1x1.
    pub conv: Conv2d,
    /// 2x2.
    pub pool: AvgPool2d,
}

impl Transition {
    fn new(channels: usize, device: &Device) -> Self {
        Self {
            norm: BatchNormConfig::new(channels).init(device),
            conv: conv([channels, channels / 2], 1, 1, 1, device),
            pool: AvgPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
        }
    }

    /// `[samples, channels, height, width]` to half of all but the samples.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.pool.forward(self.conv.forward(relu(self.norm.forward(x))))
    }
}
