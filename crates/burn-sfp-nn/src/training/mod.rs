//! Operations of a training step by the CPU's kernels, with gradients.
//!
//! Burn's convolutions on the CPU gather patches and pack the weights in each pass, and a batch normalisation in training is a dozen
//! passes over the activations. Here 3 x 3 kernels run by minimal filtering algorithms, forward and for both gradients, other kernels on
//! packed weights, and a normalisation with the ReLU behind it reads and writes each element once. Used where a forward pass runs
//! operation by operation, as in training on stored outputs or on the recorded pass; a layer's own `forward` is Burn's.
//!
//! | what | where |
//! | --- | --- |
//! | convolution | [`conv2d`] |
//! | batch normalisation by the statistics of the batch | [`batch_norm`] |
//!
//! The result is `None` where a device has no such kernels; [`bodies`](crate::bodies) counts the runs.

mod conv;
mod norm;

pub use burn_sfp_ndarray::ConvGeometry;
pub use conv::conv2d;
pub use norm::{Normalized, batch_norm};

#[cfg(all(test, feature = "autodiff", feature = "flex", feature = "ndarray"))]
mod tests;
