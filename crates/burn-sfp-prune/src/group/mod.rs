//! Channels that leave together: the network's channel sets with the filters that make them and the layers that read them.

use std::collections::BTreeMap;

use burn_sfp_core::network::{ChannelId, Network};

/// One channel set: removing it removes all of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Channel {
    /// `(layer, filter)`: the filters that make the channel, by index in [`Network::layers`].
    pub made_by: Vec<(usize, usize)>,
    /// `(layer, input index)`: where it is read.
    pub read_by: Vec<(usize, usize)>,
    /// Why it must stay, where it must.
    pub pinned: Option<String>,
}

/// All channel sets that some layer makes, and which of them span the same layers.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    /// The channel sets.
    pub channels: BTreeMap<ChannelId, Channel>,
    /// For each set of layers whose filters are tied together, its channels in ascending order.
    pub tied: BTreeMap<Vec<usize>, Vec<ChannelId>>,
}

impl Groups {
    /// Reads the groups off a captured network.
    pub fn of(network: &Network) -> Self {
        let mut channels: BTreeMap<ChannelId, Channel> = BTreeMap::new();
        for (index, layer) in network.layers().iter().enumerate() {
            for (filter, &id) in layer.output_channels().iter().enumerate() {
                let channel = channels.entry(id).or_default();
                channel.made_by.push((index, filter));
                channel.pinned = network.flow().pinned(id).map(str::to_string);
            }
        }
        for (index, layer) in network.layers().iter().enumerate() {
            for (input, id) in layer.input_channels().iter().enumerate() {
                if let Some(channel) = id.as_ref().and_then(|id| channels.get_mut(id)) {
                    channel.read_by.push((index, input));
                }
            }
        }
        let mut tied: BTreeMap<Vec<usize>, Vec<ChannelId>> = BTreeMap::new();
        for (&id, channel) in &channels {
            let mut layers: Vec<usize> = channel.made_by.iter().map(|&(layer, _)| layer).collect();
            layers.dedup();
            tied.entry(layers).or_default().push(id);
        }
        Self { channels, tied }
    }

    /// A line a group: the layers that are tied together, and why channels must stay.
    pub fn describe(&self, network: &Network) -> String {
        let mut text = String::new();
        for (layers, ids) in &self.tied {
            let names: Vec<&str> = layers.iter().map(|&k| network.layers()[k].path.as_str()).collect();
            let free = ids.iter().filter(|id| self.channels[id].pinned.is_none()).count();
            let reason = ids.iter().find_map(|id| self.channels[id].pinned.as_deref());
            text.push_str(&format!("{}: {} channels, {free} free", names.join(" + "), ids.len()));
            if let Some(reason) = reason {
                text.push_str(&format!(" ({reason})"));
            }
            text.push('\n');
        }
        text
    }
}
