//! Random weights and statistics that keep values at about the size of what comes in.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// The module with every parameter and running statistic drawn.
pub fn fill<M: Module>(module: M, rng: &mut ChaCha8Rng) -> M {
    module.map(&mut Fill { names: Vec::new(), rng })
}

struct Fill<'a> {
    names: Vec<String>,
    rng: &'a mut ChaCha8Rng,
}

impl ModuleMapper for Fill<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.names.push(name.into());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.names.pop();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.names.last().cloned().unwrap_or_default();
        param.map(|old| {
            let dims = old.dims();
            let (low, high) = match (name.as_str(), D) {
                ("running_var", _) => (0.5, 2.0),
                ("gamma", _) => (0.5, 1.5),
                (_, 1) => (-0.5, 0.5),
                (_, 2) => spread(dims[0]),
                _ => spread(dims[1..].iter().product()),
            };
            let count: usize = dims.iter().product();
            let values: Vec<f32> = (0..count).map(|_| self.rng.random_range(low..high)).collect();
            Tensor::from_data(TensorData::new(values, dims), &old.device())
        })
    }
}

fn spread(inputs: usize) -> (f32, f32) {
    let half = (4.0 / inputs.max(1) as f32).sqrt();
    (-half, half)
}
