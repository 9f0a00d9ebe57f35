//! Channels that are removed together: the network's channel sets, the filters that produce them and the inputs that consume them.

use std::collections::BTreeMap;

use burn_sfp_graph::{ChannelId, Network};

use crate::kept::Kept;

/// One channel set: all filters and inputs that are removed together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Channel {
    /// The filters that produce the channel, as `(layer, filter)` with the index of the layer in [`Network::layers`].
    pub producers: Vec<(usize, usize)>,
    /// The inputs that consume the channel, as `(layer, input)` with the index of the layer in [`Network::layers`].
    pub consumers: Vec<(usize, usize)>,
    /// Why the channel must stay; `None` if it can be removed.
    pub pinned: Option<String>,
}

/// Which of two coordinates is cut in layers whose filters have two: the group and the member of a grouped convolution, the head
/// and the dimension of attention.
///
/// ```
/// use burn_sfp_prune::{GroupCut, Planner};
/// let whole_heads = Planner::new().group_cut(GroupCut::WholeGroups);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupCut {
    /// Removes the same members of every group. Grouped convolutions keep their groups, attention keeps its heads.
    #[default]
    WithinGroups,
    /// Removes whole groups of a convolution and whole heads of attention.
    WholeGroups,
}

/// Layers whose filters are tied together, and one way to cut them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Group {
    /// Indices in [`Network::layers`], ascending.
    pub layers: Vec<usize>,
    /// The coordinate that this group cuts; `None` if the filters have only one.
    pub cut: Option<GroupCut>,
    /// The channel sets, ascending. With two coordinates each set holds several filters of a layer.
    pub channels: Vec<ChannelId>,
}

/// All channel sets that layers produce, grouped by the layers that they span.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Groups {
    /// The channel sets (atoms, see [`burn_sfp_graph::Flow`]).
    pub channels: BTreeMap<ChannelId, Channel>,
    /// The groups, in the order of their first layers.
    pub groups: Vec<Group>,
}

impl Groups {
    /// Finds the groups of a captured network.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::GraphModule;
    /// # use burn_sfp_graph::Network;
    /// # use burn_sfp_prune::group::Groups;
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
    /// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 3).init(&device) };
    /// let network = Network::capture(&mlp, &Tensor::zeros([1, 4], &device))?;
    /// let groups = Groups::of(&network);
    /// assert_eq!(
    ///     groups.describe(&network),
    ///     "a: 8 channels, 8 free; read by b\nb: 3 channels, 0 free (it is an output of the network)\n"
    /// );
    /// # Ok::<(), burn_sfp_graph::GraphError>(())
    /// ```
    pub fn of(network: &Network) -> Self {
        Self::of_kept(network, &Kept::default())
    }

    /// [`of`](Groups::of) where some channels that could be removed stay as well.
    pub(crate) fn of_kept(network: &Network, kept: &Kept) -> Self {
        let flow = network.flow();
        let pinned = |atom: ChannelId| flow.pinned(atom).or_else(|| kept.reason(atom));
        // Indexed by channel: looked up for each filter and each input.
        let mut found: Vec<Option<Channel>> = Vec::new();
        // The coordinate of an atom, if some filter has several that can be removed.
        let mut cuts: BTreeMap<ChannelId, GroupCut> = BTreeMap::new();
        for (index, layer) in network.layers().iter().enumerate() {
            for (filter, id) in layer.output_channels().iter().enumerate() {
                let atoms = flow.atoms_of(id);
                let mut free = atoms.iter().copied().filter(|&atom| pinned(atom).is_none());
                if atoms.len() > 1
                    && let (Some(first), Some(last)) = (free.next(), free.next_back())
                    // Both coordinates of a kernel that reads what it writes to are one: its filters have no other way to be cut.
                    && flow.family(first) != flow.family(last)
                {
                    cuts.insert(first, GroupCut::WholeGroups);
                    cuts.insert(last, GroupCut::WithinGroups);
                }
                for &atom in atoms {
                    if found.len() <= atom as usize {
                        found.resize(atom as usize + 1, None);
                    }
                    let channel = found[atom as usize].get_or_insert_with(|| Channel {
                        pinned: pinned(atom).map(str::to_string),
                        ..Channel::default()
                    });
                    channel.producers.push((index, filter));
                }
            }
        }
        for (index, layer) in network.layers().iter().enumerate() {
            for (input, id) in layer.input_channels().iter().enumerate() {
                for &atom in id.iter().flat_map(|id| flow.atoms_of(id)) {
                    if let Some(Some(channel)) = found.get_mut(atom as usize) {
                        channel.consumers.push((index, input));
                    }
                }
            }
        }
        let channels: BTreeMap<ChannelId, Channel> =
            (0..).zip(found).filter_map(|(id, channel)| Some((id, channel?))).collect();
        let mut tied: BTreeMap<(Vec<usize>, u32, Option<GroupCut>), Vec<ChannelId>> = BTreeMap::new();
        for (&id, channel) in &channels {
            let mut layers: Vec<usize> = channel.producers.iter().map(|&(layer, _)| layer).collect();
            layers.dedup();
            tied.entry((layers, flow.family(id), cuts.get(&id).copied())).or_default().push(id);
        }
        let groups = tied.into_iter().map(|((layers, _, cut), channels)| Group { layers, cut, channels });
        Self { channels, groups: groups.collect() }
    }

    /// Returns the layers that consume a channel of the group, as ascending indices in [`Network::layers`].
    pub fn consumers(&self, group: &Group) -> Vec<usize> {
        let mut layers: Vec<usize> = group
            .channels
            .iter()
            .flat_map(|id| self.channels.get(id).into_iter().flat_map(|channel| &channel.consumers))
            .map(|&(layer, _)| layer)
            .collect();
        layers.sort_unstable();
        layers.dedup();
        layers
    }

    /// Describes each group in one line: the layers that are tied together and where they meet, how many channels can be removed
    /// and why others cannot, and the layers that consume them.
    pub fn describe(&self, network: &Network) -> String {
        let mut text = String::new();
        let path = |&layer: &usize| network.layers()[layer].path.as_str();
        let tied = self.groups.iter().filter(|group| group.layers.len() > 1);
        let meetings = network.meetings(&tied.filter_map(|group| group.channels.first().copied()).collect());
        for group in &self.groups {
            let names: Vec<&str> = group.layers.iter().map(path).collect();
            let pinned = |id: &&ChannelId| self.channels.get(id).and_then(|channel| channel.pinned.as_deref());
            let free = group.channels.iter().filter(|id| pinned(id).is_none()).count();
            let unit = match group.cut {
                None => "channels",
                Some(GroupCut::WithinGroups) => "members of every block",
                Some(GroupCut::WholeGroups) => "whole blocks",
            };
            text.push_str(&format!("{}: {} {unit}, {free} free", names.join(" + "), group.channels.len()));
            if let Some(reason) = group.channels.iter().find_map(|id| pinned(&id)) {
                text.push_str(&format!(" ({reason})"));
            }
            if let Some(meetings) = group.channels.first().and_then(|channel| meetings.get(channel)) {
                text.push_str(&format!("; meet in {}", meetings.join(", ")));
            }
            let consumers: Vec<&str> = self.consumers(group).iter().map(path).collect();
            if !consumers.is_empty() {
                text.push_str(&format!("; read by {}", consumers.join(", ")));
            }
            text.push('\n');
        }
        text
    }
}
