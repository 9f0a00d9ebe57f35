//! Silero VAD (github.com/snakers4/silero-vad): whether somebody speaks.

use bunsen::burner::module::ModuleInit;
use bunsen::kits::speech::silero_vad::{SileroVad, SileroVadSignalConfig};
use burn::module::Module;
use burn::tensor::Tensor;
use burn_sfp::prelude::GraphModule;

use super::{Make, Visit, bunsen};

/// Pieces of sound one after the other, `[samples, pieces, length]`, from a state of zeros.
#[derive(Module, Debug)]
struct Silero {
    net: SileroVad,
}

impl GraphModule for Silero {
    type Inputs = Tensor<3>;
    type Outputs = Tensor<2>;
    fn run(&self, sound: Tensor<3>) -> Tensor<2> {
        let state = self.net.init_state(sound.dims()[0], &sound.device());
        self.net.forward_sequence(sound.swap_dims(0, 1), state).0.swap_dims(0, 1)
    }
}

pub(super) fn visit(make: &Make<'_>, visit: &mut impl Visit) {
    visit.visit(bunsen("Silero VAD", "spectrum by a convolution, convolutions, a recurrent cell"), || {
        let standard = SileroVadSignalConfig::standard_16khz();
        let small = SileroVadSignalConfig::new(16000, 17).with_d_hidden(16).with_d_bottleneck(8);
        let config = make.pick(standard, small);
        // A piece and the context before it.
        let length = (config.n_freq - 1) * 4 + (config.n_freq - 1) / 2;
        (make.network(|device| Silero { net: config.init(device) }), make.floats([1, 3, length]))
    });
}
