//! The analysis as functions and as a method of the model.

use burn_sfp_graph::Network;

use crate::analysis::Analysis;
use crate::config::AnalyzeConfig;
use crate::data::Calibration;
use crate::error::SfpError;
use crate::module::SfpModule;
use crate::sweep::{sweep, sweep_on};
use crate::{DevicePool, NoProgress, Progress};

/// Analyzes a trained model on labelled calibration data; one forward pass per batch feeds all layers.
///
/// The model is not changed.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// # use burn_sfp_core::{AnalyzeConfig, TensorCalibration, analyze};
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.b.forward(burn::tensor::activation::relu(self.a.forward(x))) }
/// # }
/// # let device = Device::flex();
/// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
/// let samples = Tensor::<2>::from_floats([[1., 0., 0., 1.], [0., 1., 1., 0.]], &device);
/// let analysis = analyze(&mlp, &TensorCalibration::new(samples, vec![0, 1], 2), &AnalyzeConfig::new())?;
/// for filter in &analysis.layer("a").unwrap().performance {
///     println!("recognizes {:?}, noise {}", filter.clusters, filter.noise);
/// }
/// # Ok::<(), burn_sfp_core::SfpError>(())
/// ```
///
/// # Errors
/// [`SfpError`] where a setting is out of range, where there are no samples, a label is out of range or a class has no sample,
/// where activations are NaN or infinite, where batches differ in shape, where the forward pass fails, or where this build cannot
/// replay a network on the model's device.
pub fn analyze<M: SfpModule, C: Calibration<M::Inputs> + ?Sized>(
    model: &M,
    calibration: &C,
    config: &AnalyzeConfig,
) -> Result<Analysis, SfpError> {
    Ok(analyze_network(model, calibration, config, &NoProgress)?.1)
}

/// Analyzes a model as [`analyze`] does, reports progress, and also returns the captured network of the logits, from which a
/// pruning plan is made.
///
/// If `progress` cancels, the analysis is that of the samples seen by then ([`Analysis::samples`] counts them), without accuracies
/// of readouts that would have been measured afterwards. With its state it can be merged later with one of the other samples
/// ([`SkipSamples`](crate::SkipSamples)).
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// # use burn_sfp_core::{AnalyzeConfig, NoProgress, TensorCalibration, analyze_network};
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.b.forward(burn::tensor::activation::relu(self.a.forward(x))) }
/// # }
/// # let device = Device::flex();
/// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
/// # let samples = Tensor::<2>::from_floats([[1., 0., 0., 1.], [0., 1., 1., 0.]], &device);
/// # let calibration = TensorCalibration::new(samples, vec![0, 1], 2);
/// let (network, analysis) = analyze_network(&mlp, &calibration, &AnalyzeConfig::new(), &NoProgress)?;
/// assert_eq!(network.classes(), analysis.classes);
/// # Ok::<(), burn_sfp_core::SfpError>(())
/// ```
///
/// # Errors
/// As [`analyze`], and [`SfpError::Cancelled`] if `progress` cancels before every class had a sample.
pub fn analyze_network<M: SfpModule, C: Calibration<M::Inputs> + ?Sized>(
    model: &M,
    calibration: &C,
    config: &AnalyzeConfig,
    progress: &dyn Progress,
) -> Result<(Network, Analysis), SfpError> {
    sweep(model, calibration, config, progress)
}

/// Analyzes a model as [`analyze_network`] does, on the devices of a pool, which share the data: the model's own device only finishes what they
/// sum. Batches go to a device, and class sums and normal equations come back, never activations.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// # use burn_sfp_core::{AnalyzeConfig, NoProgress, TensorCalibration, analyze_on};
/// use burn_sfp_core::DevicePool;
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.b.forward(burn::tensor::activation::relu(self.a.forward(x))) }
/// # }
/// # let device = Device::flex();
/// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
/// # let samples = Tensor::<2>::from_floats([[1., 0., 0., 1.], [0., 1., 1., 0.]], &device);
/// # let calibration = TensorCalibration::new(samples, vec![0, 1], 1);
/// let pool = DevicePool::new([Device::flex(), Device::flex()]).chunk(1);
/// let (_, analysis) = analyze_on(&mlp, &calibration, &pool, &AnalyzeConfig::new(), &NoProgress)?;
/// assert_eq!(analysis.samples, 2);
/// # Ok::<(), burn_sfp_core::SfpError>(())
/// ```
///
/// # Errors
/// As [`analyze_network`]; [`SfpError::Config`] for a pool without devices and for gradient readouts, which take batches one after the other;
/// [`SfpError::Devices`] where every device failed.
pub fn analyze_on<M: SfpModule, C: Calibration<M::Inputs> + ?Sized>(
    model: &M,
    calibration: &C,
    devices: &DevicePool,
    config: &AnalyzeConfig,
    progress: &dyn Progress,
) -> Result<(Network, Analysis), SfpError> {
    sweep_on(model, calibration, devices, config, progress)
}

/// The analysis as a method of every [`SfpModule`].
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// use burn_sfp_core::{Analyze, AnalyzeConfig, TensorCalibration};
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.b.forward(burn::tensor::activation::relu(self.a.forward(x))) }
/// # }
/// # let device = Device::flex();
/// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
/// # let samples = Tensor::<2>::from_floats([[1., 0., 0., 1.], [0., 1., 1., 0.]], &device);
/// # let calibration = TensorCalibration::new(samples, vec![0, 1], 2);
/// let analysis = mlp.analyze(&calibration, &AnalyzeConfig::new())?;
/// # Ok::<(), burn_sfp_core::SfpError>(())
/// ```
pub trait Analyze: SfpModule {
    /// Calls [`analyze`] on this module.
    ///
    /// # Errors
    /// As [`analyze`].
    fn analyze<C: Calibration<Self::Inputs> + ?Sized>(
        &self,
        calibration: &C,
        config: &AnalyzeConfig,
    ) -> Result<Analysis, SfpError> {
        analyze(self, calibration, config)
    }
}

impl<M: SfpModule> Analyze for M {}
