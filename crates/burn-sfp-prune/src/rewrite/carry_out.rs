//! Rewrites a module and makes sure that the result runs the planned graph.

use burn_sfp_core::network::{Network, ScalarChange};
use burn_sfp_core::{GraphModule, SfpError};

use crate::plan::Scale;
use crate::{PruneError, PrunePlan};

/// A smaller module and the plan that made it.
#[derive(Clone, Debug)]
pub struct Smaller<M> {
    /// The module, of the user's own type.
    pub model: M,
    /// What was removed.
    pub plan: PrunePlan,
}

impl PrunePlan {
    /// Checks that a smaller module, captured on the same input as `network`, runs the graph that this plan foresaw, so that
    /// its outputs are those of the masked original. [`Planner::prune`](crate::Planner::prune) and
    /// [`Pruner`](crate::Pruner) have done it; a plan that was loaded and applied by hand can be checked with it.
    ///
    /// # Errors
    /// [`SfpError::NotAsPlanned`] where a number that is stored in the module does not follow its shapes,
    /// [`PruneError::NumberChanges`] where one that should stay follows them.
    pub fn verify(&self, network: &Network, smaller: &Network) -> Result<(), PruneError> {
        let removed = network.flow().closed(&self.channels.iter().copied().collect());
        self.undo(network, network.compare_smaller(&removed, smaller)?)
    }

    /// Makes sure that the plan undoes all changes.
    fn undo(&self, network: &Network, changes: Vec<ScalarChange>) -> Result<(), PruneError> {
        for change in changes {
            let undone = change.undone_by.is_some_and(|(layer, factor)| {
                let path = &network.parameters()[network.layers()[layer].weight()].path;
                self.scales.iter().any(|scale| scale.path == *path && (scale.factor - factor).abs() < 1e-9)
            });
            if !undone {
                return Err(PruneError::NumberChanges {
                    operation: change.operation,
                    name: change.name,
                    layer: network.layer_before(change.operation).map(str::to_string),
                    before: change.before,
                    after: change.after,
                });
            }
        }
        Ok(())
    }
}

/// Applies a plan; where the smaller module divides or multiplies by another number than the original (the root of a head's
/// width), a layer before it takes the ratio in.
pub(crate) fn carry_out<M: GraphModule>(
    network: &Network,
    mut plan: PrunePlan,
    model: &M,
    inputs: &M::Inputs,
) -> Result<Smaller<M>, PruneError> {
    let mut smaller = plan.apply(model)?;
    let captured = Network::capture(&smaller, inputs).map_err(|error| match error {
        SfpError::Forward { message, after, .. } => SfpError::NotAsPlanned {
            operation: 0,
            name: "the forward pass".into(),
            after,
            what: format!("it fails with \"{message}\""),
        },
        error => error,
    })?;
    let removed = network.flow().closed(&plan.channels.iter().copied().collect());
    let known = plan.scales.len();
    let changes = network.compare_smaller(&removed, &captured)?;
    for change in &changes {
        let Some((layer, factor)) = change.undone_by else { continue };
        let layer = &network.layers()[layer];
        for index in std::iter::once(layer.weight()).chain(layer.bias()) {
            plan.scales.push(Scale { path: network.parameters()[index].path.clone(), factor });
        }
    }
    plan.undo(network, changes)?;
    if plan.scales.len() > known {
        smaller = plan.apply(model)?;
    }
    Ok(Smaller { model: smaller, plan })
}
