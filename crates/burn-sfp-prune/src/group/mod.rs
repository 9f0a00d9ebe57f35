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

/// Which coordinate goes where filters have two: the head and the dimension in it, the group and the member of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blocks {
    /// The same members of every block: grouped convolutions keep their groups, attention its heads.
    #[default]
    Inside,
    /// Whole blocks: groups of a convolution, heads of attention.
    Whole,
}

/// Layers whose filters are tied together, and one way to cut them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Indices in [`Network::layers`], ascending.
    pub layers: Vec<usize>,
    /// Which coordinate this cuts, `None` where the filters have one only.
    pub blocks: Option<Blocks>,
    /// The channel sets, ascending. With two coordinates each holds several filters of a layer.
    pub channels: Vec<ChannelId>,
}

/// All channel sets that some layer makes, and which of them span the same layers.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    /// The channel sets (atoms, see [`burn_sfp_core::network::Flow`]).
    pub channels: BTreeMap<ChannelId, Channel>,
    /// The groups, in the order of their first layers.
    pub groups: Vec<Group>,
}

impl Groups {
    /// Reads the groups off a captured network.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_core::{SfpModule, network::Network};
    /// # use burn_sfp_prune::group::Groups;
    /// # #[derive(Module, Debug)]
    /// # struct Mlp { a: Linear, b: Linear }
    /// # impl SfpModule for Mlp {
    /// #     type Input = Tensor<2>;
    /// #     fn logits(&self, x: Tensor<2>) -> Tensor<2> {
    /// #         self.b.forward(burn::tensor::activation::relu(self.a.forward(x)))
    /// #     }
    /// # }
    /// # let device = Device::flex();
    /// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 3).init(&device) };
    /// let network = Network::capture(&mlp, &Tensor::zeros([1, 4], &device))?;
    /// let groups = Groups::of(&network);
    /// assert_eq!(
    ///     groups.describe(&network),
    ///     "a: 8 channels, 8 free; read by b\nb: 3 channels, 0 free (it is an output of the network)\n"
    /// );
    /// # Ok::<(), burn_sfp_core::SfpError>(())
    /// ```
    pub fn of(network: &Network) -> Self {
        let flow = network.flow();
        // By channel: looked up for each filter and each input.
        let mut found: Vec<Option<Channel>> = Vec::new();
        // Which coordinate an atom is, where some filter has several that may go.
        let mut blocks: BTreeMap<ChannelId, Blocks> = BTreeMap::new();
        for (index, layer) in network.layers().iter().enumerate() {
            for (filter, id) in layer.output_channels().iter().enumerate() {
                let atoms = flow.atoms_of(id);
                let mut free = atoms.iter().copied().filter(|&atom| flow.pinned(atom).is_none());
                if atoms.len() > 1
                    && let (Some(first), Some(last)) = (free.next(), free.next_back())
                {
                    blocks.insert(first, Blocks::Whole);
                    blocks.insert(last, Blocks::Inside);
                }
                for &atom in atoms {
                    if found.len() <= atom as usize {
                        found.resize(atom as usize + 1, None);
                    }
                    let channel = found[atom as usize].get_or_insert_with(|| Channel {
                        pinned: flow.pinned(atom).map(str::to_string),
                        ..Channel::default()
                    });
                    channel.made_by.push((index, filter));
                }
            }
        }
        for (index, layer) in network.layers().iter().enumerate() {
            for (input, id) in layer.input_channels().iter().enumerate() {
                for &atom in id.iter().flat_map(|id| flow.atoms_of(id)) {
                    if let Some(Some(channel)) = found.get_mut(atom as usize) {
                        channel.read_by.push((index, input));
                    }
                }
            }
        }
        let channels: BTreeMap<ChannelId, Channel> =
            (0..).zip(found).filter_map(|(id, channel)| Some((id, channel?))).collect();
        let mut tied: BTreeMap<(Vec<usize>, u32, Option<Blocks>), Vec<ChannelId>> = BTreeMap::new();
        for (&id, channel) in &channels {
            let mut layers: Vec<usize> = channel.made_by.iter().map(|&(layer, _)| layer).collect();
            layers.dedup();
            tied.entry((layers, flow.family(id), blocks.get(&id).copied())).or_default().push(id);
        }
        let groups = tied.into_iter().map(|((layers, _, blocks), channels)| Group { layers, blocks, channels });
        Self { channels, groups: groups.collect() }
    }

    /// The layers that read one of the group's channels, by index in [`Network::layers`].
    pub fn readers(&self, group: &Group) -> Vec<usize> {
        let mut layers: Vec<usize> = group
            .channels
            .iter()
            .flat_map(|id| self.channels.get(id).into_iter().flat_map(|channel| &channel.read_by))
            .map(|&(layer, _)| layer)
            .collect();
        layers.sort_unstable();
        layers.dedup();
        layers
    }

    /// A line a group: which layers go together and where they meet, how many channels may leave and why others may not, and
    /// who reads them.
    pub fn describe(&self, network: &Network) -> String {
        let mut text = String::new();
        let path = |&layer: &usize| network.layers()[layer].path.as_str();
        for group in &self.groups {
            let names: Vec<&str> = group.layers.iter().map(path).collect();
            let pinned = |id: &&ChannelId| self.channels.get(id).and_then(|channel| channel.pinned.as_deref());
            let free = group.channels.iter().filter(|id| pinned(id).is_none()).count();
            let unit = match group.blocks {
                None => "channels",
                Some(Blocks::Inside) => "members of every block",
                Some(Blocks::Whole) => "whole blocks",
            };
            text.push_str(&format!("{}: {} {unit}, {free} free", names.join(" + "), group.channels.len()));
            if let Some(reason) = group.channels.iter().find_map(|id| pinned(&id)) {
                text.push_str(&format!(" ({reason})"));
            }
            if let (Some(&channel), true) = (group.channels.first(), names.len() > 1) {
                let meetings = network.meetings(channel);
                if !meetings.is_empty() {
                    text.push_str(&format!("; meet in {}", meetings.join(", ")));
                }
            }
            let readers: Vec<&str> = self.readers(group).iter().map(path).collect();
            if !readers.is_empty() {
                text.push_str(&format!("; read by {}", readers.join(", ")));
            }
            text.push('\n');
        }
        text
    }
}
