//! [`Product`]: filters that every policy holds worth keeping.

use super::super::context::PolicyContext;
use super::super::ranking::{Ranking, RankingPolicy};
use super::part::{Part, join, needs};
use crate::PruneError;
use crate::evidence::Needs;
use crate::normalize::Normalizer;

/// Multiplies the scores of policies, each over the mean of its layer first: `score(f) = product of s_i(f) / mean_i`.
///
/// A filter scores low if one of the policies scores it low. The scores should not be negative.
///
/// A layer that one of the policies does not score gets no scores and keeps its filters. A connection stays if no policy removes it.
///
/// ```
/// use burn_sfp_prune::{BatchNormScale, Magnitude, PolicyExt, RankingPolicy};
/// let policy = Magnitude::l1().times(BatchNormScale::new());
/// assert_eq!(policy.name(), "magnitude-l1 * batch-norm-scale");
/// ```
#[derive(Debug)]
pub struct Product<'a>(Vec<Part<'a>>);

impl<'a> Product<'a> {
    /// Creates the product of two policies.
    pub fn new(first: impl RankingPolicy + 'a, second: impl RankingPolicy + 'a) -> Self {
        Self(vec![Part::new(first), Part::new(second)])
    }

    /// Adds a factor.
    pub fn times(mut self, policy: impl RankingPolicy + 'a) -> Self {
        self.0.push(Part::new(policy));
        self
    }
}

impl RankingPolicy for Product<'_> {
    fn name(&self) -> String {
        self.0.iter().map(Part::name).collect::<Vec<String>>().join(" * ")
    }

    fn needs(&self) -> Needs {
        needs(&self.0)
    }

    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let product = |scores: &[f64]| {
            // Limited at every step: infinity times 0 is no number.
            scores.iter().fold(1.0, |product: f64, score| (product * score).clamp(f64::MIN, f64::MAX))
        };
        join(&self.0, context, Normalizer::Mean, product)
    }
}
