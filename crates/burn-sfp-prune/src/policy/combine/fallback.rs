//! [`Fallback`]: a second policy for what the first says nothing about.

use super::super::context::PolicyContext;
use super::super::ranking::{Ranking, RankingPolicy};
use super::part::{Part, needs};
use crate::PruneError;
use crate::evidence::Needs;
use crate::normalize::Normalizer;

/// Takes the scores and keep masks of one policy, and those of another for layers and heads that the first gives none.
///
/// Layers that neither scores keep their filters. Scores of different layers are made comparable each in the way of its own policy
/// ([`Ranking::normalizer`]).
///
/// ```
/// use burn_sfp_prune::{Afcc, Magnitude, PolicyExt, RankingPolicy, SfpRanking};
/// // Layers without a readout are ranked by their weights:
/// let policy = SfpRanking::new().or(Magnitude::l2());
/// assert_eq!(policy.name(), "sfp-ranking or magnitude-l2");
/// // AFCC has masks over connections and no scores of filters, which come from the other policy then:
/// let both = Afcc::new().or(SfpRanking::new());
/// ```
#[derive(Debug)]
pub struct Fallback<'a> {
    first: Part<'a>,
    second: Part<'a>,
}

impl<'a> Fallback<'a> {
    /// Creates the policy `first`, with `second` where it says nothing.
    pub fn new(first: impl RankingPolicy + 'a, second: impl RankingPolicy + 'a) -> Self {
        Self { first: Part::new(first), second: Part::new(second) }
    }
}

impl RankingPolicy for Fallback<'_> {
    fn name(&self) -> String {
        format!("{} or {}", self.first.name(), self.second.name())
    }

    fn needs(&self) -> Needs {
        needs([&self.first, &self.second])
    }

    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let (mut first, mut second) = (self.first.rank(context)?, self.second.rank(context)?);
        if first.normalizer.unwrap_or_default() != second.normalizer.unwrap_or_default() {
            normalize(&mut first);
            normalize(&mut second);
        }
        for (path, scores) in second.filters {
            first.filters.entry(path).or_insert(scores);
        }
        for (path, mask) in second.connections {
            first.connections.entry(path).or_insert(mask);
        }
        Ok(first)
    }
}

/// Applies a ranking's own normaliser.
fn normalize(ranking: &mut Ranking) {
    let normalizer = ranking.normalizer.replace(Normalizer::None).unwrap_or_default();
    ranking.filters.values_mut().for_each(|scores| *scores = normalizer.apply(scores));
}
