//! The one error type of this crate, and what of the device's failures becomes which variant.

use std::any::Any;

use burn_backend::DType;
use burn_cubecl::cubecl::server::{IoError, LaunchError, ServerError};
use burn_cubecl::tensor::CubeTensor;

/// What a kernel found wrong with its arguments, or what the device reported.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// Two arguments disagree about the length of an axis, or a tensor has another number of axes.
    #[error("{what}: expected {expected}, found {found}; pass tensors that agree on this length")]
    Shape {
        /// The axis or list in question, and what it has to agree with.
        what: &'static str,
        /// The length the other argument asks for.
        expected: usize,
        /// The length that was found.
        found: usize,
    },
    /// A tensor's numbers are of a type that the kernel does not take, or that the device cannot read.
    #[error(
        "{what} of type {found:?}; convert them to a float type that this kernel and this device take, such as f32"
    )]
    Dtype {
        /// The tensor.
        what: &'static str,
        /// Its type.
        found: DType,
    },
    /// A tensor lies on another device than the first argument.
    #[error("{what} on {found}, the first argument on {expected}; move both to one device")]
    OtherDevice {
        /// The tensor.
        what: &'static str,
        /// The first argument's device.
        expected: String,
        /// The tensor's device.
        found: String,
    },
    /// A label is not below the number of classes.
    #[error("label {label} of sample {index} is not below the number of classes, {classes}; labels count from 0")]
    Label {
        /// Position in the list of labels.
        index: usize,
        /// The label found there.
        label: usize,
        /// Number of classes.
        classes: usize,
    },
    /// The threshold of the Boolean matrix is not a finite number.
    #[error("threshold {found} is not a finite number; the paper uses 0.3")]
    Threshold {
        /// The threshold given.
        found: f64,
    },
    /// The lists of a sparse pattern do not describe one.
    #[error("sparse pattern: {what} (entry {index})")]
    Pattern {
        /// What is wrong and what it should be.
        what: &'static str,
        /// Where in the list it is.
        index: usize,
    },
    /// Stride, padding, dilation and shapes describe no convolution.
    #[error("convolution: {what} (axis {axis}: 0 = height, 1 = width)")]
    Geometry {
        /// What is wrong and what it should be.
        what: &'static str,
        /// The spatial axis.
        axis: usize,
    },
    /// The device had no memory for a buffer.
    #[error("out of device memory{}; use smaller batches or chunks", .bytes.map(|b| format!(" allocating {b} bytes")).unwrap_or_default())]
    OutOfMemory {
        /// Size of the buffer, where the device tells.
        bytes: Option<u64>,
    },
    /// The device was lost, or a kernel could not be compiled or launched.
    #[error("device failure{}: {message}", if *.lost { ", the device is lost" } else { "" })]
    Device {
        /// What the runtime said.
        message: String,
        /// Nothing on the device can be used any more.
        lost: bool,
    },
}

impl From<ServerError> for GpuError {
    fn from(error: ServerError) -> Self {
        match out_of_memory(&error) {
            Some(bytes) if !error.is_device_poisoned() => Self::OutOfMemory { bytes },
            _ => Self::Device { message: error.to_string(), lost: error.is_device_poisoned() },
        }
    }
}

impl GpuError {
    /// The error for a panic of the runtime.
    pub(crate) fn from_panic(payload: Box<dyn Any + Send>) -> Self {
        let message = match (payload.downcast_ref::<String>(), payload.downcast_ref::<&str>()) {
            (Some(message), _) => message.clone(),
            (_, Some(message)) => (*message).to_string(),
            _ => "the runtime panicked without a message".to_string(),
        };
        let lower = message.to_lowercase();
        if lower.contains("out of memory") || lower.contains("out-of-memory") || lower.contains("not enough memory") {
            Self::OutOfMemory { bytes: None }
        } else {
            Self::Device { message, lost: false }
        }
    }
}

/// `Some` when the failure, or the one that started it, is a lack of memory; with the size asked for.
fn out_of_memory(error: &ServerError) -> Option<Option<u64>> {
    match error {
        ServerError::Io(
            IoError::BufferTooBig { size, .. }
            | IoError::OutOfMemory { size, .. }
            | IoError::PageSizesExhausted { size, .. }
            | IoError::PageUpdateForbidden { size, .. },
        ) => Some(Some(*size)),
        ServerError::Launch(LaunchError::OutOfMemory { .. }) => Some(None),
        ServerError::Unwritten { root, .. } => out_of_memory(root),
        ServerError::Several { errors, .. } => errors.iter().find_map(out_of_memory),
        _ => None,
    }
}

/// `Ok` when `found` is `expected`, else [`GpuError::Shape`].
pub(crate) fn expect_len(what: &'static str, expected: usize, found: usize) -> Result<(), GpuError> {
    if expected == found { Ok(()) } else { Err(GpuError::Shape { what, expected, found }) }
}

/// The shape of a tensor of `D` axes.
pub(crate) fn dims<const D: usize>(what: &'static str, tensor: &CubeTensor) -> Result<[usize; D], GpuError> {
    let shape = tensor.meta.shape();
    let found = shape.num_dims();
    let axes: Vec<usize> = shape.iter().copied().collect();
    axes.try_into().map_err(|_| GpuError::Shape { what, expected: D, found })
}

/// `Ok` when both tensors lie on one device.
pub(crate) fn same_device(what: &'static str, first: &CubeTensor, second: &CubeTensor) -> Result<(), GpuError> {
    if first.device == second.device {
        return Ok(());
    }
    let (expected, found) = (format!("{:?}", first.device), format!("{:?}", second.device));
    Err(GpuError::OtherDevice { what, expected, found })
}

/// `Ok` for a tensor of 32-bit floats.
pub(crate) fn expect_f32(what: &'static str, tensor: &CubeTensor) -> Result<(), GpuError> {
    if tensor.dtype == DType::F32 { Ok(()) } else { Err(GpuError::Dtype { what, found: tensor.dtype }) }
}
