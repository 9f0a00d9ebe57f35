//! [`fine_tune`] and the training loop behind it.

use std::collections::{BTreeMap, HashMap};

use burn::optim::ModuleOptimizer;
use burn::tensor::{Device, Tensor};
use burn_sfp_core::{Batch, DataError, Progress, SfpModule};
use burn_sfp_graph::ModuleInput;

use super::config::FineTuneConfig;
use super::finite::non_finite;
use super::fits::masks_to_enforce;
use super::freeze::{Activity, trainable};
use super::gradients::GradientMasks;
use super::hooks::{At, Hooks, NoHooks};
use super::loss::Distillation;
use super::pass::Pass;
use super::rate::{LearningRates, Position};
use super::source::{Example, Work};
use super::step::{Stepper, run};
use crate::mask::KeepMasks;
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
    mut epoch: impl FnMut(usize) -> It,
    samples: usize,
    config: &FineTuneConfig,
    progress: &dyn Progress,
) -> Result<M, PruneError>
where
    M: SfpModule,
    It: Iterator<Item = Result<Batch<M::Inputs>, DataError>>,
{
    let device = training_device(&model);
    let forward = |model: &M, input: &M::Inputs, batch: usize| whole(model, input, batch, &device);
    let work = Work { forward: &forward, teacher: None };
    let epoch = |number: usize, from: usize| epoch(number).skip(from).map(|batch| batch.map(Example::from));
    Training { plan, config, distillation: None, optimizer: None, samples, progress }.run(
        model,
        &work,
        epoch,
        &mut NoHooks,
    )
}

/// The logits of a model on a batch, with gradients where its parameters have some.
pub(super) fn whole<M: SfpModule>(
    model: &M,
    input: &M::Inputs,
    batch: usize,
    device: &Device,
) -> Result<Tensor<2>, PruneError> {
    run(input, batch, |input| model.logits(input.to_device(device)))
}

/// The device of a model's parameters, with autodiff.
pub(super) fn training_device<M: SfpModule>(model: &M) -> Device {
    model.devices().into_iter().next().unwrap_or_default().without_autodiff().autodiff()
}

/// What the training loop has to know beside the model and its data.
pub(super) struct Training<'a> {
    pub plan: &'a PrunePlan,
    pub config: &'a FineTuneConfig,
    pub distillation: Option<Distillation>,
    /// In the place of that of the settings.
    pub optimizer: Option<&'a ModuleOptimizer>,
    /// Samples of a pass.
    pub samples: usize,
    pub progress: &'a dyn Progress,
}

/// How the loop over the epochs ended.
#[derive(PartialEq, Eq)]
enum End {
    Whole,
    Cancelled,
}

impl Training<'_> {
    /// The training loop. `epoch` starts an epoch, given with its number, at one of its batches.
    pub fn run<M, I, It>(
        &self,
        model: M,
        work: &Work<'_, M, I>,
        epoch: impl FnMut(usize, usize) -> It,
        hooks: &mut dyn Hooks<M>,
    ) -> Result<M, PruneError>
    where
        M: SfpModule,
        I: ModuleInput,
        It: Iterator<Item = Result<Example<I>, DataError>>,
    {
        self.config.check()?;
        let masks = masks_to_enforce(self.plan, &model)?;
        let total = self.config.epochs * self.samples as f64;
        let rates = LearningRates::new(self.config, total.ceil() as usize)?;
        if self.config.epochs == 0.0 {
            return Ok(model.valid());
        }
        if self.samples == 0 {
            return Err(PruneError::NothingTrained { why: "a pass over the data holds no sample".into() });
        }
        let (activity, undefined) = (Activity::of(&model), non_finite(&model));
        let masked = masked(&model, &masks);
        let device = training_device(&masked);
        let (smoothing, distillation) = (self.config.label_smoothing, self.distillation);
        let optimizer = self.config.init_optimizer(self.optimizer);
        // Those of the settings (SGD, Adam, AdamW) leave a weight at zero that has no gradient.
        let gradients = (GradientMasks::new(&masks, &masked), self.optimizer.is_some());
        let mut stepper = Stepper::new(smoothing, distillation, optimizer, gradients, device);
        let mut position = Position::default();
        let model = trainable(&masked, self.plan, self.config.all_layers)?;
        let model = hooks.begin(model, &mut stepper, &mut position)?;
        let learning = Activity::of(&model).learning().len();
        let _span = tracing::info_span!("fine-tune", epochs = self.config.epochs, samples = self.samples).entered();
        self.progress.start("fine-tuning", Some(total.ceil() as usize));
        if position.samples > 0 {
            self.progress.advance(position.samples);
        }
        let mut epochs = Epochs { training: self, stepper, rates, position, undefined: &undefined, learning };
        let (model, end) = match hooks.is_done() {
            true => (model, End::Whole),
            false => epochs.run(model, work, epoch, hooks)?,
        };
        let position = epochs.position;
        self.progress.finish();
        if position.step == 0 && end == End::Whole {
            let why = "every batch holds a single sample, for which batch normalisations have no variance: use batches of two or more";
            return Err(PruneError::NothingTrained { why: why.into() });
        }
        let model = zero(activity.restore(hooks.end(model)?), &HashMap::new(), &masks);
        match non_finite(&model).into_iter().find(|(path, _)| !undefined.contains_key(path)) {
            Some((path, value)) => Err(PruneError::NonFiniteParameter { path, value, steps: position.step }),
            None => Ok(model),
        }
    }
}

