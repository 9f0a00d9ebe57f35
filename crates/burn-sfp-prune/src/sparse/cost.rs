//! What a layer costs in each format, as far as shapes tell.

use burn_sfp_nn::ConfigError;
use serde::{Deserialize, Serialize};

/// What the parts of a layer's computation cost, in nanoseconds. Only their ratios matter.
///
/// The defaults were measured on two cores with AVX-512 (docs/performance.md) on batches of large maps, where dense layers do best:
/// 170 G multiply-adds per second, against 125 G for kernels one by one. On small maps and single images sparse layers win earlier.
///
/// ```
/// use burn_sfp_prune::CostModel;
///
/// // A device on which kernels one by one are as fast as dense layers.
/// let cost = CostModel { sparse_mac: 0.006, ..CostModel::default() };
/// assert_eq!(cost.sparse_mac, cost.dense_mac);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostModel {
    /// A multiply-add of a dense layer.
    pub dense_mac: f64,
    /// A multiply-add of kernels that are computed one by one.
    pub sparse_mac: f64,
    /// An element that is read and written once (gathering, packing).
    pub moved: f64,
    /// Starting an operation.
    pub call: f64,
}

impl Default for CostModel {
    fn default() -> Self {
        Self { dense_mac: 0.006, sparse_mac: 0.008, moved: 0.5, call: 20_000.0 }
    }
}

impl CostModel {
    /// Refuses costs that are negative or not finite.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let costs = [
            ("cost of a dense multiply-add", self.dense_mac),
            ("cost of a sparse multiply-add", self.sparse_mac),
            ("cost of a moved element", self.moved),
            ("cost of an operation", self.call),
        ];
        match costs.into_iter().find(|(_, cost)| !(*cost >= 0.0 && cost.is_finite())) {
            None => Ok(()),
            Some((name, found)) => {
                Err(ConfigError { name, found: found.to_string(), expected: "finite and at least 0 nanoseconds" })
            }
        }
    }

    /// Cost of a dense layer.
    pub(super) fn dense(&self, size: &Size) -> f64 {
        self.call + (size.outputs * size.inputs) as f64 * size.of_pair(self.dense_mac)
    }

    /// Cost of `kept` kernels one by one; input and output are packed and unpacked.
    pub(super) fn kernels(&self, size: &Size, kept: usize) -> f64 {
        let packed = (size.outputs + size.inputs) as f64 * size.positions * self.moved;
        self.call + packed + kept as f64 * size.of_pair(self.sparse_mac)
    }

    /// Cost of one dense block with this many filters and inputs; the inputs are gathered.
    pub(super) fn block(&self, size: &Size, outputs: usize, inputs: usize) -> f64 {
        let gathered = inputs as f64 * size.positions * self.moved;
        2.0 * self.call + gathered + (outputs * inputs) as f64 * size.of_pair(self.dense_mac)
    }

    /// Cost of all blocks, given the filters and inputs of each; their outputs are joined and put in order.
    pub(super) fn blocks(&self, size: &Size, blocks: impl Iterator<Item = (usize, usize)>) -> f64 {
        let joined = 2.0 * size.outputs as f64 * size.positions * self.moved;
        2.0 * self.call + joined + blocks.map(|(rows, columns)| self.block(size, rows, columns)).sum::<f64>()
    }
}

/// Size of a layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// Filters.
    pub outputs: usize,
    /// Inputs of a filter.
    pub inputs: usize,
    /// Elements of a kernel.
    pub kernel: usize,
    /// Positions of an output channel, in the whole batch.
    pub positions: f64,
}

impl Size {
    /// Cost of all multiply-adds of one pair of output and input.
    fn of_pair(&self, mac: f64) -> f64 {
        self.kernel as f64 * self.positions * mac
    }
}
