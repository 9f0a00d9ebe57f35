//! Removed connections that are not computed any more.
//!
//! Each layer of the type [`SparseConv2d`](burn_sfp_nn::SparseConv2d) or [`SparseLinear`](burn_sfp_nn::SparseLinear) that lacks
//! connections gets the format that the cost model finds fastest: the kernels that stay, one by one; a few dense blocks of filters
//! with similar inputs; or it stays dense. Layers of Burn's own types keep computing the zeros.
//!
//! | what | where |
//! | --- | --- |
//! | the settings | [`SparseConfig`], [`SparseFormat`] |
//! | what a layer costs in each format | [`CostModel`] |
//! | from a dense or masked model to a sparse one | [`sparsify`] |
//! | from a sparse model to a dense one | [`densify`] |
//! | what became of the layers | [`Sparse`], [`SparseLayer`], [`ChosenFormat`] |
//! | the format of one layer | `choose`, `regroup` |

mod choose;
mod config;
mod cost;
mod densify;
mod regroup;
mod report;
mod sparsify;

pub use config::{SparseConfig, SparseFormat};
pub use cost::CostModel;
pub use densify::densify;
pub use report::{ChosenFormat, Sparse, SparseLayer};
pub use sparsify::sparsify;
