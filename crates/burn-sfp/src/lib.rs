//! What every filter of a trained Burn network recognises, and a smaller network by it.
//!
//! - [`core`]: the analysis (single-filter performance) over Burn modules.
//! - [`nn`]: layers in the place of Burn's, that can lose heads, connections, or a normalisation's work.
//! - [`prune`]: policies, plans, rewriting, fine-tuning.
//! - [`prelude`]: what most users need.
//!
//! # Example
//! ```
//! use burn::prelude::*;
//! use burn::nn::{Linear, LinearConfig};
//! use burn_sfp::prelude::*;
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
//! # Ok::<(), PruneError>(())
//! ```

pub use burn_sfp_core as core;
pub use burn_sfp_core::nn;
pub use burn_sfp_prune as prune;

/// What most users need.
pub mod prelude {
    pub use burn_sfp_core::latency::{LatencyConfig, LatencyTable};
    pub use burn_sfp_core::nn::{FoldBatchNorm, HeadAttention, SparseConv2d, SparseLinear};
    pub use burn_sfp_core::{
        Analysis, AnalyzeConfig, Batch, BatchIter, Calibration, FnCalibration, GradientConfig, GraphModule, Grid,
        InputMapper, LoaderCalibration, ModuleInput, Progress, Readout, Scope, SfpError, SfpModule, Shrink, Silent,
        TensorCalibration, analyze, analyze_network,
    };
    pub use burn_sfp_prune::{
        Afcc, Blocks, Budget, Connections, FineTuneConfig, FoldMeans, Magnitude, MagnitudeConnections, Planner,
        PolicyContext, PruneError, PrunePlan, Pruned, Pruner, RandomAfcc, Ranking, RankingPolicy, Schedule, SfpRanking,
        Smaller, Sparse, SparseConfig, SparseForm, SplitModule, densify, fine_tune, fine_tune_split, fold_batch_norms,
        sparsify,
    };
}
