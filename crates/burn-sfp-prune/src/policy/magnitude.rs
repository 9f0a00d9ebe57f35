//! Filters by the norm of their weights.

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
        let numbers = numbers.into_iter().map(|number| f64::from(*number));
        match self {
            Self::L1 => numbers.map(f64::abs).sum(),
            Self::L2 => numbers.map(|number| number * number).sum::<f64>().sqrt(),
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
        let mut ranking = Ranking::default();
        for layer in context.prunable_layers() {
            let kernels = context.kernels(layer)?;
            let (outputs, inputs) = kernels.shape();
            let scores =
                (0..outputs).map(|output| self.0.of((0..inputs).flat_map(|input| kernels.kernel(output, input))));
            ranking.filters.insert(layer.path.clone(), scores.collect());
        }
        Ok(ranking)
    }
}
