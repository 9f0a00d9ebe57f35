//! One optimiser step on one batch.

use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Device, Int, Tensor};
use burn_sfp_core::checks::panicked;
use burn_sfp_core::labels::{check_range, label_tensor};
use burn_sfp_core::{Batch, SfpError, SfpModule};
use burn_sfp_graph::{GraphError, ModuleInput, attempt, lacks_memory};

use super::config::FineTuneConfig;
use super::finite::non_finite_input;
use super::gradients::{GradientMasks, unreached};
use super::rate::Position;
use crate::PruneError;

/// The optimiser with its state, what its steps need to know, and the device that they work on.
pub(super) struct Stepper {
    device: Device,
    smoothing: f32,
    optimizer: ModuleOptimizer,
    masks: GradientMasks,
}

impl Stepper {
    /// `device` is the one that the model's parameters are on, with autodiff. Removed connections of `masks` get no gradient.
    pub fn new(config: &FineTuneConfig, masks: GradientMasks, device: Device) -> Self {
        Self { device, smoothing: config.label_smoothing, optimizer: config.init_optimizer(), masks }
    }

    /// Returns the model after a step on the batch, and the paths of the parameters that learn but that the forward pass does not
    /// reach. `forward` computes the logits.
    pub fn step<M: SfpModule, I: ModuleInput>(
        &mut self,
        model: M,
        forward: impl Fn(&M, I) -> Tensor<2>,
        batch: Batch<I>,
        rate: ModuleLearningRate,
        position: Position,
    ) -> Result<(M, Vec<String>), PruneError> {
        let Batch { input, labels } = batch;
        let logits = run(&input, position.batch, |input| forward(&model, input.to_device(&self.device)))?;
        let [samples, classes] = logits.dims();
        if samples != labels.len() {
            return Err(SfpError::LogitsShape { found: vec![samples, classes], samples: labels.len() }.into());
        }
        check_range(position.batch, &labels, classes)?;
        let work = || {
            let loss = cross_entropy(logits, label_tensor(&labels, &self.device), self.smoothing);
            let value = loss.clone().into_data().iter::<f64>().next().unwrap_or(f64::NAN);
            if !value.is_finite() {
                return Err(match non_finite_input(input) {
                    Some(value) => PruneError::NonFiniteBatch { batch: position.batch, value },
                    None => PruneError::Diverged { step: position.step, loss: value, learning_rate: rate.base() },
                });
            }
            // A loss that depends on nothing that learns has no graph to go back through.
            let mut gradients = match loss.is_tracked() {
                true => GradientsParams::from_grads(loss.backward(), &model),
                false => GradientsParams::new(),
            };
            let unreached = if position.step == 0 { unreached(&gradients, &model) } else { Vec::new() };
            self.masks.apply(&mut gradients, &model);
            Ok((self.optimizer.step(rate, model, gradients), unreached))
        };
        attempt(work).unwrap_or_else(|message| Err(panicked(position.batch, message).into()))
    }
}

/// Runs a forward pass of the model on the input of a batch. Burn's panics become errors.
pub(crate) fn run<I: ModuleInput, O>(input: &I, batch: usize, forward: impl FnOnce(I) -> O) -> Result<O, PruneError> {
    attempt(|| forward(input.clone())).map_err(|message| {
        if lacks_memory(&message) {
            return panicked(batch, message).into();
        }
        let shape = input.shapes().into_iter().next().unwrap_or_default();
        GraphError::Forward { shape, after: None, message }.into()
    })
}

/// The mean cross-entropy `-(1 - a) log p[label] - a mean_c log p[c]` with label smoothing `a`, in single precision, or in double where
/// the logits are. Half precision would lose small losses, and Burn's own loss makes smoothed targets in the device's default type.
pub(crate) fn cross_entropy(logits: Tensor<2>, labels: Tensor<1, Int>, smoothing: f32) -> Tensor<1> {
    let logits = if matches!(logits.dtype(), DType::F32 | DType::F64) { logits } else { logits.cast(DType::F32) };
    let samples = logits.dims()[0];
    let logs = log_softmax(logits, 1);
    let own = logs.clone().gather(1, labels.reshape([samples, 1])).reshape([samples]).mean().neg();
    if smoothing == 0.0 { own } else { own * (1.0 - smoothing) + logs.mean().neg() * smoothing }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::loss::CrossEntropyLossConfig;

    #[test]
    fn the_loss_is_burns() {
        let device = Device::flex();
        let logits = Tensor::<2>::from_floats([[0.5, -1.0, 2.0], [1.0, 1.5, -0.5]], &device);
        let labels = Tensor::<1, Int>::from_ints([2, 0], &device);
        for smoothing in [0.0, 0.1, 0.9] {
            let burns = CrossEntropyLossConfig::new().with_smoothing((smoothing > 0.0).then_some(smoothing));
            let expected: f32 = burns.init(&device).forward(logits.clone(), labels.clone()).into_scalar();
            for (dtype, most) in [(DType::F32, 1e-6), (DType::F64, 1e-6), (DType::F16, 1e-3), (DType::BF16, 1e-2)] {
                let loss = cross_entropy(logits.clone().cast(dtype), labels.clone(), smoothing);
                let found = loss.into_data().iter::<f32>().next().unwrap();
                assert!((found - expected).abs() < most, "{dtype:?}: {found} for {expected}");
            }
        }
    }
}
