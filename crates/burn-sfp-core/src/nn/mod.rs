//! Layers that take the place of Burn's where those cannot shrink, or cannot leave out what is not needed.

mod attention;
mod norm;
mod sparse;
mod sparse_conv2d;
mod sparse_linear;

pub use attention::{AttentionInput, HeadAttention, HeadAttentionConfig};
pub use norm::FoldBatchNorm;
pub use sparse_conv2d::SparseConv2d;
pub use sparse_linear::SparseLinear;
