//! Random weights and running statistics: a freshly made network has neither biases nor statistics that a test could see.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A copy of the model with random parameters and running statistics that keep activations at about the size of the input.
///
/// Variances and scales are positive, so that no channel vanishes. The model itself stays as it is.
///
/// ```
/// use burn::tensor::Device;
/// use models::{random::randomise, vgg::VggConfig};
///
/// let model = VggConfig::vgg11().small().init(&Device::flex());
/// let (a, b) = (randomise(&model, 1), randomise(&model, 1));
/// assert_eq!(a.classifier.weight.to_data(), b.classifier.weight.to_data());
/// ```
pub fn randomise<M: Module>(model: &M, seed: u64) -> M {
    // `valid` copies running statistics; a clone would share them.
    let copy = model.valid();
    copy.map(&mut Fill { names: Vec::new(), containers: Vec::new(), rng: ChaCha8Rng::seed_from_u64(seed) })
}

struct Fill {
    names: Vec<String>,
    containers: Vec<String>,
    rng: ChaCha8Rng,
}

impl Fill {
    fn range(&self, dims: &[usize]) -> (f32, f32) {
        let name = self.names.last().map(String::as_str).unwrap_or_default();
        let linear = self.containers.iter().rev().any(|container| container.ends_with("Linear"));
        match (name, dims) {
            ("running_var", _) => (0.5, 2.0),
            ("gamma", _) => (0.5, 1.5),
            ("weight", [_, _, ..]) => {
                let inputs: usize = if linear { dims[0] } else { dims[1..].iter().product() };
                // A uniform distribution of this half width has the standard deviation 1 / sqrt(inputs).
                let half = (3.0 / inputs.max(1) as f32).sqrt();
                (-half, half)
            }
            _ => (-0.3, 0.3),
        }
    }
}

impl ModuleMapper for Fill {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.names.push(name.to_string());
        self.containers.push(container.to_string());
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.names.pop();
        self.containers.pop();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|old| {
            let dims = old.dims();
            let (low, high) = self.range(&dims);
            let values: Vec<f32> = (0..dims.iter().product()).map(|_| self.rng.random_range(low..high)).collect();
            Tensor::from_data(TensorData::new(values, dims), &old.device())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::BatchNormConfig;
    use burn::tensor::Device;

    #[test]
    fn the_original_keeps_its_statistics() {
        let norm = BatchNormConfig::new(4).init(&Device::flex());
        let random = randomise(&norm, 1);
        let read = |tensor: Tensor<1>| tensor.into_data().try_to_vec::<f32>().unwrap_or_default();
        assert_eq!(read(norm.running_var.value()), [1.0; 4]);
        assert_eq!(read(norm.running_mean.value()), [0.0; 4]);
        assert_eq!(read(norm.gamma.val()), [1.0; 4]);
        assert!(read(random.running_var.value()).iter().all(|var| (0.5..2.0).contains(var) && *var != 1.0));
    }
}
