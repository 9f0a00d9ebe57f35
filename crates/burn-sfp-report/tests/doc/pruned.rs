// The pruned network of the examples in the documentation.

use burn::nn::{Linear, LinearConfig};
use burn::prelude::*;
use burn_sfp_core::{AnalyzeConfig, TensorCalibration};
use burn_sfp_graph::GraphModule;
use burn_sfp_prune::{Pruned, Pruner, SfpRanking};

#[derive(Module, Debug)]
pub struct Mlp {
    pub hidden: Linear,
    pub classifier: Linear,
}

impl GraphModule for Mlp {
    type Inputs = Tensor<2>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<2>) -> Tensor<2> {
        self.classifier.forward(burn::tensor::activation::relu(self.hidden.forward(x)))
    }
}

pub fn mlp() -> Mlp {
    let device = Device::flex();
    Mlp { hidden: LinearConfig::new(4, 16).init(&device), classifier: LinearConfig::new(16, 2).init(&device) }
}

pub fn images() -> Tensor<2> {
    Tensor::from_floats([[1., 0., 0., 1.], [0., 1., 1., 0.]], &Device::flex())
}

pub fn prune(mlp: &Mlp) -> Pruned<Mlp> {
    let calibration = TensorCalibration::new(images(), vec![0, 1], 2);
    let config = AnalyzeConfig::new().with_state(true).with_accuracy(true);
    let pruner = Pruner::new(&calibration).policy(SfpRanking::new()).ratio(0.5).config(config);
    pruner.analyze_and_prune(mlp).expect("the network of the examples can be pruned")
}
