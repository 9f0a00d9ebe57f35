//! Sortformer (Park et al., "Sortformer: Seamless Integration of Speaker Diarization and ASR by Bridging Timestamps and Tokens", 2024,
//! arXiv 2409.06656): who speaks when.

use bunsen::burner::module::ModuleInit;
use bunsen::kits::speech::sortformer::blocks::{NemotronDiarizationConfig, Sortformer as Foreign, SortformerV2Config};
use burn::module::Module;
use burn::tensor::Tensor;
use burn_sfp::prelude::GraphModule;

use super::{Make, Visit, bunsen};

#[derive(Module, Debug)]
struct Sortformer {
    net: Foreign,
}

impl GraphModule for Sortformer {
    type Inputs = Tensor<3>;
    type Outputs = Tensor<3>;
    fn run(&self, features: Tensor<3>) -> Tensor<3> {
        self.net.forward(features, None).output
    }
}

pub(super) fn visit(make: &Make<'_>, visit: &mut impl Visit) {
    let (mels, frames, width, layers, hidden) = make.pick((128, 256, 256, 4, 192), (16, 32, 32, 1, 16));
    let input = || make.floats([1, frames, mels]);
    let about = "conformer, then a transformer with layer normalisation behind each block";
    visit.visit(bunsen("Sortformer", about), || {
        let config = SortformerV2Config::new()
            .with_n_mels(mels)
            .with_d_model(width)
            .with_n_layers(layers)
            .with_n_heads(make.pick(8, 2))
            .with_subsampling_channels(make.pick(64, 8))
            .with_d_hidden(hidden)
            .with_transformer_layers(make.pick(4, 1))
            .with_transformer_heads(make.pick(8, 2));
        (make.network(|device| Sortformer { net: config.init(device) }), input())
    });
    let about = "stacked frames, transformer with rotary positions, output by subpixel upsampling";
    visit.visit(bunsen("Nemotron diarisation", about), || {
        let config = NemotronDiarizationConfig::new()
            .with_n_mels(mels)
            .with_d_model(width)
            .with_n_layers(layers)
            .with_n_heads(make.pick(8, 2))
            .with_d_hidden(hidden);
        (make.network(|device| Sortformer { net: config.init(device) }), input())
    });
}
