//! [`fine_tune`] and the training loop behind it.

use std::collections::{HashMap, HashSet};

use burn::tensor::Tensor;
use burn_sfp_core::{Batch, DataError, Progress, SfpModule};
use burn_sfp_graph::ModuleInput;

use super::config::FineTuneConfig;
use super::finite::non_finite;
use super::fits::masks_to_enforce;
use super::freeze::{Activity, trainable};
use super::gradients::GradientMasks;
use super::pass::Pass;
use super::rate::{LearningRates, Position};
use super::step::Stepper;
use crate::rewrite::zero;
use crate::{PruneError, PrunePlan};

/// Trains a pruned classifier by gradient descent on the cross-entropy, and returns it in evaluation mode.
///
/// Only the layers that the plan touches learn, with the batch normalisations that follow them, unless
/// [`FineTuneConfig::all_layers`] is set. Everything else is frozen meanwhile, so that the layers before the first pruned one only
/// run forward. What was frozen before (`Module::freeze`) stays frozen, and afterwards everything learns that did before. The model
/// handed in is not changed.
///
/// Connections that the plan removes stay exactly zero, whether the model carries their masks or they were folded in
/// (`Module::materialize`).
///
/// `epoch` starts a pass over labelled batches (shuffled and augmented as the caller likes; its argument counts from 0), and
/// `samples` is the length of every pass. All batches have inputs of one shape, the number of samples apart. A batch of a single
/// sample is left out, because batch normalisations have no variance for it. The loss is computed in single precision, or in double
/// where the model is, and the gradients in the model's own type.
///
/// If `progress` cancels, the model as it is by then is returned.
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
/// - [`PruneError::ModelMismatch`] if the model is not the one that the plan made, [`PruneError::InvalidPlan`] if the plan
///   contradicts itself;
/// - [`PruneError::Data`] if a batch cannot be read, [`PruneError::PassLength`] if a pass holds more or fewer than `samples`;
/// - [`SfpError::EmptyBatch`], [`SfpError::BatchShape`], [`SfpError::LabelCount`] and [`SfpError::LabelOutOfRange`] if a batch does
///   not hold together, or does not fit the first one or the model's classes;
/// - [`PruneError::NothingTrained`] if there are no samples, if all batches hold a single one, or if no layer learns;
/// - [`PruneError::Diverged`] and [`PruneError::NonFiniteParameter`] if the loss or the trained parameters are not finite,
///   [`PruneError::NonFiniteBatch`] and [`PruneError::NonFiniteModel`] if the inputs or the model were not;
/// - [`GraphError::Forward`] if the forward pass fails, [`SfpError::Batch`] if Burn fails behind it.
///
/// [`GraphError::Forward`]: burn_sfp_graph::GraphError::Forward
/// [`SfpError::Batch`]: burn_sfp_core::SfpError::Batch
/// [`SfpError::BatchShape`]: burn_sfp_core::SfpError::BatchShape
/// [`SfpError::EmptyBatch`]: burn_sfp_core::SfpError::EmptyBatch
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
    let data = Data { samples, is_split: false };
    train(model, plan, |model: &M, input| model.logits(input), epoch, data, config, progress)
}

/// What the training loop has to know of its data.
#[derive(Clone, Copy)]
pub(super) struct Data {
    /// Samples of a pass.
    pub samples: usize,
    /// Whether the batches are outputs of a first part that does not learn, so that the plan must not touch it.
    pub is_split: bool,
}

