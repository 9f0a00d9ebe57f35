//! What a layer costs in each form, as far as shapes tell.

use burn::config::Config;
use serde::{Deserialize, Serialize};

use crate::PruneError;

/// Which forms are considered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SparseForm {
    /// The cheapest of dense, kernels and blocks.
    #[default]
    Auto,
    /// Kernels one by one, whatever the cost.
    Kernels,
    /// The cheapest dense blocks, whatever the cost. Grouped convolutions, which cannot be regrouped, stay dense.
    Blocks,
}

/// Settings of [`sparsify`](super::sparsify).
#[derive(Config, Debug)]
pub struct SparseConfig {
    /// Which forms are considered.
    #[config(default = "SparseForm::Auto")]
    pub form: SparseForm,
    /// What things cost on the device that the model will run on.
    #[config(default = "CostModel::default()")]
    pub cost: CostModel,
}

/// Nanoseconds of what a layer does. Only ratios count.
///
/// The defaults are those of two cores with AVX-512 (docs/performance.md) where dense layers do best, batches of large maps: 170 G
/// multiply-adds a second, against 125 G one kernel at a time. On small maps and single images sparse layers win earlier.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostModel {
    /// A multiply-add of a dense layer.
    pub dense_mac: f64,
    /// A multiply-add of kernels that are computed one by one.
    pub sparse_mac: f64,
    /// A number that is read and written once (gathering, packing).
    pub moved: f64,
    /// An operation.
    pub call: f64,
}

impl Default for CostModel {
    fn default() -> Self {
        Self { dense_mac: 0.006, sparse_mac: 0.008, moved: 0.5, call: 20_000.0 }
    }
}

impl CostModel {
    pub(super) fn check(&self) -> Result<(), PruneError> {
        let costs = [
            ("cost of a dense multiply-add", self.dense_mac),
            ("cost of a sparse multiply-add", self.sparse_mac),
            ("cost of a moved number", self.moved),
            ("cost of an operation", self.call),
        ];
        match costs.into_iter().find(|(_, cost)| !(*cost >= 0.0 && cost.is_finite())) {
            None => Ok(()),
            Some((name, found)) => Err(PruneError::Config {
                name,
                found: found.to_string(),
                expected: "a number of nanoseconds, at least 0",
            }),
        }
    }

    /// A dense layer.
    pub(super) fn dense(&self, size: &Size) -> f64 {
        self.call + (size.outputs * size.inputs) as f64 * size.of_pair(self.dense_mac)
    }

    /// Kernels one by one; the input and the output are packed and unpacked.
    pub(super) fn kernels(&self, size: &Size, kept: usize) -> f64 {
        let packed = (size.outputs + size.inputs) as f64 * size.positions * self.moved;
        self.call + packed + kept as f64 * size.of_pair(self.sparse_mac)
    }

    /// One dense block of so many filters and inputs, the inputs gathered.
    pub(super) fn block(&self, size: &Size, outputs: usize, inputs: usize) -> f64 {
        let gathered = inputs as f64 * size.positions * self.moved;
        2.0 * self.call + gathered + (outputs * inputs) as f64 * size.of_pair(self.dense_mac)
    }

    /// All blocks, each by its filters and inputs; their outputs are joined and put in order.
    pub(super) fn blocks(&self, size: &Size, blocks: impl Iterator<Item = (usize, usize)>) -> f64 {
        let joined = 2.0 * size.outputs as f64 * size.positions * self.moved;
        2.0 * self.call + joined + blocks.map(|(rows, columns)| self.block(size, rows, columns)).sum::<f64>()
    }
}

/// A layer's size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub outputs: usize,
    /// Of a group.
    pub inputs: usize,
    /// Numbers of a kernel.
    pub kernel: usize,
    /// Positions of an output channel in the whole batch.
    pub positions: f64,
}

impl Size {
    /// All multiply-adds of one pair of output and input.
    fn of_pair(&self, mac: f64) -> f64 {
        self.kernel as f64 * self.positions * mac
    }
}
