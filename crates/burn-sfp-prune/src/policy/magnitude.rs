//! [`Magnitude`]: filters ranked by the norm of their weights.

use burn_sfp_graph::Layer;
use rayon::prelude::*;

use super::context::PolicyContext;
use super::norm::Norm;
use super::ranking::{Ranking, RankingPolicy};
use crate::PruneError;

/// Ranks filters by the norm of their incoming weights (Li et al. 2017, arXiv 1608.08710).
///
/// ```
/// use burn_sfp_prune::{Magnitude, RankingPolicy};
/// assert_eq!(Magnitude::l1().name(), "magnitude-l1");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Magnitude(Norm);

impl Magnitude {
    /// Creates the policy that scores filters by their L1 norm.
    pub fn l1() -> Self {
        Self(Norm::L1)
    }

    /// Creates the policy that scores filters by their L2 norm.
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
