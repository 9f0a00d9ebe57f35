//! Sizes of a network: parameters and multiply-adds.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use burn_sfp::graph::Network;
use burn_sfp::prelude::{GraphError, GraphModule};

/// Number of parameters. Running statistics, which Burn's own count includes, are none.
///
/// ```
/// use burn::nn::BatchNormConfig;
/// use burn::tensor::Device;
///
/// assert_eq!(models::size::parameters(&BatchNormConfig::new(8).init(&Device::flex())), 16);
/// ```
pub fn parameters<M: Module>(model: &M) -> u64 {
    let mut count = Count::default();
    model.visit(&mut count);
    count.numbers
}

/// Multiply-adds for one sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Macs {
    /// Of everything.
    pub all: u64,
    /// Of layers, without the products of two activations.
    pub layers: u64,
}

/// Counts multiply-adds.
///
/// # Errors
/// Where the forward pass fails on this input.
pub fn macs<M: GraphModule>(model: &M, input: &M::Inputs) -> Result<Macs, GraphError> {
    let network = Network::capture(model, input)?;
    let layers = network.layers().iter().map(|layer| layer.macs).sum();
    Ok(Macs { all: network.macs(), layers })
}

#[derive(Default)]
struct Count {
    path: Vec<String>,
    numbers: u64,
}

impl ModuleVisitor for Count {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_string());
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let statistic = self.path.last().is_some_and(|name| name.starts_with("running_"));
        if !statistic {
            // The shape of a parameter that is not initialised yet, without making it.
            self.numbers += param.lazy_shape().num_elements() as u64;
        }
    }
}
