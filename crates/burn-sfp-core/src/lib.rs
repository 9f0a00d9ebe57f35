//! Single-filter performance (SFP) of trained Burn modules: what every single filter recognises.
//!
//! | stage | where |
//! | --- | --- |
//! | the traits over Burn modules | [`SfpModule`], [`GraphModule`], [`ModuleInput`] |
//! | plain fields that follow when a layer shrinks | [`Shrink`] |
//! | labelled batches | [`Calibration`] and its three sources |
//! | layers in the place of Burn's: heads that can leave, normalisations and connections that can be left out | [`nn`] |
//! | the forms of sparse layers | [`sparse`] |
//! | the captured network, its layers, heads and channels | [`network`] |
//! | one pass over the samples, readouts | [`AnalyzeConfig`], [`Readout`], [`Grid`] |
//! | performance matrices, clusters, summaries | [`performance`] |
//! | seconds of forward passes, bytes of parameters | [`latency`] |
//! | the result: saved, loaded, merged, printed | [`Analysis`] |
//!
//! The method is that of Y. Tzach et al., "Advanced deep architecture pruning using single-filter performance",
//! Physical Review E 111, 065307 (2025), arXiv 2501.12880.
//!
//! # Example
//! ```
//! use burn::prelude::*;
//! use burn::nn::{Linear, LinearConfig};
//! use burn_sfp_core::{AnalyzeConfig, SfpModule, TensorCalibration, analyze};
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
//! let analysis = analyze(&mlp, &calibration, &AnalyzeConfig::new())?;
//! println!("{analysis}");
//! assert_eq!(analysis.layers[0].performance.len(), 16);
//! # Ok::<(), burn_sfp_core::SfpError>(())
//! ```

mod analysis;
mod backend;
mod data;
mod error;
pub mod file;
pub mod latency;
mod module;
pub mod network;
pub mod nn;
pub mod performance;
mod progress;
mod shrink;
pub mod sparse;
mod sweep;

pub use analysis::{ANALYSIS_VERSION, Analysis, LayerAnalysis, ParameterShape, ReadoutInfo, Seconds, UnitKind};
pub use burn_sfp_derive::Shrink;
pub use data::{Batch, BatchIter, Calibration, FnCalibration, LoaderCalibration, TensorCalibration};
pub use error::SfpError;
pub use module::{GraphModule, InputMapper, ModuleInput, SfpModule};
pub use progress::{Progress, Silent};
#[doc(hidden)]
pub use shrink::derive;
pub use shrink::{AxisChange, FieldEdit, Scope, Shrink};
pub use sweep::{AnalyzeConfig, GradientConfig, Grid, Readout};

/// Analyses a trained model over labelled calibration data: one forward pass a batch feeds every layer.
///
/// The crate's page has an example. The model is not changed.
///
/// # Errors
/// [`SfpError`]: no samples, a label out of range, a class without samples, NaN or infinite activations, batches of
/// differing shapes, a forward pass that fails, a device without a replay.
pub fn analyze<M: SfpModule, C: Calibration<M::Input> + ?Sized>(
    model: &M,
    calibration: &C,
    config: &AnalyzeConfig,
) -> Result<Analysis, SfpError> {
    Ok(analyze_network(model, calibration, config, &Silent)?.1)
}

/// [`analyze`] with progress, and with the captured network that a plan is made from.
///
/// # Errors
/// As [`analyze`].
pub fn analyze_network<M: SfpModule, C: Calibration<M::Input> + ?Sized>(
    model: &M,
    calibration: &C,
    config: &AnalyzeConfig,
    progress: &dyn Progress,
) -> Result<(network::Network, Analysis), SfpError> {
    sweep::sweep(model, calibration, config, progress)
}
