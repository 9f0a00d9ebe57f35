//! [`fine_tune_split`]: fine-tuning on the stored outputs of the frozen layers.

use burn::tensor::Tensor;
use burn_sfp_core::checks::{check_batch, check_shapes};
use burn_sfp_core::{Batch, Calibration, Progress, SfpModule};
use burn_sfp_graph::ModuleInput;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::config::FineTuneConfig;
use super::fits::masks_to_enforce;
use super::step::run;
use super::train::{Data, train};
use crate::{PruneError, PrunePlan};

/// A model whose forward pass can be cut behind its frozen layers, so that [`fine_tune_split`] computes their outputs once.
pub trait SplitModule: SfpModule {
    /// What the first part hands to the second.
    type Features: ModuleInput;

    /// Runs the first part. It must hold no layer that the plan touches.
    fn features(&self, input: Self::Inputs) -> Self::Features;

    /// Runs the second part and returns the logits, so that `classify(features(x))` equals `logits(x)`.
    fn classify(&self, features: Self::Features) -> Tensor<2>;
}

/// Trains the second part of a pruned classifier on the stored outputs of its frozen first part, and returns the classifier in
/// evaluation mode.
///
/// The first part runs once over the data. Its outputs stay in memory (samples times the size of the features), so that there is
/// no augmentation; apart from that the training is that of [`fine_tune`](super::fine_tune). Each epoch takes the batches in an
/// order shuffled from `seed`.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// # use burn_sfp_core::{AnalyzeConfig, NoProgress, TensorCalibration, analyze_network};
/// # use burn_sfp_prune::{Connections, FineTuneConfig, MagnitudeConnections, Planner, SplitModule, fine_tune_split};
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.classify(self.features(x)) }
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
/// let (network, analysis) = analyze_network(&mlp, &data, &AnalyzeConfig::new(), &NoProgress)?;
/// let plan = Planner::new().keep_empty(true).plan(&network, &analysis, &MagnitudeConnections::l1().layers(["b"]))?;
/// let config = FineTuneConfig::new().with_epochs(5.0);
/// let tuned = fine_tune_split(plan.apply(&mlp)?, &plan, &data, 0, &config, &NoProgress)?;
/// # Ok::<(), burn_sfp_prune::PruneError>(())
/// ```
///
/// # Errors
/// Those of [`fine_tune`](super::fine_tune), and [`PruneError::NothingTrained`] where the plan touches a layer of the first part.
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
    C: Calibration<M::Inputs> + ?Sized,
{
    config.check()?;
    masks_to_enforce(plan, &model)?;
    let Some(batches) = frozen_features(&model, data, progress)? else { return Ok(model.valid()) };
    let samples = batches.iter().map(|batch| batch.labels.len()).sum();
    let epoch = |number: usize| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number as u64);
        let mut order: Vec<usize> = (0..batches.len()).collect();
        order.shuffle(&mut rng);
        let batches = &batches;
        order.into_iter().map(move |k| Ok(batches[k].clone()))
    };
    let data = Data { samples, is_split: true };
    train(model, plan, |model: &M, features| model.classify(features), epoch, data, config, progress)
}

/// Runs the first part over the data, in evaluation mode.
fn frozen_features<M, C>(
    model: &M,
    data: &C,
    progress: &dyn Progress,
) -> Result<Option<Vec<Batch<M::Features>>>, PruneError>
where
    M: SplitModule,
    C: Calibration<M::Inputs> + ?Sized,
{
    let frozen = model.valid();
    let device = frozen.devices().into_iter().next().unwrap_or_default();
    let mut batches: Vec<Batch<M::Features>> = Vec::new();
    let mut shapes: Option<Vec<Vec<usize>>> = None;
    progress.start("frozen layers", data.samples());
    for (index, batch) in data.batches().enumerate() {
        let batch = batch.map_err(|source| PruneError::Data { batch: index, source })?;
        check_batch(index, &batch)?;
        check_shapes(index, &batch.input, shapes.get_or_insert_with(|| batch.input.shapes()))?;
        progress.advance(batch.labels.len());
        if progress.is_cancelled() {
            progress.finish();
            return Ok(None);
        }
        let features = run(&batch.input, index, |input| frozen.features(input.to_device(&device)))?;
        batches.push(Batch { input: features, labels: batch.labels });
    }
    progress.finish();
    Ok(Some(batches))
}
