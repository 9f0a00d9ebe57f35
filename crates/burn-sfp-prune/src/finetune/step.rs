//! One optimiser step on one batch.

use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor};
use burn_sfp_core::SfpError;
use burn_sfp_core::checks::panicked;
use burn_sfp_core::labels::{check_range, label_tensor};
use burn_sfp_graph::{GraphError, ModuleInput, attempt, lacks_memory};

use super::finite::non_finite_input;
use super::gradients::{GradientMasks, unreached};
use super::loss::{Distillation, cross_entropy};
use super::rate::Position;
use super::source::{Example, Work};
use crate::PruneError;
use burn::module::Module;

/// The optimiser with its state, what its steps need to know, and the device that they work on.
pub(super) struct Stepper {
    device: Device,
    smoothing: f32,
    distillation: Option<Distillation>,
    pub optimizer: ModuleOptimizer,
    masks: GradientMasks,
    /// Whether the optimiser may move weights that have no gradient.
    holds: bool,
}

/// What a step found.
pub(super) struct Found {
    /// The mean loss of the batch.
    pub loss: f64,
    /// Samples whose largest logit is at the label.
    pub hits: usize,
    /// In the first step, the parameters that learn and that the forward pass does not reach.
    pub unreached: Vec<String>,
}

impl Stepper {
    /// `device` is the one that the model's parameters are on, with autodiff. Removed connections of `masks` get no gradient, and where `holds` says
    /// so they are set to zero again after each step.
    pub fn new(
        smoothing: f32,
        distillation: Option<Distillation>,
        optimizer: ModuleOptimizer,
        (masks, holds): (GradientMasks, bool),
        device: Device,
    ) -> Self {
        Self { device, smoothing, distillation, optimizer, masks, holds }
    }

    /// Returns the model after a step on the batch.
    pub fn step<M: Module, I: ModuleInput>(
        &mut self,
        model: M,
        work: &Work<'_, M, I>,
        example: Example<I>,
        rate: ModuleLearningRate,
        position: Position,
    ) -> Result<(M, Found), PruneError> {
        let Example { input, labels, teacher } = example;
        let batch = position.batch;
        let teacher = match (self.distillation, teacher, work.teacher) {
            (Some(distillation), Some(teacher), _) => Some((distillation, teacher)),
            (Some(distillation), None, Some(of)) => Some((distillation, of(&input, batch)?)),
            _ => None,
        };
        let logits = (work.forward)(&model, &input, batch)?;
        let [samples, classes] = logits.dims();
        if samples != labels.len() {
            return Err(SfpError::LogitsShape { found: vec![samples, classes], samples: labels.len() }.into());
        }
        check_range(batch, &labels, classes)?;
        if let Some((_, teacher)) = &teacher
            && teacher.dims() != [samples, classes]
        {
            return Err(PruneError::OtherTeacher { found: teacher.dims(), expected: [samples, classes] });
        }
        let work = || {
            let hits = hits(&logits, &labels);
            let loss = cross_entropy(logits.clone(), label_tensor(&labels, &self.device), self.smoothing);
            let loss = match teacher {
                Some((distillation, teacher)) => distillation.loss(loss, logits, teacher),
                None => loss,
            };
            let value = loss.clone().into_data().iter::<f64>().next().unwrap_or(f64::NAN);
            if !value.is_finite() {
                return Err(match non_finite_input(input) {
                    Some(value) => PruneError::NonFiniteBatch { batch, value },
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
            let model = self.optimizer.step(rate, model, gradients);
            let model = if self.holds { self.masks.hold(model) } else { model };
            Ok((model, Found { loss: value, hits, unreached }))
        };
        attempt(work).unwrap_or_else(|message| Err(panicked(batch, message).into()))
    }
}

/// Samples whose largest logit, the first one where several are, is at the label.
pub(super) fn hits(logits: &Tensor<2>, labels: &[usize]) -> usize {
    let classes = logits.dims()[1].max(1);
    let values: Vec<f64> = logits.clone().without_autodiff().into_data().iter::<f64>().collect();
    let largest = |row: &[f64]| {
        let mut best = (0, f64::NEG_INFINITY);
        for (at, &value) in row.iter().enumerate() {
            if value > best.1 {
                best = (at, value);
            }
        }
        best.0
    };
    values.chunks(classes).zip(labels).filter(|(row, label)| largest(row) == **label).count()
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
