//! MLP-Mixer ("MLP-Mixer: An all-MLP Architecture for Vision", Tolstikhin et al. 2021, arXiv 2105.01601).

use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{LayerNorm, Linear, LinearConfig};
use burn::prelude::*;
use burn::tensor::activation::gelu;
use burn_sfp::prelude::{GraphModule, Shrink};

use crate::blocks::layer_norm;

/// Configuration of a [`Mixer`].
#[derive(Config, Debug)]
pub struct MixerConfig {
    /// Height and width of the images.
    pub side: usize,
    /// Height and width of a patch.
    pub patch: usize,
    /// Channels of a token.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Hidden width of the layers that mix tokens.
    pub token_hidden: usize,
    /// Hidden width of the layers that mix channels.
    pub channel_hidden: usize,
    /// Channels of the images.
    #[config(default = 3)]
    pub channels: usize,
    /// Number of classes.
    #[config(default = 1000)]
    pub classes: usize,
}

impl MixerConfig {
    /// Mixer-S/16 for images of 224x224 pixels.
    ///
    /// Published (timm, `mixer_s16_224`): 18,528,264 parameters; 3.78 G multiply-accumulates.
    pub fn small_16() -> Self {
        Self::new(224, 16, 512, 8, 256, 2048)
    }

    /// A reduced variant for tests: images of 16x16 pixels, ten classes.
    pub fn tiny() -> Self {
        Self::new(16, 4, 16, 2, 12, 32).with_classes(10)
    }

    /// Makes the network.
    pub fn init(&self, device: &Device) -> Mixer {
        let tokens = (self.side / self.patch).pow(2);
        let block = |_| Block {
            token_norm: layer_norm(self.width, device),
            tokens: Mlp::new(tokens, self.token_hidden, device),
            channel_norm: layer_norm(self.width, device),
            channels: Mlp::new(self.width, self.channel_hidden, device),
        };
        let patch = [self.patch, self.patch];
        Mixer {
            patches: Conv2dConfig::new([self.channels, self.width], patch).with_stride(patch).init(device),
            blocks: (0..self.depth).map(block).collect(),
            norm: layer_norm(self.width, device),
            head: LinearConfig::new(self.width, self.classes).init(device),
        }
    }
}

/// Patches as tokens; two-layer perceptrons, by turns over the tokens and over the channels.
///
/// `[samples, channels, side, side]` to `[samples, classes]`.
#[derive(Module, Debug, Shrink)]
pub struct Mixer {
    /// Makes a token of each patch.
    pub patches: Conv2d,
    /// The blocks.
    pub blocks: Vec<Block>,
    /// The normalisation before the head.
    pub norm: LayerNorm,
    /// The classifier on the tokens' mean.
    pub head: Linear,
}

impl GraphModule for Mixer {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;

    fn run(&self, images: Tensor<4>) -> Tensor<2> {
        let mut x = self.patches.forward(images).flatten::<3>(2, 3).swap_dims(1, 2);
        for block in &self.blocks {
            x = block.forward(x);
        }
        self.head.forward(self.norm.forward(x).mean_dim(1).squeeze_dim::<2>(1))
    }

    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        Some(self)
    }
}

/// Mixes the tokens of each channel, then the channels of each token.
#[derive(Module, Debug, Shrink)]
pub struct Block {
    /// Before the tokens are mixed.
    pub token_norm: LayerNorm,
    /// Mixes tokens.
    pub tokens: Mlp,
    /// Before the channels are mixed.
    pub channel_norm: LayerNorm,
    /// Mixes channels.
    pub channels: Mlp,
}

impl Block {
    /// `[samples, tokens, width]` to the same.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let mixed = self.tokens.forward(self.token_norm.forward(x.clone()).swap_dims(1, 2));
        let x = x + mixed.swap_dims(1, 2);
        let mixed = self.channels.forward(self.channel_norm.forward(x.clone()));
        x + mixed
    }
}

/// A perceptron with one hidden layer and GELU, over the last axis; in transformers the feed-forward part.
#[derive(Module, Debug, Shrink)]
pub struct Mlp {
    /// To the hidden layer.
    pub expand: Linear,
    /// Back.
    pub reduce: Linear,
}

impl Mlp {
    /// From `width` to `hidden` channels and back.
    pub fn new(width: usize, hidden: usize, device: &Device) -> Self {
        Self {
            expand: LinearConfig::new(width, hidden).init(device),
            reduce: LinearConfig::new(hidden, width).init(device),
        }
    }

    /// `[.., width]` to the same.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.reduce.forward(gelu(self.expand.forward(x)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_size() {
        assert_eq!(MixerConfig::small_16().init(&Device::flex()).num_params(), 18_528_264);
    }

    #[test]
    fn tiny_runs() {
        let model = MixerConfig::tiny().init(&Device::flex());
        crate::testing::runs(|x| model.run(x), [1, 3, 16, 16], [1, 10]);
    }
}
