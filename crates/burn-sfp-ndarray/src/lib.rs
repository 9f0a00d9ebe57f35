//! CPU kernels of `burn-sfp` over [`ndarray`] views.
//!
//! | job | function | source |
//! | --- | --- | --- |
//! | add a batch's activations to the sums of their labels | [`class_sums`] | METHOD 2 |
//! | look for an overflow | [`find_non_finite`] | |
//! | what every filter recognises, in one pass | [`filter_performances`] | METHOD 2, 3 |
//! | its steps: performance matrix, Boolean matrix, clusters | [`performance_matrix`], [`boolean_matrices`], [`BooleanMatrix`], [`clusters`] | METHOD 2, 3 |
//! | least-squares readout: normal equations, their solution | [`gram_update`], [`cholesky_solve`] | METHOD 1 |
//! | convolution with the kernels that pruning left, and its gradients | [`sparse_conv2d`], [`sparse_conv2d_grad_input`], [`sparse_conv2d_grad_values`], [`KernelPattern`] | METHOD 4 |
//!
//! METHOD is the project's summary of Y. Tzach et al., "Advanced deep architecture pruning using
//! single-filter performance", Physical Review E 111, 065307 (2025), arXiv 2501.12880.
//!
//! All kernels run on the rayon pool they are called from, give the same result bit for bit whatever its
//! number of threads, and take views of any strides without copying them (row-major is fastest). (Bits may
//! differ between machines: the matrix product uses the vector instructions it finds.) Wrong arguments are
//! reported as [`KernelError`] before anything is changed.
//!
//! # Example
//! From a batch of activations to what each filter recognises:
//! ```
//! use burn_sfp_ndarray::{class_sums, filter_performances};
//! use ndarray::{Array3, array};
//!
//! // Four samples of three labels, two filters with one position each: [N, F, S].
//! let acts = array![[[4.0_f32], [0.0]], [[3.0], [0.1]], [[0.0], [2.0]], [[3.0], [0.1]]];
//! let labels = [0, 1, 2, 1];
//!
//! let mut sums = Array3::<f64>::zeros((3, 2, 1));
//! class_sums(acts.view(), &labels, sums.view_mut())?;
//! let counts = [1.0, 2.0, 1.0];
//! let means = Array3::from_shape_fn(sums.dim(), |(c, f, s)| (sums[[c, f, s]] / counts[c]) as f32);
//!
//! // The readout: filter 0 speaks for labels 0 and 1, filter 1 for label 2. [F, S, C]
//! let readout = array![[[1.0_f32, 1.0, -1.0]], [[-1.0, -1.0, 1.0]]];
//! let filters = filter_performances(means.view(), readout.view(), 0.3)?;
//! assert_eq!(filters[0].clusters, [vec![0, 1]]);
//! assert_eq!(filters[1].clusters, [vec![2]]);
//! assert_eq!((filters[0].noise, filters[1].noise), (0, 0));
//! # Ok::<(), burn_sfp_ndarray::KernelError>(())
//! ```

#![deny(unsafe_code)]

mod boolean;
mod cholesky;
mod class_sums;
mod cluster;
mod error;
mod finite;
#[allow(unsafe_code)] // the one place: a checked call of gemm::gemm
mod gemm;
mod gram;
mod lower;
mod pack;
mod performance;
mod sparse;
#[cfg(test)]
mod testing;
mod vector;

pub use boolean::{BooleanMatrix, NEAR};
pub use cholesky::cholesky_solve;
pub use class_sums::class_sums;
pub use cluster::{FilterClusters, clusters};
pub use error::KernelError;
pub use finite::find_non_finite;
pub use gram::gram_update;
pub use performance::{FilterPerformance, boolean_matrices, filter_performances, performance_matrix};
pub use sparse::{
    ConvGeometry, Epilogue, KernelPattern, sparse_conv2d, sparse_conv2d_grad_input, sparse_conv2d_grad_values,
};
