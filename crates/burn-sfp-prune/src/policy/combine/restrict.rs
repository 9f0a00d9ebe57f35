//! [`Restrict`]: one policy chooses among what another one keeps.

use burn_sfp_nn::ConfigError;

use super::super::context::PolicyContext;
use super::super::ranking::{Ranking, RankingPolicy};
use super::part::{Part, kept_by_all, needs};
use crate::PruneError;
use crate::evidence::Needs;
use crate::normalize::Normalizer;

/// One policy chooses among the filters that another one keeps.
///
/// In each layer that both score, the share of filters with the lowest scores by `keeper` (rounded to a whole number) leaves first, in
/// the order of `keeper`: these filters score below all others of the network. The others are ranked by `chooser`, with scores that are
/// comparable in its own way ([`Ranking::normalizer`]).
///
/// A layer (or the heads of an attention) that only `chooser` scores is ranked by it alone. A layer that only `keeper` scores gets no
/// scores and keeps its filters. A connection stays if neither policy removes it.
///
/// ```
/// use burn_sfp_prune::{Magnitude, PolicyExt, RankingPolicy, SfpRanking};
/// // The tenth of the filters with the smallest weights goes first, whatever it recognises.
/// let policy = SfpRanking::new().within(Magnitude::l2(), 0.1);
/// assert_eq!(policy.name(), "sfp-ranking within magnitude-l2 without its lowest 0.1");
/// ```
#[derive(Debug)]
pub struct Restrict<'a> {
    chooser: Part<'a>,
    keeper: Part<'a>,
    share: f64,
}

impl<'a> Restrict<'a> {
    /// Creates the policy `chooser`, within what `keeper` keeps when this share of each layer's filters, between 0 and 1, is gone.
    /// Ranking fails with [`PruneError::Config`] for another share.
    pub fn new(chooser: impl RankingPolicy + 'a, keeper: impl RankingPolicy + 'a, share: f64) -> Self {
        Self { chooser: Part::new(chooser), keeper: Part::new(keeper), share }
    }
}

impl RankingPolicy for Restrict<'_> {
    fn name(&self) -> String {
        format!("{} within {} without its lowest {}", self.chooser.name(), self.keeper.name(), self.share)
    }

    fn needs(&self) -> Needs {
        needs([&self.chooser, &self.keeper])
    }

    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        if !(0.0..=1.0).contains(&self.share) {
            let (name, found) = ("share of what is kept out", self.share.to_string());
            return Err(ConfigError { name, found, expected: "between 0 and 1" }.into());
        }
        let rankings = [self.chooser.rank(context)?, self.keeper.rank(context)?];
        let connections = kept_by_all(&rankings);
        let [chosen, kept] = rankings;
        let normalizer = chosen.normalizer.unwrap_or_default();
        let mut filters = chosen.filters;
        filters.values_mut().for_each(|scores| *scores = normalizer.apply(scores));
        let lowest = filters.values().flatten().copied().fold(0.0, f64::min);
        // Far enough below the lowest score for the difference not to be lost to rounding.
        let step = lowest.abs().max(1.0);
        for (path, scores) in &mut filters {
            let Some(kept) = kept.filters.get(path) else { continue };
            let mut order: Vec<usize> = (0..kept.len()).collect();
            order.sort_by(|&a, &b| kept[a].total_cmp(&kept[b]).then(a.cmp(&b)));
            let ranks = Normalizer::Rank.apply(kept);
            let first = (self.share * kept.len() as f64).round() as usize;
            for &filter in order.iter().take(first) {
                scores[filter] = (lowest - step * (2.0 - ranks[filter])).max(f64::MIN);
            }
        }
        Ok(Ranking { filters, connections, normalizer: Some(Normalizer::None), ..Ranking::default() })
    }
}