/// The training loop: `forward` computes the logits of a batch, whatever its inputs are.
pub(super) fn train<M, I, It>(
    model: M,
    plan: &PrunePlan,
    forward: impl Fn(&M, I) -> Tensor<2>,
    mut epoch: impl FnMut(usize) -> It,
    data: Data,
    config: &FineTuneConfig,
    progress: &dyn Progress,
) -> Result<M, PruneError>
where
    M: SfpModule,
    I: ModuleInput,
    It: Iterator<Item = Result<Batch<I>, DataError>>,
{
    config.check()?;
    let masks = masks_to_enforce(plan, &model)?;
    let total = config.epochs * data.samples as f64;
    let mut rates = LearningRates::new(config, total.ceil() as usize)?;
    if config.epochs == 0.0 {
        return Ok(model.valid());
    }
    if data.samples == 0 {
        return Err(PruneError::NothingTrained { why: "a pass over the data holds no sample".into() });
    }
    let (activity, undefined) = (Activity::of(&model), non_finite(&model));
    // Before training starts: in training a product would be a part of the graph.
    let masked = zero(model.valid(), &HashMap::new(), &masks);
    let mut model = trainable(&masked, plan, config.all_layers)?;
    let learning = Activity::of(&model).learning().len();
    let device = model.devices().into_iter().next().unwrap_or_default().without_autodiff().autodiff();
    let mut stepper = Stepper::new(config, GradientMasks::new(&masks, &masked), device);
    let mut position = Position::default();
    let mut pass = Pass::new(data.samples);
    let _span = tracing::info_span!("fine-tune", epochs = config.epochs, samples = data.samples).entered();
    progress.start("fine-tuning", Some(total.ceil() as usize));
    let mut is_cancelled = false;
    'training: for number in 0..config.epochs.ceil() as usize {
        position.epoch = number;
        pass.start();
        for batch in epoch(number) {
            if pass.ends_early(position, total) {
                break;
            }
            is_cancelled = progress.is_cancelled();
            if is_cancelled {
                break 'training;
            }
            let batch = batch.map_err(|source| PruneError::Data { batch: position.batch, source })?;
            pass.check(position, &batch)?;
            let count = batch.labels.len();
            // A batch of one sample has no variance for the batch normalisations.
            if count > 1 {
                let rate = rates.at(position)?;
                let unreached;
                (model, unreached) = stepper.step(model, &forward, batch, rate, position).map_err(|error| {
                    // What was not finite before cannot be the training's doing.
                    match (error, undefined.first_key_value()) {
                        (PruneError::Diverged { step: 0, .. }, Some((path, value))) => {
                            PruneError::NonFiniteModel { path: path.clone(), value: *value }
                        }
                        (error, _) => error,
                    }
                })?;
                check_reached(&unreached, learning, plan, data)?;
                position.step += 1;
                progress.advance(count);
            }
            position.samples += count;
            position.batch += 1;
        }
        pass.end(position, total)?;
    }
    progress.finish();
    if position.step == 0 && !is_cancelled {
        let why = "every batch holds a single sample, for which batch normalisations have no variance: use batches of two or more";
        return Err(PruneError::NothingTrained { why: why.into() });
    }
    let model = zero(activity.restore(model), &HashMap::new(), &masks);
    match non_finite(&model).into_iter().find(|(path, _)| !undefined.contains_key(path)) {
        Some((path, value)) => Err(PruneError::NonFiniteParameter { path, value, steps: position.step }),
        None => Ok(model),
    }
}

/// Checks that the forward pass reaches what learns: something at all, and whatever the plan touches where only a part is trained.
fn check_reached(unreached: &[String], learning: usize, plan: &PrunePlan, data: Data) -> Result<(), PruneError> {
    let named: HashSet<String> = plan.trainable.iter().filter_map(|path| plan.path_after(path)).collect();
    let outside = unreached.iter().find(|path| data.is_split && named.contains(*path));
    let why = match outside {
        Some(path) => format!(
            "`{path}`, which the plan touches, lies outside the part that is trained: move it from `features` to `classify`, or \
             train the whole model with `fine_tune`"
        ),
        None if learning > 0 && unreached.len() == learning => {
            "the logits depend on no parameter that learns: set `all_layers`, or train the layers that the plan touches yourself".into()
        }
        None => return Ok(()),
    };
    Err(PruneError::NothingTrained { why })
}
