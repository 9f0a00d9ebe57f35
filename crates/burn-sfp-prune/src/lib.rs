//! Pruning of Burn modules by what their filters recognise.
//!
//! | stage | where |
//! | --- | --- |
//! | channels that leave together | [`group`] |
//! | what is worth keeping | [`RankingPolicy`] and its implementations |
//! | how much goes | [`Budget`] |
//! | the plan: plain data, closed under the groups | [`Planner`], [`PrunePlan`] |
//! | the smaller module | [`PrunePlan::apply`], [`ConnectionMask`] |
//! | removed connections that are not computed any more | [`sparsify`], [`densify`] |
//! | normalisations that layers take in, for inference | [`fold_batch_norms`] |
//! | training afterwards | [`fine_tune`], [`FineTuneConfig`] |
//! | all in one call | [`Pruner`] |
//!
//! # Example
//! ```
//! use burn::prelude::*;
//! use burn::nn::{Linear, LinearConfig};
//! use burn_sfp_core::{SfpModule, TensorCalibration};
//! use burn_sfp_prune::{Pruner, SfpRanking};
//!
//! #[derive(Module, Debug)]
//! struct Mlp { hidden: Linear, classifier: Linear }
//!
//! impl SfpModule for Mlp {
//!     type Input = Tensor<2>;
//!     fn logits(&self, x: Tensor<2>) -> Tensor<2> {
//!         self.classifier.forward(burn::tensor::activation::relu(self.hidden.forward(x)))
//!     }
//! }
//!
//! let device = Device::flex();
//! let mlp = Mlp {
//!     hidden: LinearConfig::new(4, 16).init(&device),
//!     classifier: LinearConfig::new(16, 2).init(&device),
//! };
//! let samples = Tensor::<2>::from_floats([[1., 0., 0., 1.], [0., 1., 1., 0.]], &device);
//! let calibration = TensorCalibration::new(samples, vec![0, 1], 2);
//!
//! let pruned = Pruner::new(&calibration).policy(SfpRanking::new()).ratio(0.5).analyze_and_prune(&mlp)?;
//! println!("{}", pruned.summary());
//! let smaller: Mlp = pruned.model;
//! assert_eq!(smaller.hidden.weight.dims(), [4, 8]);
//! # Ok::<(), burn_sfp_prune::PruneError>(())
//! ```

mod budget;
mod error;
mod finetune;
mod fold_norms;
pub mod group;
mod mask;
mod plan;
mod planner;
mod policy;
mod pruner;
mod remaining;
mod rewrite;
mod sparse;

pub use budget::Budget;
pub use error::PruneError;
pub use finetune::{FineTuneConfig, Schedule, SplitModule, fine_tune, fine_tune_split};
pub use fold_norms::{Folded, FoldedNorm, KeptNorm, fold_batch_norms};
pub use group::Blocks;
pub use mask::ConnectionMask;
pub use plan::{
    AxisCut, Fold, FoldTarget, KeptWhole, LayerPlan, Mask, PLAN_VERSION, ParameterCut, PlanSummary, PrunePlan, Scale,
    Totals,
};
pub use planner::{FoldMeans, Planner};
pub use policy::{
    Afcc, Connections, Kernels, Magnitude, MagnitudeConnections, Norm, PolicyContext, RandomAfcc, Ranking,
    RankingPolicy, SfpRanking,
};
pub use pruner::{Pruned, Pruner};
pub use rewrite::Smaller;
pub use sparse::{ChosenForm, CostModel, Sparse, SparseConfig, SparseForm, SparseLayer, densify, sparsify};
