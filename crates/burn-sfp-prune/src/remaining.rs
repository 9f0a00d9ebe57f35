//! [`Remaining`]: how much of every axis of every parameter is left while channels are chosen. No axis may lose all.

use std::collections::BTreeMap;

use burn_sfp_graph::{ChannelId, Network};
use fixedbitset::FixedBitSet;

/// Counts what is left of every axis. A channel set may be all of one axis and only a part of another (a group of a grouped
/// convolution that consumes several layers side by side), so it is not enough to keep a channel of every group of layers.
pub(crate) struct Remaining {
    /// The number of indices left on each axis that carries channels.
    left: Vec<usize>,
    /// The indices removed from each axis.
    removed: Vec<FixedBitSet>,
    /// The places of each atom, as `(axis, index)`.
    places: BTreeMap<ChannelId, Vec<(usize, usize)>>,
}

impl Remaining {
    pub fn of(network: &Network) -> Self {
        let flow = network.flow();
        let mut all = Self { left: Vec::new(), removed: Vec::new(), places: BTreeMap::new() };
        for axis in (0..network.parameters().len()).flat_map(|parameter| flow.parameter(parameter)) {
            for (index, &channel) in axis.channels.iter().enumerate() {
                for atom in flow.atoms(channel) {
                    all.places.entry(atom).or_default().push((all.left.len(), index));
                }
            }
            all.left.push(axis.channels.len());
            all.removed.push(FixedBitSet::with_capacity(axis.channels.len()));
        }
        all
    }

    /// Removes an atom and returns true, or returns false if an axis would lose its last index.
    pub fn take(&mut self, atom: ChannelId) -> bool {
        let Some(places) = self.places.get(&atom) else { return true };
        let mut fresh: BTreeMap<usize, usize> = BTreeMap::new();
        for &(axis, index) in places {
            *fresh.entry(axis).or_default() += usize::from(!self.removed[axis].contains(index));
        }
        if fresh.iter().any(|(&axis, &count)| count > 0 && count == self.left[axis]) {
            return false;
        }
        for &(axis, index) in places {
            self.removed[axis].insert(index);
        }
        for (axis, count) in fresh {
            self.left[axis] -= count;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use crate::group::GroupCut;
    use crate::{Budget, Planner, PolicyContext, PruneError, Ranking, RankingPolicy};
    use burn::module::{Module, Param};
    use burn::nn::conv::{Conv1d, Conv1dConfig};
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::{Device, Tensor};
    use burn_sfp_graph::GraphModule;
    use burn_sfp_nn::Shrink;

    /// The first of two groups consumes all rows of `narrow` and a part of `wide`.
    #[derive(Module, Debug, Shrink)]
    struct SideBySide {
        narrow: Param<Tensor<2>>,
        wide: Conv1d,
        grouped: Conv1d,
        last: Linear,
    }

    impl GraphModule for SideBySide {
        type Inputs = Tensor<3>;
        type Outputs = Tensor<3>;
        fn run(&self, x: Tensor<3>) -> Tensor<3> {
            let narrow = self.narrow.val().unsqueeze().matmul(x);
            let wide = self.wide.forward(narrow.clone());
            let x = self.grouped.forward(Tensor::cat(vec![narrow, wide], 1));
            self.last.forward(x.swap_dims(1, 2))
        }
        fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
            Some(self)
        }
    }

    /// What belongs to rows of `narrow` scores lowest.
    struct NotNarrow;

    impl RankingPolicy for NotNarrow {
        fn name(&self) -> String {
            "not narrow".into()
        }
        fn rank(&self, _: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
            let mut ranking = Ranking::default();
            ranking.filters.insert("wide".into(), vec![0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
            ranking.filters.insert("grouped".into(), vec![1.0; 2]);
            Ok(ranking)
        }
    }

    #[test]
    fn a_group_that_is_all_of_a_layer_stays() {
        let device = Device::flex();
        let conv = |from, to| Conv1dConfig::new(from, to, 1);
        let model = SideBySide {
            narrow: Param::from_tensor(Tensor::ones([3, 2], &device)),
            wide: conv(3, 9).init(&device),
            grouped: conv(12, 2).with_groups(2).init(&device),
            last: LinearConfig::new(2, 2).init(&device),
        };
        for cut in [GroupCut::WholeGroups, GroupCut::WithinGroups] {
            for ratio in [0.5, 0.8] {
                for budget in [Budget::PerLayer(ratio), Budget::Global(ratio)] {
                    let planner = Planner::new().group_cut(cut).budget(budget);
                    let smaller = planner.prune(&model, &Tensor::zeros([1, 2, 4], &device), &NotNarrow).unwrap();
                    assert!(smaller.plan.layers.iter().all(|layer| layer.filters_after > 0));
                    assert!(smaller.model.wide.weight.dims()[1] > 0);
                    assert!(!smaller.plan.cuts.is_empty());
                }
            }
        }
    }
}
