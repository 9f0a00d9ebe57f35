//! What became of the layers of a model that was made sparse.

use serde::{Deserialize, Serialize};

/// A model that does not compute removed connections, and what became of its layers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Sparse<M> {
    /// The model, of the user's own type.
    pub model: M,
    /// Every layer that lacks connections, in the order in which they run.
    pub layers: Vec<SparseLayer>,
}

/// What became of one layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SparseLayer {
    /// Module path.
    pub path: String,
    /// The format that the layer has now.
    pub format: ChosenFormat,
    /// Pairs of output and input.
    pub connections: u64,
    /// Pairs that stay.
    pub kept: u64,
    /// Multiply-adds of a sample if the layer were dense.
    pub macs_dense: u64,
    /// Multiply-adds of a sample that are executed now.
    pub macs: u64,
}

/// The format that was chosen for a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChosenFormat {
    /// Dense, because the cost model finds that fastest or for another reason.
    Dense {
        /// The reason, where it is not the cost.
        reason: Option<String>,
    },
    /// Kernels one by one.
    Kernels,
    /// This number of dense blocks.
    Blocks(usize),
}
