//! [`rank`]: a policy's ranking of a network, as the planner takes it.

use burn_sfp_core::Analysis;
use burn_sfp_graph::Network;

use crate::{PolicyContext, PruneError, Ranking, RankingPolicy};

/// Ranks the layers of a network, those too whose filters can leave only if the parts of splits shrink each by itself.
pub(crate) fn rank(
    policy: &dyn RankingPolicy,
    network: &Network,
    analysis: Option<&Analysis>,
) -> Result<Ranking, PruneError> {
    let _span = tracing::info_span!("rank", policy = policy.name()).entered();
    let uneven = network.uneven_splits();
    let own = (!uneven.is_empty()).then(|| network.with_free_splits(&uneven));
    policy.rank(&PolicyContext::new(own.as_ref().unwrap_or(network), analysis))
}

/// A policy's name and its ranking.
pub(crate) struct Ranked<'a> {
    pub policy: &'a str,
    pub ranking: &'a Ranking,
}
