//! Measures what each filter of a trained Burn network recognises, and makes the network smaller by it.
//!
//! The method is single-filter performance (Y. Tzach et al., "Advanced deep architecture pruning using single-filter performance",
//! Physical Review E 111, 065307, 2025, arXiv 2501.12880).
//!
//! | module | contents |
//! | --- | --- |
//! | [`prelude`] | what most users need |
//! | [`core`] | the analysis: calibration data, readouts, performance matrices |
//! | [`prune`] | policies, plans, rewriting, fine-tuning |
//! | [`graph`] | the captured network: layers, channels, multiply-adds, latency |
//! | `report` | reports as HTML, Markdown, JSON and PNG, with the feature of this name |
//! | [`nn`] | layers that can lose heads or connections; all that a deployed model needs |
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
//! let pruned = Pruner::new(&calibration).policy(Taylor::new()).ratio(0.5).analyze_and_prune(&mlp)?;
//! println!("{}", pruned.summary());
//! let smaller: Mlp = pruned.model;
//! # Ok::<(), PruneError>(())
//! ```
//!
//! # Features
//! | feature | device |
//! | --- | --- |
//! | `flex` (default) | `Device::flex()`, Burn's current CPU backend |
//! | `ndarray` | `Device::ndarray()`, Burn's older CPU backend |
//! | `wgpu` | GPUs, through wgpu |
//! | `vulkan` | GPUs, through Vulkan with its own shader compiler |
//! | `cuda` | NVIDIA's GPUs, through CUDA |
//! | `remote` | devices that another process or machine hosts, by burn-remote; see [`core::DevicePool`] |
//! | `remote-server` | a server that hosts devices for others, and the kernels of this library on them; see `core::hosted` |
//! | `fusion` | GPUs, with the operations between the kernels fused, as for whoever enables `wgpu` in Burn itself |
//!
//! | feature | what |
//! | --- | --- |
//! | `bars` | [`prelude::Bars`], progress bars in a terminal |
//! | `images` | `core::images`, calibration data from folders of images, tar shards and CIFAR's files |
//! | `report` | [`report`], reports of a pruned model, and `pruned.report()` in the prelude |
//! | `train` | [`prelude::Trainable`], pruned models in burn-train's `Learner` |
//! | `onnx` | [`prelude::export_onnx`] and `pruned.export_onnx(..)`, which write .onnx files |

pub use burn_sfp_core as core;
pub use burn_sfp_graph as graph;
pub use burn_sfp_nn as nn;
pub use burn_sfp_prune as prune;
#[cfg(feature = "report")]
pub use burn_sfp_report as report;

/// The types and functions that most users need, for `use burn_sfp::prelude::*`.
pub mod prelude {
    #[cfg(feature = "bars")]
    pub use burn_sfp_core::Bars;
    pub use burn_sfp_core::{
        Analysis, Analyze, AnalyzeConfig, Batch, BatchIter, Calibration, DataError, DevicePool, FnCalibration,
        GradientConfig, Grid, LoaderCalibration, NoProgress, Progress, ReadAhead, Readout, SfpError, SfpModule,
        SkipSamples, TensorCalibration, analyze, analyze_network, analyze_on,
    };
    pub use burn_sfp_graph::latency::{LatencyConfig, LatencyTable};
    pub use burn_sfp_graph::{
        FileError, GraphError, GraphModule, Inference, InferenceConfig, InputMapper, LayerChoices, ModuleInput, Network,
    };
    pub use burn_sfp_nn::{
        CenteredLayerNorm, CenteredLayerNormConfig, FoldBatchNorm, FoldBatchNormConfig, HeadAttention,
        HeadAttentionConfig, MhaCache, MhaInput, NnError, Scope, Shrink, SparseConv2d, SparseConv2dConfig,
        SparseLinear, SparseLinearConfig,
    };
    #[cfg(feature = "train")]
    pub use burn_sfp_prune::Trainable;
    pub use burn_sfp_prune::{
        ActivationMean, Afcc, Amount, Apoz, Applied, ApplyConfig, BatchNormScale, BiasCorrection, BlockScore, Budget,
        ConnectionChoice, ConnectionPolicy, Connections, CostUnit, Curve, CutSearch, Distillation, Evidence, FineTune,
        FineTuneConfig, GeometricMedian, GroupCut, HessianDiagonal, Iterative, Keep, KeepLatency, LabelCover, Lamp,
        LatencySearch, LayerRule, Magnitude, MagnitudeConnections, Needs, Normalizer, OptimizerConfig, OtherWeights,
        Pattern, Planner, PolicyContext, PolicyExt, Precision, PruneError, PrunePlan, Pruned, PrunedModule, Pruner,
        Random, RandomAfcc, Ranking, RankingPolicy, ReconstructionConnections, ReconstructionError, Recover, Recovered,
        RecoveryReport, RecoveryStep, Reduction, Regrowth, Regularizer, RemovalOrder, RemovalState, SaveConfig,
        Schedule, SfpRanking, Sparse, SparseConfig, SparseFormat, Spread, StopRule, StoreConfig, Taylor, WithBlocks,
        densify, fine_tune, fine_tune_stored, fold_batch_norms, load_pruned, recover, recover_on, save_pruned,
        sparsify, unmask,
    };
    #[cfg(feature = "onnx")]
    pub use burn_sfp_prune::{OnnxConfig, OnnxError, export_onnx, export_onnx_with};
    #[cfg(feature = "report")]
    pub use burn_sfp_report::{Report, ReportError, ReportExt};
}
