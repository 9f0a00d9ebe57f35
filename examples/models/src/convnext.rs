//! ConvNeXt ("A ConvNet for the 2020s", Liu et al. 2022, arXiv 2201.03545).

use burn::module::Param;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Initializer, LayerNorm, Linear, LinearConfig};
use burn::prelude::*;
use burn_sfp::prelude::{GraphModule, Shrink};

use crate::blocks::{global_mean, layer_norm, padding};
use crate::mixer::Mlp;

/// Configuration of a [`ConvNext`].
#[derive(Config, Debug)]
pub struct ConvNextConfig {
    /// Channels of each stage.
    pub widths: Vec<usize>,
    /// Blocks of each stage.
    pub depths: Vec<usize>,
    /// What the layer scales start with.
    #[config(default = 1e-6)]
    pub layer_scale: f64,
    /// Channels of the images.
    #[config(default = 3)]
    pub channels: usize,
    /// Number of classes.
    #[config(default = 1000)]
    pub classes: usize,
}

impl ConvNextConfig {
    /// ConvNeXt-T, for images of 224x224 pixels.
    ///
    /// Published (torchvision, `convnext_tiny`): 28,589,128 parameters; 4.46 G multiply-accumulates.
    pub fn convnext_t() -> Self {
        Self::new(vec![96, 192, 384, 768], vec![3, 3, 9, 3])
    }

    /// A reduced variant for tests: images of 32x32 pixels, ten classes; layer scales that let the blocks matter.
    pub fn tiny() -> Self {
        Self::new(vec![8, 12, 16], vec![1, 2, 1]).with_layer_scale(0.5).with_classes(10)
    }

    /// Makes the network.
    pub fn init(&self, device: &Device) -> ConvNext {
        let stages = self.widths.iter().zip(&self.depths).enumerate().map(|(index, (&width, &depth))| Stage {
            downsample: (index > 0).then(|| Downsample::new(self.widths[index - 1], width, device)),
            blocks: (0..depth).map(|_| Block::new(width, self.layer_scale, device)).collect(),
        });
        let (first, last) = (self.widths[0], self.widths[self.widths.len() - 1]);
        ConvNext {
            stem: Conv2dConfig::new([self.channels, first], [4, 4]).with_stride([4, 4]).init(device),
            stem_norm: layer_norm(first, device),
            stages: stages.collect(),
            norm: layer_norm(last, device),
            head: LinearConfig::new(last, self.classes).init(device),
        }
    }
}

/// Normalises the channels of every position of `[samples, channels, height, width]`.
fn normalise(norm: &LayerNorm, x: Tensor<4>) -> Tensor<4> {
    norm.forward(x.permute([0, 2, 3, 1])).permute([0, 3, 1, 2])
}

/// A residual network with wide depthwise convolutions, arranged like a transformer's blocks.
///
/// `[samples, channels, height, width]` to `[samples, classes]`.
#[derive(Module, Debug, Shrink)]
pub struct ConvNext {
    /// 4x4 with stride 4.
    pub stem: Conv2d,
    /// After the stem.
    pub stem_norm: LayerNorm,
    /// The stages; each but the first starts by halving the resolution.
    pub stages: Vec<Stage>,
    /// Before the head.
    pub norm: LayerNorm,
    /// The classifier on the mean over all positions.
    pub head: Linear,
}

impl GraphModule for ConvNext {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;

    fn run(&self, images: Tensor<4>) -> Tensor<2> {
        let mut x = normalise(&self.stem_norm, self.stem.forward(images));
        for stage in &self.stages {
            x = stage.forward(x);
        }
        self.head.forward(self.norm.forward(global_mean(x)))
    }

    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        Some(self)
    }
}

/// Blocks of the same width.
#[derive(Module, Debug, Shrink)]
pub struct Stage {
    /// Halves the resolution and changes the width.
    pub downsample: Option<Downsample>,
    /// The blocks.
    pub blocks: Vec<Block>,
}

impl Stage {
    /// `[samples, input, height, width]` to `[samples, output, height / 2, width / 2]`, in the first stage the same size.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = match &self.downsample {
            Some(downsample) => downsample.forward(x),
            None => x,
        };
        self.blocks.iter().fold(x, |x, block| block.forward(x))
    }
}

/// Normalisation and a 2x2 convolution with stride 2.
#[derive(Module, Debug, Shrink)]
pub struct Downsample {
    /// Before the convolution.
    pub norm: LayerNorm,
    /// The convolution.
    pub conv: Conv2d,
}

impl Downsample {
    fn new(input: usize, output: usize, device: &Device) -> Self {
        let conv = Conv2dConfig::new([input, output], [2, 2]).with_stride([2, 2]);
        Self { norm: layer_norm(input, device), conv: conv.init(device) }
    }

    /// `[samples, input, height, width]` to `[samples, output, height / 2, width / 2]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.conv.forward(normalise(&self.norm, x))
    }
}

/// Depthwise convolution over space, perceptron over channels, skip connection.
#[derive(Module, Debug, Shrink)]
pub struct Block {
    /// 7x7, keeps the size.
    pub depthwise: Conv2d,
    /// After the convolution.
    pub norm: LayerNorm,
    /// To four times the width and back.
    pub mlp: Mlp,
    /// A factor for each channel.
    pub layer_scale: Param<Tensor<1>>,
}

impl Block {
    fn new(width: usize, layer_scale: f64, device: &Device) -> Self {
        let depthwise = Conv2dConfig::new([width, width], [7, 7]).with_groups(width).with_padding(padding(3));
        Self {
            depthwise: depthwise.init(device),
            norm: layer_norm(width, device),
            mlp: Mlp::new(width, 4 * width, device),
            layer_scale: Initializer::Constant { value: layer_scale }.init([width], device),
        }
    }

    /// `[samples, width, height, width]` to the same.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let change = self.norm.forward(self.depthwise.forward(x.clone()).permute([0, 2, 3, 1]));
        let change = self.mlp.forward(change) * self.layer_scale.val().unsqueeze();
        x + change.permute([0, 3, 1, 2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_size() {
        assert_eq!(ConvNextConfig::convnext_t().init(&Device::flex()).num_params(), 28_589_128);
    }

    #[test]
    fn tiny_runs() {
        let model = ConvNextConfig::tiny().init(&Device::flex());
        crate::testing::runs(|x| model.run(x), [1, 3, 32, 32], [1, 10]);
    }
}
