//! Prunes Burn modules by what their filters recognise.
//!
//! | stage | where |
//! | --- | --- |
//! | channels that are removed together | [`group`] |
//! | what is worth keeping: scores and keep masks | [`RankingPolicy`] and its implementations, combined by [`PolicyExt`] |
//! | what policies read of the calibration data besides the analysis | [`Needs`], [`Evidence`] |
//! | how scores of different layers, and of filters that are tied together, are compared | [`Normalizer`], [`Reduction`] |
//! | when enough is removed | [`StopRule`], [`Budget`], [`Keep`], [`LayerRule`] |
//! | the plan: plain data, closed under the groups | [`Planner`], [`PrunePlan`] |
//! | the smaller module | [`PrunePlan::apply`], [`ConnectionMask`] |
//! | layers that skip removed connections | [`sparsify`], [`densify`] |
//! | batch normalisations folded into layers, for inference | [`fold_batch_norms`] |
//! | accuracy brought back without training | [`recover()`], [`recover_on()`], [`Recover`] |
//! | training afterwards, simple or with everything around it, on stored outputs of frozen layers | [`fine_tune`], [`FineTune`], [`fine_tune_stored`] |
//! | training by burn-train's `Learner`, with the feature `train` | `Trainable` |
//! | small channels by a penalty in training | [`Regularizer`] |
//! | several rounds with training in between; the largest cut that an accuracy allows | [`Iterative`], [`CutSearch`] |
//! | the forward pass for deployment on a CPU | [`Pruned::for_inference`] |
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
mod evidence;
mod finetune;
mod fit;
mod fold_norms;
pub mod group;
mod inference;
mod kept;
mod mask;
mod normalize;
#[cfg(feature = "onnx")]
mod onnx;
mod plan;
mod planner;
mod policy;
mod pruner;
mod recover;
mod reduce;
mod regrow;
mod regularize;
mod rewrite;
mod schedule;
mod score;
mod select;
mod ship;
mod sparse;
mod summary;
mod target;

pub use budget::{Budget, CostUnit, Keep, KeepLatency, RemovalOrder, RemovalState, StopRule};
pub use burn_sfp_nn::Removable;
pub use error::PruneError;
pub use evidence::{Evidence, FilterGradients, Needs, ParameterGradients};
#[cfg(feature = "train")]
pub use finetune::Trainable;
pub use finetune::{
    Distillation, EpochReport, FineTune, FineTuneConfig, FineTuned, HeldOut, OptimizerConfig, Schedule, StoreConfig,
    StorePrecision, epoch_order, fine_tune, fine_tune_stored,
};
pub use fold_norms::{Folded, FoldedNorm, KeptNorm, fold_batch_norms};
pub use group::GroupCut;
pub use mask::ConnectionMask;
pub use normalize::Normalizer;
#[cfg(feature = "onnx")]
pub use onnx::{OnnxConfig, OnnxError, export_onnx, export_onnx_with};
pub use plan::{
    AxisCut, Centered, CorrectedBias, CorrectionTarget, EarlierPruning, GroupPlan, Held, LayerPlan, Mask, PLAN_VERSION,
    ParameterCut, PrunePlan, Scale, ScaledPart, Totals, Uncounted, Unpruned, Unzeroed,
};
pub use planner::{Amount, BiasCorrection, LayerRule, Planner};
pub use policy::{
    ActivationMean, Afcc, Among, Apoz, BatchNormScale, BlockScore, ConnectionChoice, ConnectionPolicy, Connections,
    Fallback, GeometricMedian, HessianDiagonal, Kernels, LabelCover, Lamp, Magnitude, MagnitudeConnections, Norm,
    Pattern, PolicyContext, PolicyExt, Product, Random, RandomAfcc, RankAverage, Ranking, RankingPolicy,
    ReconstructionConnections, ReconstructionError, Restrict, SfpRanking, Spread, Taylor, Wanted, WeightedSum,
    WithBlocks, WithEvidence, choose_connections,
};
pub use pruner::{Pruned, Pruner};
pub use recover::{Corrected, NotCorrected, Recover, Recovered, RecoveryReport, RecoveryStep, recover, recover_on};
pub use reduce::Reduction;
pub use regrow::{Regrown, Regrowth};
pub use regularize::Regularizer;
pub use rewrite::{Applied, ApplyConfig, OtherWeights, PrunedModule, unmask};
pub use schedule::{Curve, CutSearch, Found, Iterative, LatencySearch, Probe, Round, Timed};
pub use ship::{MODEL_VERSION, Precision, SaveConfig, load_pruned, save_pruned};
pub use sparse::{ChosenFormat, CostModel, Sparse, SparseConfig, SparseFormat, SparseLayer, densify, sparsify};
pub use summary::PlanSummary;
