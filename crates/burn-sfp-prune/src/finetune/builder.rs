//! [`FineTune`]: fine-tuning with everything around it.

use std::fmt;
use std::path::PathBuf;

use burn::optim::ModuleOptimizer;
use burn_sfp_core::checks::check_batch;
use burn_sfp_core::{Batch, Calibration, DataError, Progress, SfpModule};
use burn_sfp_graph::file::digest;
use burn_sfp_graph::{Fingerprint, GraphModule};

use super::config::FineTuneConfig;
use super::fits::masks_to_enforce;
use super::freeze::trainable;
use super::loss::Distillation;
use super::observe::{Checkpoints, Observer, Report, mixed};
use super::recorded::RecordedPass;
use super::report::EpochReport;
use super::source::{Example, Work};
use super::stored::{Copies, StoreConfig, fill};
use super::teacher::TeacherPass;
use super::train::{Training, masked, training_device, whole};
use crate::{PruneError, PrunePlan};

/// A fine-tuned model, and how it came about.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FineTuned<M> {
    /// The model in evaluation mode: with held-out data that of the best epoch, else that of the last one.
    pub model: M,
    /// All epochs that came to an end.
    pub epochs: Vec<EpochReport>,
    /// Index of the epoch that the model is of, where there is held-out data.
    pub best: Option<usize>,
}

/// Fine-tuning of a pruned classifier, built step by step: [`fine_tune`](super::fine_tune) with distillation, augmentation, held-out data,
/// early stop, checkpoints, and training on stored outputs of the frozen layers.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// # use burn_sfp_core::{Batch, NoProgress, TensorCalibration};
/// # use burn_sfp_prune::{Distillation, FineTune, FineTuneConfig, Magnitude, Pruner};
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
/// # let held_out = TensorCalibration::new(samples.clone(), vec![0, 1], 2);
/// let pruned = Pruner::new(&held_out).policy(Magnitude::l2()).analyze_and_prune(&mlp)?;
/// let batches = |_epoch| std::iter::once(Ok(Batch { input: samples.clone(), labels: vec![0, 1] }));
/// let tuned = FineTune::new(&pruned.plan)
///     .config(FineTuneConfig::new().with_epochs(5.0))
///     .distill(&mlp, Distillation::new())          // the original teaches
///     .augment(|input, seed| if seed % 2 == 0 { input } else { input * 0.9 })
///     .held_out(&held_out)                         // the best epoch's model is returned
///     .patience(2)                                 // two epochs without a better one are enough
///     .run(pruned.model, batches, 2, &NoProgress)?;
/// assert!(tuned.epochs.len() <= 5 && tuned.best.is_some());
/// # Ok::<(), burn_sfp_prune::PruneError>(())
/// ```
pub struct FineTune<'a, M: SfpModule> {
    plan: &'a PrunePlan,
    config: FineTuneConfig,
    optimizer: Option<ModuleOptimizer>,
    store: Option<StoreConfig>,
    recorded: bool,
    teacher: Option<(&'a M, Distillation)>,
    augment: Option<Augment<'a, M>>,
    held_out: Option<&'a dyn Calibration<M::Inputs>>,
    patience: Option<usize>,
    checkpoint: Option<(PathBuf, usize)>,
    seed: Option<u64>,
    report: Option<Report<'a>>,
}

type Inputs<M> = <M as GraphModule>::Inputs;
type Augment<'a, M> = Box<dyn Fn(Inputs<M>, u64) -> Inputs<M> + 'a>;

impl<M: SfpModule> fmt::Debug for FineTune<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("FineTune");
        shown
            .field("config", &self.config)
            .field("store", &self.store)
            .field("recorded", &self.recorded)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

impl<'a, M: SfpModule> FineTune<'a, M> {
    /// Starts with the default settings of [`FineTuneConfig`], for a model that this plan made.
    pub fn new(plan: &'a PrunePlan) -> Self {
        Self {
            plan,
            config: FineTuneConfig::new(),
            optimizer: None,
            store: None,
            recorded: false,
            teacher: None,
            augment: None,
            held_out: None,
            patience: None,
            checkpoint: None,
            seed: None,
            report: None,
        }
    }

