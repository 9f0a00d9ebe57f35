//! The logits of a teacher.

use std::cell::RefCell;

use burn::tensor::{Bool, Device, Int, Tensor};
use burn_sfp_core::SfpModule;
use burn_sfp_graph::{Inference, InferenceConfig, InputMapper, ModuleInput};
use burn_sfp_nn::tensor::on_host;

use super::step::run;
use crate::PruneError;

/// Largest difference of logits, over the largest of them, that is rounding.
const ROUNDING: f32 = 1e-3;

/// A teacher, in evaluation mode, on a device without autodiff.
///
/// On the CPU it runs as [`Inference`] does, by ways that follow from the shapes, so that the logits have the same bits in each run. Where it does
/// not compute the logits of the first batch like that, it runs by its own forward pass.
pub(super) struct TeacherPass<M: SfpModule> {
    teacher: M,
    device: Device,
    fast: RefCell<Fast<M>>,
}

enum Fast<M: SfpModule> {
    Untried,
    Ready(Box<Inference<M>>),
    Unfit,
}

impl<M: SfpModule> TeacherPass<M> {
    /// `device` is the one that the teacher's parameters are on.
    pub fn new(teacher: &M, device: &Device) -> Self {
        let device = device.clone().without_autodiff();
        let on_cpu = on_host(&Tensor::<1>::zeros([1], &device), |_| ()).is_some();
        let fast = RefCell::new(if on_cpu { Fast::Untried } else { Fast::Unfit });
        Self { teacher: teacher.valid(), device, fast }
    }

    /// The logits of a batch, given with its position.
    pub fn logits(&self, input: &M::Inputs, batch: usize) -> Result<Tensor<2>, PruneError> {
        let input = input.clone().to_device(&self.device);
        let mut fast = self.fast.borrow_mut();
        match &mut *fast {
            Fast::Ready(inference) => {
                if let Some(logits) = logits_of(inference, &input) {
                    return Ok(logits);
                }
            }
            Fast::Untried => {
                let own = self.own(&input, batch)?;
                *fast = self.tried(&input, &own).map_or(Fast::Unfit, |made| Fast::Ready(Box::new(made)));
                return Ok(own);
            }
            Fast::Unfit => (),
        }
        self.own(&input, batch)
    }

    fn own(&self, input: &M::Inputs, batch: usize) -> Result<Tensor<2>, PruneError> {
        run(input, batch, |input| self.teacher.logits(input))
    }

    /// The faster way, where it returns the same logits.
    fn tried(&self, input: &M::Inputs, own: &Tensor<2>) -> Option<Inference<M>> {
        let config = InferenceConfig::new().measured(false);
        let mut made = Inference::with_config(&self.teacher, input, &config).ok()?;
        let found = logits_of(&mut made, input)?;
        if found.dims() != own.dims() || own.shape().num_elements() == 0 {
            return None;
        }
        let largest = |tensor: Tensor<2>| tensor.abs().max().into_scalar::<f32>();
        // Not true of NaN, which is left to the own pass.
        (largest(found - own.clone()) <= ROUNDING * largest(own.clone())).then_some(made)
    }
}

/// The logits by the faster way; `None` where the module returns something else.
fn logits_of<M: SfpModule>(fast: &mut Inference<M>, input: &M::Inputs) -> Option<Tensor<2>> {
    let mut found = Only(Vec::new());
    let _ = fast.run(input.clone()).ok()?.map_tensors(&mut found);
    match (found.0.pop(), found.0.is_empty()) {
        (Some(logits), true) => logits,
        _ => None,
    }
}

/// The float tensors of outputs, those of two axes as such.
struct Only(Vec<Option<Tensor<2>>>);

impl InputMapper for Only {
    fn float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
        let flat = || tensor.clone().reshape([tensor.dims()[0], tensor.dims()[1]]);
        self.0.push((D == 2).then(flat));
        tensor
    }
    fn int<const D: usize>(&mut self, tensor: Tensor<D, Int>) -> Tensor<D, Int> {
        tensor
    }
    fn bool<const D: usize>(&mut self, tensor: Tensor<D, Bool>) -> Tensor<D, Bool> {
        tensor
    }
}

#[cfg(test)]
#[allow(deprecated)] // burn-ndarray is supported as long as it exists
mod tests {
    use burn::module::Module;
    use burn::nn::conv::{Conv2d, Conv2dConfig};
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::TensorData;
    use burn_sfp_graph::GraphModule;

    use super::*;

    #[derive(Module, Debug)]
    struct Net {
        conv: Conv2d,
        fc: Linear,
    }

    impl Net {
        fn new(device: &Device) -> Self {
            let conv = Conv2dConfig::new([2, 4], [3, 3]).init(device);
            Self { conv, fc: LinearConfig::new(4 * 16, 3).init(device) }
        }

        fn forward(&self, x: Tensor<4>) -> Tensor<2> {
            self.fc.forward(burn::tensor::activation::relu(self.conv.forward(x)).flatten(1, 3))
        }
    }

    impl GraphModule for Net {
        type Inputs = Tensor<4>;
        type Outputs = Tensor<2>;

        fn run(&self, x: Tensor<4>) -> Tensor<2> {
            self.forward(x)
        }
    }

    /// Returns its features, too.
    #[derive(Module, Debug)]
    struct Both {
        net: Net,
    }

    impl GraphModule for Both {
        type Inputs = Tensor<4>;
        type Outputs = (Tensor<2>, Tensor<4>);

        fn run(&self, x: Tensor<4>) -> Self::Outputs {
            (self.net.forward(x.clone()), self.net.conv.forward(x))
        }
    }

    impl SfpModule for Both {
        fn logits(&self, x: Tensor<4>) -> Tensor<2> {
            self.run(x).0
        }
    }

    fn batch(seed: usize, device: &Device) -> Tensor<4> {
        let values: Vec<f32> = (0..5 * 2 * 36).map(|k| ((k * 37 + seed * 11) % 23) as f32 / 23.0 - 0.5).collect();
        Tensor::from_data(TensorData::new(values, [5, 2, 6, 6]), device)
    }

    /// Runs batches, the first one by the own pass, and returns whether the others ran by the faster way.
    fn is_fast<M: SfpModule<Inputs = Tensor<4>>>(model: &M, device: &Device) -> bool {
        let pass = TeacherPass::new(model, device);
        for seed in 0..3 {
            let x = batch(seed, device);
            let off = (pass.logits(&x, seed).unwrap() - model.valid().logits(x)).abs().max().into_scalar::<f32>();
            assert!(off < 1e-5, "batch {seed}: {off}");
        }
        matches!(pass.fast.into_inner(), Fast::Ready(_))
    }

    #[test]
    fn the_same_logits_in_less_time() {
        for device in [Device::flex(), Device::ndarray()] {
            let net = Net::new(&device);
            assert!(is_fast(&net, &device));
            assert!(!is_fast(&Both { net }, &device));
        }
    }

    #[test]
    fn logits_that_are_not_finite() {
        let device = Device::flex();
        let pass = TeacherPass::new(&Net::new(&device), &device);
        let logits = pass.logits(&(batch(0, &device) * f32::NAN), 0).unwrap();
        assert!(logits.is_nan().all().into_scalar::<bool>());
        assert!(matches!(pass.fast.into_inner(), Fast::Unfit));
    }
}
