//! Short training after pruning: only the pruned layers learn, removed connections stay zero.

use burn::module::ParamGroup;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Int, Tensor, TensorData};
use burn_sfp_core::{Batch, Calibration, ModuleInput, Progress, SfpError, SfpModule};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::{PruneError, PrunePlan};

/// How the learning rate goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Schedule {
    /// The same throughout.
    Constant,
    /// Multiplied by this after each epoch (the paper: 0.975).
    Exponential(f64),
    /// Half a cosine, down to zero.
    Cosine,
}

/// Settings of fine-tuning: stochastic gradient descent with momentum on the cross-entropy.
///
/// ```
/// use burn_sfp_prune::{FineTuneConfig, Schedule};
/// let paper = FineTuneConfig::paper().with_epochs(3.0);
/// assert_eq!((paper.momentum, paper.schedule), (0.975, Schedule::Exponential(0.975)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FineTuneConfig {
    /// Passes over the training data; fractions are allowed.
    pub epochs: f64,
    /// Learning rate at the start.
    pub learning_rate: f64,
    /// Momentum.
    pub momentum: f64,
    /// Nesterov momentum.
    pub nesterov: bool,
    /// L2 penalty on the weights that learn.
    pub weight_decay: f32,
    /// Label smoothing, 0 for none.
    pub label_smoothing: f32,
    /// How the learning rate goes.
    pub schedule: Schedule,
    /// Every layer learns, not only the pruned ones.
    pub all_layers: bool,
}

impl Default for FineTuneConfig {
    fn default() -> Self {
        Self {
            epochs: 1.0,
            learning_rate: 0.02,
            momentum: 0.9,
            nesterov: true,
            weight_decay: 5e-4,
            label_smoothing: 0.0,
            schedule: Schedule::Cosine,
            all_layers: false,
        }
    }
}

impl FineTuneConfig {
    /// One epoch, learning rate 0.02 with cosine decay, Nesterov momentum 0.9.
    pub fn new() -> Self {
        Self::default()
    }

    /// The recipe of the paper (METHOD section 1): 0.01 times 0.975 an epoch, Nesterov momentum 0.975, L2 1e-3.
    pub fn paper() -> Self {
        Self {
            learning_rate: 0.01,
            momentum: 0.975,
            weight_decay: 1e-3,
            schedule: Schedule::Exponential(0.975),
            ..Self::default()
        }
    }

    /// Sets the passes over the data.
    pub fn with_epochs(mut self, epochs: f64) -> Self {
        self.epochs = epochs;
        self
    }

    /// Sets the learning rate at the start.
    pub fn with_learning_rate(mut self, rate: f64) -> Self {
        self.learning_rate = rate;
        self
    }

    /// Sets the schedule.
    pub fn with_schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = schedule;
        self
    }

    /// Sets label smoothing.
    pub fn with_label_smoothing(mut self, smoothing: f32) -> Self {
        self.label_smoothing = smoothing;
        self
    }

    /// Lets every layer learn.
    pub fn with_all_layers(mut self, all: bool) -> Self {
        self.all_layers = all;
        self
    }

    fn check(&self) -> Result<(), PruneError> {
        let error = |name, found: f64, expected| Err(PruneError::Config { name, found: found.to_string(), expected });
        if !(self.epochs >= 0.0 && self.epochs.is_finite()) {
            return error("epochs", self.epochs, "finite and at least 0");
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return error("learning rate", self.learning_rate, "finite and above 0");
        }
        if !(0.0..1.0).contains(&self.momentum) {
            return error("momentum", self.momentum, "at least 0 and below 1");
        }
        if !(0.0..1.0).contains(&self.label_smoothing) {
            return error("label smoothing", f64::from(self.label_smoothing), "at least 0 and below 1");
        }
        Ok(())
    }

    /// Learning rate after `seen` of `total` samples.
    fn rate(&self, seen: f64, total: f64, epoch: usize) -> f64 {
        match self.schedule {
            Schedule::Constant => self.learning_rate,
            Schedule::Exponential(factor) => self.learning_rate * factor.powi(epoch as i32),
            Schedule::Cosine => {
                let part = if total > 0.0 { (seen / total).min(1.0) } else { 0.0 };
                0.5 * self.learning_rate * (1.0 + (std::f64::consts::PI * part).cos())
            }
        }
    }
}

