//! [`close`]: connections and channels that are removed because others are.

use std::collections::{BTreeMap, BTreeSet};

use burn_sfp_graph::{ChannelId, Network};
use fixedbitset::FixedBitSet;

use crate::Connections;
use crate::group::Groups;

/// Keep masks by the path of their layer.
pub(super) type KeepMasks = BTreeMap<String, Connections>;

/// Removes the connections of removed channels, and channels without a connection on one side, until nothing changes. Channels in
/// `excluded` stay, and with `keep_empty` so do all that have no connection left.
pub(super) fn close(
    network: &Network,
    groups: &Groups,
    masks: &mut KeepMasks,
    removed: &mut BTreeSet<ChannelId>,
    excluded: &BTreeSet<ChannelId>,
    keep_empty: bool,
) {
    if masks.is_empty() {
        return;
    }
    let mut fresh: Vec<ChannelId> = removed.iter().copied().collect();
    loop {
        disconnect(network, groups, masks, &fresh);
        if keep_empty {
            return;
        }
        fresh = unconnected(network, groups, masks);
        fresh.retain(|id| !removed.contains(id) && !excluded.contains(id));
        if fresh.is_empty() {
            return;
        }
        removed.extend(fresh.iter().copied());
    }
}

/// Removes the connections of these channels.
fn disconnect(network: &Network, groups: &Groups, masks: &mut KeepMasks, channels: &[ChannelId]) {
    let path = |layer: usize| network.layers()[layer].path.as_str();
    for channel in channels.iter().filter_map(|id| groups.channels.get(id)) {
        for &(layer, filter) in &channel.producers {
            if let Some(mask) = masks.get_mut(path(layer)) {
                mask.remove_output(filter);
            }
        }
        for &(layer, input) in &channel.consumers {
            if let Some(mask) = masks.get_mut(path(layer)) {
                mask.remove_input(input);
            }
        }
    }
}

/// Returns the channels that can be removed and that no connection feeds or no connection reads.
fn unconnected(network: &Network, groups: &Groups, masks: &KeepMasks) -> Vec<ChannelId> {
    let connected: BTreeMap<&str, (FixedBitSet, FixedBitSet)> =
        masks.iter().map(|(path, mask)| (path.as_str(), mask.connected())).collect();
    let of = |layer: usize| connected.get(network.layers()[layer].path.as_str());
    let mut found = Vec::new();
    for (&id, channel) in groups.channels.iter().filter(|(_, channel)| channel.pinned.is_none()) {
        let unfed =
            channel.producers.iter().all(|&(layer, filter)| of(layer).is_some_and(|(outputs, _)| !outputs[filter]));
        let unread = !channel.consumers.is_empty()
            && channel.consumers.iter().all(|&(layer, input)| of(layer).is_some_and(|(_, inputs)| !inputs[input]));
        if unfed || unread {
            found.push(id);
        }
    }
    found
}
