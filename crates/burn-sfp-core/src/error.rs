//! Everything that can go wrong in an analysis, as one enum.

use std::path::PathBuf;

/// An error of the analysis. Each message says what was found, where, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SfpError {
    /// The calibration source gave no batch at all.
    #[error("the calibration data holds no sample: give at least one labelled sample of every class")]
    NoSamples,
    /// A label is not below the number of classes.
    #[error(
        "sample {sample} of calibration batch {batch} has label {label}, but the model's logits have {classes} \
         classes (labels 0 to {}): check the labels or the model's last layer", classes.saturating_sub(1)
    )]
    LabelOutOfRange {
        /// Position of the batch in the sweep.
        batch: usize,
        /// Position of the sample in its batch.
        sample: usize,
        /// The label found.
        label: usize,
        /// Number of classes of the model.
        classes: usize,
    },
    /// Classes that no sample belongs to have no row in a performance matrix.
    #[error(
        "no calibration sample has one of the labels {missing:?}: their rows of the performance matrices are \
         undefined; add samples of these classes"
    )]
    ClassWithoutSamples {
        /// The labels without a sample.
        missing: Vec<usize>,
    },
    /// NaN or an infinite value turned up in a layer's output.
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
        /// What was found.
        value: f64,
    },
    /// Inputs and labels of a batch do not fit together.
    #[error("calibration batch {batch} has {inputs} inputs and {labels} labels: give one label per input")]
    LabelCount {
        /// Position of the batch in the sweep.
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
        /// Position of the batch in the sweep.
        batch: usize,
        /// Shape found.
        found: Vec<usize>,
        /// Shape of the first batch.
        expected: Vec<usize>,
    },
    /// The calibration source itself failed.
    #[error("calibration batch {batch} could not be read: {message}")]
    Data {
        /// Position of the batch in the sweep.
        batch: usize,
        /// What the source said.
        message: String,
    },
    /// The model's forward pass panicked while it was captured.
    #[error(
        "the model's forward pass failed on an input of shape {shape:?}{}: {message}; run `logits` (or `run`) on the same \
         input to see it",
        place(after)
    )]
    Forward {
        /// Shape of the first input tensor.
        shape: Vec<usize>,
        /// The layer that ran last.
        after: Option<String>,
        /// The panic's message.
        message: String,
    },
    /// Burn refused the capture.
    #[error("the model's forward pass could not be captured as a graph: {0}")]
    Capture(String),
    /// The graph depends on the batch size.
    #[error(
        "the model runs other operations on a batch of {found} samples than on one of {expected} (operation \
         {operation}: {what}): its graph depends on the batch size and cannot be replayed"
    )]
    GraphChanges {
        /// Batch size of the second capture.
        found: usize,
        /// Batch size of the first capture.
        expected: usize,
        /// First operation that differs.
        operation: usize,
        /// Both names.
        what: String,
    },
    /// The model's output is not `[samples, classes]`.
    #[error("`logits` returned shape {found:?} for {samples} samples: it must be [samples, classes]")]
    LogitsShape {
        /// Shape found.
        found: Vec<usize>,
        /// Samples in the batch.
        samples: usize,
    },
    /// No convolution or linear layer in the graph.
    #[error("the model's graph holds no convolution or linear layer with a parameter: there is nothing to analyse")]
    NoLayers,
    /// A layer asked for is not in the model.
    #[error("the model has no layer `{path}`; its layers are: {}", available.join(", "))]
    UnknownLayer {
        /// The path asked for.
        path: String,
        /// Paths that exist.
        available: Vec<String>,
    },
    /// The device runs on a backend that this build cannot replay on.
    #[error(
        "device {device} has no replay in this build: enable the feature `flex`, `ndarray` or `wgpu` of burn-sfp, \
         or move the model to another device"
    )]
    UnsupportedDevice {
        /// The device.
        device: String,
    },
    /// Running the captured graph failed on the device.
    #[error("operation {operation} ({name}) failed on the device: {message}")]
    Replay {
        /// Position in the graph.
        operation: usize,
        /// Name of the operation.
        name: String,
        /// What the device said.
        message: String,
    },
    /// A smaller module does not run the graph that its plan foresaw.
    #[error(
        "the smaller module does not run the planned graph: operation {operation} ({name}){}: {what}; a number that is stored in \
         the module or written in its forward pass does not follow the shapes: compute it from `dims()`, or implement \
         `Shrink` for the struct that stores it",
        place(after)
    )]
    NotAsPlanned {
        /// Position in the graph.
        operation: usize,
        /// Name of the operation.
        name: String,
        /// The layer whose output it works on.
        after: Option<String>,
        /// What differs.
        what: String,
    },
    /// A setting is out of its range.
    #[error("{name} is {found}, but must be {expected}")]
    Config {
        /// Name of the setting.
        name: &'static str,
        /// Value found.
        found: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// The readout of a layer could not be fitted.
    #[error("layer `{path}`: its readout could not be fitted: {message}")]
    Readout {
        /// Module path of the layer.
        path: String,
        /// Why.
        message: String,
    },
    /// Two analyses cannot be merged.
    #[error("the analyses cannot be merged: {0}")]
    Merge(String),
    /// A file is not what it should be.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was found and what to do.
        message: String,
    },
    /// A kernel refused its input.
    #[error("layer `{path}`: {source}")]
    Kernel {
        /// Module path of the layer.
        path: String,
        /// What the kernel said.
        source: burn_sfp_ndarray::KernelError,
    },
    /// The device failed while it worked for a layer, or had no memory for it.
    #[error("layer `{path}`: the device failed: {message}{}", advice(*out_of_memory))]
    Device {
        /// Module path of the layer.
        path: String,
        /// Whether it lacked memory.
        out_of_memory: bool,
        /// What the device said.
        message: String,
    },
    /// A sparse form and the layer that it is for do not fit together.
    #[error("sparse layer: {0}")]
    Sparsity(String),
}

fn place(after: &Option<String>) -> String {
    after.as_ref().map(|layer| format!(" after layer `{layer}`")).unwrap_or_default()
}

fn advice(out_of_memory: bool) -> &'static str {
    if out_of_memory { "; use smaller batches or a device with more memory, or analyse fewer layers" } else { "" }
}

impl SfpError {
    /// Whether a device lacked memory, so that smaller batches may do.
    pub fn is_out_of_memory(&self) -> bool {
        match self {
            Self::Device { out_of_memory, .. } => *out_of_memory,
            Self::Replay { message, .. } => lacks_memory(message),
            _ => false,
        }
    }

    pub(crate) fn file(path: impl Into<PathBuf>, message: impl ToString) -> Self {
        Self::File { path: path.into(), message: message.to_string() }
    }
}

/// Whether a device's words speak of memory. Burn's backends report a lack of it in words (and by panics) only.
fn lacks_memory(message: &str) -> bool {
    let message = message.to_lowercase();
    let phrases =
        ["out of memory", "outofmemory", "out-of-memory", "not enough memory", "buffer is too big", "buffertoobig"];
    phrases.iter().any(|phrase| message.contains(phrase))
}

/// Turns a panic's payload into its message.
pub(crate) fn panic_message(payload: Box<dyn std::any::Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => match payload.downcast::<&'static str>() {
            Ok(text) => (*text).to_string(),
            Err(_) => "a panic without a message".to_string(),
        },
    }
}
