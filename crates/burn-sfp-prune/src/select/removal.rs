//! [`Removal`]: what is removed so far.

use std::collections::{BTreeSet, HashSet};

use burn_sfp_graph::{ChannelId, Network, RunningShapes};

use super::candidate::Candidate;
use super::depth::BlockCandidate;
use crate::budget::RunningTotals;

/// The channels (atoms) removed so far, and what they leave.
pub(super) struct Removal<'a> {
    /// What is left of the axes of all parameters; none may lose all. A channel set may be all of one axis and only a part of another (a group
    /// of a grouped convolution that consumes several layers side by side), so it is not enough to keep a channel of every group of layers.
    shapes: RunningShapes<'a>,
    totals: RunningTotals<'a>,
    removed: BTreeSet<ChannelId>,
    /// The blocks that are left out, by index, and the channels that are inside of them alone.
    blocks: BTreeSet<usize>,
    inside: HashSet<ChannelId>,
}

impl<'a> Removal<'a> {
    pub fn of(network: &'a Network) -> Self {
        let (shapes, totals) = (RunningShapes::of_parameters(network), RunningTotals::new(network));
        Self { shapes, totals, removed: BTreeSet::new(), blocks: BTreeSet::new(), inside: HashSet::new() }
    }

    pub fn totals(&self) -> &RunningTotals<'a> {
        &self.totals
    }

    pub fn removed(&self) -> &BTreeSet<ChannelId> {
        &self.removed
    }

    /// The channels that are removed, without those that are inside of a block that is left out, and these blocks.
    pub fn finish(self) -> (BTreeSet<ChannelId>, BTreeSet<usize>) {
        let Self { mut removed, blocks, inside, .. } = self;
        removed.retain(|channel| !inside.contains(channel));
        (removed, blocks)
    }

    /// Removes a candidate, and returns whether it did.
    pub fn take(&mut self, candidate: &Candidate<'_>) -> bool {
        match candidate {
            Candidate::Channels(channels) => self.take_channels(channels),
            Candidate::Block(block) => {
                self.totals.leave_out(block.index);
                self.inside.extend(&block.inside);
                self.blocks.insert(block.index)
            }
        }
    }

    /// Puts a candidate back that was removed.
    pub fn put_back(&mut self, candidate: &Candidate<'_>) {
        match candidate {
            Candidate::Channels(channels) => self.put_back_channels(channels),
            Candidate::Block(block) => self.put_back_block(block),
        }
    }

    fn put_back_block(&mut self, block: &BlockCandidate) {
        self.totals.put_back(block.index);
        self.inside.retain(|channel| !block.inside.contains(channel));
        self.blocks.remove(&block.index);
    }

    /// Removes all of these, and returns whether it did: not if a parameter would lose the last index of an axis, or if they are gone with
    /// a block.
    pub fn take_channels(&mut self, channels: &[ChannelId]) -> bool {
        for (index, &channel) in channels.iter().enumerate() {
            if self.inside.contains(&channel) || self.shapes.would_empty(channel) {
                self.put_back_channels(&channels[..index]);
                return false;
            }
            self.shapes.remove(channel);
            self.totals.remove(channel);
            self.removed.insert(channel);
        }
        true
    }

    /// Puts channels back that were removed.
    pub fn put_back_channels(&mut self, channels: &[ChannelId]) {
        for channel in channels {
            self.shapes.restore(*channel);
            self.totals.restore(*channel);
            self.removed.remove(channel);
        }
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
