//! [`Trainable`]: a pruned model as burn-train's `Learner` trains it.

use std::sync::Arc;

use burn::module::{Module, ModuleDisplay};
use burn::tensor::{Int, Tensor};
use burn::train::{ClassificationOutput, InferenceStep, TrainOutput, TrainStep};
use burn_sfp_core::checks::check_batch;
use burn_sfp_core::labels::{check_range, label_tensor};
use burn_sfp_core::{Batch, SfpModule};
use burn_sfp_graph::ModuleInput;
use burn_sfp_nn::ConfigError;

use super::config::out_of_range;
use super::fits::masks_to_enforce;
use super::freeze::{Activity, learn_all, trainable};
use super::loss::{Distillation, cross_entropy};
use super::train::training_device;
use crate::mask::attach;
use crate::{PruneError, PrunePlan};

/// A pruned classifier as a model of burn-train's `Learner`: batches are [`Batch`]es, the loss is the cross-entropy, and the metrics of
/// classification (`AccuracyMetric`, `LossMetric` and the like) read its outputs.
///
/// What the plan removes stays exactly zero with any optimiser, weight decay, momentum, accumulated gradients, checkpoints and several
/// devices: the connections are held by masks, which follow the module. Only the layers that the plan touches learn, with the batch
/// normalisations behind them, unless [`all_layers`](Self::all_layers) is called. A model that [`PrunePlan::mask`] made is trained
/// whole, below its masks.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// use burn::data::dataloader::{DataLoaderBuilder, batcher::Batcher};
/// use burn::data::dataset::InMemDataset;
/// use burn::optim::SgdConfig;
/// use burn::train::metric::AccuracyMetric;
/// use burn::train::{Learner, SupervisedTraining};
/// # use burn_sfp_graph::GraphModule;
/// # use burn_sfp_core::{Batch, TensorCalibration};
/// # use burn_sfp_prune::{Distillation, Magnitude, Pruner, Trainable};
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> {
/// #         self.b.forward(burn::tensor::activation::relu(self.a.forward(x)))
/// #     }
/// # }
/// /// From items to batches, as Burn's data loaders ask for it.
/// #[derive(Clone)]
/// struct Rows;
///
/// impl Batcher<([f32; 4], usize), Batch<Tensor<2>>> for Rows {
///     fn batch(&self, items: Vec<([f32; 4], usize)>, device: &Device) -> Batch<Tensor<2>> {
///         let rows = items.iter().map(|(row, _)| Tensor::<1>::from_floats(*row, device)).collect();
///         Batch { input: Tensor::stack(rows, 0), labels: items.iter().map(|(_, label)| *label).collect() }
///     }
/// }
/// # let device = Device::flex();
/// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
/// # let samples = Tensor::<2>::from_floats([[1., 0., 0., 1.], [0., 1., 1., 0.]], &device);
/// # let data = TensorCalibration::new(samples, vec![0, 1], 2);
/// # let folder = tempfile::tempdir().unwrap();
/// let items = vec![([1., 0., 0., 1.], 0), ([0., 1., 1., 0.], 1)];
/// let loader = || DataLoaderBuilder::new(Rows).batch_size(2).build(InMemDataset::new(items.clone()));
///
/// let pruned = Pruner::new(&data).policy(Magnitude::l2()).analyze_and_prune(&mlp)?;
/// let model = Trainable::new(pruned.model, &pruned.plan)?.distill(&mlp, Distillation::new())?;
/// let trained = SupervisedTraining::new(folder.path(), loader(), loader())
///     .metrics((AccuracyMetric::new(),))
///     .num_epochs(2)
///     .launch(Learner::new(model, SgdConfig::new().init(), 0.01));
/// let smaller: Mlp = trained.model.into_model();
/// # assert_eq!(smaller.a.weight.dims(), [4, 4]);
/// # Ok::<(), burn_sfp_prune::PruneError>(())
/// ```
///
/// `T` is the type of the teacher, where there is one.
#[derive(Module, Debug)]
pub struct Trainable<M: SfpModule + ModuleDisplay, T: SfpModule<Inputs = M::Inputs> = M> {
    model: M,
    #[module(skip)]
    smoothing: f32,
    #[module(skip)]
    teacher: Option<Taught<T>>,
    /// What learned before, which learns again afterwards.
    #[module(skip)]
    activity: Arc<Activity>,
}

#[derive(Clone, Debug)]
struct Taught<T> {
    teacher: T,
    distillation: Distillation,
}

impl<M: SfpModule + ModuleDisplay> Trainable<M> {
    /// Takes the model that a plan made, or one that [`PrunePlan::mask`] masked. Masks that were folded in (`Module::materialize`) are
    /// attached again.
    ///
    /// # Errors
    /// [`PruneError::ModelMismatch`] if the model is not the one that the plan made, [`PruneError::InvalidPlan`] if the plan contradicts
    /// itself, [`PruneError::NothingTrained`] if no layer learns.
    pub fn new(model: M, plan: &PrunePlan) -> Result<Self, PruneError> {
        let (model, activity) = match plan.is_mask_of(&model) {
            Ok(true) => (learn_all(&model)?, Activity::of(&model)),
            _ => {
                let masks = masks_to_enforce(plan, &model)?;
                let masked = attach(model.valid(), &masks);
                (trainable(&masked, plan, false)?, Activity::of(&masked))
            }
        };
        Ok(Self { model, smoothing: 0.0, teacher: None, activity: Arc::new(activity) })
    }
}

impl<M: SfpModule + ModuleDisplay, T: SfpModule<Inputs = M::Inputs>> Trainable<M, T> {
    /// Lets all layers learn, and not only those that the plan touches.
    pub fn all_layers(self) -> Self {
        let model = self.activity.restore(self.model).train();
        Self { model, ..self }
    }

    /// Sets the label smoothing of the training loss, at least 0 and below 1; 0 for none.
    ///
    /// # Errors
    /// [`ConfigError`] where it is out of range.
    pub fn label_smoothing(mut self, smoothing: f32) -> Result<Self, ConfigError> {
        if !(0.0..1.0).contains(&smoothing) {
            return Err(out_of_range("label smoothing", smoothing, "at least 0 and below 1"));
        }
        self.smoothing = smoothing;
        Ok(self)
    }

    /// Adds the loss of a distillation from a teacher: the original, or another network of the same inputs and classes. The teacher is not
    /// trained and not saved in checkpoints.
    ///
    /// # Errors
    /// [`ConfigError`] where a setting is out of range.
    pub fn distill<U: SfpModule<Inputs = M::Inputs>>(
        self,
        teacher: &U,
        distillation: Distillation,
    ) -> Result<Trainable<M, U>, ConfigError> {
        distillation.check()?;
        let teacher = Some(Taught { teacher: teacher.valid(), distillation });
        let Self { model, smoothing, activity, .. } = self;
        Ok(Trainable { model, smoothing, teacher, activity })
    }

    /// Returns the trained model in evaluation mode. What was frozen in training learns again, where it did before; masks that were
    /// attached for training are still there (`Module::materialize` folds them in).
    pub fn into_model(self) -> M {
        self.activity.restore(self.model)
    }

    /// The logits of a batch and its labels, on the model's device.
    ///
    /// # Panics
    /// With the message of the error, if the batch does not hold together: burn-train has no other way.
    fn pass(&self, batch: Batch<M::Inputs>, training: bool) -> (M::Inputs, Tensor<2>, Tensor<1, Int>) {
        let device = training_device(&self.model);
        let device = if training { device } else { device.without_autodiff() };
        if let Err(error) = check_batch(0, &batch) {
            panic!("{error}");
        }
        let input = batch.input.to_device(&device);
        let logits = self.model.logits(input.clone());
        if let Err(error) = check_range(0, &batch.labels, logits.dims()[1]) {
            panic!("{error}");
        }
        (input, logits, label_tensor(&batch.labels, &device))
    }
}

impl<M, T> TrainStep for Trainable<M, T>
where
    M: SfpModule + ModuleDisplay,
    T: SfpModule<Inputs = M::Inputs>,
    M::Inputs: Send + 'static,
{
    type Input = Batch<M::Inputs>;
    type Output = ClassificationOutput;

    fn step(&self, batch: Batch<M::Inputs>) -> TrainOutput<ClassificationOutput> {
        let (input, logits, targets) = self.pass(batch, true);
        let loss = cross_entropy(logits.clone(), targets.clone(), self.smoothing);
        let loss = match &self.teacher {
            Some(Taught { teacher, distillation }) => {
                let taught = teacher.logits(input.to_device(&training_device(teacher).without_autodiff()));
                let taught = taught.to_device(&logits.device());
                distillation.loss(loss, logits.clone(), taught)
            }
            None => loss,
        };
        TrainOutput::new(self, loss.backward(), ClassificationOutput::new(loss, logits, targets))
    }
}

impl<M, T> InferenceStep for Trainable<M, T>
where
    M: SfpModule + ModuleDisplay,
    T: SfpModule<Inputs = M::Inputs>,
    M::Inputs: Send + 'static,
{
    type Input = Batch<M::Inputs>;
    type Output = ClassificationOutput;

    /// The loss is the plain cross-entropy, without smoothing and distillation.
    fn step(&self, batch: Batch<M::Inputs>) -> ClassificationOutput {
        let (_, logits, targets) = self.pass(batch, false);
        let loss = cross_entropy(logits.clone(), targets.clone(), 0.0);
        ClassificationOutput::new(loss, logits, targets)
    }
}
