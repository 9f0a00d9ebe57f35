//! Single-filter performance (SFP) of trained Burn modules: what each filter recognizes.
//!
//! | what | where |
//! | --- | --- |
//! | the trait over Burn modules | [`SfpModule`], [`Analyze`] |
//! | labelled batches | [`Calibration`] and its sources [`TensorCalibration`], [`LoaderCalibration`], [`FnCalibration`]; read in a thread: [`ReadAhead`] |
//! | the same from folders of images, tar shards, CIFAR's files | `images` (feature `images`) |
//! | progress of long work, and its cancellation | [`Progress`], `Bars` (feature `bars`) |
//! | settings: readouts, grid, layers | [`AnalyzeConfig`], [`Readout`], [`Grid`] |
//! | kernels on the server of a remote device | `hosted` (feature `remote`) |
//! | performance matrices, clusters, summaries | [`performance`] |
//! | means of activations, Gram matrices of inputs; streams around residual blocks | [`gather_activations`], [`gather_streams`] |
//! | a model over all batches layer by layer, least squares and moments on the way | [`Layerwise`], [`Regression`], [`ChannelMoments`] |
//! | the result: saved, loaded, merged, printed | [`Analysis`] |
//!
//! The method is that of Y. Tzach et al., "Advanced deep architecture pruning using single-filter performance",
//! Physical Review E 111, 065307 (2025), arXiv 2501.12880.
//!
//! # Example
//! ```
//! use burn::prelude::*;
//! use burn::nn::{Linear, LinearConfig};
//! use burn_sfp_graph::GraphModule;
//! use burn_sfp_core::{AnalyzeConfig, TensorCalibration, analyze};
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
//! let analysis = analyze(&mlp, &calibration, &AnalyzeConfig::new())?;
//! println!("{analysis}");
//! assert_eq!(analysis.layers[0].performance.len(), 16);
//! # Ok::<(), burn_sfp_core::SfpError>(())
//! ```

mod analysis;
mod analyze;
#[cfg(feature = "bars")]
mod bars;
#[doc(hidden)]
pub mod checks;
mod config;
mod data;
mod error;
mod evidence;
#[cfg(all(test, feature = "wgpu"))]
#[path = "../../burn-sfp-nn/tests/common/mod.rs"]
mod gpu;
#[cfg(feature = "remote")]
pub mod hosted;
#[cfg(feature = "images")]
pub mod images;
#[doc(hidden)]
pub mod labels;
mod layerwise;
mod module;
mod parts;
pub mod performance;
mod pool;
mod read_ahead;
mod readout;
mod sums;
mod sweep;

pub use analysis::{ANALYSIS_VERSION, Analysis, LayerAnalysis, ReadoutInfo, Seconds, UnitKind};
pub use analyze::{Analyze, analyze, analyze_network, analyze_on};
#[cfg(feature = "bars")]
pub use bars::Bars;
pub use burn_sfp_graph::{NoProgress, Progress};
pub use config::{AnalyzeConfig, Grid, Readout};
pub use data::{
    Batch, BatchIter, Calibration, DataError, FnCalibration, LoaderCalibration, SkipSamples, TensorCalibration,
};
pub use error::{DeviceFailure, SfpError};
pub use evidence::{
    ActivationEvidence, ActivationNeeds, BlockStream, Elimination, Explained, InputGram, MOST_CHANNELS,
    OutputStatistics, Pursuit, RemovedInputs, gather_activations, gather_activations_on, gather_streams,
    gather_streams_on,
};
pub use layerwise::{ChannelMoments, Layerwise, Regression, Ridge, Solution};
pub use module::SfpModule;
pub use pool::DevicePool;
pub use read_ahead::ReadAhead;
pub use readout::GradientConfig;
