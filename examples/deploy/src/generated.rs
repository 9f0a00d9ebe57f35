//! The network that burn-onnx generates from `classifier.onnx` in `build.rs`. Generated code is part of this crate, so that `GraphModule`
//! can be implemented for the generated type itself.

use burn::tensor::{Device, Tensor};
use burn_sfp::prelude::GraphModule;

#[allow(missing_docs, dead_code, unused_imports, unused_qualifications, clippy::all)]
mod code {
    include!(concat!(env!("OUT_DIR"), "/onnx/classifier.rs"));
}

/// A small residual classifier, `[samples, 3, 32, 32]` to `[samples, 10]`.
pub use code::Model as Classifier;

impl GraphModule for Classifier {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;

    fn run(&self, images: Tensor<4>) -> Tensor<2> {
        self.forward(images)
    }

    // A generated network stores its device.
    fn rebuild(&self, device: &Device) -> Option<Self> {
        Some(Self::new(device))
    }
}
