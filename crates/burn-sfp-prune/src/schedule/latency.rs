//! [`LatencySearch`]: a budget in seconds, checked on the whole model.

use std::sync::Arc;

use burn_sfp_graph::latency::{Latency, LatencyConfig, LayerLatencies, compare, forward};
use burn_sfp_graph::{GraphModule, Network};

use crate::rewrite::PrunedModule;
use crate::{KeepLatency, PruneError};

/// Prunes to a latency by a table, measures the whole smaller model beside the original and its layers where they stand, refines the table by
/// that ([`LayerLatencies::refined`]) and chooses once more; again as long as the latency is off by more than 5 %, three times at most.
///
/// ```
/// # use std::sync::Arc;
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// use burn_sfp_graph::latency::{LatencyConfig, LayerLatencies};
/// use burn_sfp_prune::{LatencySearch, Magnitude, Planner};
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
/// let found = LatencySearch::share(0.5, table).run(&mlp, &x, |budget| {
///     Planner::new().budget(budget).prune(&mlp, &x, &Magnitude::l2())
/// })?;
/// println!("{:.3} ms in place of {:.3} ms", 1e3 * found.after.median, 1e3 * found.before.median);
/// # Ok::<(), burn_sfp_prune::PruneError>(())
/// ```
#[derive(Clone, Debug)]
pub struct LatencySearch {
    table: Arc<LayerLatencies>,
    share: f64,
    refinements: usize,
    config: LatencyConfig,
}

/// A smaller model and its latency.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Timed<M> {
    /// The smaller model and its plan.
    pub pruned: PrunedModule<M>,
    /// Seconds of the original, measured in turn with the smaller model.
    pub before: Latency,
    /// Seconds of the smaller model.
    pub after: Latency,
    /// How often the table was refined before this model was chosen.
    pub refined: usize,
}

impl<M> Timed<M> {
    /// Returns the share of the original's latency that is left, of the medians.
    pub fn share(&self) -> f64 {
        self.after.median / self.before.median
    }
}

/// How far the latency may be off before the table is refined once more.
const TOLERANCE: f64 = 0.05;

impl LatencySearch {
    /// Keeps this share of the original's latency.
    pub fn share(share: f64, table: Arc<LayerLatencies>) -> Self {
        Self { table, share, refinements: 3, config: LatencyConfig::new() }
    }

    /// Keeps so many seconds for a batch of the table's size.
    pub fn seconds(seconds: f64, table: Arc<LayerLatencies>) -> Self {
        let share = seconds / table.whole;
        Self::share(share, table)
    }

    /// Sets how often the models are run.
    pub fn config(mut self, config: LatencyConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets how often the table is refined at most; 3 if not set. Each time the model is pruned and measured again.
    pub fn refinements(mut self, refinements: usize) -> Self {
        self.refinements = refinements;
        self
    }

    /// Prunes by `prune`, which is given the budget, and again with a refined table. Returns the last model that is within 5 % of the target,
    /// or else the one that came nearest.
    ///
    /// # Errors
    /// Those of `prune` and of the forward passes.
    pub fn run<M: GraphModule>(
        &self,
        model: &M,
        inputs: &M::Inputs,
        mut prune: impl FnMut(KeepLatency) -> Result<PrunedModule<M>, PruneError>,
    ) -> Result<Timed<M>, PruneError> {
        let distance = |timed: &Timed<M>| (timed.share() / self.share - 1.0).abs();
        let network = Network::capture(model, inputs)?;
        let mut table = self.table.clone();
        let mut best = self.attempt(model, inputs, &table, 0, &mut prune)?;
        let mut last = best.clone();
        for refined in 1..=self.refinements {
            let smaller = Network::capture(&last.pruned.model, inputs)?;
            let seconds = [last.before.median, last.after.median];
            table = Arc::new(table.refined(&network, &smaller, seconds, &self.config));
            last = match self.attempt(model, inputs, &table, refined, &mut prune) {
                Err(PruneError::BudgetNotMet { .. }) => break,
                timed => timed?,
            };
            let is_met = distance(&last) <= TOLERANCE;
            if is_met || distance(&last) < distance(&best) {
                best = last.clone();
            }
            if is_met {
                break;
            }
        }
        Ok(best)
    }

    fn attempt<M: GraphModule>(
        &self,
        model: &M,
        inputs: &M::Inputs,
        table: &Arc<LayerLatencies>,
        refined: usize,
        prune: &mut impl FnMut(KeepLatency) -> Result<PrunedModule<M>, PruneError>,
    ) -> Result<Timed<M>, PruneError> {
        let pruned = prune(KeepLatency::share(self.share, table.clone()))?;
        let both = compare(&self.config, &[&|| forward(model, inputs), &|| forward(&pruned.model, inputs)])?;
        Ok(Timed { before: both[0], after: both[1], refined, pruned })
    }
}
