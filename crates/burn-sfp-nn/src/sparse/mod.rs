//! Weights that hold only the kernels that pruning left, and forward passes that compute only those.
//!
//! | what | where |
//! | --- | --- |
//! | storage format of a sparse weight | [`WeightFormat`], [`Blocks`], [`KernelPattern`] |
//! | formats of all layers of a module, read or changed | [`formats`], [`with_formats`] |
//! | the format as a part of a layer | [`Sparsity`] |
//! | multiply-adds that sparse layers leave out | [`skipped_macs`] |
//! | the sparse convolutions of a captured forward pass | [`recorded_calls`] |
//!
//! The layers are [`SparseConv2d`](crate::SparseConv2d) and [`SparseLinear`](crate::SparseLinear).
//!
//! # Example
//! ```
//! use std::sync::Arc;
//! use burn::tensor::{Device, Tensor};
//! use burn_sfp_nn::SparseLinearConfig;
//! use burn_sfp_nn::sparse::{KernelPattern, WeightFormat};
//!
//! let device = Device::flex();
//! let pattern = KernelPattern::from_fn(4, 8, |output, input| input / 2 == output);
//! let format = WeightFormat::Kernels(Arc::new(pattern));
//! let layer = SparseLinearConfig::new(8, 4).init(&device).with_format(Some(format))?;
//! // 8 of 32 weights are stored and computed.
//! assert_eq!(layer.weight.dims(), [8, 1]);
//! assert_eq!(layer.forward(Tensor::<2>::ones([3, 8], &device)).dims(), [3, 4]);
//! # Ok::<(), burn_sfp_nn::NnError>(())
//! ```

#[cfg(feature = "autodiff")]
mod autodiff;
pub(crate) mod blocks;
pub(crate) mod call;
mod code;
#[cfg(feature = "wgpu")]
mod cube;
mod dispatch;
mod format;
mod host;
pub(crate) mod layer;
mod model;
pub(crate) mod op;
pub(crate) mod packed;
mod portable;
mod recorded;
mod skipped_macs;
mod sparsity;
mod weight;

pub use burn_sfp_ndarray::KernelPattern;
pub use format::{Block, Blocks, WeightFormat};
pub(crate) use model::formats_of_codes;
pub use model::{formats, with_formats};
pub use recorded::{RecordedCall, SparseCall, recorded_calls};
pub use skipped_macs::skipped_macs;
pub use sparsity::Sparsity;
