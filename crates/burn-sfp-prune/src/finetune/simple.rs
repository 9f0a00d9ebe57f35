//! [`fine_tune_stored`].

use burn_sfp_core::{Batch, DataError, Progress, SfpModule};

use super::builder::FineTune;
use super::config::FineTuneConfig;
use super::stored::StoreConfig;
use crate::{PruneError, PrunePlan};

/// Trains a pruned classifier on stored outputs of its frozen layers, and returns it in evaluation mode. An epoch costs what the layers
/// that learn cost, without those before them.
///
/// The layers that learn are those of [`fine_tune`](super::fine_tune), and the steps are the same: on the same batches, stored in
/// single precision, the weights come out the same to rounding. The forward pass in training mode is recorded once and cut before the first
/// operations that read a parameter that learns, in any module, also across residual connections. What crosses the cut is computed
/// once for each augmented copy of the data and stored, in memory or in a file ([`StoreConfig`]). Sparse layers train on sparse kernels,
/// batch normalisations that learn use the statistics of the batch and move their running statistics on, and dropout draws anew.
///
/// `copy` starts a pass over augmented copy number `k`, and `samples` is the length of every pass. Epoch `e` goes over copy `e mod copies`, in
/// the order of [`epoch_order`](super::epoch_order): sample by sample, not batch by batch.
///
/// Before training, one step on the first batch is computed both ways and compared. [`FineTune`] has distillation, held-out data and
/// checkpoints for it.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// # use burn_sfp_core::{AnalyzeConfig, Batch, NoProgress, TensorCalibration, analyze_network};
/// # use burn_sfp_prune::{FineTuneConfig, MagnitudeConnections, Planner, StoreConfig, fine_tune_stored};
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
/// let (network, analysis) = analyze_network(&mlp, &data, &AnalyzeConfig::new(), &NoProgress)?;
/// let plan = Planner::new().keep_empty(true).plan(&network, &analysis, &MagnitudeConnections::l1().layers(["b"]))?;
/// let copy = |k| std::iter::once(Ok(Batch { input: samples.clone() * (1.0 + 0.1 * k as f32), labels: vec![0, 1] }));
/// let config = FineTuneConfig::new().with_epochs(6.0);
/// let store = StoreConfig::new().copies(3);
/// let tuned = fine_tune_stored(plan.apply(&mlp)?, &plan, copy, 2, &store, &config, &NoProgress)?;
/// # Ok::<(), burn_sfp_prune::PruneError>(())
/// ```
///
/// # Errors
/// Those of [`fine_tune`](super::fine_tune), and
/// - [`GraphError::NotInTraining`], [`GraphError::NotTrainable`] and [`GraphError::NotBySample`] where the forward pass cannot be cut,
///   [`PruneError::NotByRecordedPass`] where the parts do not compute what the model computes: `fine_tune` trains such a model;
/// - [`PruneError::StoreTooLarge`] where the store would be larger than allowed, [`PruneError::NotInHalf`] where a value is beyond half
///   precision;
/// - [`PruneError::File`] where a file cannot be written or read, is truncated or is something else, [`PruneError::OtherStore`] where it is the
///   store of another model or of other data.
///
/// [`GraphError::NotInTraining`]: burn_sfp_graph::GraphError::NotInTraining
/// [`GraphError::NotTrainable`]: burn_sfp_graph::GraphError::NotTrainable
/// [`GraphError::NotBySample`]: burn_sfp_graph::GraphError::NotBySample
pub fn fine_tune_stored<M, It>(
    model: M,
    plan: &PrunePlan,
    copy: impl FnMut(usize) -> It,
    samples: usize,
    store: &StoreConfig,
    config: &FineTuneConfig,
    progress: &dyn Progress,
) -> Result<M, PruneError>
where
    M: SfpModule,
    It: Iterator<Item = Result<Batch<M::Inputs>, DataError>>,
{
    let tuned = FineTune::new(plan).config(config.clone()).store(store.clone()).run(model, copy, samples, progress)?;
    Ok(tuned.model)
}
