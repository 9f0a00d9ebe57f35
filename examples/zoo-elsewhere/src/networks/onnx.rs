//! What burn-onnx generates from the files in `onnx/`, which `onnx/make.py` writes. Generated code is part of this crate, so that
//! `GraphModule` can be implemented for the generated types themselves.
//!
//! A generated network stores its device and makes tensors on it, so that each implementation says how it is built on another one.

use burn::tensor::{Device, Int, Tensor};
use burn_sfp::prelude::GraphModule;

use super::{Entry, Make, Visit};

/// Includes the generated file of a network as a module and makes it a `GraphModule`, whose forward pass reads one input.
macro_rules! generated {
    ($name:ident: $inputs:ty) => {
        #[allow(missing_docs, dead_code, unused_imports, unused_qualifications, clippy::all)]
        mod $name {
            include!(concat!(env!("OUT_DIR"), "/onnx/", stringify!($name), ".rs"));
        }

        impl GraphModule for $name::Model {
            type Inputs = $inputs;
            type Outputs = Tensor<2>;
            fn run(&self, input: Self::Inputs) -> Tensor<2> {
                self.forward(input)
            }
            fn rebuild(&self, device: &Device) -> Option<Self> {
                Some(Self::new(device))
            }
        }
    };
}
generated!(residual: Tensor<4>);
generated!(shuffle: Tensor<4>);
generated!(vit: Tensor<4>);
generated!(encoder: Tensor<2, Int>);

const fn onnx(name: &'static str, about: &'static str) -> Entry {
    Entry { name, source: "burn-onnx 0.22.0", about }
}

pub(super) fn visit(make: &Make<'_>, visit: &mut impl Visit) {
    let device = make.device;
    // The exporter has written the size of the batch into the shapes of all but the encoder.
    let images = || make.floats([1, 3, 32, 32]);
    let about = "residual blocks and an inverted bottleneck";
    visit.visit(onnx("residual.onnx", about), || (residual::Model::from_embedded(device), images()));
    let about = "channel shuffles and halves, shapes as constants";
    visit.visit(onnx("shuffle.onnx", about), || (shuffle::Model::from_embedded(device), images()));
    let about = "vision transformer, class token expanded at run time";
    visit.visit(onnx("vit.onnx", about), || (vit::Model::from_embedded(device), images()));
    let about = "causal encoder of texts, shapes, positions and mask computed at run time";
    visit.visit(onnx("encoder.onnx", about), || (encoder::Model::from_embedded(device), make.tokens([2, 12], 96)));
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use burn::tensor::{Device, Int, Tensor};
    use burn_sfp::prelude::{GraphModule, Network};

    use super::encoder::Model;

    /// Without `rebuild`.
    #[derive(Module, Debug)]
    struct Stays {
        net: Model,
    }

    impl GraphModule for Stays {
        type Inputs = Tensor<2, Int>;
        type Outputs = Tensor<2>;
        fn run(&self, tokens: Tensor<2, Int>) -> Tensor<2> {
            self.net.forward(tokens)
        }
    }

    #[test]
    fn a_stored_device_is_named() {
        let device = Device::flex();
        let tokens = Tensor::zeros([2, 12], &device);
        let net = || Model::from_embedded(&device);
        let message = Network::capture(&Stays { net: net() }, &tokens).unwrap_err().to_string();
        assert!(message.contains("`&self.device`") && message.contains("`GraphModule::rebuild`"), "{message}");
        // The same with it.
        assert!(Network::capture(&net(), &tokens).is_ok());
    }
}
