//! GPU kernels of `burn-sfp`, written with CubeCL: one source for wgpu, Vulkan, CUDA and every other CubeCL runtime of
//! Burn.
//!
//! | task | items | source |
//! | --- | --- | --- |
//! | add a batch of activations to the sums of their labels | [`class_sums`] | section 2 |
//! | compute largest element and Boolean matrix of every filter | [`filter_performances`], [`PackedPerformances`] | sections 2, 3 |
//! | compute a convolution with the kernels that pruning kept, and its gradients | [`sparse_conv2d`], [`sparse_conv2d_grad_input`], [`sparse_conv2d_grad_values`], [`DevicePattern`], [`KernelPattern`], [`ConvGeometry`] | section 4 |
//! | reach the memory of Burn's tensors, with and without its feature `fusion` | [`KernelBackend`], [`read`] | |
//!
//! The sections are those of `docs/method.md` in the repository, which summarizes Y. Tzach et al., "Advanced deep
//! architecture pruning using single-filter performance", Physical Review E 111, 065307 (2025), arXiv 2501.12880.
//!
//! The kernels take and return [`CubeTensor`]s, the memory of Burn's tensors on these runtimes; where Burn fuses operations,
//! [`KernelBackend`] leads there and back. They use no atomic
//! operations: every element is summed in a fixed order, so a device gives the same bits from run to run. Sums are in
//! single precision; those of the CPU kernels (`burn-sfp-ndarray`) are in double precision.
//!
//! # Errors and when they are reported
//! Wrong arguments are reported as [`GpuError`] before anything is launched. A function launches its kernels and returns;
//! the device works later. The function waits until the runtime has accepted its allocations and kernels, and reports
//! those that it rejects ([`GpuError::OutOfMemory`], [`GpuError::Device`]). Panics of the runtime become the same errors;
//! the panic hook still prints them. A device that is lost while it works is reported by the next function that reads:
//! [`filter_performances`], or the reading of a tensor's data.
//!
//! # Features
//! * `vulkan`: SPIR-V instead of WGSL for wgpu's Vulkan devices;
//! * `cuda`: the CUDA runtime.
//!
//! # Example
//! From a batch of activations to the labels that each filter recognizes:
//! ```
//! use burn::tensor::Tensor;
//! use burn_cubecl::CubeBackend;
//! use burn_sfp_wgpu::{class_sums, filter_performances};
//!
//! # let Some(device) = std::panic::catch_unwind(|| {
//! #     let device = burn::tensor::Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
//! #     let _ = Tensor::<1>::zeros([1], &device).into_data();
//! #     device
//! # }).ok() else { println!("skipped: no wgpu adapter"); return Ok(()) };
//! // Four samples of three labels, two filters with one position each: [N, F, S].
//! let acts = Tensor::<3>::from_data([[[4.0], [0.0]], [[3.0], [0.1]], [[0.0], [2.0]], [[3.0], [0.1]]], &device);
//! let labels = [0, 1, 2, 1];
//! let sums = class_sums(acts.try_into_primitive::<CubeBackend>().unwrap(), &labels, 3, None)?;
//! let counts = Tensor::<3>::from_data([[[1.0]], [[2.0]], [[1.0]]], &device);
//! let means = Tensor::<3>::from_primitive::<CubeBackend>(sums) / counts;
//!
//! // The readout [F, S, C]: filter 0 adds to the outputs of labels 0 and 1, filter 1 to that of label 2.
//! let readout = Tensor::<3>::from_data([[[1.0, 1.0, -1.0]], [[-1.0, -1.0, 1.0]]], &device);
//! let means = means.try_into_primitive::<CubeBackend>().unwrap();
//! let readout = readout.try_into_primitive::<CubeBackend>().unwrap();
//! let filters = filter_performances(means, readout, 0.3, None)?;
//! assert_eq!(filters.words, [0b011, 0b011, 0b000, 0b000, 0b000, 0b100]);
//! # Ok::<(), burn_sfp_wgpu::GpuError>(())
//! ```

#![deny(unsafe_op_in_unsafe_fn)]

// Tests inside and outside of the crate share files.
#[cfg(test)]
extern crate self as burn_sfp_wgpu;

mod backend;
mod class_sums;
mod device;
mod error;
mod performance;
mod sparse;

pub use backend::{KernelBackend, read};
pub use burn_cubecl::CubeDevice;
pub use burn_cubecl::tensor::CubeTensor;
pub use burn_sfp_kernels::{ConvGeometry, KernelError, KernelPattern};
pub use class_sums::class_sums;
pub use error::GpuError;
pub use performance::{PackedPerformances, filter_performances};
pub use sparse::{DevicePattern, sparse_conv2d, sparse_conv2d_grad_input, sparse_conv2d_grad_values};