/// Trains a pruned classifier shortly. The layers that the plan touches learn, with the batch normalisations that
/// follow them; everything else is frozen, so the layers before the first of them only run forward. Connections
/// removed by masks stay exactly zero.
///
/// `epoch` starts a pass over labelled batches (shuffled and augmented as the caller likes; its argument counts from
/// 0), `samples` is the length of a pass. Returns the model in evaluation mode.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_core::{Batch, SfpModule, Silent, TensorCalibration};
/// # use burn_sfp_prune::{FineTuneConfig, Magnitude, Pruner, fine_tune};
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl SfpModule for Mlp {
/// #     type Input = Tensor<2>;
/// #     fn logits(&self, x: Tensor<2>) -> Tensor<2> {
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
/// let tuned = fine_tune(pruned.model, &pruned.plan, batches, 2, &config, &Silent)?;
/// # Ok::<(), burn_sfp_prune::PruneError>(())
/// ```
///
/// # Errors
/// [`PruneError::Data`] where a batch cannot be read, [`PruneError::Diverged`] where the loss is not finite,
/// [`PruneError::Config`] where a setting is out of range, [`SfpError`] where labels and inputs do not fit.
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
    It: Iterator<Item = Result<Batch<M::Input>, String>>,
{
    train(model, plan, |model: &M, input| model.logits(input), epoch, samples, config, progress)
}

/// A model whose forward pass can be cut behind its frozen layers, so that their output is computed once.
pub trait SplitModule: SfpModule {
    /// What goes from the first part to the second.
    type Features: ModuleInput;

    /// The first part; it must hold no layer that the plan touches.
    fn features(&self, input: Self::Input) -> Self::Features;

    /// The second part: `classify(features(x))` equals `logits(x)`.
    fn classify(&self, features: Self::Features) -> Tensor<2>;
}

/// [`fine_tune`] without augmentation: the frozen first part of the model runs once over the data, its outputs stay in
/// memory (samples times the size of the features), and every epoch trains the second part on them, its batches in an
/// order shuffled from `seed`.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_core::{AnalyzeConfig, SfpModule, Silent, TensorCalibration, analyze_network};
/// # use burn_sfp_prune::{Connections, FineTuneConfig, MagnitudeConnections, Planner, SplitModule, fine_tune_split};
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl SfpModule for Mlp {
/// #     type Input = Tensor<2>;
/// #     fn logits(&self, x: Tensor<2>) -> Tensor<2> { self.classify(self.features(x)) }
/// # }
/// impl SplitModule for Mlp {
///     type Features = Tensor<2>;
///     fn features(&self, x: Tensor<2>) -> Tensor<2> { burn::tensor::activation::relu(self.a.forward(x)) }
///     fn classify(&self, x: Tensor<2>) -> Tensor<2> { self.b.forward(x) }
/// }
/// # let device = Device::flex();
/// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
/// # let samples = Tensor::<2>::from_floats([[1., 0., 0., 1.], [0., 1., 1., 0.]], &device);
/// # let data = TensorCalibration::new(samples, vec![0, 1], 2);
/// let (network, analysis) = analyze_network(&mlp, &data, &AnalyzeConfig::new(), &Silent)?;
/// let plan = Planner::new().keep_empty(true).plan(&network, &analysis, &MagnitudeConnections::l1().layers(["b"]))?;
/// let config = FineTuneConfig::new().with_epochs(5.0);
/// let tuned = fine_tune_split(plan.apply(&mlp)?, &plan, &data, 0, &config, &Silent)?;
/// # Ok::<(), burn_sfp_prune::PruneError>(())
/// ```
///
/// # Errors
/// As [`fine_tune`].
pub fn fine_tune_split<M, C>(
    model: M,
    plan: &PrunePlan,
    data: &C,
    seed: u64,
    config: &FineTuneConfig,
    progress: &dyn Progress,
) -> Result<M, PruneError>
where
    M: SplitModule,
    C: Calibration<M::Input> + ?Sized,
{
    config.check()?;
    let frozen = model.valid();
    let device = frozen.devices().into_iter().next().unwrap_or_default();
    let mut batches = Vec::new();
    progress.start("frozen layers", data.samples());
    for (index, batch) in data.batches().enumerate() {
        let batch = batch.map_err(|message| PruneError::Data { batch: index, message })?;
        progress.advance(batch.labels.len());
        let features = frozen.features(batch.input.to_device(&device));
        batches.push(Batch { input: features, labels: batch.labels });
    }
    progress.finish();
    let samples = batches.iter().map(|batch| batch.labels.len()).sum();
    let epoch = |number: usize| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number as u64);
        let mut order: Vec<usize> = (0..batches.len()).collect();
        order.shuffle(&mut rng);
        let batches = &batches;
        order.into_iter().map(move |k| Ok(batches[k].clone()))
    };
    train(model, plan, |model: &M, features| model.classify(features), epoch, samples, config, progress)
}

