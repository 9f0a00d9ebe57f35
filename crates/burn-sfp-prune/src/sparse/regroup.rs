//! Groups of filters with similar inputs, so that a layer becomes a few dense ones.

use burn_sfp_nn::sparse::{Block, Blocks};
use fixedbitset::FixedBitSet;

use super::cost::{CostModel, Size};

/// Filters that are computed together, with all inputs that any of them reads.
pub(super) struct Groups {
    outputs: usize,
    inputs: usize,
    groups: Vec<Group>,
}

struct Group {
    filters: Vec<u32>,
    /// The inputs that any of the filters reads.
    reads: FixedBitSet,
    /// How many these are.
    count: usize,
}

impl Group {
    fn new(filters: Vec<u32>, reads: FixedBitSet) -> Self {
        Self { filters, count: reads.count_ones(..), reads }
    }

    /// Takes another group in.
    fn join(&mut self, other: Self) {
        self.filters.extend(other.filters);
        self.reads.union_with(&other.reads);
        self.count = self.reads.count_ones(..);
    }
}

impl Groups {
    /// Returns the groups for connections `[outputs, inputs]`.
    ///
    /// Filters with the same inputs start in one group. The two groups whose union saves most are joined, until no union saves
    /// anything; ties go to the smaller index, so that the result is the same in every run.
    pub(super) fn of(keep: &[bool], size: &Size, cost: &CostModel) -> Self {
        let (outputs, inputs) = (size.outputs, size.inputs);
        let mut groups: Vec<Option<Group>> = Vec::new();
        for filter in 0..outputs {
            let row = &keep[filter * inputs..][..inputs];
            let mut reads = FixedBitSet::with_capacity(inputs);
            reads.extend((0..inputs).filter(|&input| row[input]));
            match groups.iter_mut().flatten().find(|group| group.reads == reads) {
                Some(group) => group.filters.push(filter as u32),
                None => groups.push(Some(Group::new(vec![filter as u32], reads))),
            }
        }
        // For each group the partner behind it that saves most.
        let mut best: Vec<Option<(usize, f64)>> = (0..groups.len()).map(|a| partner(&groups, a, size, cost)).collect();
        while let Some((a, b)) = most(&best) {
            let Some(other) = groups[b].take() else { break };
            if let Some(group) = &mut groups[a] {
                group.join(other);
            }
            best[b] = None;
            for (other, known) in best.iter_mut().enumerate() {
                let stale = other == a || known.is_some_and(|(partner, _)| partner == a || partner == b);
                if stale {
                    *known = partner(&groups, other, size, cost);
                } else if other < a
                    && let Some(gain) = saves(&groups, other, a, size, cost)
                    && known.is_none_or(|(_, least)| gain > least)
                {
                    *known = Some((a, gain));
                }
            }
        }
        let mut groups: Vec<Group> = groups.into_iter().flatten().collect();
        for group in &mut groups {
            group.filters.sort_unstable();
            if group.count == 0 && inputs > 0 {
                // A block is a layer, which needs an input.
                group.reads.insert(0);
                group.count = 1;
            }
        }
        groups.sort_by_key(|group| group.filters[0]);
        Self { outputs, inputs, groups }
    }

    /// Returns the numbers of filters and inputs of each group.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, usize)> {
        self.groups.iter().map(|group| (group.filters.len(), group.count))
    }

    /// Returns the groups as blocks, for connections `[outputs, inputs]`.
    pub(super) fn into_blocks(self, keep: &[bool]) -> Blocks {
        let block = |group: Group| {
            let inputs: Vec<u32> = group.reads.ones().map(|input| input as u32).collect();
            let pairs = group.filters.iter().flat_map(|&filter| inputs.iter().map(move |&input| (filter, input)));
            let keep = pairs.map(|(filter, input)| keep[filter as usize * self.inputs + input as usize]).collect();
            Block { outputs: group.filters, inputs, keep }
        };
        Blocks { outputs: self.outputs, inputs: self.inputs, blocks: self.groups.into_iter().map(block).collect() }
    }
}

/// Returns what joining two groups saves; `None` if it saves nothing.
fn saves(groups: &[Option<Group>], a: usize, b: usize, size: &Size, cost: &CostModel) -> Option<f64> {
    let (a, b) = (groups[a].as_ref()?, groups[b].as_ref()?);
    let union = a.reads.union_count(&b.reads);
    let apart = cost.block(size, a.filters.len(), a.count) + cost.block(size, b.filters.len(), b.count);
    let gain = apart - cost.block(size, a.filters.len() + b.filters.len(), union);
    (gain > 0.0).then_some(gain)
}

/// Returns the group behind `a` whose union with it saves most.
fn partner(groups: &[Option<Group>], a: usize, size: &Size, cost: &CostModel) -> Option<(usize, f64)> {
    let gains = (a + 1..groups.len()).filter_map(|b| Some((b, saves(groups, a, b, size, cost)?)));
    gains.fold(None, |best, (b, gain)| if best.is_none_or(|(_, known)| gain > known) { Some((b, gain)) } else { best })
}

/// Returns the pair that saves most.
fn most(best: &[Option<(usize, f64)>]) -> Option<(usize, usize)> {
    let mut found: Option<(usize, usize, f64)> = None;
    for (a, partner) in best.iter().enumerate() {
        if let Some((b, gain)) = partner
            && found.is_none_or(|(.., known)| *gain > known)
        {
            found = Some((a, *b, *gain));
        }
    }
    found.map(|(a, b, _)| (a, b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(outputs: usize, inputs: usize) -> Size {
        Size { outputs, inputs, kernel: 9, positions: 1024.0 }
    }

    #[test]
    fn planted_groups_are_found() {
        // Filters equal modulo 4 read the inputs equal modulo 4.
        let (outputs, inputs) = (64, 128);
        let keep: Vec<bool> = (0..outputs * inputs).map(|k| k / inputs % 4 == k % inputs % 4).collect();
        let groups = Groups::of(&keep, &size(outputs, inputs), &CostModel::default());
        assert_eq!(groups.iter().collect::<Vec<_>>(), [(16, 32); 4]);
        let blocks = groups.into_blocks(&keep);
        assert_eq!(blocks.blocks[1].outputs[..3], [1, 5, 9]);
        assert!(blocks.blocks.iter().all(|block| block.keep.iter().all(|keep| *keep)));
    }

    #[test]
    fn nearly_equal_inputs_share_a_block_and_empty_rows_have_one() {
        let (outputs, inputs) = (32, 64);
        let keep: Vec<bool> =
            (0..outputs * inputs).map(|k| k / inputs != 5 && k % inputs < 32 && k % 31 != 0).collect();
        let groups = Groups::of(&keep, &size(outputs, inputs), &CostModel::default());
        let blocks = groups.into_blocks(&keep);
        assert!(blocks.blocks.iter().all(|block| !block.inputs.is_empty()));
        assert_eq!(blocks.blocks.iter().map(|block| block.outputs.len()).sum::<usize>(), outputs);
        assert!(blocks.blocks.len() < 4);
        let none = vec![false; 6];
        assert_eq!(Groups::of(&none, &size(2, 3), &CostModel::default()).into_blocks(&none).blocks.len(), 1);
    }
}