/// The model in evaluation mode with its removed connections at zero. Before training starts: in training a product would be a part of
/// the graph.
pub(super) fn masked<M: SfpModule>(model: &M, masks: &KeepMasks) -> M {
    zero(model.valid(), &HashMap::new(), masks)
}

/// The loop over the epochs.
struct Epochs<'a> {
    training: &'a Training<'a>,
    stepper: Stepper,
    rates: LearningRates,
    position: Position,
    /// What was not finite before.
    undefined: &'a BTreeMap<String, f64>,
    /// Number of parameters that learn.
    learning: usize,
}

impl Epochs<'_> {
    fn run<M, I, It>(
        &mut self,
        mut model: M,
        work: &Work<'_, M, I>,
        mut epoch: impl FnMut(usize, usize) -> It,
        hooks: &mut dyn Hooks<M>,
    ) -> Result<(M, End), PruneError>
    where
        M: SfpModule,
        I: ModuleInput,
        It: Iterator<Item = Result<Example<I>, DataError>>,
    {
        let samples = self.training.samples;
        let total = self.training.config.epochs * samples as f64;
        let mut pass = Pass::new(samples);
        for number in self.position.epoch..self.training.config.epochs.ceil() as usize {
            self.position.epoch = number;
            pass.start(self.position.samples - number * samples);
            for example in epoch(number, self.position.in_epoch) {
                if pass.ends_early(self.position, total) {
                    break;
                }
                if self.training.progress.is_cancelled() {
                    hooks.cancelled(&self.at(&model))?;
                    return Ok((model, End::Cancelled));
                }
                let example = example.map_err(|source| PruneError::Data { batch: self.position.batch, source })?;
                pass.check(self.position, &example)?;
                model = self.batch(model, work, example, hooks)?;
            }
            pass.end(self.position, total)?;
            self.position = Position { epoch: number + 1, in_epoch: 0, ..self.position };
            if hooks.after_epoch(&self.at(&model))? {
                break;
            }
        }
        Ok((model, End::Whole))
    }

    fn batch<M: SfpModule, I: ModuleInput>(
        &mut self,
        mut model: M,
        work: &Work<'_, M, I>,
        example: Example<I>,
        hooks: &mut dyn Hooks<M>,
    ) -> Result<M, PruneError> {
        let count = example.labels.len();
        let mut found = None;
        // A batch of one sample has no variance for the batch normalisations.
        if count > 1 {
            let (rate, step) = (self.rates.at(self.position)?, self.position.step);
            hooks.before_step(self.position);
            let made = self.stepper.step(model, work, example, rate, self.position);
            let made = made.map_err(|error| match (error, self.undefined.first_key_value()) {
                // What was not finite before cannot be the training's doing.
                (PruneError::Diverged { step: 0, .. }, Some((path, value))) => {
                    PruneError::NonFiniteModel { path: path.clone(), value: *value }
                }
                (error, _) => error,
            })?;
            model = made.0;
            if step == 0 {
                check_reached(&made.1.unreached, self.learning)?;
            }
            self.position.step += 1;
            self.training.progress.advance(count);
            found = Some(made.1);
        }
        self.position.samples += count;
        self.position.batch += 1;
        self.position.in_epoch += 1;
        if let Some(found) = found {
            hooks.after_step(&self.at(&model), found.loss, found.hits, count)?;
        }
        Ok(model)
    }

    fn at<'a, M>(&'a self, model: &'a M) -> At<'a, M> {
        let learning_rate = self.rates.last();
        At { model, optimizer: &self.stepper.optimizer, position: self.position, learning_rate }
    }
}

/// Checks that the forward pass reaches something that learns.
fn check_reached(unreached: &[String], learning: usize) -> Result<(), PruneError> {
    if learning == 0 || unreached.len() < learning {
        return Ok(());
    }
    let why = "the logits depend on no parameter that learns: set `all_layers`, or train the layers that the plan touches yourself";
    Err(PruneError::NothingTrained { why: why.into() })
}
