//! The error of this crate, and its conversion from the failures of the device.

use std::any::Any;

use burn_backend::DType;
use burn_cubecl::cubecl::server::{IoError, LaunchError, ServerError};
use burn_cubecl::tensor::CubeTensor;
use burn_sfp_kernels::{KernelError, expect_len, lacks_memory, panic_message};

/// The reason why a kernel rejects its arguments, or the failure that the device reported.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// The arguments break a rule that also holds for the CPU kernels: shapes, labels, threshold, pattern or geometry.
    #[error(transparent)]
    Argument(#[from] KernelError),
    /// A tensor's element type is not supported by the kernel or by the device.
    #[error(
        "the elements of the {what} have the type {found:?}; convert them to a float type that this kernel and this device support, such as f32"
    )]
    Dtype {
        /// The tensor.
        what: &'static str,
        /// Its element type.
        found: DType,
    },
    /// A tensor or pattern is on another device than the first argument.
    #[error("the {what} is on {found}, the first argument on {expected}; move both to one device")]
    OtherDevice {
        /// The tensor or pattern.
        what: &'static str,
        /// The first argument's device.
        expected: String,
        /// The device of the tensor or pattern.
        found: String,
    },
    /// The device has no memory for a buffer.
    #[error("out of device memory{}; use smaller batches or chunks", .bytes.map(|b| format!(" allocating {b} bytes")).unwrap_or_default())]
    OutOfMemory {
        /// Bytes of the buffer, if the device reports them.
        bytes: Option<u64>,
    },
    /// The device is lost, or a kernel could not be compiled or launched.
    #[error("device failure{}: {message}", if *.lost { ", the device is lost" } else { "" })]
    Device {
        /// The message of the runtime.
        message: String,
        /// Whether the device is lost, so that nothing on it can be used any more.
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
    /// Converts a panic of the runtime.
    pub(crate) fn from_panic(payload: Box<dyn Any + Send>) -> Self {
        let message = panic_message(payload);
        if lacks_memory(&message) { Self::OutOfMemory { bytes: None } } else { Self::Device { message, lost: false } }
    }
}

/// Returns `Some` when the failure, or the one that caused it, is a lack of memory; with the bytes asked for, if known.
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

/// Returns the shape of a tensor of `D` axes.
pub(crate) fn dims<const D: usize>(what: &'static str, tensor: &CubeTensor) -> Result<[usize; D], GpuError> {
    let shape = tensor.meta.shape();
    expect_len(what, D, shape.num_dims())?;
    Ok(std::array::from_fn(|axis| shape[axis]))
}

/// Checks that both tensors are on one device.
pub(crate) fn same_device(what: &'static str, first: &CubeTensor, second: &CubeTensor) -> Result<(), GpuError> {
    if first.device == second.device {
        return Ok(());
    }
    let (expected, found) = (format!("{:?}", first.device), format!("{:?}", second.device));
    Err(GpuError::OtherDevice { what, expected, found })
}

/// Checks that both tensors are on one device and have the same element type.
pub(crate) fn same_type(what: &'static str, first: &CubeTensor, second: &CubeTensor) -> Result<(), GpuError> {
    same_device(what, first, second)?;
    if first.dtype == second.dtype { Ok(()) } else { Err(GpuError::Dtype { what, found: second.dtype }) }
}

/// Checks that the elements of a tensor are 32-bit floats.
pub(crate) fn expect_f32(what: &'static str, tensor: &CubeTensor) -> Result<(), GpuError> {
    if tensor.dtype == DType::F32 { Ok(()) } else { Err(GpuError::Dtype { what, found: tensor.dtype }) }
}