fn train<M, I, It>(
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
    It: Iterator<Item = Result<Batch<I>, String>>,
{
    config.check()?;
    let plain = model.valid();
    let device = plain.devices().into_iter().next().unwrap_or_default();
    let mut model = if config.all_layers || plan.trainable.is_empty() {
        plain.train()
    } else {
        plain.freeze().unfreeze_group(ParamGroup::from_paths(plan.trainable.clone())).train()
    };
    let autodiff = device.autodiff();
    let smoothing = (config.label_smoothing > 0.0).then_some(config.label_smoothing);
    let loss_of = CrossEntropyLossConfig::new().with_smoothing(smoothing).init(&autodiff);
    // Burn dampens gradients by 0.1 unless told otherwise; the usual Nesterov momentum does not.
    let momentum =
        MomentumConfig::new().with_momentum(config.momentum).with_dampening(0.0).with_nesterov(config.nesterov);
    let mut optimizer = SgdConfig::new()
        .with_momentum((config.momentum > 0.0).then_some(momentum))
        .with_weight_decay(
            (config.weight_decay > 0.0).then(|| burn::optim::decay::WeightDecayConfig::new(config.weight_decay)),
        )
        .init();
    let total = config.epochs * samples as f64;
    let mut seen = 0.0;
    let mut step = 0;
    progress.start("fine-tuning", Some(total.ceil() as usize));
    for number in 0..config.epochs.ceil() as usize {
        for batch in epoch(number) {
            if seen >= total {
                break;
            }
            let batch = batch.map_err(|message| PruneError::Data { batch: step, message })?;
            let count = batch.labels.len();
            let inputs = batch.input.samples();
            if inputs != count {
                return Err(SfpError::LabelCount { batch: step, inputs, labels: count }.into());
            }
            // A batch of one sample has no variance for the batch normalisations.
            if count < 2 {
                seen += count as f64;
                continue;
            }
            let rate = config.rate(seen, total, number);
            let logits = forward(&model, batch.input.to_device(&autodiff));
            let classes = logits.dims()[1];
            if let Some(sample) = batch.labels.iter().position(|label| *label >= classes) {
                let label = batch.labels[sample];
                return Err(SfpError::LabelOutOfRange { batch: step, sample, label, classes }.into());
            }
            let labels: Vec<i64> = batch.labels.iter().map(|&label| label as i64).collect();
            let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [count]), &autodiff);
            let loss = loss_of.forward(logits, labels);
            let value = loss.clone().into_data().iter::<f64>().next().unwrap_or(f64::NAN);
            if !value.is_finite() {
                return Err(PruneError::Diverged { step, loss: value, learning_rate: rate });
            }
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            model = optimizer.step(rate, model, gradients);
            seen += count as f64;
            step += 1;
            progress.advance(count);
        }
    }
    progress.finish();
    Ok(model.valid())
}
