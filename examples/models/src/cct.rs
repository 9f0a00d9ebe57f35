//! Compact convolutional transformer ("Escaping the Big Data Paradigm with Compact Transformers", Hassani et al. 2021,
//! arXiv 2104.05704).

use burn::module::Param;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{Initializer, LayerNorm, LayerNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::prelude::*;
use burn::tensor::activation::{relu, softmax};
use burn_sfp::prelude::{GraphModule, Shrink};

use crate::mixer::Mlp;
use burn_sfp::nn::{HeadAttention, HeadAttentionConfig};

/// Channels between the convolutions of the tokenizer.
const STEM: usize = 64;

/// Configuration of a [`Cct`].
#[derive(Config, Debug)]
pub struct CctConfig {
    /// Height and width of the images.
    pub side: usize,
    /// Height and width of the tokenizer's kernels.
    pub kernel: usize,
    /// Channels of a token.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Heads of each attention.
    pub heads: usize,
    /// Hidden width of the feed-forward parts.
    pub hidden: usize,
    /// Convolutions of the tokenizer.
    #[config(default = 1)]
    pub convs: usize,
    /// Channels of the images.
    #[config(default = 3)]
    pub channels: usize,
    /// Number of classes.
    #[config(default = 1000)]
    pub classes: usize,
}

impl CctConfig {
    /// CCT-14/7x2 for images of 224x224 pixels, with learnable positions.
    ///
    /// Published: 22.36 M parameters (paper and the authors' repository; 22,367,273 here). Multiply-accumulates: 5.11 G in the
    /// repository, layers only; 5.53 G in the paper, where the products inside the attentions (with them 5.52 G) and
    /// normalisations and activations count too.
    pub fn cct_14_7x2() -> Self {
        Self::new(224, 7, 384, 14, 6, 1152).with_convs(2)
    }

    /// CCT-7/3x1 for images of 32x32 pixels and ten classes, with learnable positions.
    ///
    /// Published: 3.760 M parameters (the authors' repository; 3,760,139 here). Multiply-accumulates: 0.947 G in the repository,
    /// layers only; 1.19 G in the paper, where the products inside the attentions (with them 1.18 G) and normalisations and
    /// activations count too.
    pub fn cct_7_3x1() -> Self {
        Self::new(32, 3, 256, 7, 4, 512).with_classes(10)
    }

    /// A reduced variant for tests: two convolutions, images of 16x16 pixels, ten classes.
    pub fn tiny() -> Self {
        Self::new(16, 3, 24, 2, 3, 48).with_convs(2).with_classes(10)
    }

    /// Makes the network.
    pub fn init(&self, device: &Device) -> Cct {
        let (stride, padding) = ((self.kernel / 2).saturating_sub(1).max(1), (self.kernel / 2).max(1));
        // After every convolution and pooling.
        let side = (0..self.convs)
            .fold(self.side, |side, _| positions(positions(side, self.kernel, stride, padding), 3, 2, 1));
        let tokenizer = (0..self.convs).map(|index| {
            let input = if index == 0 { self.channels } else { STEM };
            let output = if index + 1 == self.convs { self.width } else { STEM };
            Conv2dConfig::new([input, output], [self.kernel, self.kernel])
                .with_stride([stride, stride])
                .with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding))
                .with_bias(false)
                .init(device)
        });
        let attention = HeadAttentionConfig::new(self.width, self.heads)
            .with_dropout(0.0)
            .with_query_bias(false)
            .with_key_bias(false)
            .with_value_bias(false);
        let block = |_| Block {
            attention_norm: LayerNormConfig::new(self.width).init(device),
            attention: attention.init(device),
            mlp_norm: LayerNormConfig::new(self.width).init(device),
            mlp: Mlp::new(self.width, self.hidden, device),
        };
        Cct {
            tokenizer: tokenizer.collect(),
            pool: MaxPool2dConfig::new([3, 3])
                .with_strides([2, 2])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(),
            positions: Initializer::Normal { mean: 0., std: 0.2 }.init([1, side * side, self.width], device),
            blocks: (0..self.depth).map(block).collect(),
            norm: LayerNormConfig::new(self.width).init(device),
            importance: LinearConfig::new(self.width, 1).init(device),
            head: LinearConfig::new(self.width, self.classes).init(device),
        }
    }
}

/// Positions at which a kernel fits.
fn positions(side: usize, kernel: usize, stride: usize, padding: usize) -> usize {
    (side + 2 * padding - kernel) / stride + 1
}

/// Convolutions that make tokens, transformer blocks, a linear layer on the tokens' weighted mean.
///
/// `[samples, channels, side, side]` to `[samples, classes]`.
#[derive(Module, Debug, Shrink)]
pub struct Cct {
    /// Convolutions without bias, each followed by ReLU and pooling.
    pub tokenizer: Vec<Conv2d>,
    /// 3x3 with stride 2.
    pub pool: MaxPool2d,
    /// Added to the tokens, `[1, tokens, width]`.
    pub positions: Param<Tensor<3>>,
    /// The blocks.
    pub blocks: Vec<Block>,
    /// The normalisation before the weighted mean.
    pub norm: LayerNorm,
    /// A token's weight in the mean, before the softmax over all tokens.
    pub importance: Linear,
    /// The classifier.
    pub head: Linear,
}

impl GraphModule for Cct {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;

    fn run(&self, images: Tensor<4>) -> Tensor<2> {
        let mut x = images;
        for conv in &self.tokenizer {
            x = self.pool.forward(relu(conv.forward(x)));
        }
        let mut x = x.flatten::<3>(2, 3).swap_dims(1, 2) + self.positions.val();
        for block in &self.blocks {
            x = block.forward(x);
        }
        let x = self.norm.forward(x);
        let weights = softmax(self.importance.forward(x.clone()), 1).swap_dims(1, 2);
        self.head.forward(weights.matmul(x).squeeze_dim::<2>(1))
    }

    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        Some(self)
    }
}

/// Attention behind a normalisation, then a feed-forward part.
#[derive(Module, Debug, Shrink)]
pub struct Block {
    /// Before the attention.
    pub attention_norm: LayerNorm,
    /// The attention; queries, keys and values have no bias.
    pub attention: HeadAttention,
    /// After the attention and its skip connection.
    pub mlp_norm: LayerNorm,
    /// The feed-forward part.
    pub mlp: Mlp,
}

impl Block {
    /// `[samples, tokens, width]` to the same.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = x.clone() + self.attention.self_attention(self.attention_norm.forward(x));
        // As in the authors' network the second skip connection starts behind the normalisation, unlike in ViT.
        let x = self.mlp_norm.forward(x);
        x.clone() + self.mlp.forward(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_sizes() {
        let device = Device::flex();
        assert_eq!(CctConfig::cct_14_7x2().init(&device).num_params(), 22_367_273);
        assert_eq!(CctConfig::cct_7_3x1().init(&device).num_params(), 3_760_139);
    }

    #[test]
    fn tiny_runs() {
        let model = CctConfig::tiny().init(&Device::flex());
        crate::testing::runs(|x| model.run(x), [1, 3, 16, 16], [1, 10]);
    }
}
