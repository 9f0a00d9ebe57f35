//! GPT-2 ("Language Models are Unsupervised Multitask Learners", Radford et al. 2019).

use burn::module::Param;
use burn::nn::attention::generate_autoregressive_mask;
use burn::nn::{Embedding, EmbeddingConfig, Initializer, Linear, LinearConfig};
use burn::prelude::*;
use burn_sfp::nn::{CenteredLayerNorm, CenteredLayerNormConfig};
use burn_sfp::prelude::{GraphModule, Shrink};

use crate::transformer::Block;

/// Configuration of a [`Gpt`].
#[derive(Config, Debug)]
pub struct GptConfig {
    /// Number of different tokens.
    pub vocabulary: usize,
    /// Largest number of tokens in a sample.
    pub context: usize,
    /// Channels of a token.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Heads of each attention.
    pub heads: usize,
    /// Hidden width of the feed-forward parts.
    pub hidden: usize,
}

impl GptConfig {
    /// GPT-2 small.
    ///
    /// Published: 124,439,808 parameters, where the head's weight is the table of the tokens. Here the head is a layer of its own, with
    /// 50,257 * 768 parameters more: 163,037,184. (The mean over the channels can be taken out of the table only if the head does not
    /// read it.)
    pub fn gpt2_small() -> Self {
        Self::new(50_257, 1024, 768, 12, 12, 3072)
    }

    /// A reduced variant for tests: twenty different tokens.
    pub fn tiny() -> Self {
        Self::new(20, 8, 24, 2, 3, 48)
    }

    /// Makes the network.
    pub fn init(&self, device: &Device) -> Gpt {
        let initializer = Initializer::Normal { mean: 0., std: 0.02 };
        let norm = || CenteredLayerNormConfig::new(self.width).init(device);
        let block = |_| Block::new(norm, [self.width, self.heads, self.hidden], device);
        Gpt {
            tokens: EmbeddingConfig::new(self.vocabulary, self.width)
                .with_initializer(initializer.clone())
                .init(device),
            positions: initializer.init([1, self.context, self.width], device),
            blocks: (0..self.depth).map(block).collect(),
            norm: norm(),
            head: LinearConfig::new(self.width, self.vocabulary).with_bias(false).init(device),
        }
    }
}

/// Tokens and their positions, pre-norm transformer blocks in which a token sees those before it, a linear layer on every token.
///
/// `[samples, tokens]` to `[samples, tokens, vocabulary]`.
#[derive(Module, Debug, Shrink)]
pub struct Gpt {
    /// The channels of each token, `[vocabulary, width]`.
    pub tokens: Embedding,
    /// Added to the tokens, `[1, context, width]`.
    pub positions: Param<Tensor<3>>,
    /// The blocks.
    pub blocks: Vec<Block>,
    /// The normalisation before the head.
    pub norm: CenteredLayerNorm,
    /// Scores of the next token.
    pub head: Linear,
}

impl GraphModule for Gpt {
    type Inputs = Tensor<2, Int>;
    type Outputs = Tensor<3>;

    fn run(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let [samples, length] = tokens.dims();
        let later = generate_autoregressive_mask(samples, length, &tokens.device());
        let mut x = self.tokens.forward(tokens) + self.positions.val().slice_dim(1, 0..length);
        for block in &self.blocks {
            x = block.forward(x, Some(later.clone()));
        }
        self.head.forward(self.norm.forward(x))
    }

    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::randomise;

    #[test]
    fn published_size() {
        let config = GptConfig::gpt2_small();
        let head = config.vocabulary * config.width;
        assert_eq!(crate::size::parameters(&config.init(&Device::flex())), 124_439_808 + head as u64);
    }

    #[test]
    fn tokens_do_not_see_later_ones() {
        let device = Device::flex();
        let model = randomise(&GptConfig::tiny().init(&device), 2);
        let run = |last: i32| model.run(Tensor::from_ints([[3, 1, 19, last]], &device));
        let [a, b] = [run(0), run(7)].map(|scores| scores.slice_dim(1, 0..3).into_data());
        assert_eq!(a, b);
        assert_ne!(run(0).into_data(), run(7).into_data());
    }
}
