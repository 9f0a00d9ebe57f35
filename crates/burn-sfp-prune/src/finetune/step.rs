//! One optimiser step on one batch.

use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor};
use burn_sfp_core::labels::{check_range, label_tensor};
use burn_sfp_core::{Batch, SfpModule};
use burn_sfp_graph::ModuleInput;

use super::config::FineTuneConfig;
use super::rate::Position;
use crate::PruneError;

/// The loss, the optimiser with its state, and the device that they work on.
pub(super) struct Stepper {
    device: Device,
    loss: CrossEntropyLoss,
    optimizer: ModuleOptimizer,
}

impl Stepper {
    /// `device` is the one that the model's parameters are on, with autodiff.
    pub fn new(config: &FineTuneConfig, device: Device) -> Self {
        let smoothing = (config.label_smoothing > 0.0).then_some(config.label_smoothing);
        let loss = CrossEntropyLossConfig::new().with_smoothing(smoothing).init(&device);
        Self { device, loss, optimizer: config.init_optimizer() }
    }

    /// Returns the model after a step on the batch. `forward` computes the logits.
    pub fn step<M: SfpModule, I: ModuleInput>(
        &mut self,
        model: M,
        forward: impl Fn(&M, I) -> Tensor<2>,
        batch: Batch<I>,
        rate: ModuleLearningRate,
        position: Position,
    ) -> Result<M, PruneError> {
        let logits = forward(&model, batch.input.to_device(&self.device));
        check_range(position.batch, &batch.labels, logits.dims()[1])?;
        let labels = label_tensor(&batch.labels, &self.device);
        let loss = self.loss.forward(logits, labels);
        let value = loss.clone().into_data().iter::<f64>().next().unwrap_or(f64::NAN);
        if !value.is_finite() {
            return Err(PruneError::Diverged { step: position.step, loss: value, learning_rate: rate.base() });
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        Ok(self.optimizer.step(rate, model, gradients))
    }
}
