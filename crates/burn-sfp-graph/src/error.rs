//! [`GraphError`]: what can go wrong in capturing, counting, comparing and replaying a graph.

pub use burn_sfp_kernels::{lacks_memory, panic_message};
use burn_sfp_nn::{NnError, listed};

use crate::file::FileError;

/// An error of the captured network. Each message says what was found, where, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// A layer or one of its tensors could not be read.
    #[error(transparent)]
    Layer(#[from] NnError),
    /// A file could not be written or read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The work was cancelled by its [`Progress`](crate::Progress) before there was a result.
    #[error("the work was cancelled before there was a result")]
    Cancelled,
    /// A latency table contradicts itself: it was edited, or read from something else than its own file.
    #[error("the latency table is not consistent: {0}; measure again")]
    InvalidTable(String),
    /// The model's forward pass panicked while it was captured.
    #[error(
        "the model's forward pass failed on an input of shape {shape:?}{}: {message}; {}",
        place(after),
        advice(message)
    )]
    Forward {
        /// Shape of the first input tensor.
        shape: Vec<usize>,
        /// The layer that ran last.
        after: Option<String>,
        /// The panic's message.
        message: String,
    },
    /// The forward pass reads values that depend on its input, while a capture knows shapes only.
    #[error(
        "the forward pass reads values (`into_data`, `into_scalar`) that depend on the input: the result of operation \
         {operation} ({name}){}; a capture knows the shapes of the input only: compute with tensors, or give `run` another \
         way for this input",
        place(after)
    )]
    ReadsValues {
        /// Position of the operation whose result is read.
        operation: usize,
        /// Name of the operation.
        name: String,
        /// The layer that ran last.
        after: Option<String>,
    },
    /// Burn refused the capture.
    #[error("the model's forward pass could not be captured as a graph: {0}")]
    Capture(String),
    /// Inputs do not have the shapes of the captured batch.
    #[error(
        "the inputs have shapes {found:?}, but the graph was captured with {expected:?}: capture it again with inputs of this \
         shape"
    )]
    InputShape {
        /// Shapes found, input by input.
        found: Vec<Vec<usize>>,
        /// Shapes of the captured inputs.
        expected: Vec<Vec<usize>>,
    },
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
    /// The example input holds no sample.
    #[error("the input has shape {shape:?}, which holds no sample: capture with an input of at least one")]
    NoSamples {
        /// Shape of the first input tensor.
        shape: Vec<usize>,
    },
    /// No convolution or linear layer in the graph.
    #[error("the model's graph holds no convolution or linear layer with a parameter: there is nothing to analyse")]
    NoLayers,
    /// A layer asked for is not in the model.
    #[error("the model has no layer `{path}`; its layers are: {}", listed(available, 40))]
    UnknownLayer {
        /// The path asked for.
        path: String,
        /// Paths that exist.
        available: Vec<String>,
    },
    /// A block asked for is not in the model, or cannot be left out.
    #[error("the model has no block `{path}` that can be left out; those that can are: {}", listed(available, 40))]
    UnknownBlock {
        /// The path asked for.
        path: String,
        /// Paths of blocks that can be left out.
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
    #[error("{} failed on the device: {message}", step(operation, name))]
    Replay {
        /// Position of the operation in the graph, `None` where an input or the output failed.
        operation: Option<usize>,
        /// Name of the operation, or `the input`, `the output`.
        name: String,
        /// The device's error message.
        message: String,
    },
    /// The model's forward pass in training mode cannot be recorded.
    #[error(
        "the model's forward pass in training mode could not be recorded{}: {message}; train the whole model instead (`fine_tune`)",
        place(after)
    )]
    NotInTraining {
        /// The layer that ran last.
        after: Option<String>,
        /// The panic's message.
        message: String,
    },
    /// An operation behind a parameter that learns has no gradient here.
    #[error(
        "operation {operation} ({name}){} is behind a parameter that learns, and is not one that trains on stored outputs: train the \
         whole model instead (`fine_tune`)",
        place(after)
    )]
    NotTrainable {
        /// Position of the operation in the graph.
        operation: usize,
        /// Name of the operation.
        name: String,
        /// The layer that ran last.
        after: Option<String>,
    },
    /// What the part that learns reads of the frozen part cannot be stored sample by sample.
    #[error(
        "the frozen part hands on a tensor of shape {shape:?} (operation {operation}, {name}{}), which does not hold one entry for each \
         of the {samples} samples along its first axis: train the whole model instead (`fine_tune`)",
        place(after)
    )]
    NotBySample {
        /// Position of the operation that makes the tensor.
        operation: usize,
        /// Its name, or `the input`.
        name: String,
        /// The layer that ran last.
        after: Option<String>,
        /// Shape of the tensor.
        shape: Vec<usize>,
        /// Samples in the batch.
        samples: usize,
    },
    /// A smaller module does not run the graph that its plan foresaw.
    #[error(
        "the smaller module does not run the planned graph: {}{}: {what}; {}",
        step(operation, name),
        place(after),
        mismatch_advice(what)
    )]
    GraphMismatch {
        /// Position of the operation in the graph, `None` where the whole forward pass failed or the graph has ended.
        operation: Option<usize>,
        /// Name of the operation, or what failed in its place.
        name: String,
        /// The layer whose output it works on.
        after: Option<String>,
        /// What differs.
        what: String,
    },
}

