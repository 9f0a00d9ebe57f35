//! [`close`]: connections and channels that are removed because others are.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use burn_sfp_graph::{ChannelId, Network};
use fixedbitset::FixedBitSet;

use crate::Connections;
use crate::group::{Channel, Groups};

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
    let fresh: Vec<ChannelId> = removed.iter().copied().collect();
    disconnect(network, groups, masks, &fresh);
    if keep_empty {
        return;
    }
    let mut connected = Connected::default();
    connected.count(network, masks, 0..network.layers().len());
    let of_layer = channels_of_layers(network, groups);
    let mut open: BTreeSet<ChannelId> = groups.channels.keys().copied().collect();
    loop {
        let stays = |id: &ChannelId| removed.contains(id) || excluded.contains(id);
        let unconnected = |id: &ChannelId| groups.channels.get(id).is_some_and(|channel| connected.lacks(channel));
        let fresh: Vec<ChannelId> = open.into_iter().filter(|id| !stays(id) && unconnected(id)).collect();
        if fresh.is_empty() {
            return;
        }
        removed.extend(fresh.iter().copied());
        disconnect(network, groups, masks, &fresh);
        // Only layers that lost a connection can leave another channel without one.
        let channels = fresh.iter().filter_map(|id| groups.channels.get(id));
        let ends = channels.flat_map(|channel| channel.producers.iter().chain(&channel.consumers));
        let touched: BTreeSet<usize> = ends.map(|&(layer, _)| layer).collect();
        connected.count(network, masks, touched.iter().copied());
        open = touched.iter().flat_map(|&layer| &of_layer[layer]).copied().collect();
    }
}

/// The outputs and inputs of masked layers that have a connection left, by the index of the layer.
#[derive(Default)]
struct Connected(HashMap<usize, (FixedBitSet, FixedBitSet)>);

impl Connected {
    fn count(&mut self, network: &Network, masks: &KeepMasks, layers: impl Iterator<Item = usize>) {
        for layer in layers {
            if let Some(mask) = masks.get(&network.layers()[layer].path) {
                self.0.insert(layer, mask.connected());
            }
        }
    }

    /// Whether a channel can be removed and no connection feeds it or none reads it.
    fn lacks(&self, channel: &Channel) -> bool {
        let fed = |&(layer, filter): &(usize, usize)| self.0.get(&layer).is_none_or(|(outputs, _)| outputs[filter]);
        let read = |&(layer, input): &(usize, usize)| self.0.get(&layer).is_none_or(|(_, inputs)| inputs[input]);
        let unfed = !channel.producers.iter().any(fed);
        let unread = !channel.consumers.is_empty() && !channel.consumers.iter().any(read);
        channel.pinned.is_none() && (unfed || unread)
    }
}

/// The channels that each layer produces or consumes.
fn channels_of_layers(network: &Network, groups: &Groups) -> Vec<Vec<ChannelId>> {
    let mut of_layer: Vec<Vec<ChannelId>> = vec![Vec::new(); network.layers().len()];
    for (&id, channel) in &groups.channels {
        for &(layer, _) in channel.producers.iter().chain(&channel.consumers) {
            if of_layer[layer].last() != Some(&id) {
                of_layer[layer].push(id);
            }
        }
    }
    of_layer
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
