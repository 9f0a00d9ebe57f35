//! Vision transformer ("An Image is Worth 16x16 Words", Dosovitskiy et al. 2020, arXiv 2010.11929), small as in DeiT
//! (Touvron et al. 2020, arXiv 2012.12877).

use burn::module::Param;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::prelude::*;
use burn_sfp::nn::CenteredLayerNorm;
use burn_sfp::prelude::{GraphModule, Shrink};

use crate::blocks::centered_norm;
use crate::transformer::Block;

/// Configuration of a [`Vit`].
#[derive(Config, Debug)]
pub struct VitConfig {
    /// Height and width of the images.
    pub side: usize,
    /// Height and width of a patch.
    pub patch: usize,
    /// Channels of a token.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Heads of each attention.
    pub heads: usize,
    /// Hidden width of the feed-forward parts.
    pub hidden: usize,
    /// Channels of the images.
    #[config(default = 3)]
    pub channels: usize,
    /// Number of classes.
    #[config(default = 1000)]
    pub classes: usize,
}

impl VitConfig {
    /// ViT-S/16 for images of 224x224 pixels.
    ///
    /// Published: 22,050,664 parameters (timm, `vit_small_patch16_224`); 4.6 G multiply-accumulates (as DeiT-S in table 1 of the
    /// Swin transformer's paper, arXiv 2103.14030), the products inside the attentions included.
    pub fn small_16() -> Self {
        Self::new(224, 16, 384, 12, 6, 1536)
    }

    /// A reduced variant for tests: images of 16x16 pixels, ten classes.
    pub fn tiny() -> Self {
        Self::new(16, 4, 24, 2, 3, 48).with_classes(10)
    }

    /// Makes the network.
    pub fn init(&self, device: &Device) -> Vit {
        let tokens = (self.side / self.patch).pow(2) + 1;
        let embedding = Initializer::Normal { mean: 0., std: 0.02 };
        let norm = || centered_norm(self.width, device);
        let block = |_| Block::new(norm, [self.width, self.heads, self.hidden], device);
        let patch = [self.patch, self.patch];
        Vit {
            patches: Conv2dConfig::new([self.channels, self.width], patch).with_stride(patch).init(device),
            class_token: embedding.init([1, 1, self.width], device),
            positions: embedding.init([1, tokens, self.width], device),
            blocks: (0..self.depth).map(block).collect(),
            norm: norm(),
            head: LinearConfig::new(self.width, self.classes).init(device),
        }
    }
}

/// Patches as tokens, a class token in front, pre-norm transformer blocks, a linear layer on the class token.
///
/// `[samples, channels, side, side]` to `[samples, classes]`.
#[derive(Module, Debug, Shrink)]
pub struct Vit {
    /// Makes a token of each patch.
    pub patches: Conv2d,
    /// The token that the head reads, `[1, 1, width]`.
    pub class_token: Param<Tensor<3>>,
    /// Added to the tokens, `[1, tokens, width]`.
    pub positions: Param<Tensor<3>>,
    /// The blocks.
    pub blocks: Vec<Block>,
    /// The normalisation before the head.
    pub norm: CenteredLayerNorm,
    /// The classifier.
    pub head: Linear,
}

impl GraphModule for Vit {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;

    fn run(&self, images: Tensor<4>) -> Tensor<2> {
        let patches = self.patches.forward(images).flatten::<3>(2, 3).swap_dims(1, 2);
        let [samples, _, width] = patches.dims();
        let class = self.class_token.val().expand([samples, 1, width]);
        let mut x = Tensor::cat(vec![class, patches], 1) + self.positions.val();
        for block in &self.blocks {
            x = block.forward(x, None);
        }
        let class = x.slice_dim(1, 0..1).squeeze_dim::<2>(1);
        self.head.forward(self.norm.forward(class))
    }

    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_size() {
        assert_eq!(VitConfig::small_16().init(&Device::flex()).num_params(), 22_050_664);
    }

    #[test]
    fn tiny_runs() {
        let model = VitConfig::tiny().init(&Device::flex());
        crate::testing::runs(|x| model.run(x), [1, 3, 16, 16], [1, 10]);
    }
}
