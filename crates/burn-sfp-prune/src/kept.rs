//! [`Kept`]: channels that stay because the module does not follow.

use std::collections::{BTreeMap, BTreeSet};

use burn_sfp_graph::{ChannelId, Network, PlainField};

/// Channels (atoms) and blocks that stay because the module does not follow, and why.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    channels: BTreeMap<ChannelId, String>,
    /// By module path.
    blocks: BTreeMap<String, String>,
}

impl Kept {
    /// Returns the channels that stay because a plain field that counts them cannot be set.
    pub fn of(network: &Network) -> Self {
        let mut kept = Self::default();
        for field in network.fixed_fields() {
            kept.add(field.channels.iter().copied(), &reason(field));
        }
        kept
    }

    /// Adds channels. A channel's first reason is kept.
    pub fn add(&mut self, channels: impl IntoIterator<Item = ChannelId>, reason: &str) {
        for channel in channels {
            self.channels.entry(channel).or_insert_with(|| reason.to_string());
        }
    }

    pub fn extend(&mut self, more: Self) {
        for (channel, reason) in more.channels {
            self.channels.entry(channel).or_insert(reason);
        }
        self.add_blocks(more.blocks);
    }

    /// Returns the channels that stay.
    pub fn channels(&self) -> BTreeSet<ChannelId> {
        self.channels.keys().copied().collect()
    }

    /// Returns why a channel stays.
    pub fn reason(&self, channel: ChannelId) -> Option<&str> {
        self.channels.get(&channel).map(String::as_str)
    }

    /// Adds blocks by their module paths.
    pub fn add_blocks(&mut self, blocks: impl IntoIterator<Item = (String, String)>) {
        self.blocks.extend(blocks);
    }

    /// Returns why a block stays.
    pub fn reason_of_block(&self, path: &str) -> Option<&str> {
        self.blocks.get(path).map(String::as_str)
    }
}

fn reason(field: &PlainField) -> String {
    let burns = field.is_known();
    let field = &field.field;
    if !burns {
        return format!(
            "`{}` ({}) has a count or a constant of its own that would have to follow: `Shrink`, implemented for it by hand and \
             asking its scope for `{}`, would free it",
            field.path, field.container, field.field
        );
    }
    format!(
        "layer `{}` ({}) keeps `{}` in a plain field out of reach; `Shrink` among the derives down to it and `shrinkable` in the \
         `impl GraphModule` would free it",
        field.path, field.container, field.field
    )
}
