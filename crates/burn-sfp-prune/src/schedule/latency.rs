//! [`LatencySearch`]: a budget in seconds, checked on the whole model.

use std::sync::Arc;

use burn_sfp_graph::GraphModule;
use burn_sfp_graph::latency::{Latency, LatencyConfig, LayerLatencies, compare, forward};

use crate::rewrite::PrunedModule;
use crate::{KeepLatency, PruneError};

/// Prunes to a latency by a table, measures the whole smaller model beside the original, and corrects what is asked of the table as long as
/// the latency is off by more than 5 %, three times at most.
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
    corrections: usize,
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
    /// The share of the original's latency that the table was asked for: the target, or the corrected one.
    pub foreseen: f64,
    /// Whether that is a corrected one.
    pub corrected: bool,
}

impl<M> Timed<M> {
    /// Returns the share of the original's latency that is left, of the medians.
    pub fn share(&self) -> f64 {
        self.after.median / self.before.median
    }
}

/// How far the latency may be off before the target is corrected.
const TOLERANCE: f64 = 0.05;

impl LatencySearch {
    /// Keeps this share of the original's latency.
    pub fn share(share: f64, table: Arc<LayerLatencies>) -> Self {
        Self { table, share, corrections: 3, config: LatencyConfig::new() }
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

    /// Sets how often the target is corrected at most; 3 if not set. Each time the model is pruned and measured again.
    pub fn corrections(mut self, corrections: usize) -> Self {
        self.corrections = corrections;
        self
    }

    /// Prunes by `prune`, which is given the budget, and again while the whole model is off. Returns the model that came nearest.
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
        let mut best = self.attempt(model, inputs, self.share, &mut prune)?;
        let mut tried = vec![(self.share, best.share())];
        while distance(&best) > TOLERANCE && tried.len() <= self.corrections {
            let target = corrected(&tried, self.share);
            let timed = match self.attempt(model, inputs, target, &mut prune) {
                Err(PruneError::BudgetNotMet { .. }) => break,
                timed => timed?,
            };
            tried.push((target, timed.share()));
            if distance(&timed) < distance(&best) {
                best = Timed { corrected: true, ..timed };
            }
        }
        Ok(best)
    }

    fn attempt<M: GraphModule>(
        &self,
        model: &M,
        inputs: &M::Inputs,
        share: f64,
        prune: &mut impl FnMut(KeepLatency) -> Result<PrunedModule<M>, PruneError>,
    ) -> Result<Timed<M>, PruneError> {
        let budget = KeepLatency::share(share, self.table.clone());
        let pruned = prune(budget)?;
        let both = compare(&self.config, &[&|| forward(model, inputs), &|| forward(&pruned.model, inputs)])?;
        Ok(Timed { before: both[0], after: both[1], foreseen: share, corrected: false, pruned })
    }
}

/// What to ask of the table next for a share: `tried` holds what was asked and what came.
fn corrected(tried: &[(f64, f64)], share: f64) -> f64 {
    let nearest = |above: bool| {
        let side = tried.iter().filter(|(_, got)| (*got > share) == above);
        side.min_by(|a, b| (a.1 - share).abs().total_cmp(&(b.1 - share).abs())).copied()
    };
    let asked = match (nearest(false), nearest(true)) {
        (Some((low, below)), Some((high, above))) => low + (high - low) * (share - below) / (above - below),
        // What the table says is too little or too much by this factor.
        (Some((asked, got)), None) | (None, Some((asked, got))) => asked * share / got,
        (None, None) => share,
    };
    asked.clamp(0.01, 1.0)
}

#[cfg(test)]
mod tests {
    use super::corrected;

    #[test]
    fn targets_are_scaled_and_then_interpolated() {
        assert!((corrected(&[(0.5, 0.6)], 0.5) - 0.5 / 1.2).abs() < 1e-12);
        assert!((corrected(&[(0.5, 0.6), (0.4, 0.48)], 0.5) - (0.4 + 0.1 * 0.02 / 0.12)).abs() < 1e-12);
        assert_eq!(corrected(&[(0.9, 0.3)], 0.6), 1.0);
    }
}
