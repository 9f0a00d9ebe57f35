//! Settings of [`sparsify`](super::sparsify).

use burn::config::Config;
use serde::{Deserialize, Serialize};

use super::cost::CostModel;

/// Which formats are considered for a layer that lacks connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SparseFormat {
    /// The cheapest of dense, kernels and blocks.
    #[default]
    Auto,
    /// Kernels one by one, whatever the cost.
    Kernels,
    /// The cheapest dense blocks, whatever the cost. Grouped convolutions, whose filters cannot be regrouped, stay dense.
    Blocks,
}

/// Settings of [`sparsify`](super::sparsify).
///
/// ```
/// use burn_sfp_prune::{CostModel, SparseConfig, SparseFormat};
///
/// let config = SparseConfig::new()
///     .with_format(SparseFormat::Auto)
///     .with_cost(CostModel { sparse_mac: 0.004, ..CostModel::default() });
/// ```
#[derive(Config, Debug)]
pub struct SparseConfig {
    /// Which formats are considered.
    #[config(default = "SparseFormat::Auto")]
    pub format: SparseFormat,
    /// Whether layers of our own types that stay dense hold their weights in one block, which on the CPU is packed once: for a model that runs by
    /// its own forward pass there. [`for_inference`](burn_sfp_graph::Inference) packs by itself. Default: false
    #[config(default = false)]
    pub pack: bool,
    /// What computations cost on the device that the model will run on.
    #[config(default = "CostModel::default()")]
    pub cost: CostModel,
}

impl Default for SparseConfig {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_saved_and_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sparse.json");
        let cost = CostModel { call: 1.5, ..CostModel::default() };
        for format in [SparseFormat::Auto, SparseFormat::Kernels, SparseFormat::Blocks] {
            let config = SparseConfig::new().with_format(format).with_pack(true).with_cost(cost);
            config.save(&file).unwrap();
            let loaded = SparseConfig::load(&file).unwrap();
            assert_eq!((loaded.format, loaded.pack, loaded.cost), (format, true, cost));
        }
    }
}
