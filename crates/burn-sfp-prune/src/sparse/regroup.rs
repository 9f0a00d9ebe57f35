//! Gathers filters with similar inputs, so that a layer becomes a few dense ones.

use burn_sfp_core::sparse::{Block, Blocks};

use super::cost::{CostModel, Size};

/// Filters that are computed together, with all inputs that any of them reads.
pub(super) struct Groups {
    outputs: usize,
    inputs: usize,
    groups: Vec<Group>,
}

struct Group {
    filters: Vec<u32>,
    /// A bit for each input.
    reads: Vec<u64>,
    count: usize,
}

impl Groups {
    /// Joins, two by two, the groups whose union saves most, until none saves anything. Every filter starts on its own, filters
    /// with the same inputs together; ties go to the smaller index, so that the result depends on nothing else.
    pub(super) fn of(keep: &[bool], size: &Size, cost: &CostModel) -> Self {
        let (outputs, inputs) = (size.outputs, size.inputs);
        let mut groups: Vec<Option<Group>> = Vec::new();
        for filter in 0..outputs {
            let row = &keep[filter * inputs..][..inputs];
            let mut reads = vec![0_u64; inputs.div_ceil(64)];
            for input in (0..inputs).filter(|&input| row[input]) {
                reads[input / 64] |= 1 << (input % 64);
            }
            match groups.iter_mut().flatten().find(|group| group.reads == reads) {
                Some(group) => group.filters.push(filter as u32),
                None => {
                    let count = count(&reads);
                    groups.push(Some(Group { filters: vec![filter as u32], reads, count }));
                }
            }
        }
        // For each group the partner behind it that saves most.
        let mut best: Vec<Option<(usize, f64)>> = (0..groups.len()).map(|a| partner(&groups, a, size, cost)).collect();
        while let Some((a, b)) = most(&best) {
            let Some(Group { filters, reads, .. }) = groups[b].take() else { break };
            if let Some(group) = &mut groups[a] {
                group.filters.extend(filters);
                group.reads.iter_mut().zip(&reads).for_each(|(all, more)| *all |= more);
                group.count = count(&group.reads);
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
                // A block without inputs would be no layer.
                group.reads[0] |= 1;
                group.count = 1;
            }
        }
        groups.sort_by_key(|group| group.filters[0]);
        Self { outputs, inputs, groups }
    }

    /// Filters and inputs of each group.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, usize)> {
        self.groups.iter().map(|group| (group.filters.len(), group.count))
    }

    /// The blocks, for connections `[outputs, inputs]`.
    pub(super) fn into_blocks(self, keep: &[bool]) -> Blocks {
        let block = |group: Group| {
            let reads = |input: &usize| group.reads[input / 64] >> (input % 64) & 1 == 1;
            let inputs: Vec<u32> = (0..self.inputs).filter(reads).map(|input| input as u32).collect();
            let pairs = group.filters.iter().flat_map(|&filter| inputs.iter().map(move |&input| (filter, input)));
            let keep = pairs.map(|(filter, input)| keep[filter as usize * self.inputs + input as usize]).collect();
            Block { outputs: group.filters, inputs, keep }
        };
        Blocks { outputs: self.outputs, inputs: self.inputs, blocks: self.groups.into_iter().map(block).collect() }
    }
}

fn count(bits: &[u64]) -> usize {
    bits.iter().map(|word| word.count_ones() as usize).sum()
}

/// What joining two groups saves, where it saves something.
fn saves(groups: &[Option<Group>], a: usize, b: usize, size: &Size, cost: &CostModel) -> Option<f64> {
    let (a, b) = (groups[a].as_ref()?, groups[b].as_ref()?);
    let union = a.reads.iter().zip(&b.reads).map(|(x, y)| (x | y).count_ones() as usize).sum();
    let apart = cost.block(size, a.filters.len(), a.count) + cost.block(size, b.filters.len(), b.count);
    let gain = apart - cost.block(size, a.filters.len() + b.filters.len(), union);
    (gain > 0.0).then_some(gain)
}

fn partner(groups: &[Option<Group>], a: usize, size: &Size, cost: &CostModel) -> Option<(usize, f64)> {
    let gains = (a + 1..groups.len()).filter_map(|b| Some((b, saves(groups, a, b, size, cost)?)));
    gains.fold(None, |best, (b, gain)| if best.is_none_or(|(_, known)| gain > known) { Some((b, gain)) } else { best })
}

/// The pair that saves most.
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
