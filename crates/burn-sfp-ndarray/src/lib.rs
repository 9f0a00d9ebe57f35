//! CPU kernels of `burn-sfp` over [`ndarray`] views.
//!
//! | task | items | source |
//! | --- | --- | --- |
//! | add a batch of activations to the sums of their labels | [`class_sums`] | section 2 |
//! | find an activation that is infinite or NaN | [`find_non_finite`] | |
//! | compute clusters and noise of every filter in one pass | [`filter_performances`], [`FilterPerformance`] | sections 2, 3 |
//! | compute the same in steps: performance matrix, Boolean matrix, clusters | [`performance_matrix`], [`boolean_matrices`], [`BooleanMatrix`], [`clusters`], [`FilterClusters`] | sections 2, 3 |
//! | build and solve the normal equations of the least-squares readout | [`gram_update`], [`cholesky_solve`] | section 1 |
//! | compute a convolution with the kernels that pruning kept, and its gradients | [`sparse_conv2d`], [`sparse_conv2d_grad_input`], [`sparse_conv2d_grad_values`], [`KernelPattern`], [`ConvGeometry`], [`Epilogue`] | section 4 |
//! | compute a dense convolution or linear layer with weights packed once | [`PackedConv2d`], [`packed_conv2d`], [`PackedLinear`], [`packed_linear`], [`Storage`] | |
//! | compute a dense 3 x 3 convolution with fewer products | [`WinogradConv2d`], [`WinogradTile`], [`winograd_conv2d`] | Lavin and Gray 2015, arXiv 1509.09308 |
//! | choose between them by the shapes | [`ConvShapes`] | |
//! | compute the gradients of a dense convolution | [`conv2d_grad_input`], [`conv2d_grad_weights`], [`winograd_conv2d_grad_weights`], [`conv2d_grad_bias`] | |
//! | normalise a batch by its own statistics, with ReLU, and compute the gradients | [`batch_norm_train`], [`batch_norm_train_gradients`] | |
//!
//! The sections are those of `docs/method.md` in the repository, which summarizes Y. Tzach et al., "Advanced deep
//! architecture pruning using single-filter performance", Physical Review E 111, 065307 (2025), arXiv 2501.12880.
//!
//! All kernels run on the rayon pool from which they are called and give the same bits for any number of threads. They
//! read views of any strides (row-major is fastest). Bits may differ between machines, since the matrix product uses the
//! vector instructions that it finds. Wrong arguments are reported as [`KernelError`] before any argument is changed.
//!
//! # Example
//! From a batch of activations to the labels that each filter recognizes:
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
//! // The readout [F, S, C]: filter 0 adds to the outputs of labels 0 and 1, filter 1 to that of label 2.
//! let readout = array![[[1.0_f32, 1.0, -1.0]], [[-1.0, -1.0, 1.0]]];
//! let filters = filter_performances(means.view(), readout.view(), 0.3)?;
//! assert_eq!(filters[0].clusters, [vec![0, 1]]);
//! assert_eq!(filters[1].clusters, [vec![2]]);
//! assert_eq!((filters[0].noise, filters[1].noise), (0, 0));
//! # Ok::<(), burn_sfp_ndarray::KernelError>(())
//! ```

#![deny(unsafe_code)]

mod batch_norm;
mod boolean;
mod cholesky;
mod class_sums;
mod cluster;
mod epilogue;
mod finite;
#[allow(unsafe_code)] // calls gemm::gemm
mod gemm;
mod gram;
mod lower;
mod maps;
mod max_pool;
mod pack;
mod packed;
mod performance;
mod sparse;
#[cfg(test)]
mod testing;
mod vector;

pub use batch_norm::{BatchNormGradients, BatchNormTrain, batch_norm_train, batch_norm_train_gradients};
pub use boolean::BooleanMatrix;
pub use burn_sfp_kernels::{ConvGeometry, KernelError, KernelPattern, KernelRows, NEAR};
pub use cholesky::cholesky_solve;
pub use class_sums::class_sums;
pub use cluster::{FilterClusters, clusters};
pub use epilogue::Epilogue;
pub use finite::find_non_finite;
pub use gram::gram_update;
pub use max_pool::max_pool2d;
pub use packed::{
    ConvShapes, PackedConv2d, PackedLinear, Storage, WinogradConv2d, WinogradTile, conv2d_grad_bias, conv2d_grad_input,
    conv2d_grad_weights, packed_conv2d, packed_linear, takes_conv2d_grad_input, winograd_conv2d,
    winograd_conv2d_grad_weights,
};
pub use performance::{FilterPerformance, boolean_matrices, filter_performances, performance_matrix};
pub use sparse::{sparse_conv2d, sparse_conv2d_grad_input, sparse_conv2d_grad_values};

use burn_sfp_kernels::{
    Cuts, SamplesByLabel, expect_gradient, expect_labels, expect_len, expect_readout, expect_threshold,
    recognizes_nothing,
};
