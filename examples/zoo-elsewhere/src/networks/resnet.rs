//! ResNet (He et al., "Deep Residual Learning for Image Recognition", 2015, arXiv 1512.03385).

use bunsen::burner::module::ModuleInit;
use bunsen::kits::images::resnet;
use bunsen::kits::images::resnet::ResNetContractConfig;
use burn::module::Module;
use burn::tensor::Tensor;
use burn_sfp::prelude::GraphModule;

use super::{Make, Visit, bunsen};

#[derive(Module, Debug)]
struct ResNet {
    net: resnet::ResNet,
}

impl GraphModule for ResNet {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;
    fn run(&self, images: Tensor<4>) -> Tensor<2> {
        self.net.forward(images)
    }
}

pub(super) fn visit(make: &Make<'_>, visit: &mut impl Visit) {
    let side = make.pick(128, 32);
    let mut show = |name, about, config: ResNetContractConfig| {
        visit.visit(bunsen(name, about), || {
            let net = make.network(|device| ResNet { net: config.with_stem_width(make.pick(64, 8)).init(device) });
            (net, make.floats([1, 3, side, side]))
        });
    };
    let blocks = |standard: [usize; 4]| make.pick(standard, [1; 4]).to_vec();
    let classes = make.pick(1000, 10);
    let basic = ResNetContractConfig::new(blocks(resnet::RESNET18_BLOCKS), classes);
    show("ResNet-18", "residual blocks of two convolutions", basic);
    let bottleneck = ResNetContractConfig::new(blocks(resnet::RESNET50_BLOCKS), classes).with_bottleneck(true);
    show("ResNet-50", "bottleneck blocks of three convolutions", bottleneck);
}
