//! MobileNetV2: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018.

use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::prelude::*;
use burn_sfp::prelude::{GraphModule, Shrink};

use crate::blocks::{ConvNorm, global_mean, scale};

/// Widths are rounded to multiples of this.
const DIVISOR: usize = 8;

/// Configuration of a [`MobileNetV2`].
#[derive(Config, Debug)]
pub struct MobileNetV2Config {
    /// Table 2 of the paper: expansion, channels, blocks and stride of each stage.
    #[config(
        default = "vec![[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1]]"
    )]
    pub stages: Vec<[usize; 4]>,
    /// Channels of the first convolution.
    #[config(default = 32)]
    pub stem: usize,
    /// Channels of the last convolution; as in the paper a small width does not narrow them.
    #[config(default = 1280)]
    pub features: usize,
    /// Multiplies all other widths.
    #[config(default = 1.0)]
    pub width: f64,
    /// Number of classes.
    #[config(default = 1000)]
    pub classes: usize,
}

impl MobileNetV2Config {
    /// Width 1.
    pub fn mobilenet_v2() -> Self {
        Self::new()
    }

    /// For tests: a quarter of the width, 64 features, 10 classes. Images of 32x32 pixels are large enough.
    pub fn small(self) -> Self {
        self.with_width(0.25).with_features(64).with_classes(10)
    }

    /// Makes the network.
    pub fn init(&self, device: &Device) -> MobileNetV2 {
        let stem = scale(self.stem, self.width, DIVISOR);
        let mut channels = stem;
        let mut blocks = Vec::new();
        for &[expansion, output, count, stride] in &self.stages {
            let output = scale(output, self.width, DIVISOR);
            for index in 0..count {
                let stride = if index == 0 { stride } else { 1 };
                blocks.push(InvertedResidual::new([channels, output], expansion, stride, device));
                channels = output;
            }
        }
        MobileNetV2 {
            stem: ConvNorm::new([3, stem], 3, 2, 1, device),
            blocks,
            last: ConvNorm::new([channels, self.features], 1, 1, 1, device),
            dropout: DropoutConfig::new(0.2).init(),
            classifier: LinearConfig::new(self.features, self.classes).init(device),
        }
    }
}

/// Blocks that widen, filter each channel on its own, and narrow again.
///
/// `[samples, 3, height, width]` to `[samples, classes]`.
#[derive(Module, Debug, Shrink)]
pub struct MobileNetV2 {
    /// The first convolution.
    pub stem: ConvNorm,
    /// The blocks of all stages.
    pub blocks: Vec<InvertedResidual>,
    /// The last convolution, 1x1.
    pub last: ConvNorm,
    /// In front of the classifier.
    pub dropout: Dropout,
    /// Reads the mean of all positions.
    pub classifier: Linear,
}

impl GraphModule for MobileNetV2 {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;

    fn run(&self, images: Tensor<4>) -> Tensor<2> {
        let x = relu6(self.stem.forward(images));
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        let x = global_mean(relu6(self.last.forward(x)));
        self.classifier.forward(self.dropout.forward(x))
    }

    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        Some(self)
    }
}

/// A wide depthwise convolution between two 1x1 convolutions; the narrow ends are linear.
#[derive(Module, Debug, Shrink)]
pub struct InvertedResidual {
    /// 1x1, to the wide inside; none where it is as wide as the input.
    pub expand: Option<ConvNorm>,
    /// 3x3, each channel on its own, with the stride.
    pub depthwise: ConvNorm,
    /// 1x1, to the narrow output.
    pub project: ConvNorm,
    /// Whether the input is added.
    pub residual: bool,
}

impl InvertedResidual {
    fn new([input, output]: [usize; 2], expansion: usize, stride: usize, device: &Device) -> Self {
        let inner = expansion * input;
        Self {
            expand: (expansion != 1).then(|| ConvNorm::new([input, inner], 1, 1, 1, device)),
            depthwise: ConvNorm::depthwise(inner, 3, stride, device),
            project: ConvNorm::new([inner, output], 1, 1, 1, device),
            residual: stride == 1 && input == output,
        }
    }

    /// `[samples, input, height, width]` to `[samples, output, height / stride, width / stride]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let wide = match &self.expand {
            Some(expand) => relu6(expand.forward(x.clone())),
            None => x.clone(),
        };
        let narrow = self.project.forward(relu6(self.depthwise.forward(wide)));
        if self.residual { x + narrow } else { narrow }
    }
}

fn relu6(x: Tensor<4>) -> Tensor<4> {
    x.clamp(0.0, 6.0)
}
