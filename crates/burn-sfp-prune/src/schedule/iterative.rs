//! [`Iterative`]: pruning in several rounds, with training in between.

use burn_sfp_graph::{GraphModule, Network};
use burn_sfp_nn::ConfigError;

use crate::rewrite::PrunedModule;
use crate::{CostUnit, Keep, Planner, PruneError, PrunePlan};

/// How the share that is left falls from round to round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Curve {
    /// By the same amount.
    Linear,
    /// Fast at first and ever slower: `s + (1 - s) (1 - k/n)^3` after round k of n, for a target s (Zhu and Gupta, "To Prune, or Not to Prune",
    /// 2017, arXiv 1710.01878, equation 1).
    #[default]
    Cubic,
    /// By the same factor.
    Geometric,
}

/// Pruning in several rounds: each removes a part of what is to go, and hands the smaller model out for training before the next.
///
/// The rounds follow each other by their plans ([`Planner::after`]), so that the last model is saved and loaded like any other.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// use burn_sfp_prune::{CostUnit, Curve, Iterative, Magnitude, Planner, PruneError};
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
/// let rounds = Iterative::new(3, 0.3).curve(Curve::Geometric);
/// let smaller = rounds.run(
///     &mlp,
///     |round| {
///         let planner = round.planner(Planner::new().budget(round.keep(CostUnit::Macs, &x)?));
///         planner.prune(round.model, &x, &Magnitude::l2())
///     },
///     |model, plan| {
///         println!("{} MACs are left", plan.macs_after);
///         Ok(model) // `fine_tune(model, plan, ..)`
///     },
/// )?;
/// let all = 16 * 64 + 64 * 64 + 64 * 4;
/// assert!(smaller.plan.macs_after as f64 <= 0.3 * f64::from(all));
/// assert_eq!(smaller.plan.earlier.len(), 2);
/// # Ok::<(), PruneError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Iterative {
    rounds: usize,
    share: f64,
    curve: Curve,
}

/// One round of [`Iterative::run`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Round<'a, M> {
    /// The model as it is, after the training of the round before.
    pub model: &'a M,
    /// The model before the first round.
    pub original: &'a M,
    /// The number of the round, from 0.
    pub index: usize,
    /// The share of the original that is to be left after this round.
    pub share: f64,
    /// The share of what is there that this round removes: what [`Budget`](crate::Budget) takes.
    pub ratio: f64,
    /// The plan of the round before.
    pub plan: Option<&'a PrunePlan>,
}

impl Iterative {
    /// So many rounds, until this share of the original is left; above 0 and at most 1. The curve is [`Curve::Cubic`].
    pub fn new(rounds: usize, share: f64) -> Self {
        Self { rounds, share, curve: Curve::default() }
    }

    /// Sets how the share falls from round to round.
    pub fn curve(mut self, curve: Curve) -> Self {
        self.curve = curve;
        self
    }

    /// Returns the share of the original that is left after each round.
    ///
    /// # Errors
    /// [`PruneError::Config`] if there are no rounds, or the share is out of range.
    ///
    /// ```
    /// use burn_sfp_prune::{Curve, Iterative};
    /// assert_eq!(Iterative::new(2, 0.25).curve(Curve::Geometric).shares()?, [0.5, 0.25]);
    /// assert_eq!(Iterative::new(2, 0.25).curve(Curve::Linear).shares()?, [0.625, 0.25]);
    /// assert_eq!(Iterative::new(2, 0.25).shares()?, [0.34375, 0.25]);
    /// # Ok::<(), burn_sfp_prune::PruneError>(())
    /// ```
    pub fn shares(&self) -> Result<Vec<f64>, PruneError> {
        let refuse = |name, found: String, expected| Err(PruneError::Config(ConfigError { name, found, expected }));
        if self.rounds == 0 {
            return refuse("rounds", "0".into(), "at least 1");
        }
        if !(self.share > 0.0 && self.share <= 1.0) {
            return refuse("share", self.share.to_string(), "above 0 and at most 1");
        }
        let after = |round: usize| {
            let done = round as f64 / self.rounds as f64;
            match self.curve {
                // The last round meets the target without rounding.
                _ if round == self.rounds => self.share,
                Curve::Linear => 1.0 - (1.0 - self.share) * done,
                Curve::Cubic => self.share + (1.0 - self.share) * (1.0 - done).powi(3),
                Curve::Geometric => self.share.powf(done),
            }
        };
        Ok((1..=self.rounds).map(after).collect())
    }

    /// Prunes in rounds: `prune` makes the smaller model of a round, `train` trains it before the next. The model itself is not changed.
    ///
    /// # Errors
    /// Those of [`shares`](Iterative::shares), of `prune` and of `train`.
    pub fn run<M: GraphModule>(
        &self,
        model: &M,
        mut prune: impl FnMut(&Round<'_, M>) -> Result<PrunedModule<M>, PruneError>,
        mut train: impl FnMut(M, &PrunePlan) -> Result<M, PruneError>,
    ) -> Result<PrunedModule<M>, PruneError> {
        let mut now: Option<PrunedModule<M>> = None;
        let mut before = 1.0;
        for (index, share) in self.shares()?.into_iter().enumerate() {
            let round = Round {
                model: now.as_ref().map_or(model, |pruned| &pruned.model),
                original: model,
                index,
                share,
                ratio: 1.0 - share / before,
                plan: now.as_ref().map(|pruned| &pruned.plan),
            };
            let PrunedModule { model, plan } = prune(&round)?;
            now = Some(PrunedModule { model: train(model, &plan)?, plan });
            before = share;
        }
        // There is at least one round.
        now.ok_or_else(|| PruneError::InvalidPlan("no round was made".into()))
    }
}

impl<M: GraphModule> Round<'_, M> {
    /// Returns the planner for this round: with the plan of the round before, if there is one.
    pub fn planner(&self, planner: Planner) -> Planner {
        match self.plan {
            Some(plan) => planner.after(plan),
            None => planner,
        }
    }

    /// Returns the budget of this round: the share of the original's cost on this example input. What the round before missed is made up for.
    ///
    /// # Errors
    /// Those of [`Network::capture`].
    pub fn keep(&self, unit: CostUnit, input: &M::Inputs) -> Result<Keep, PruneError> {
        let whole = unit.whole(&Network::capture(self.original, input)?);
        Ok(Keep::at_most(unit, (self.share * whole as f64).floor() as u64))
    }
}
