//! EfficientNet: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019, with the
//! squeeze-and-excitation of Hu et al., CVPR 2018. Stochastic depth, which acts in training alone, is left out.

use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::prelude::*;
use burn::tensor::activation::{sigmoid, silu};
use burn_sfp::prelude::{GraphModule, Shrink};

use crate::blocks::{ConvNorm, global_mean, position_mean, scale};

/// Widths are rounded to multiples of this.
const DIVISOR: usize = 8;

/// Configuration of an [`EfficientNet`].
#[derive(Config, Debug)]
pub struct EfficientNetConfig {
    /// Table 1 of the paper: expansion, kernel, stride, channels and blocks of each stage.
    #[config(
        default = "vec![[1, 3, 1, 16, 1], [6, 3, 2, 24, 2], [6, 5, 2, 40, 2], [6, 3, 2, 80, 3], [6, 5, 1, 112, 3], [6, 5, 2, 192, 4], [6, 3, 1, 320, 1]]"
    )]
    pub stages: Vec<[usize; 5]>,
    /// Channels of the first convolution.
    #[config(default = 32)]
    pub stem: usize,
    /// Channels of the last convolution.
    #[config(default = 1280)]
    pub features: usize,
    /// Multiplies all widths.
    #[config(default = 1.0)]
    pub width: f64,
    /// Multiplies the blocks of each stage, rounded up.
    #[config(default = 1.0)]
    pub depth: f64,
    /// Number of classes.
    #[config(default = 1000)]
    pub classes: usize,
}

impl EfficientNetConfig {
    /// The network that all others are scaled from.
    pub fn b0() -> Self {
        Self::new()
    }

    /// For tests: a quarter of the width, half of the depth, 10 classes. Images of 32x32 pixels are large enough.
    pub fn small(self) -> Self {
        self.with_width(0.25).with_depth(0.5).with_features(256).with_classes(10)
    }

    /// Makes the network.
    pub fn init(&self, device: &Device) -> EfficientNet {
        let stem = scale(self.stem, self.width, DIVISOR);
        let mut channels = stem;
        let mut blocks = Vec::new();
        for &[expansion, kernel, stride, output, count] in &self.stages {
            let output = scale(output, self.width, DIVISOR);
            for index in 0..(count as f64 * self.depth).ceil() as usize {
                let stride = if index == 0 { stride } else { 1 };
                blocks.push(MbConv::new([channels, output], expansion, kernel, stride, device));
                channels = output;
            }
        }
        let features = scale(self.features, self.width, DIVISOR);
        EfficientNet {
            stem: ConvNorm::new([3, stem], 3, 2, 1, device),
            blocks,
            last: ConvNorm::new([channels, features], 1, 1, 1, device),
            dropout: DropoutConfig::new(0.2).init(),
            classifier: LinearConfig::new(features, self.classes).init(device),
        }
    }
}

/// Inverted residuals with squeeze-and-excitation.
///
/// `[samples, 3, height, width]` to `[samples, classes]`.
#[derive(Module, Debug, Shrink)]
pub struct EfficientNet {
    /// The first convolution.
    pub stem: ConvNorm,
    /// The blocks of all stages.
    pub blocks: Vec<MbConv>,
    /// The last convolution, 1x1.
    pub last: ConvNorm,
    /// In front of the classifier.
    pub dropout: Dropout,
    /// Reads the mean of all positions.
    pub classifier: Linear,
}

impl GraphModule for EfficientNet {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;

    fn run(&self, images: Tensor<4>) -> Tensor<2> {
        let x = silu(self.stem.forward(images));
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        let x = global_mean(silu(self.last.forward(x)));
        self.classifier.forward(self.dropout.forward(x))
    }

    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        Some(self)
    }
}

/// Widens, filters each channel on its own, weighs the channels, narrows.
#[derive(Module, Debug, Shrink)]
pub struct MbConv {
    /// 1x1, to the wide inside; none where it is as wide as the input.
    pub expand: Option<ConvNorm>,
    /// Each channel on its own, with the stride.
    pub depthwise: ConvNorm,
    /// Weighs the channels.
    pub excite: SqueezeExcitation,
    /// 1x1, to the narrow output, linear.
    pub project: ConvNorm,
    /// Whether the input is added.
    pub residual: bool,
}

impl MbConv {
    fn new([input, output]: [usize; 2], expansion: usize, kernel: usize, stride: usize, device: &Device) -> Self {
        let inner = expansion * input;
        Self {
            expand: (expansion != 1).then(|| ConvNorm::new([input, inner], 1, 1, 1, device)),
            depthwise: ConvNorm::depthwise(inner, kernel, stride, device),
            // A quarter of the block's input, however wide its inside is.
            excite: SqueezeExcitation::new(inner, (input / 4).max(1), device),
            project: ConvNorm::new([inner, output], 1, 1, 1, device),
            residual: stride == 1 && input == output,
        }
    }

    /// `[samples, input, height, width]` to `[samples, output, height / stride, width / stride]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let wide = match &self.expand {
            Some(expand) => silu(expand.forward(x.clone())),
            None => x.clone(),
        };
        let narrow = self.project.forward(self.excite.forward(silu(self.depthwise.forward(wide))));
        if self.residual { x + narrow } else { narrow }
    }
}

/// Multiplies each channel by a number between 0 and 1 that follows from the means of all channels.
#[derive(Module, Debug, Shrink)]
pub struct SqueezeExcitation {
    /// 1x1, to few channels.
    pub reduce: Conv2d,
    /// 1x1, back to all channels.
    pub restore: Conv2d,
}

impl SqueezeExcitation {
    fn new(channels: usize, squeezed: usize, device: &Device) -> Self {
        Self {
            reduce: Conv2dConfig::new([channels, squeezed], [1, 1]).init(device),
            restore: Conv2dConfig::new([squeezed, channels], [1, 1]).init(device),
        }
    }

    /// Keeps the shape.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let means = position_mean(x.clone());
        let weights = sigmoid(self.restore.forward(silu(self.reduce.forward(means))));
        x * weights
    }
}
