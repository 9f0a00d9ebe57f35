//! [`Keep`]: budgets in units of cost.

use std::fmt;

use burn_sfp_graph::Network;
use burn_sfp_nn::ConfigError;

use super::rule::{RemovalOrder, StopRule};
use super::short::short;
use super::state::{RemovalState, RunningTotals, Totals};
use crate::PruneError;

/// What a [`Keep`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CostUnit {
    /// Multiply-adds of one sample.
    Macs,
    /// Elements of trained parameters.
    Parameters,
    /// Bytes of all parameters and running statistics: what a file of the model takes, to one or two per cent.
    Bytes,
    /// Bytes of all activations that a forward pass over so many samples holds at its peak
    /// ([`RunningActivations`](burn_sfp_graph::RunningActivations)).
    Activations {
        /// Size of the batch.
        samples: usize,
    },
}

/// Keeps at most so much of the network's cost: a share of the original, or an amount.
///
/// Channels are removed until the cost is at most what was asked for. The last ones are chosen so that it is at most 2 % below. If no
/// choice is as near (each channel of a small network costs more), the nearest one below is made.
///
/// If too much has to stay, planning ends with [`PruneError::BudgetNotMet`], which says how far it can go and which layers hold it.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// use burn_sfp_prune::{CostUnit, Keep, Magnitude, Planner, PruneError, RemovalOrder};
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear, c: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.c.forward(self.b.forward(self.a.forward(x))) }
/// # }
/// # let device = Device::flex();
/// # let linear = |from, to| LinearConfig::new(from, to).init(&device);
/// # let mlp = Mlp { a: linear(16, 64), b: linear(64, 64), c: linear(64, 4) };
/// # let x = Tensor::zeros([1, 16], &device);
/// let half = Planner::new().budget(Keep::macs(0.5)).prune(&mlp, &x, &Magnitude::l2())?;
/// let totals = half.plan.totals();
/// let share = totals.macs_after as f64 / totals.macs_before as f64;
/// assert!(share <= 0.5 && share > 0.49);
///
/// // All layers alike, 2,000 parameters.
/// let budget = Keep::at_most(CostUnit::Parameters, 2000).order(RemovalOrder::EvenPerGroup);
/// let small = Planner::new().budget(budget).prune(&mlp, &x, &Magnitude::l2())?;
/// assert!((1960..=2000).contains(&small.plan.parameters_after));
///
/// let error = Planner::new().budget(Keep::at_most(CostUnit::Macs, 10)).prune(&mlp, &x, &Magnitude::l2()).unwrap_err();
/// assert!(matches!(error, PruneError::BudgetNotMet { least, .. } if least == 16.0 + 1.0 + 4.0));
/// # Ok::<(), PruneError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Keep {
    unit: CostUnit,
    limit: Limit,
    order: RemovalOrder,
    by_cost: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    Share(f64),
    Amount(u64),
}

/// How far below the limit the cost may fall, as a share of the limit.
const TOLERANCE: f64 = 0.02;

impl Keep {
    /// Keeps at most this share of the multiply-adds; above 0 and at most 1.
    pub fn macs(share: f64) -> Self {
        Self::share(CostUnit::Macs, share)
    }

    /// Keeps at most this share of the trained parameters; above 0 and at most 1.
    pub fn parameters(share: f64) -> Self {
        Self::share(CostUnit::Parameters, share)
    }

    /// Keeps at most this share of the bytes of all parameters and running statistics; above 0 and at most 1.
    pub fn bytes(share: f64) -> Self {
        Self::share(CostUnit::Bytes, share)
    }

    /// Keeps at most this share of the memory that activations take at the peak; above 0 and at most 1. The size of the batch does not
    /// matter.
    pub fn activations(share: f64) -> Self {
        Self::share(CostUnit::Activations { samples: 1 }, share)
    }

    /// Keeps at most this amount.
    pub fn at_most(unit: CostUnit, amount: u64) -> Self {
        Self { unit, limit: Limit::Amount(amount), order: RemovalOrder::Global, by_cost: None }
    }

    fn share(unit: CostUnit, share: f64) -> Self {
        Self { unit, limit: Limit::Share(share), order: RemovalOrder::Global, by_cost: None }
    }

