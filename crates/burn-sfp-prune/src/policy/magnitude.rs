//! Filters by the norm of their weights.

use burn_sfp_core::network::Layer;
use rayon::prelude::*;

use super::{PolicyContext, Ranking, RankingPolicy};
use crate::PruneError;

/// A norm of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// Sum of absolute values.
    L1,
    /// Square root of the sum of squares.
    L2,
}

impl Norm {
    /// The norm of some numbers, in double precision.
    pub fn of<'a>(self, numbers: impl IntoIterator<Item = &'a f32>) -> f64 {
        self.of_sum(numbers.into_iter().map(|number| self.term(*number)).sum())
    }

    /// What a number adds to the sum.
    pub(super) fn term(self, number: f32) -> f64 {
        let number = f64::from(number);
        match self {
            Self::L1 => number.abs(),
            Self::L2 => number * number,
        }
    }

    /// The norm whose terms have this sum.
    pub(super) fn of_sum(self, sum: f64) -> f64 {
        match self {
            Self::L1 => sum,
            Self::L2 => sum.sqrt(),
        }
    }
}

/// Scores a filter by the norm of its incoming weights (Li et al. 2017, arXiv 1608.08710).
///
/// ```
/// use burn_sfp_prune::{Magnitude, RankingPolicy};
/// assert_eq!(Magnitude::l1().name(), "magnitude-l1");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Magnitude(Norm);

impl Magnitude {
    /// By the L1 norm.
    pub fn l1() -> Self {
        Self(Norm::L1)
    }

    /// By the L2 norm.
    pub fn l2() -> Self {
        Self(Norm::L2)
    }
}

impl RankingPolicy for Magnitude {
    fn name(&self) -> String {
        format!("magnitude-{:?}", self.0).to_lowercase()
    }

    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let layers: Vec<&Layer> = context.prunable_layers().collect();
        let norms = |&layer: &&Layer| context.kernels(layer).map(|kernels| kernels.norms(self.0));
        let scores: Vec<Result<Vec<f64>, PruneError>> = layers.par_iter().map(norms).collect();
        let mut ranking = Ranking::default();
        for (layer, scores) in layers.into_iter().zip(scores) {
            ranking.filters.insert(layer.path.clone(), scores?);
        }
        Ok(ranking)
    }
}
