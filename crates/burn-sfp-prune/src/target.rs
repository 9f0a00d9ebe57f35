//! [`Target`]: what is pruned.

use std::collections::BTreeSet;

use burn_sfp_graph::{ChannelId, ForwardPass, GraphError, GraphModule, Network, Omitted, ScalarChange};

use crate::cuts::cuts;
use crate::rewrite::sketch;
use crate::{PruneError, PrunePlan};

/// A module and the forward passes that it is captured on.
pub(crate) struct Target<'a, M: GraphModule> {
    model: &'a M,
    inputs: &'a M::Inputs,
    also: &'a [ForwardPass<M>],
    smaller: Option<M>,
}

/// A module without its type. What works with it is compiled once, and not for every type of model.
pub(crate) trait Rewritten {
    /// Applies a plan, and keeps the smaller module in place of the one from before.
    fn apply(&mut self, plan: &PrunePlan) -> Result<(), PruneError>;

    /// Compares the graph of the smaller module with that of the network without these channels and blocks.
    fn check(
        &self,
        network: &Network,
        removed: &BTreeSet<ChannelId>,
        omitted: &Omitted,
    ) -> Result<Vec<ScalarChange>, PruneError>;

    /// [`check`](Rewritten::check) of a smaller module without values, which is made for it.
    fn check_sketch(
        &self,
        network: &Network,
        removed: &BTreeSet<ChannelId>,
        omitted: &Omitted,
    ) -> Result<Vec<ScalarChange>, PruneError>;
}

impl<'a, M: GraphModule> Target<'a, M> {
    pub fn new(model: &'a M, inputs: &'a M::Inputs, also: &'a [ForwardPass<M>]) -> Self {
        Self { model, inputs, also, smaller: None }
    }

    /// Returns the smaller module, once a plan was applied.
    pub fn into_smaller(self) -> Result<M, PruneError> {
        self.smaller.ok_or_else(no_plan)
    }
}

impl<M: GraphModule> Rewritten for Target<'_, M> {
    fn apply(&mut self, plan: &PrunePlan) -> Result<(), PruneError> {
        self.smaller = Some(plan.apply(self.model)?);
        Ok(())
    }

    fn check(
        &self,
        network: &Network,
        removed: &BTreeSet<ChannelId>,
        omitted: &Omitted,
    ) -> Result<Vec<ScalarChange>, PruneError> {
        let smaller = self.smaller.as_ref().ok_or_else(no_plan)?;
        Ok(network.check_smaller(removed, omitted, smaller, self.inputs, self.also)?)
    }

    fn check_sketch(
        &self,
        network: &Network,
        removed: &BTreeSet<ChannelId>,
        omitted: &Omitted,
    ) -> Result<Vec<ScalarChange>, PruneError> {
        let smaller = sketch(self.model, &cuts(network, removed), &network.field_edits(removed), omitted.parts())?;
        Ok(network.check_smaller(removed, omitted, &smaller, self.inputs, self.also)?)
    }
}

fn no_plan() -> PruneError {
    GraphError::Capture("no plan was applied to the module".into()).into()
}