/// A panic's message on one line. Burn's shape checks spread theirs over several.
pub(crate) fn one_line(message: &str) -> String {
    let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let head = |line: &&str| line.starts_with("===") || *line == "Reason:";
    lines.into_iter().filter(|line| !head(line)).collect::<Vec<_>>().join(" ")
}

/// What to do about a forward pass that failed.
fn advice(message: &str) -> &'static str {
    if message.contains("not on the same device") || message.contains("wrong backend") {
        "it makes a tensor on a device that the module stores, which a capture cannot move: implement \
         `GraphModule::rebuild`, or make the tensor on the device of a parameter (in code that burn-onnx generates, put \
         `&self.NAME.device()` in the place of `&self.device`, where `NAME` is a parameter of the same struct, such as \
         `conv2d1.weight`)"
    } else {
        "run `logits` (or `run`) on the same input to see it"
    }
}

/// What to do about a smaller module that does not run as planned, by what differs.
pub fn mismatch_advice(what: &str) -> &'static str {
    let starts = |with: &str| what.starts_with(with);
    if starts("the smaller module runs") || starts("the smaller module ends") {
        "the forward pass takes another way where widths are smaller: branch on a field of the module in place of a width from \
         `dims()`, or leave the layers out whose widths decide (`exclude`)"
    } else if starts("the smaller module fails") && what.contains("Squeeze") && what.contains("Resulting dimensions") {
        "`squeeze()` drops every axis of length 1, that of a layer left with one channel too: name the axes to drop, with \
         `squeeze_dim` or `squeeze_dims`"
    } else if starts("the smaller module fails") {
        "a number that is stored in the module or written in its forward pass, or an assertion on a width, does not follow the shapes: \
         compute it from `dims()`, or implement `Shrink` for the struct that stores it"
    } else if starts("it takes") {
        "the bounds of the slice do not follow the widths: compute them from `dims()` of the parameters behind the parts, or implement \
         `Shrink` for the struct that stores them"
    } else if starts("its field") {
        "derive `Shrink` for the model and each struct down to this layer, and return the model from `shrinkable`, so that the field is set"
    } else {
        "a number that is stored in the module or written in its forward pass does not follow the shapes: compute it from `dims()`, or \
         implement `Shrink` for the struct that stores it"
    }
}

fn step(operation: &Option<usize>, name: &str) -> String {
    operation.map_or_else(|| name.to_string(), |operation| format!("operation {operation} ({name})"))
}

/// Names the place of an operation in an error message: ` after layer `x``, or nothing.
pub fn place(after: &Option<String>) -> String {
    after.as_ref().map(|layer| format!(" after layer `{layer}`")).unwrap_or_default()
}

impl GraphError {
    /// Whether a device ran out of memory, so that smaller batches may succeed.
    pub fn is_out_of_memory(&self) -> bool {
        match self {
            Self::Forward { message, .. } | Self::Replay { message, .. } => lacks_memory(message),
            _ => false,
        }
    }
}
