//! [`fine_tune`] and the training loop behind it.

use burn::tensor::Tensor;
use burn_sfp_core::labels::check_count;
use burn_sfp_core::{Batch, DataError, Progress, SfpModule};
use burn_sfp_graph::ModuleInput;

use super::config::FineTuneConfig;
use super::freeze::trainable;
use super::rate::{LearningRates, Position};
use super::step::Stepper;
use crate::{PruneError, PrunePlan};

/// Trains a pruned classifier by gradient descent on the cross-entropy, and returns it in evaluation mode.
///
/// Only the layers that the plan touches learn, with the batch normalisations that follow them, unless
/// [`FineTuneConfig::all_layers`] is set. Everything else is frozen, so that the layers before the first pruned one only run
/// forward. Connections that masks remove stay exactly zero. The model handed in is not changed.
///
/// `epoch` starts a pass over labelled batches (shuffled and augmented as the caller likes; its argument counts from 0), and
/// `samples` is the length of a pass. A batch of a single sample is left out, because batch normalisations have no variance for
/// it.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// # use burn_sfp_core::{Batch, NoProgress, TensorCalibration};
/// # use burn_sfp_prune::{FineTuneConfig, Magnitude, Pruner, fine_tune};
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> {
/// #         self.b.forward(burn::tensor::activation::relu(self.a.forward(x)))
/// #     }
/// # }
/// # let device = Device::flex();
/// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
/// # let samples = Tensor::<2>::from_floats([[1., 0., 0., 1.], [0., 1., 1., 0.]], &device);
/// # let data = TensorCalibration::new(samples.clone(), vec![0, 1], 2);
/// let pruned = Pruner::new(&data).policy(Magnitude::l2()).analyze_and_prune(&mlp)?;
/// let config = FineTuneConfig::new().with_epochs(5.0);
/// let batches = |_epoch| std::iter::once(Ok(Batch { input: samples.clone(), labels: vec![0, 1] }));
/// let tuned = fine_tune(pruned.model, &pruned.plan, batches, 2, &config, &NoProgress)?;
/// # Ok::<(), burn_sfp_prune::PruneError>(())
/// ```
///
/// # Errors
/// - [`PruneError::Config`] if a setting is out of range or Burn refuses the schedule;
/// - [`PruneError::Data`] if a batch cannot be read;
/// - [`SfpError::LabelCount`] and [`SfpError::LabelOutOfRange`] if the labels of a batch do not fit its inputs or the model's
///   classes;
/// - [`PruneError::Diverged`] if the loss is not finite.
///
/// [`SfpError::LabelCount`]: burn_sfp_core::SfpError::LabelCount
/// [`SfpError::LabelOutOfRange`]: burn_sfp_core::SfpError::LabelOutOfRange
pub fn fine_tune<M, It>(
    model: M,
    plan: &PrunePlan,
    epoch: impl FnMut(usize) -> It,
    samples: usize,
    config: &FineTuneConfig,
    progress: &dyn Progress,
) -> Result<M, PruneError>
where
    M: SfpModule,
    It: Iterator<Item = Result<Batch<M::Inputs>, DataError>>,
{
    train(model, plan, |model: &M, input| model.logits(input), epoch, samples, config, progress)
}

/// The training loop: `forward` computes the logits of a batch, whatever its inputs are.
pub(super) fn train<M, I, It>(
    model: M,
    plan: &PrunePlan,
    forward: impl Fn(&M, I) -> Tensor<2>,
    mut epoch: impl FnMut(usize) -> It,
    samples: usize,
    config: &FineTuneConfig,
    progress: &dyn Progress,
) -> Result<M, PruneError>
where
    M: SfpModule,
    I: ModuleInput,
    It: Iterator<Item = Result<Batch<I>, DataError>>,
{
    config.check()?;
    let total = config.epochs * samples as f64;
    let mut rates = LearningRates::new(config, total.ceil() as usize)?;
    let mut model = trainable(&model, plan, config.all_layers);
    let device = model.devices().into_iter().next().unwrap_or_default().without_autodiff().autodiff();
    let mut stepper = Stepper::new(config, device);
    let mut position = Position::default();
    progress.start("fine-tuning", Some(total.ceil() as usize));
    for number in 0..config.epochs.ceil() as usize {
        position.epoch = number;
        for batch in epoch(number) {
            if position.samples as f64 >= total {
                break;
            }
            let batch = batch.map_err(|source| PruneError::Data { batch: position.batch, source })?;
            check_count(position.batch, batch.input.samples(), &batch.labels)?;
            let count = batch.labels.len();
            // A batch of one sample has no variance for the batch normalisations.
            if count > 1 {
                let rate = rates.at(position);
                model = stepper.step(model, &forward, batch, rate, position)?;
                position.step += 1;
                progress.advance(count);
            }
            position.samples += count;
            position.batch += 1;
        }
    }
    progress.finish();
    Ok(model.valid())
}
