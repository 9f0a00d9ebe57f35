//! Swin Transformer V2 (Liu et al., "Swin Transformer V2: Scaling Up Capacity and Resolution", 2021, arXiv 2111.09883).

use bunsen::burner::module::ModuleInit;
use bunsen::kits::images::swin::v2::{LayerConfig, SwinTransformerV2, SwinTransformerV2ContractConfig};
use burn::module::Module;
use burn::tensor::Tensor;
use burn_sfp::prelude::GraphModule;

use super::{Make, Visit, bunsen};

#[derive(Module, Debug)]
struct Swin {
    net: SwinTransformerV2,
}

impl GraphModule for Swin {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;
    fn run(&self, images: Tensor<4>) -> Tensor<2> {
        self.net.forward(images)
    }
}

pub(super) fn visit(make: &Make<'_>, visit: &mut impl Visit) {
    visit.visit(bunsen("Swin V2", "shifted windows, cosine attention, layer normalisation behind each block"), || {
        let (side, classes, width) = make.pick((128, 1000, 96), (32, 10, 16));
        let stages: &[(usize, usize)] = make.pick(&[(2, 3), (2, 6), (6, 12), (2, 24)], &[(2, 2), (2, 4)]);
        let stages = stages.iter().map(|&(depth, heads)| LayerConfig::new(depth, heads)).collect();
        let config = SwinTransformerV2ContractConfig::new([side; 2], 4, 3, classes, width, stages).with_window_size(4);
        (make.network(|device| Swin { net: config.init(device) }), make.floats([1, 3, side, side]))
    });
}
