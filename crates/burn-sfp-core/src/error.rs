//! The error type of the crate.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;

use burn_sfp_graph::{FileError, GraphError};
use burn_sfp_nn::{ConfigError, NnError, listed};

/// An error of the analysis. Each message says what was found, where, and what to do about it.
///
/// ```
/// use burn::prelude::*;
/// use burn::nn::{Linear, LinearConfig};
/// use burn_sfp_graph::GraphModule;
/// use burn_sfp_core::{AnalyzeConfig, SfpError, TensorCalibration, analyze};
///
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.b.forward(burn::tensor::activation::relu(self.a.forward(x))) }
/// # }
/// # let device = Device::flex();
/// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
/// let calibration = TensorCalibration::new(Tensor::<2>::ones([2, 4], &device), vec![0, 0], 2);
/// match analyze(&mlp, &calibration, &AnalyzeConfig::new()) {
///     Err(SfpError::ClassWithoutSamples { missing }) => assert_eq!(missing, [1]),
///     other => panic!("{other:?}"),
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SfpError {
    /// The model could not be captured, described or replayed.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A layer or its tensors could not be read.
    #[error(transparent)]
    Layer(#[from] NnError),
    /// The calibration data holds no batch.
    #[error("the calibration data holds no sample: give at least one labelled sample of every class")]
    NoSamples,
    /// A batch holds no sample.
    #[error("batch {batch} holds no sample: leave empty batches out")]
    EmptyBatch {
        /// Position of the batch in its pass, from 0.
        batch: usize,
    },
    /// A label is not below the number of classes.
    #[error(
        "sample {sample} of batch {batch} has label {}, but the model's logits have {classes} classes (labels 0 to {}): \
         check the labels or the model's last layer", signed(*label), classes.saturating_sub(1)
    )]
    LabelOutOfRange {
        /// Position of the batch in its pass, from 0.
        batch: usize,
        /// Position of the sample in its batch.
        sample: usize,
        /// The label found.
        label: usize,
        /// Number of classes of the model.
        classes: usize,
    },
    /// The server of a remote device hosts no kernels of this library, or others than a client asks for.
    #[error(
        "the server of {device} has no kernels for this client ({found}): start it with `hosted::server` of the same version; or go on without \
         them, by Burn's operations, in a new process, since Burn ends the session of who asks for what a server does not know"
    )]
    NoServerKernels {
        /// The device.
        device: String,
        /// What the server answered.
        found: String,
    },
    /// The work was cancelled by its [`Progress`](crate::Progress) before every class had a sample.
    #[error(
        "the analysis was cancelled after {samples} samples, too few for a result: not every class had one; start it again"
    )]
    Cancelled {
        /// Samples that were seen.
        samples: u64,
    },
    /// Some classes have no calibration sample, and therefore no row in the performance matrices.
    #[error(
        "no calibration sample has one of the labels [{}]: their rows of the performance matrices are undefined; add \
         samples of these classes",
        listed(missing, 10)
    )]
    ClassWithoutSamples {
        /// The labels without a sample.
        missing: Vec<usize>,
    },
    /// The output of a layer holds NaN or infinite values.
    #[error(
        "layer `{path}`: its mean activation for label {label}, filter {filter} is {value}: the inputs, the \
         weights or the running statistics hold NaN or infinite values; clean them before analysing"
    )]
    NonFinite {
        /// Module path of the layer.
        path: String,
        /// Label whose mean is not finite.
        label: usize,
        /// Filter whose mean is not finite.
        filter: usize,
        /// The mean found.
        value: f64,
    },
    /// The mean input of a layer is NaN or infinite.
    #[error(
        "layer `{path}`: the mean of its input {input} is {value}: the inputs, the weights or the running statistics hold NaN \
         or infinite values; clean them before analysing"
    )]
    NonFiniteInput {
        /// Module path of the layer.
        path: String,
        /// Input channel or feature.
        input: usize,
        /// The mean found.
        value: f32,
    },
    /// The output of a filter sums to NaN or infinity over the calibration data.
    #[error(
        "layer `{path}`: the mean output of filter {filter} is {value}: the inputs, the weights or the running statistics hold NaN \
         or infinite values; clean them before gathering"
    )]
    NonFiniteOutput {
        /// Module path of the layer.
        path: String,
        /// The filter.
        filter: usize,
        /// The mean found.
        value: f64,
    },
    /// A logit of the model is NaN or positive infinity, so that no label is the largest.
    #[error(
        "batch {batch}: the model's logit of label {label} for sample {sample} is {value}: the inputs, the weights or the \
         running statistics hold NaN or infinite values; clean them before analysing"
    )]
    NonFiniteLogit {
        /// Position of the batch in its pass, from 0.
        batch: usize,
        /// Position of the sample in its batch.
        sample: usize,
        /// Label of the logit.
        label: usize,
        /// The logit found.
        value: f32,
    },
    /// A later pass over the data holds other samples than the first one.
    #[error(
        "pass {pass} over the data holds {found} samples of label {label}, and the first pass {expected}: return the same \
         samples in every pass"
    )]
    PassDiffers {
        /// Number of the pass, from 1.
        pass: usize,
        /// The first label that differs.
        label: usize,
        /// Samples of the label in this pass.
        found: u64,
        /// Samples of the label in the first pass.
        expected: u64,
    },
    /// Burn refused to work on a batch.
    #[error("batch {batch} could not be worked on: {message}{}", advice(*out_of_memory))]
    Batch {
        /// Position of the batch in its pass, from 0.
        batch: usize,
        /// Whether the device lacked memory.
        out_of_memory: bool,
        /// What Burn said.
        message: String,
    },
    /// Inputs and labels of a batch do not fit together.
    #[error("batch {batch} has {inputs} inputs and {labels} labels: give one label per input")]
    LabelCount {
        /// Position of the batch in its pass, from 0.
        batch: usize,
        /// Samples in the inputs.
        inputs: usize,
        /// Number of labels.
        labels: usize,
    },
    /// A batch does not have the shape of the first one, its batch axis aside, or its inputs differ in the number of samples.
    #[error("batch {batch} has input shape {found:?} where {}", expected_shape(found, expected))]
    BatchShape {
        /// Position of the batch in its pass, from 0.
        batch: usize,
        /// Shape found.
        found: Vec<usize>,
        /// Shape of the first batch, or the same with the samples of the batch's first input.
        expected: Vec<usize>,
    },
    /// The source of the calibration data failed.
    #[error("calibration batch {batch} could not be read: {source}")]
    Data {
        /// Position of the batch in its pass, from 0.
        batch: usize,
        /// The source's own error.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The model's output is not `[samples, classes]`.
    #[error("`logits` returned shape {found:?} for {samples} samples: it must be [samples, classes]")]
    LogitsShape {
        /// Shape found.
        found: Vec<usize>,
        /// Samples in the batch.
        samples: usize,
    },
    /// A setting is out of its range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The readout of a layer could not be fitted.
    #[error("layer `{path}`: its readout could not be fitted: {message}")]
    Readout {
        /// Module path of the layer.
        path: String,
        /// Why.
        message: String,
    },
    /// What was asked for follows from the class sums and the readout of a layer, which its analysis did not keep.
    #[error("the analysis of layer `{path}` kept neither class sums nor readout: analyse with `with_state(true)`")]
    NoState {
        /// Module path of the layer.
        path: String,
    },
    /// Two analyses cannot be merged.
    #[error("the analyses cannot be merged: {0}")]
    Merge(String),
    /// A file could not be written, or does not hold what was to be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// An analysis contradicts itself: it was edited, or read from something else than its own file.
    #[error("the analysis is not consistent: {0}; analyse again")]
    InvalidAnalysis(String),
    /// Readouts were handed over from the analysis of another checkpoint of the model.
    #[error(
        "the readouts of another analysis were handed over (`Readout::Given`), and that analysis was made with other weights: \
         parameter `{parameter}` has other values; analyse this model without them"
    )]
    OtherWeights {
        /// Module path of the first parameter that differs.
        parameter: String,
    },
    /// A kernel refused its arguments.
    #[error("layer `{path}`: {source}")]
    Kernel {
        /// Module path of the layer.
        path: String,
        /// The kernel's own error.
        source: burn_sfp_ndarray::KernelError,
    },
    /// The device failed, or lacked memory, while it computed sums or performance matrices of a layer.
    #[error("layer `{path}`: the device failed: {message}{}", advice(*out_of_memory))]
    Device {
        /// Module path of the layer.
        path: String,
        /// Whether it lacked memory.
        out_of_memory: bool,
        /// The device's message.
        message: String,
    },
    /// The file of a pool's sums is another analysis's.
    #[error(
        "{}: holds the sums of another analysis (another model, settings or chunks); delete it, or give this one a file of its own",
        path.display()
    )]
    OtherCheckpoint {
        /// The file.
        path: PathBuf,
    },
    /// Every device of a pool failed.
    #[error(
        "no device is left after {samples} samples: {}{}; mend the devices, or take others", listed(failures, 8),
        advice(*out_of_memory)
    )]
    Devices {
        /// Each device with its error, in the order in which they failed.
        failures: Vec<DeviceFailure>,
        /// Samples whose sums were there by then.
        samples: u64,
        /// Whether they all lacked memory.
        out_of_memory: bool,
    },
}

