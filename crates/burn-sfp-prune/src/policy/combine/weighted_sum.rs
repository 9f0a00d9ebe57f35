//! [`WeightedSum`]: policies that make up for each other.

use burn_sfp_nn::ConfigError;

use super::super::context::PolicyContext;
use super::super::ranking::{Ranking, RankingPolicy};
use super::part::{Part, join, needs};
use crate::PruneError;
use crate::evidence::Needs;
use crate::normalize::Normalizer;

/// Adds the scores of policies, each over the mean of its layer and with a weight: `score(f) = sum of w_i * s_i(f) / mean_i`.
///
/// A layer that one of the policies does not score gets no scores and keeps its filters. A connection stays if no policy removes it.
///
/// ```
/// use burn_sfp_prune::{GeometricMedian, Magnitude, PolicyExt, RankingPolicy, SfpRanking};
/// let policy = SfpRanking::new().plus(0.3, Magnitude::l2()).plus(0.1, GeometricMedian::new());
/// assert_eq!(policy.name(), "sfp-ranking + 0.3 magnitude-l2 + 0.1 geometric-median");
/// ```
#[derive(Debug)]
pub struct WeightedSum<'a>(Vec<(f64, Part<'a>)>);

impl<'a> WeightedSum<'a> {
    /// Creates the sum of one policy with a weight.
    ///
    /// ```
    /// use burn_sfp_prune::{Magnitude, RankingPolicy, SfpRanking, WeightedSum};
    /// let policy = WeightedSum::new(0.8, SfpRanking::new()).plus(0.2, Magnitude::l1());
    /// assert_eq!(policy.name(), "0.8 sfp-ranking + 0.2 magnitude-l1");
    /// ```
    pub fn new(weight: f64, policy: impl RankingPolicy + 'a) -> Self {
        Self(vec![(weight, Part::new(policy))])
    }

    /// Adds a policy with a weight. The weight has to be finite, or ranking fails with [`PruneError::Config`].
    pub fn plus(mut self, weight: f64, policy: impl RankingPolicy + 'a) -> Self {
        self.0.push((weight, Part::new(policy)));
        self
    }
}

impl RankingPolicy for WeightedSum<'_> {
    fn name(&self) -> String {
        let named = |(weight, part): &(f64, Part<'_>)| match weight {
            1.0 => part.name(),
            _ => format!("{weight} {}", part.name()),
        };
        self.0.iter().map(named).collect::<Vec<String>>().join(" + ")
    }

    fn needs(&self) -> Needs {
        needs(self.0.iter().map(|(_, part)| part))
    }

    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        if let Some((weight, _)) = self.0.iter().find(|(weight, _)| !weight.is_finite()) {
            return Err(ConfigError { name: "weight", found: weight.to_string(), expected: "finite" }.into());
        }
        let sum = |scores: &[f64]| {
            let terms = self.0.iter().zip(scores).map(|((weight, _), score)| weight * score);
            terms.fold(0.0, |sum: f64, term| (sum + term.clamp(f64::MIN, f64::MAX)).clamp(f64::MIN, f64::MAX))
        };
        join(self.0.iter().map(|(_, part)| part), context, Normalizer::Mean, sum)
    }
}
