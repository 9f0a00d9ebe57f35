//! Applying a plan and making sure that the smaller module runs the planned graph.

use std::collections::{BTreeSet, HashSet};

use burn_sfp_graph::{ChannelId, Network, ScalarChange};

use crate::plan::Scale;
use crate::target::Rewritten;
use crate::{PruneError, PrunePlan};

/// A smaller module and the plan that made it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PrunedModule<M> {
    /// The module, of the user's own type.
    pub model: M,
    /// What was removed.
    pub plan: PrunePlan,
}

impl PrunePlan {
    /// Checks that a smaller module, captured on the same input as `network`, runs the graph that this plan expects, so that its
    /// outputs are those of the masked original.
    ///
    /// [`Planner::prune`](crate::Planner::prune) and [`Pruner`](crate::Pruner) do so already; a plan that was loaded and applied by
    /// hand can be checked with it.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::{GraphModule, Network};
    /// # use burn_sfp_prune::{Magnitude, Planner};
    /// # #[derive(Module, Debug)]
    /// # struct Mlp { a: Linear, b: Linear }
    /// # impl GraphModule for Mlp {
    /// #     type Inputs = Tensor<2>;
    /// #     type Outputs = Tensor<2>;
    /// #     fn run(&self, x: Tensor<2>) -> Tensor<2> {
    /// #         self.b.forward(burn::tensor::activation::relu(self.a.forward(x)))
    /// #     }
    /// # }
    /// # let device = Device::flex();
    /// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
    /// # let x = Tensor::<2>::ones([1, 4], &device);
    /// # let plan = Planner::new().prune(&mlp, &x, &Magnitude::l2())?.plan;
    /// let smaller = plan.apply(&mlp)?;
    /// plan.verify(&Network::capture(&mlp, &x)?, &Network::capture(&smaller, &x)?)?;
    /// # Ok::<(), burn_sfp_prune::PruneError>(())
    /// ```
    ///
    /// # Errors
    /// - [`GraphError::GraphMismatch`](burn_sfp_graph::GraphError::GraphMismatch) if an operation, a shape, a slice or a group count differs from the plan's: something stored
    ///   in the module does not follow its shapes;
    /// - [`GraphError::UnknownBlock`](burn_sfp_graph::GraphError::UnknownBlock) if it leaves out what is no block of the network;
    /// - [`PruneError::NumberChanges`] if a scalar that should stay the same follows the shapes;
    /// - [`PruneError::InvalidPlan`] if the plan contradicts itself, or does not follow from the channels that it removes;
    /// - [`PruneError::ModelMismatch`] if `network` is that of another model.
    pub fn verify(&self, network: &Network, smaller: &Network) -> Result<(), PruneError> {
        self.check()?;
        let free = self.free_splits.iter().copied().collect::<BTreeSet<usize>>();
        let own = (!free.is_empty()).then(|| network.with_free_splits(&free));
        let network = own.as_ref().unwrap_or(network);
        let removed = self.removed_from(network)?;
        let omitted = network.omit(self.blocks.iter().map(|block| block.path.as_str()))?;
        self.check_scales(network, &removed, &network.compare_without(&removed, &omitted, smaller)?)
    }

    /// Makes sure that the plan's scales undo all changes of scalars, and nothing else.
    fn check_scales(
        &self,
        network: &Network,
        removed: &BTreeSet<ChannelId>,
        changes: &[ScalarChange],
    ) -> Result<(), PruneError> {
        let scaled: HashSet<&str> = self.scales.iter().map(|scale| scale.path.as_str()).collect();
        let settled = |change: &ScalarChange| {
            let weight = |layer: usize| network.parameters()[network.layers()[layer].weight()].path.as_str();
            change.undone_by.is_some_and(|(layer, _)| scaled.contains(weight(layer)))
        };
        match changes.iter().find(|change| !settled(change)) {
            Some(change) => Err(unsettled(network, change)),
            None => self.check_factors(network, removed, changes),
        }
    }
}

/// The error of a scalar that changes and that nothing undoes.
pub(crate) fn unsettled(network: &Network, change: &ScalarChange) -> PruneError {
    PruneError::NumberChanges {
        operation: change.operation,
        name: change.name.clone(),
        layer: network.layer_before(change.operation).map(str::to_string),
        before: change.before,
        after: change.after,
    }
}

/// Applies a plan, captures the smaller module and compares it with the plan. Where the smaller module divides or multiplies by
/// another scalar than the original (the root of a head's width, say), the ratio goes into the parameters of a layer before it and
/// into the scales of the plan that is returned.
pub(crate) fn carry_out(
    network: &Network,
    module: &mut dyn Rewritten,
    mut plan: PrunePlan,
) -> Result<PrunePlan, PruneError> {
    module.apply(&plan)?;
    let removed = network.flow().closed(&plan.channels.iter().copied().collect());
    let known = plan.scales.len();
    let omitted = network.omit(plan.blocks.iter().map(|block| block.path.as_str()))?;
    let changes = module.check(network, &removed, &omitted)?;
    for change in &changes {
        let Some((layer, factor)) = change.undone_by else { continue };
        let layer = &network.layers()[layer];
        for index in std::iter::once(layer.weight()).chain(layer.bias()) {
            plan.scales.push(Scale { path: network.parameters()[index].path.clone(), factor, part: None });
        }
    }
    plan.check_scales(network, &removed, &changes)?;
    if plan.scales.len() > known {
        plan.seal();
        module.apply(&plan)?;
    }
    Ok(plan)
}
