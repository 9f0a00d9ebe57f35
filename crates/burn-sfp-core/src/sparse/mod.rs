//! Connections that are gone, and so are not computed: the forms in which a layer holds the kernels that stay, and the
//! operations on them.
//!
//! | what | where |
//! | --- | --- |
//! | the two sparse forms of a weight, as plain data and as integers in a record | [`Form`], [`Blocks`], [`KernelPattern`] |
//! | a layer's form as a part of its module | [`Sparsity`] |
//! | the convolution over kernels that stay, with its gradients, on every device | `op` |
//! | a few dense convolutions on gathered channels | `blocks` |
//!
//! The layers are [`nn::SparseConv2d`](crate::nn::SparseConv2d) and [`nn::SparseLinear`](crate::nn::SparseLinear).

pub(crate) mod blocks;
pub(crate) mod call;
#[cfg(feature = "wgpu")]
mod cube;
mod form;
mod host;
pub(crate) mod op;
mod portable;
mod sparsity;
pub(crate) mod tally;
mod weight;

pub use burn_sfp_ndarray::KernelPattern;
pub use form::{Block, Blocks, Form};
pub use sparsity::{Sparsity, expose};
pub use weight::{DenseShape, gather, replace, scatter};
