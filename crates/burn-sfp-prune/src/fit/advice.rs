//! What a strict planner says besides of a module that does not follow.

use std::collections::BTreeSet;

use burn_sfp_graph::{ChannelId, GraphError, Network};

use super::trial::Failure;
use crate::PruneError;
use crate::group::{GroupCut, Groups};

/// How many steps against the direction of the data a cut may lie before what fails.
const NEAR: usize = 4;

/// Returns the error of a failure; where the layers there have two coordinates, it names the setting that cuts the other one.
pub(super) fn advised(network: &Network, removed: &[ChannelId], failure: Failure) -> PruneError {
    let cut = failure.operation.and_then(|operation| cut_at(network, removed, operation));
    match (failure.error, cut) {
        (PruneError::Graph(GraphError::GraphMismatch { operation, name, after, what }), Some(cut)) => {
            let (setting, other) = match cut {
                GroupCut::WithinGroups => ("WholeGroups", "whole heads or groups"),
                GroupCut::WholeGroups => ("WithinGroups", "the inside of all heads or groups alike"),
            };
            let what = format!("{what}; `group_cut(GroupCut::{setting})` cuts {other} there in its place");
            GraphError::GraphMismatch { operation, name, after, what }.into()
        }
        (error, _) => error,
    }
}

/// Returns the coordinate that is cut in layers with two of them at an operation or a few steps before it.
fn cut_at(network: &Network, removed: &[ChannelId], operation: usize) -> Option<GroupCut> {
    let removed: BTreeSet<ChannelId> = removed.iter().copied().collect();
    let here = network.channels_before(operation);
    let here: BTreeSet<ChannelId> = here.into_iter().take(NEAR).flatten().filter(|id| removed.contains(id)).collect();
    let groups = Groups::of(network).groups;
    groups.into_iter().find(|group| group.channels.iter().any(|id| here.contains(id)) && group.cut.is_some())?.cut
}
