//! NanoChat (Karpathy, github.com/karpathy/nanochat).

use bunsen::burner::module::ModuleInit;
use bunsen::kits::gpts::nanochat::{NanoChatGpt, NanoChatGptContractConfig};
use burn::module::Module;
use burn::tensor::{Int, Tensor};
use burn_sfp::prelude::GraphModule;

use super::{Make, Visit, bunsen};

#[derive(Module, Debug)]
struct NanoChat {
    net: NanoChatGpt,
}

impl GraphModule for NanoChat {
    type Inputs = Tensor<2, Int>;
    type Outputs = Tensor<3>;
    fn run(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        self.net.forward(tokens, &mut None)
    }
}

pub(super) fn visit(make: &Make<'_>, visit: &mut impl Visit) {
    visit.visit(bunsen("NanoChat", "causal decoder, root-mean-square normalisation, rotary positions"), || {
        let (vocabulary, layers, heads, width, tokens) = make.pick((4096, 6, 6, 384, 64), (64, 2, 4, 32, 8));
        let config = NanoChatGptContractConfig::new()
            .with_vocab_size(vocabulary)
            .with_n_layer(layers)
            .with_n_head(heads)
            .with_n_kv_head(heads)
            .with_n_embed(width)
            .with_init_seq_len(tokens);
        (make.network(|device| NanoChat { net: config.init(device) }), make.tokens([1, tokens], vocabulary))
    });
}
