//! [`WithEvidence`]: a policy together with the evidence that it reads.

use super::context::PolicyContext;
use super::ranking::{Ranking, RankingPolicy};
use crate::PruneError;
use crate::evidence::Evidence;

/// A policy that is handed evidence wherever it ranks; made by [`Evidence::policy`], which has an example.
#[derive(Clone, Copy, Debug)]
pub struct WithEvidence<'e, P> {
    evidence: &'e Evidence,
    policy: P,
}

impl Evidence {
    /// Returns the policy together with this evidence, for [`Planner::plan`](crate::Planner::plan) and
    /// [`Planner::prune`](crate::Planner::prune). A [`Pruner`](crate::Pruner) makes no further passes for it.
    pub fn policy<P: RankingPolicy>(&self, policy: P) -> WithEvidence<'_, P> {
        WithEvidence { evidence: self, policy }
    }
}

impl<P: RankingPolicy> RankingPolicy for WithEvidence<'_, P> {
    fn name(&self) -> String {
        self.policy.name()
    }

    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        self.policy.rank(&context.with_evidence(self.evidence))
    }
}
