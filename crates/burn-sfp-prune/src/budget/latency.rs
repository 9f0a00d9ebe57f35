//! [`KeepLatency`]: budgets in milliseconds on a device.

use std::fmt;
use std::sync::Arc;

use burn_sfp_graph::latency::LayerLatencies;
use burn_sfp_nn::ConfigError;

use super::keep::CostUnit;
use super::rule::StopRule;
use super::short::short;
use super::state::RemovalState;
use crate::PruneError;

/// Keeps at most so much of a model's latency, by a table of its layers on the device that it is for.
///
/// Channels go in the order of their score for each second that they save, so that layers that are slow for what they do are cut most (HALP:
/// Shen et al., NeurIPS 2022, arXiv 2210.06659). [`LatencySearch`](crate::LatencySearch) checks the result on the whole model and refines
/// the table.
///
/// ```
/// # use std::sync::Arc;
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// use burn_sfp_graph::latency::{LatencyConfig, LayerLatencies};
/// use burn_sfp_prune::{KeepLatency, Magnitude, Planner};
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear, c: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.c.forward(self.b.forward(self.a.forward(x))) }
/// # }
/// # let device = Device::flex();
/// # let linear = |from, to| LinearConfig::new(from, to).init(&device);
/// # let mlp = Mlp { a: linear(64, 256), b: linear(256, 256), c: linear(256, 4) };
/// # let x = Tensor::zeros([64, 64], &device);
/// let table = Arc::new(LayerLatencies::measure(&mlp, &x, &LatencyConfig::new())?);
/// let smaller = Planner::new().budget(KeepLatency::share(0.5, table)).prune(&mlp, &x, &Magnitude::l2())?;
/// assert!(smaller.plan.macs_after < smaller.plan.macs_before);
/// # Ok::<(), burn_sfp_prune::PruneError>(())
/// ```
#[derive(Clone)]
pub struct KeepLatency {
    table: Arc<LayerLatencies>,
    seconds: f64,
    asked: String,
}

/// How far below the limit the latency may fall, as a share of the limit.
const TOLERANCE: f64 = 0.05;

impl KeepLatency {
    /// Keeps at most this share of the whole model's latency in the table.
    pub fn share(share: f64, table: Arc<LayerLatencies>) -> Self {
        let seconds = share * table.whole;
        Self { table, seconds, asked: format!("{share} of the latency") }
    }

    /// Keeps at most so many seconds for a batch of the table's size.
    pub fn seconds(seconds: f64, table: Arc<LayerLatencies>) -> Self {
        Self { table, seconds, asked: format!("{:.3} ms", 1e3 * seconds) }
    }

    /// The limit in seconds.
    pub fn limit(&self) -> f64 {
        self.seconds
    }

    /// The table.
    pub fn table(&self) -> &Arc<LayerLatencies> {
        &self.table
    }
}

impl StopRule for KeepLatency {
    fn name(&self) -> String {
        self.asked.clone()
    }

    fn check(&self) -> Result<(), PruneError> {
        self.table.check()?;
        if self.seconds > 0.0 && self.seconds.is_finite() {
            return Ok(());
        }
        let (name, found) = ("latency", format!("{} seconds", self.seconds));
        Err(PruneError::Config(ConfigError { name, found, expected: "above 0" }))
    }

    fn stop(&self, state: &RemovalState<'_>) -> Result<bool, PruneError> {
        Ok(state.latency(&self.table) <= self.seconds)
    }

    fn too_far(&self, state: &RemovalState<'_>) -> Result<bool, PruneError> {
        Ok(state.latency(&self.table) < (1.0 - TOLERANCE) * self.seconds)
    }

    fn cost(&self, state: &RemovalState<'_>) -> Option<f64> {
        Some(state.latency(&self.table))
    }

    fn by_cost(&self) -> bool {
        true
    }

    fn exhausted(&self, state: &RemovalState<'_>) -> Result<(), PruneError> {
        Err(PruneError::BudgetNotMet {
            budget: self.name(),
            least: state.latency(&self.table),
            whole: self.table.whole,
            unit: "seconds".into(),
            held: short(state, CostUnit::Macs),
        })
    }
}

impl fmt::Debug for KeepLatency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeepLatency")
            .field("asked", &self.asked)
            .field("seconds", &self.seconds)
            .finish_non_exhaustive()
    }
}
