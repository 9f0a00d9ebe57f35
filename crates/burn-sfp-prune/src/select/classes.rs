//! [`role`]: which groups are compared with each other because they do the same in repeated blocks.

use std::collections::BTreeSet;

use burn_sfp_graph::Network;

use crate::group::{Group, GroupCut, Groups};

/// What a group is made by and read by. Groups of the same role are isomorphic in the sense of Fang et al., "Isomorphic Pruning for Vision
/// Models", ECCV 2024, arXiv 2407.04616: the layers around them are of the same kinds. How many layers are tied together does not count, so
/// that the streams of deep and of shallow stages are compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Role {
    made_by: BTreeSet<LayerRole>,
    read_by: BTreeSet<LayerRole>,
    /// 0 where filters have one coordinate.
    cut: u8,
}

/// Kind of a layer, its kernel, and whether it is grouped.
type LayerRole = (String, Vec<usize>, bool);

pub(super) fn role(network: &Network, groups: &Groups, group: &Group) -> Role {
    let of = |layer: &usize| {
        let layer = &network.layers()[*layer];
        (layer.kind.to_string(), layer.kernel().to_vec(), layer.groups > 1)
    };
    let cut = match group.cut {
        None => 0,
        Some(GroupCut::WithinGroups) => 1,
        Some(GroupCut::WholeGroups) => 2,
    };
    Role {
        made_by: group.layers.iter().map(of).collect(),
        read_by: groups.consumers(group).iter().map(of).collect(),
        cut,
    }
}