/// Why a device of a pool was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceFailure {
    /// The device, as Burn names it.
    pub device: String,
    /// The error.
    pub message: String,
    /// Whether it lacked memory.
    pub out_of_memory: bool,
}

impl fmt::Display for DeviceFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.device, self.message)
    }
}

/// A label as it was before it became unsigned: a negative number that was converted prints as itself.
fn signed(label: usize) -> i128 {
    if label > usize::MAX / 2 { label as i128 - usize::MAX as i128 - 1 } else { label as i128 }
}

fn expected_shape(found: &[usize], expected: &[usize]) -> String {
    if found.len() == expected.len() && found.get(1..) == expected.get(1..) {
        let samples = expected.first().copied().unwrap_or_default();
        return format!("its first input has {samples} samples: every input of a batch must have as many");
    }
    format!(
        "the first batch had {expected:?}: only the first axis (the samples) may differ; resize or crop the inputs to one shape"
    )
}

fn advice(out_of_memory: bool) -> &'static str {
    if out_of_memory { "; use smaller batches or a device with more memory, or analyse fewer layers" } else { "" }
}

impl SfpError {
    /// Whether a device lacked memory, so that the same work may succeed with smaller batches.
    pub fn is_out_of_memory(&self) -> bool {
        match self {
            Self::Device { out_of_memory, .. }
            | Self::Batch { out_of_memory, .. }
            | Self::Devices { out_of_memory, .. } => *out_of_memory,
            Self::Graph(error) => error.is_out_of_memory(),
            _ => false,
        }
    }
}
