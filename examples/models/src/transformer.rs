//! The pre-norm transformer block ("Language Models are Unsupervised Multitask Learners", Radford et al. 2019, section 2.3).

use burn::prelude::*;
use burn_sfp::nn::{CenteredLayerNorm, HeadAttention, HeadAttentionConfig, MhaInput};
use burn_sfp::prelude::Shrink;

use crate::mixer::Mlp;

/// Attention and a feed-forward part, each behind its normalisation and around it a skip connection.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use models::blocks::centered_norm;
/// use models::transformer::Block;
///
/// let device = Device::flex();
/// let block = Block::new(|| centered_norm(8, &device), [8, 2, 16], &device);
/// assert_eq!(block.forward(Tensor::zeros([1, 3, 8], &device), None).dims(), [1, 3, 8]);
/// ```
#[derive(Module, Debug, Shrink)]
pub struct Block {
    /// Before the attention.
    pub attention_norm: CenteredLayerNorm,
    /// The attention.
    pub attention: HeadAttention,
    /// Before the feed-forward part.
    pub mlp_norm: CenteredLayerNorm,
    /// The feed-forward part.
    pub mlp: Mlp,
}

impl Block {
    /// Makes a block of a width, a number of heads and a hidden width of the feed-forward part.
    pub fn new(norm: impl Fn() -> CenteredLayerNorm, [width, heads, hidden]: [usize; 3], device: &Device) -> Self {
        Self {
            attention_norm: norm(),
            attention: HeadAttentionConfig::new(width, heads).with_dropout(0.0).init(device),
            mlp_norm: norm(),
            mlp: Mlp::new(width, hidden, device),
        }
    }

    /// `[samples, tokens, width]` to the same; `hidden` is true where a token must not look, `[samples, tokens, tokens]`.
    pub fn forward(&self, x: Tensor<3>, hidden: Option<Tensor<3, Bool>>) -> Tensor<3> {
        let input = MhaInput::self_attn(self.attention_norm.forward(x.clone()));
        let input = match hidden {
            Some(hidden) => input.mask_attn(hidden),
            None => input,
        };
        let x = x + self.attention.forward(input).context;
        x.clone() + self.mlp.forward(self.mlp_norm.forward(x))
    }
}
