//! [`RankAverage`]: policies that vote.

use super::super::context::PolicyContext;
use super::super::ranking::{Ranking, RankingPolicy};
use super::part::{Part, join, needs};
use crate::PruneError;
use crate::evidence::Needs;
use crate::normalize::Normalizer;

/// Scores filters by the mean of their ranks within the layer, over all policies; equal scores have their mean rank
/// ([`Normalizer::Rank`]).
///
/// Only the order of each policy counts, not how far its scores are apart, so policies in any units can be combined.
///
/// A layer that one of the policies does not score gets no scores and keeps its filters. A connection stays if no policy removes it.
///
/// ```
/// use burn_sfp_prune::{GeometricMedian, Magnitude, PolicyExt, RankingPolicy, SfpRanking};
/// let policy = SfpRanking::new().rank_average(Magnitude::l2()).rank_average(GeometricMedian::new());
/// assert_eq!(policy.name(), "mean rank of sfp-ranking, magnitude-l2, geometric-median");
/// ```
#[derive(Debug)]
pub struct RankAverage<'a>(Vec<Part<'a>>);

impl<'a> RankAverage<'a> {
    /// Creates the average of two policies.
    pub fn new(first: impl RankingPolicy + 'a, second: impl RankingPolicy + 'a) -> Self {
        Self(vec![Part::new(first), Part::new(second)])
    }

    /// Adds a policy, which counts as much as each of the others.
    pub fn rank_average(mut self, policy: impl RankingPolicy + 'a) -> Self {
        self.0.push(Part::new(policy));
        self
    }
}

impl RankingPolicy for RankAverage<'_> {
    fn name(&self) -> String {
        format!("mean rank of {}", self.0.iter().map(Part::name).collect::<Vec<String>>().join(", "))
    }

    fn needs(&self) -> Needs {
        needs(&self.0)
    }

    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let mean = |ranks: &[f64]| ranks.iter().sum::<f64>() / ranks.len() as f64;
        join(&self.0, context, Normalizer::Rank, mean)
    }
}