    /// Sets epochs, learning rate, optimiser and the like.
    pub fn config(mut self, config: FineTuneConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets any optimiser of Burn's, in the place of that of the settings, whose momentum and weight decay are then not used. A group of
    /// parameters with one of its own has to be given by paths.
    ///
    /// ```
    /// # use burn_sfp_core::SfpModule;
    /// # use burn_sfp_prune::{FineTune, PrunePlan};
    /// use burn::optim::RmsPropConfig;
    /// # fn build<M: SfpModule>(plan: &PrunePlan) -> FineTune<'_, M> {
    /// FineTune::new(plan).optimizer(RmsPropConfig::new().init())
    /// # }
    /// ```
    pub fn optimizer(mut self, optimizer: ModuleOptimizer) -> Self {
        self.optimizer = Some(optimizer);
        self
    }

    /// Trains on stored outputs of the frozen layers; see [`fine_tune_stored`](super::fine_tune_stored).
    pub fn store(mut self, store: StoreConfig) -> Self {
        self.store = Some(store);
        self
    }

    /// Trains on the forward pass as it is recorded once, not by calling the model's own for each batch. On the CPU convolutions and their
    /// gradients then run on packed kernels, by minimal filtering algorithms where kernels are of 3 x 3, and layers that do not learn run
    /// without gradients. The results differ by rounding from those of the model's own pass; on a store this is done in any case.
    ///
    /// One step on the first batch is computed both ways, and a model for which they differ is an error. Off by default: a forward pass that
    /// takes another way from batch to batch would be trained on that of the first one.
    ///
    /// ```
    /// # use burn_sfp_core::SfpModule;
    /// # use burn_sfp_prune::{FineTune, PrunePlan};
    /// # fn build<M: SfpModule>(plan: &PrunePlan) -> FineTune<'_, M> {
    /// FineTune::new(plan).recorded(true)
    /// # }
    /// ```
    pub fn recorded(mut self, recorded: bool) -> Self {
        self.recorded = recorded;
        self
    }

    /// Adds the loss of a distillation from a teacher, usually the original. On a store its logits are computed once per copy.
    pub fn distill(mut self, teacher: &'a M, distillation: Distillation) -> Self {
        self.teacher = Some((teacher, distillation));
        self
    }

    /// Augments the inputs of each batch by a function that receives a seed, which follows from the [seed](FineTune::seed), the epoch (on a
    /// store: the copy) and the position of the batch in it, so that training that goes on from a checkpoint meets the same inputs.
    pub fn augment(mut self, augment: impl Fn(M::Inputs, u64) -> M::Inputs + 'a) -> Self {
        self.augment = Some(Box::new(augment));
        self
    }

    /// Measures accuracy and loss on these batches after each epoch, and returns the model of the epoch with the highest accuracy, the
    /// first one where several are.
    pub fn held_out(mut self, data: &'a dyn Calibration<M::Inputs>) -> Self {
        self.held_out = Some(data);
        self
    }

    /// Stops once so many epochs in a row brought no higher accuracy on the held-out data.
    pub fn patience(mut self, epochs: usize) -> Self {
        self.patience = Some(epochs);
        self
    }

    /// Writes to this file where training stands, after each epoch, on cancellation and after every `steps` optimiser steps (0 for none
    /// between). A training with the same model, plan, settings and data that finds the file goes on from there, and ends with the same
    /// bits as one that was never interrupted. `epoch` has to start the same pass for the same number each time, and what learns has to be
    /// in single precision.
    pub fn checkpoint(mut self, path: impl Into<PathBuf>, steps: usize) -> Self {
        self.checkpoint = Some((path.into(), steps));
        self
    }

    /// Sets the seed of augmentation and dropout, 0 by default. With a seed or a checkpoint the device's random numbers, which are those of the
    /// whole process, are seeded before each step.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Calls a function with the report of each epoch.
    pub fn on_epoch(mut self, report: impl FnMut(&EpochReport) + 'a) -> Self {
        self.report = Some(Box::new(report));
        self
    }

    /// Trains. `epoch` starts a pass over labelled batches and `samples` is the length of every pass, as in
    /// [`fine_tune`](super::fine_tune); on a store its argument is the number of the copy.
    ///
    /// If `progress` cancels, the model as it is by then is returned, or the best one so far.
    ///
    /// # Errors
    /// Those of [`fine_tune`](super::fine_tune); on a store those of [`fine_tune_stored`](super::fine_tune_stored);
    /// [`PruneError::NotByRecordedPass`] where the recorded pass is not what the model
    /// computes; [`PruneError::OtherTeacher`] where the teacher has other classes; [`PruneError::File`] where the checkpoint cannot be written or
    /// read, and [`PruneError::OtherCheckpoint`] where it is of another training.
    pub fn run<It>(
        mut self,
        model: M,
        mut epoch: impl FnMut(usize) -> It,
        samples: usize,
        progress: &dyn Progress,
    ) -> Result<FineTuned<M>, PruneError>
    where
        It: Iterator<Item = Result<Batch<M::Inputs>, DataError>>,
    {
        self.config.check()?;
        if let Some((_, distillation)) = &self.teacher {
            distillation.check()?;
        }
        let mut observer = self.observer(&model, samples)?;
        let (plan, config) = (self.plan, &self.config);
        let distillation = self.teacher.map(|(_, distillation)| distillation);
        let optimizer = self.optimizer.as_ref();
        let training = Training { plan, config, distillation, optimizer, samples, progress };
        let (augment, seed) = (self.augment.as_deref(), self.seed.unwrap_or_default());
        let mut augmented = |number: usize, from: usize| {
            epoch(number).enumerate().skip(from).map(move |(index, batch)| {
                let Batch { input, labels } = batch?;
                let input = match augment {
                    Some(augment) => augment(input, mixed(seed, &[number as u64, index as u64])),
                    None => input,
                };
                Ok(Batch { input, labels })
            })
        };
        let model = match &self.store {
            None => {
                let device = training_device(&model);
                let pass = RecordedPass::new(&device);
                if self.recorded && self.config.epochs > 0.0 {
                    let first = augmented(0, 0).next().transpose();
                    let first = first.map_err(|source| PruneError::Data { batch: 0, source })?;
                    if let Some(batch) = first {
                        check_batch(0, &batch)?;
                        let masks = masks_to_enforce(plan, &model)?;
                        pass.check(&trainable(&masked(&model, &masks), plan, config.all_layers)?, &batch.input)?;
                    }
                }
                let forward = |model: &M, input: &M::Inputs, batch: usize| match self.recorded {
                    true => pass.logits(model, input, batch),
                    false => whole(model, input, batch, &device),
                };
                let teacher = self.teacher.map(|(teacher, _)| TeacherPass::new(teacher, &device));
                let taught = |input: &M::Inputs, batch: usize| match &teacher {
                    Some(teacher) => teacher.logits(input, batch),
                    None => Err(PruneError::NothingTrained { why: "there is no teacher".into() }),
                };
                let work = Work { forward: &forward, teacher: teacher.is_some().then_some(&taught) };
                let examples = |number, from| augmented(number, from).map(|batch| batch.map(Example::from));
                training.run(model, &work, examples, &mut observer)?
            }
            Some(store) if self.config.epochs > 0.0 => {
                let masks = masks_to_enforce(plan, &model)?;
                let trained = trainable(&masked(&model, &masks), plan, config.all_layers)?;
                let teacher = self.teacher.map(|(teacher, _)| teacher);
                let copies = Copies { config: store, model: &trained, teacher, samples, progress };
                match fill(&copies, |copy| augmented(copy, 0))? {
                    None => model.valid(),
                    Some(filled) => {
                        drop(trained);
                        let forward = |model: &M, input: &_, batch: usize| filled.tail.logits(model, input, batch);
                        let work = Work { forward: &forward, teacher: None };
                        training.run(model, &work, |number, from| filled.epoch(number, from), &mut observer)?
                    }
                }
            }
            Some(_) => model.valid(),
        };
        let progressed = observer.progressed;
        Ok(FineTuned { model, epochs: progressed.epochs, best: progressed.best })
    }

    fn observer(&mut self, model: &M, samples: usize) -> Result<Observer<'a, M>, PruneError> {
        let checkpoints = match &self.checkpoint {
            Some((path, every)) => {
                Some(Checkpoints { path: path.clone(), every: *every, key: self.key(model, samples)? })
            }
            None => None,
        };
        Ok(Observer {
            seed: self.seed.or(self.checkpoint.as_ref().map(|_| 0)),
            device: training_device(model).without_autodiff(),
            held_out: self.held_out,
            patience: self.patience,
            report: self.report.take(),
            checkpoints,
            progressed: Default::default(),
            best: None,
            ids: Vec::new(),
        })
    }

    /// Tells one training from another.
    fn key(&self, model: &M, samples: usize) -> Result<String, PruneError> {
        let teacher = self.teacher.map(|(teacher, _)| Fingerprint::of(teacher)).transpose()?;
        let settings = (
            Fingerprint::of(model)?,
            digest(self.plan),
            (self.config.to_string(), self.optimizer.is_some()),
            teacher,
            format!("{:?} {:?}", self.teacher.map(|(_, distillation)| distillation), self.store),
            (self.seed, samples, self.held_out.is_some(), self.patience, self.recorded),
        );
        Ok(format!("{:08x}", digest(&settings)))
    }
}
