//! Qwen3 (Yang et al., "Qwen3 Technical Report", 2025, arXiv 2505.09388), with and without its cache of keys and values.

use bunsen::burner::module::ModuleInit;
use bunsen::kits::gpts::qwen3::{Qwen3Config, Qwen3Model};
use bunsen::ops::transformers::attention::KVCacheModel;
use burn::module::Module;
use burn::tensor::{Int, Tensor};
use burn_sfp::prelude::GraphModule;

use super::{Make, Visit, bunsen};

/// The whole text at once.
#[derive(Module, Debug)]
struct Qwen3 {
    net: Qwen3Model,
}

impl GraphModule for Qwen3 {
    type Inputs = Tensor<2, Int>;
    type Outputs = Tensor<3>;
    fn run(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let positions = self.net.rotary(tokens.dims()[1], &tokens.device());
        let hidden = self.net.forward_hidden(self.net.embed(tokens), &positions, None);
        self.net.logits(hidden)
    }
}

/// All but the last token at once, then the last one, as when a text is continued.
#[derive(Module, Debug)]
struct Cached {
    net: Qwen3Model,
}

impl GraphModule for Cached {
    type Inputs = Tensor<2, Int>;
    type Outputs = Tensor<3>;
    fn run(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let [batch, length] = tokens.dims();
        let positions = self.net.rotary(length, &tokens.device());
        let mut cache = self.net.new_kv_cache(batch);
        let parts = [0..length - 1, length - 1..length].map(|part| {
            let embedded = self.net.embed(tokens.clone().slice_dim(1, part));
            self.net.forward_hidden(embedded, &positions, Some(&mut cache))
        });
        self.net.logits(Tensor::cat(parts.to_vec(), 1))
    }
}

pub(super) fn visit(make: &Make<'_>, visit: &mut impl Visit) {
    let (vocabulary, tokens) = make.pick((4096, 64), (64, 8));
    // Shared keys and values, wide heads and the ratios of Qwen3-0.6B.
    let config =
        || make.pick(Qwen3Config::new(vocabulary, 512, 6, 8, 4, 64, 1536), Qwen3Config::new(64, 32, 2, 4, 2, 16, 48));
    let input = || make.tokens([1, tokens], vocabulary);
    let about = "causal decoder, grouped queries, gated perceptron, table of tokens read at both ends";
    visit.visit(bunsen("Qwen3", about), || (make.network(|device| Qwen3 { net: config().init(device) }), input()));
    let about = "the same, its last token by the cache of keys and values";
    visit.visit(bunsen("Qwen3, cached", about), || {
        (make.network(|device| Cached { net: config().init(device) }), input())
    });
}
