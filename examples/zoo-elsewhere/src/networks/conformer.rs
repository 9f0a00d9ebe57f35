//! Parakeet (Xu et al., "Efficient Sequence Transduction by Jointly Predicting Tokens and Durations", 2023, arXiv 2304.06795): a
//! conformer (Gulati et al., 2020, arXiv 2005.08100) for sound, recurrent cells for text, and a layer that joins both.

use bunsen::blocks::signals::DwStridingSubsamplingConfig;
use bunsen::blocks::transformers::encoders::conformer::{ConformerBlockConfig, ConformerEncoderConfig};
use bunsen::burner::module::ModuleInit;
use bunsen::kits::speech::parakeet::blocks::{ParakeetTdt, ParakeetTdtConfig};
use burn::module::Module;
use burn::tensor::{Int, Tensor};
use burn_sfp::prelude::GraphModule;

use super::{Make, Visit, bunsen};

/// Scores for every pair of a place in the sound and one in the text, as in training.
#[derive(Module, Debug)]
struct Parakeet {
    net: ParakeetTdt,
}

impl GraphModule for Parakeet {
    type Inputs = (Tensor<3>, Tensor<2, Int>);
    type Outputs = Tensor<4>;
    fn run(&self, (features, tokens): Self::Inputs) -> Tensor<4> {
        let sound = self.net.encode(features, None).0.unsqueeze_dim::<4>(2);
        let text = self.net.decoder.forward(tokens).unsqueeze_dim::<4>(1);
        self.net.joint.forward(sound, text)
    }
}

pub(super) fn visit(make: &Make<'_>, visit: &mut impl Visit) {
    visit.visit(bunsen("Parakeet", "conformer, two recurrent cells and their joint layer"), || {
        let (mels, frames, channels, width, heads, layers) = make.pick((80, 200, 64, 256, 4, 4), (16, 32, 8, 16, 2, 1));
        let (vocabulary, hidden, tokens) = make.pick((1024, 128, 8), (32, 12, 3));
        let encoder = ConformerEncoderConfig::new(
            DwStridingSubsamplingConfig::new(mels, channels, width),
            ConformerBlockConfig::new(width, heads, 4 * width, 9),
            layers,
        );
        let config = ParakeetTdtConfig::new(encoder, vocabulary, hidden);
        let input = (make.floats([1, mels, frames]), make.tokens([1, tokens], vocabulary));
        (make.network(|device| Parakeet { net: config.init(device) }), input)
    });
}
