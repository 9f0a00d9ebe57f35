//! Whisper (Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022, arXiv 2212.04356).

use bunsen::burner::module::ModuleInit;
use bunsen::kits::speech::whisper::blocks::{Whisper as Foreign, WhisperApiConfig};
use burn::module::Module;
use burn::tensor::{Int, Tensor};
use burn_sfp::prelude::GraphModule;

use super::{Make, Visit, bunsen};

/// Sound and the whole text at once.
#[derive(Module, Debug)]
struct Whisper {
    net: Foreign,
}

impl GraphModule for Whisper {
    type Inputs = (Tensor<3>, Tensor<2, Int>);
    type Outputs = Tensor<3>;
    fn run(&self, (mel, tokens): Self::Inputs) -> Tensor<3> {
        self.net.forward(mel, tokens)
    }
}

/// The text in two steps, with the cache of keys and values.
#[derive(Module, Debug)]
struct Cached {
    net: Foreign,
}

impl GraphModule for Cached {
    type Inputs = (Tensor<3>, Tensor<2, Int>);
    type Outputs = Tensor<3>;
    fn run(&self, (mel, tokens): Self::Inputs) -> Tensor<3> {
        let decoder = &self.net.decoder;
        let mut cache = decoder.new_cache(self.net.forward_encoder(mel));
        let last = tokens.dims()[1] - 1;
        let parts = [0..last, last..last + 1];
        let parts = parts.map(|part| decoder.forward_cached(tokens.clone().slice_dim(1, part), &mut cache));
        Tensor::cat(parts.to_vec(), 1)
    }
}

pub(super) fn visit(make: &Make<'_>, visit: &mut impl Visit) {
    let (mels, vocabulary, frames, tokens) = make.pick((80, 4096, 600, 16), (16, 64, 32, 6));
    // The width and depth of whisper-tiny, with fewer words and a shorter window.
    let config = || {
        make.pick(
            WhisperApiConfig::new(mels, vocabulary, 384, frames, 4, 64, 4),
            WhisperApiConfig::new(mels, vocabulary, 32, frames, 1, 16, 2).with_d_head(8),
        )
    };
    let input = || (make.floats([1, mels, frames]), make.tokens([1, tokens], vocabulary));
    let about = "encoder of sound and decoder of text, both under layer normalisation";
    visit.visit(bunsen("Whisper", about), || (make.network(|device| Whisper { net: config().init(device) }), input()));
    let about = "the same, its last token by the cache of keys and values";
    visit.visit(bunsen("Whisper, cached", about), || {
        (make.network(|device| Cached { net: config().init(device) }), input())
    });
}