    /// Sets which candidates are compared with each other; by default all of the network. With
    /// [`PerGroup`](RemovalOrder::PerGroup) and [`PerClass`](RemovalOrder::PerClass) all groups or classes lose the same share, as with
    /// [`EvenPerGroup`](RemovalOrder::EvenPerGroup) and [`EvenPerClass`](RemovalOrder::EvenPerClass).
    pub fn order(mut self, order: RemovalOrder) -> Self {
        self.order = match order {
            RemovalOrder::PerGroup => RemovalOrder::EvenPerGroup,
            RemovalOrder::PerClass => RemovalOrder::EvenPerClass,
            order => order,
        };
        self
    }

    /// Sets whether channels go in the order of their score for each unit that they save, which spares layers that cost little, in place of
    /// their score alone. By default so for activations only, of which most layers hold none at the peak.
    pub fn by_cost(mut self, by_cost: bool) -> Self {
        self.by_cost = Some(by_cost);
        self
    }

    /// The cost without the channels removed so far.
    fn now(&self, state: &RemovalState<'_>) -> u64 {
        self.unit.of(state.totals)
    }

    fn limit(&self, state: &RemovalState<'_>) -> f64 {
        match self.limit {
            Limit::Amount(amount) => amount as f64,
            Limit::Share(share) => share * self.whole(state) as f64,
        }
    }

    /// The cost of the original.
    fn whole(&self, state: &RemovalState<'_>) -> u64 {
        self.unit.of(state.totals.original())
    }
}

impl CostUnit {
    /// Returns what a whole network costs.
    pub(crate) fn whole(self, network: &Network) -> u64 {
        self.of(&RunningTotals::new(network))
    }

    fn of(self, totals: &dyn Totals) -> u64 {
        match self {
            Self::Macs => totals.macs(),
            Self::Parameters => totals.parameters(),
            Self::Bytes => totals.bytes(),
            Self::Activations { samples } => totals.activations(samples),
        }
    }
}

impl StopRule for Keep {
    fn name(&self) -> String {
        match self.limit {
            Limit::Share(share) => format!("{share} of the {}", self.unit),
            Limit::Amount(amount) => format!("at most {amount} {}", self.unit),
        }
    }

    fn order(&self) -> RemovalOrder {
        self.order
    }

    fn check(&self) -> Result<(), PruneError> {
        let refuse = |name, found, expected| Err(PruneError::Config(ConfigError { name, found, expected }));
        match (self.limit, self.unit) {
            (Limit::Share(share), _) if !(share > 0.0 && share <= 1.0) => {
                refuse("share", share.to_string(), "above 0 and at most 1")
            }
            (_, CostUnit::Activations { samples: 0 }) => refuse("samples", "0".into(), "at least 1"),
            _ => Ok(()),
        }
    }

    fn stop(&self, state: &RemovalState<'_>) -> Result<bool, PruneError> {
        Ok(self.now(state) as f64 <= self.limit(state))
    }

    fn too_far(&self, state: &RemovalState<'_>) -> Result<bool, PruneError> {
        Ok((self.now(state) as f64) < (1.0 - TOLERANCE) * self.limit(state))
    }

    fn cost(&self, state: &RemovalState<'_>) -> Option<f64> {
        Some(match self.unit {
            CostUnit::Activations { .. } => state.smooth_activations(),
            _ => self.now(state) as f64,
        })
    }

    fn by_cost(&self) -> bool {
        self.by_cost.unwrap_or(matches!(self.unit, CostUnit::Activations { .. }))
    }

    fn exhausted(&self, state: &RemovalState<'_>) -> Result<(), PruneError> {
        Err(PruneError::BudgetNotMet {
            budget: self.name(),
            least: self.now(state) as f64,
            whole: self.whole(state) as f64,
            unit: self.unit.to_string(),
            held: short(state, self.unit),
        })
    }
}

impl fmt::Display for CostUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Macs => f.write_str("multiply-adds"),
            Self::Parameters => f.write_str("parameters"),
            Self::Bytes => f.write_str("bytes of parameters"),
            Self::Activations { samples } => write!(f, "bytes of activations at the peak of a batch of {samples}"),
        }
    }
}
