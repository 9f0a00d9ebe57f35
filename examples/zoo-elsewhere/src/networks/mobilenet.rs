//! MobileNet-v2 of the example `models` (Sandler et al., 2018, arXiv 1801.04381), as if it were another crate's that does not know of
//! `Shrink`: the counts of groups of its depthwise convolutions cannot be set.

use burn::module::Module;
use burn::tensor::Tensor;
use burn_sfp::prelude::GraphModule;
use models::mobilenet;

use super::{Entry, Make, Visit};

#[derive(Module, Debug)]
struct MobileNet {
    net: mobilenet::MobileNetV2,
}

impl GraphModule for MobileNet {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;
    fn run(&self, images: Tensor<4>) -> Tensor<2> {
        self.net.run(images)
    }
}

pub(super) fn visit(make: &Make<'_>, visit: &mut impl Visit) {
    let about = "depthwise convolutions inside of wide blocks";
    visit.visit(Entry { name: "MobileNet-v2", source: "models, without Shrink", about }, || {
        let config = mobilenet::MobileNetV2Config::mobilenet_v2();
        let config = make.pick(config.clone(), config.small());
        let side = make.pick(224, 32);
        (make.network(|device| MobileNet { net: config.init(device) }), make.floats([1, 3, side, side]))
    });
}
