//! The error type of the crate.

use std::error::Error;
use std::path::PathBuf;

use burn_sfp_graph::GraphError;
use burn_sfp_nn::{ConfigError, NnError};

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
    #[error("calibration batch {batch} holds no sample: leave empty batches out")]
    EmptyBatch {
        /// Position of the batch in its pass, from 0.
        batch: usize,
    },
    /// A label is not below the number of classes.
    #[error(
        "sample {sample} of calibration batch {batch} has label {label}, but the model's logits have {classes} \
         classes (labels 0 to {}): check the labels or the model's last layer", classes.saturating_sub(1)
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
    /// Some classes have no calibration sample, and therefore no row in the performance matrices.
    #[error(
        "no calibration sample has one of the labels {missing:?}: their rows of the performance matrices are \
         undefined; add samples of these classes"
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
    /// Inputs and labels of a batch do not fit together.
    #[error("calibration batch {batch} has {inputs} inputs and {labels} labels: give one label per input")]
    LabelCount {
        /// Position of the batch in its pass, from 0.
        batch: usize,
        /// Samples in the inputs.
        inputs: usize,
        /// Number of labels.
        labels: usize,
    },
    /// A batch does not have the shape of the first one, its batch axis aside.
    #[error(
        "calibration batch {batch} has input shape {found:?} where the first batch had {expected:?}: only the \
         first axis (the samples) may differ; resize or crop the inputs to one shape"
    )]
    BatchShape {
        /// Position of the batch in its pass, from 0.
        batch: usize,
        /// Shape found.
        found: Vec<usize>,
        /// Shape of the first batch.
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
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was found and what to do.
        message: String,
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
}

fn advice(out_of_memory: bool) -> &'static str {
    if out_of_memory { "; use smaller batches or a device with more memory, or analyse fewer layers" } else { "" }
}

impl SfpError {
    /// Whether a device lacked memory, so that the same work may succeed with smaller batches.
    pub fn is_out_of_memory(&self) -> bool {
        match self {
            Self::Device { out_of_memory, .. } => *out_of_memory,
            Self::Graph(error) => error.is_out_of_memory(),
            _ => false,
        }
    }

    pub(crate) fn file(path: impl Into<PathBuf>, message: impl ToString) -> Self {
        Self::File { path: path.into(), message: message.to_string() }
    }
}
