//! GPU kernels of `burn-sfp`, written with CubeCL: one source for wgpu, Vulkan, CUDA and every other CubeCL
//! runtime of Burn.
//!
//! | job | function | source |
//! | --- | --- | --- |
//! | add a batch's activations to the sums of their labels | [`class_sums`] | METHOD 2 |
//! | largest element and Boolean matrix of every filter | [`filter_performances`] | METHOD 2, 3 |
//! | a convolution of which most kernels are gone, and its gradients | [`sparse_conv2d`], [`sparse_conv2d_grad_input`], [`sparse_conv2d_grad_values`] over a [`DevicePattern`] | METHOD 4 |
//!
//! METHOD is the project's summary of Y. Tzach et al., "Advanced deep architecture pruning using single-filter
//! performance", Physical Review E 111, 065307 (2025), arXiv 2501.12880.
//!
//! The kernels take and give [`CubeTensor`]s, which are what Burn's tensors are on those runtimes. None uses an
//! atomic operation: every number is added up in a fixed order, so the same device gives the same bits from run
//! to run. Sums are in single precision, where the CPU's (`burn-sfp-ndarray`) are in double precision.
//!
//! # Errors and when they show
//! Wrong arguments are reported as [`GpuError`] before anything is launched. A kernel is launched and the
//! function returns; the device works later. A function does wait for the runtime to accept its allocations and
//! kernels, and reports what it refuses ([`GpuError::OutOfMemory`], [`GpuError::Device`]); panics of the runtime
//! become the same errors (the panic hook still prints them). A device lost while it works shows in the next
//! function that reads: here [`filter_performances`], elsewhere the reading of a tensor's data.
//!
//! # Features
//! * `vulkan`: SPIR-V instead of WGSL for wgpu's Vulkan devices;
//! * `cuda`: the CUDA runtime.
//!
//! # Example
//! From a batch of activations to what each filter recognises:
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
//! // The readout: filter 0 speaks for labels 0 and 1, filter 1 for label 2. [F, S, C]
//! let readout = Tensor::<3>::from_data([[[1.0, 1.0, -1.0]], [[-1.0, -1.0, 1.0]]], &device);
//! let means = means.try_into_primitive::<CubeBackend>().unwrap();
//! let readout = readout.try_into_primitive::<CubeBackend>().unwrap();
//! let filters = filter_performances(means, readout, 0.3, None)?;
//! assert_eq!(filters.words, [0b011, 0b011, 0b000, 0b000, 0b000, 0b100]);
//! # Ok::<(), burn_sfp_wgpu::GpuError>(())
//! ```

#![deny(unsafe_op_in_unsafe_fn)]

mod class_sums;
mod device;
mod error;
mod performance;
mod sparse;

pub use burn_cubecl::CubeDevice;
pub use burn_cubecl::tensor::CubeTensor;
pub use class_sums::class_sums;
pub use error::GpuError;
pub use performance::{PackedPerformances, filter_performances};
pub use sparse::{ConvGeometry, DevicePattern, sparse_conv2d, sparse_conv2d_grad_input, sparse_conv2d_grad_values};
