//! Types and rules that the CPU kernels (`burn-sfp-ndarray`) and the GPU kernels (`burn-sfp-wgpu`) share.
//!
//! Both crates re-export what their callers need from here.
//!
//! | what | items |
//! | --- | --- |
//! | which kernels of a convolution are kept, and the transposed lists that gradients read | [`KernelPattern`], [`KernelRows`] |
//! | stride, padding, dilation and groups of a convolution, and the size limits | [`ConvGeometry`], [`LONGEST_AXIS`], [`LONGEST_AXIS_GPU`], [`MOST_TAPS`] |
//! | samples of a batch grouped by class label | [`SamplesByLabel`] |
//! | comparison with the threshold of the Boolean matrix, and which elements are near it | [`Cuts`], [`NEAR`], [`recognizes_nothing`] |
//! | argument checks and the error they return | [`expect_len`], [`expect_labels`], [`expect_readout`], [`expect_gradient`], [`expect_threshold`], [`KernelError`] |
//! | what a panic or an error message of a device means | [`panic_message`], [`lacks_memory`] |
//!
//! # Example
//! The kernels that a convolution keeps, and the size of its output:
//! ```
//! use burn_sfp_kernels::{ConvGeometry, KernelPattern};
//!
//! // Output 0 reads inputs 0 and 2, output 1 reads nothing, output 2 reads input 1.
//! let pattern = KernelPattern::new(3, vec![0, 2, 2, 3], vec![0, 2, 1])?;
//! assert_eq!(pattern.kept(), 3);
//!
//! let same = ConvGeometry { padding: [[1, 1], [1, 1]], ..ConvGeometry::default() };
//! assert_eq!(same.output_size([7, 9], [3, 3])?, [7, 9]);
//! # Ok::<(), burn_sfp_kernels::KernelError>(())
//! ```

#![forbid(unsafe_code)]

mod check;
mod error;
mod failure;
mod geometry;
mod labels;
mod pattern;
mod rows;
mod threshold;

pub use check::{expect_gradient, expect_labels, expect_len, expect_readout, expect_threshold};
pub use error::KernelError;
pub use failure::{lacks_memory, panic_message};
pub use geometry::{ConvGeometry, LONGEST_AXIS, LONGEST_AXIS_GPU, MOST_TAPS};
pub use labels::SamplesByLabel;
pub use pattern::KernelPattern;
pub use rows::KernelRows;
pub use threshold::{Cuts, NEAR, recognizes_nothing};
