//! Prunes Burn modules by what their filters recognise.
//!
//! | stage | where |
//! | --- | --- |
//! | channels that are removed together | [`group`] |
//! | what is worth keeping: scores and keep masks | [`RankingPolicy`] and its implementations |
//! | when enough is removed | [`StopRule`], [`Budget`] |
//! | the plan: plain data, closed under the groups | [`Planner`], [`PrunePlan`] |
//! | the smaller module | [`PrunePlan::apply`], [`ConnectionMask`] |
//! | layers that skip removed connections | [`sparsify`], [`densify`] |
//! | batch normalisations folded into layers, for inference | [`fold_batch_norms`] |
//! | training afterwards | [`fine_tune`], [`FineTuneConfig`] |
//! | one file for a pruned model, and the model from it | [`save_pruned`], [`load_pruned`] |
//! | everything in one call | [`Pruner`] |
//! | as an .onnx file, with the feature `onnx` | `export_onnx` |
//!
//! # Example
//! ```
//! use burn::prelude::*;
//! use burn::nn::{Linear, LinearConfig};
//! use burn_sfp_graph::GraphModule;
//! use burn_sfp_core::TensorCalibration;
//! use burn_sfp_prune::{Pruner, SfpRanking};
//!
//! #[derive(Module, Debug)]
//! struct Mlp { hidden: Linear, classifier: Linear }
//!
//! impl GraphModule for Mlp {
//!     type Inputs = Tensor<2>;
//!     type Outputs = Tensor<2>;
//!     fn run(&self, x: Tensor<2>) -> Tensor<2> {
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
mod cuts;
mod error;
mod finetune;
mod fit;
mod fold_norms;
pub mod group;
mod kept;
mod mask;
#[cfg(feature = "onnx")]
mod onnx;
mod plan;
mod planner;
mod policy;
mod pruner;
mod remaining;
mod rewrite;
mod score;
mod select;
mod ship;
mod sparse;
mod summary;
mod target;

pub use budget::{Budget, RemovalOrder, RemovalState, StopRule};
pub use error::PruneError;
pub use finetune::{FineTuneConfig, OptimizerConfig, Schedule, SplitModule, fine_tune, fine_tune_split};
pub use fold_norms::{Folded, FoldedNorm, KeptNorm, fold_batch_norms};
pub use group::GroupCut;
pub use mask::ConnectionMask;
#[cfg(feature = "onnx")]
pub use onnx::{OnnxConfig, OnnxError, export_onnx, export_onnx_with};
pub use plan::{
    AxisCut, Centered, CorrectedBias, CorrectionTarget, EarlierPruning, GroupPlan, Held, LayerPlan, Mask, PLAN_VERSION,
    ParameterCut, PrunePlan, Scale, ScaledPart, Totals, Uncounted, Unpruned, Unzeroed,
};
pub use planner::{BiasCorrection, Planner};
pub use policy::{
    Afcc, Connections, Kernels, Magnitude, MagnitudeConnections, Norm, PolicyContext, RandomAfcc, Ranking,
    RankingPolicy, SfpRanking,
};
pub use pruner::{Pruned, Pruner};
pub use rewrite::{Applied, ApplyConfig, OtherWeights, PrunedModule};
pub use ship::{MODEL_VERSION, Precision, SaveConfig, load_pruned, save_pruned};
pub use sparse::{ChosenFormat, CostModel, Sparse, SparseConfig, SparseFormat, SparseLayer, densify, sparsify};
pub use summary::PlanSummary;
