//! The lists of kernels as the inner loops read them: slices without indirection, and cuts into equal work.

use crate::KernelRows;

/// The rows of kernels of a convolution, borrowed from [`KernelRows`]: for each filter of the result, the channels that it
/// reads, ascending within its group, and the kernel of each.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    offsets: &'a [u32],
    channels: &'a [u32],
    /// `None`: entry k has kernel k.
    kernels: Option<&'a [u32]>,
    /// Rows of a group; at least 1.
    per_group: usize,
    channels_per_group: usize,
}

impl<'a> Rows<'a> {
    pub(super) fn new(rows: &'a KernelRows) -> Self {
        Self {
            offsets: rows.offsets(),
            channels: rows.channels(),
            kernels: rows.kernels(),
            per_group: rows.rows_per_group().max(1),
            channels_per_group: rows.channels_per_group(),
        }
    }

    /// Returns the number of rows.
    pub(super) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Returns the number of entries of all rows.
    pub(super) fn entries(&self) -> usize {
        self.channels.len()
    }

    /// Returns the index of a row's first entry; for row `len()`, the number of entries.
    pub(super) fn start(&self, row: usize) -> usize {
        self.offsets[row] as usize
    }

    /// Returns the number of channels of a group.
    pub(super) fn channels_per_group(&self) -> usize {
        self.channels_per_group
    }

    /// Returns the part of a row whose channels, numbered within the group, are at least `from` and below `to`.
    #[inline(always)]
    pub(super) fn part(&self, row: usize, from: usize, to: usize) -> Part<'a> {
        let (start, end) = (self.start(row), self.start(row + 1));
        let channels = &self.channels[start..end];
        let (first, last) = if from == 0 && to >= self.channels_per_group {
            (0, channels.len())
        } else {
            (
                channels.partition_point(|&channel| (channel as usize) < from),
                channels.partition_point(|&channel| (channel as usize) < to),
            )
        };
        Part {
            base: row / self.per_group * self.channels_per_group,
            channels: &channels[first..last],
            first: start + first,
            kernels: self.kernels.map(|kernels| &kernels[start + first..start + last]),
        }
    }

    /// Returns a whole row.
    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> Part<'a> {
        self.part(row, 0, usize::MAX)
    }

    /// Cuts the rows into about `parts` runs of equal work: returns the first row of each run and, last, the number
    /// of rows.
    pub(super) fn cuts(&self, parts: usize) -> Vec<usize> {
        // A row takes some time even without entries.
        let total = self.entries() + self.len();
        let share = total.div_ceil(parts.max(1)).max(1);
        let mut cuts = vec![0];
        let mut before = 0;
        for row in 1..self.len() {
            let done = self.start(row) + row;
            if done - before >= share {
                cuts.push(row);
                before = done;
            }
        }
        cuts.push(self.len());
        cuts
    }
}

/// Consecutive entries of a row.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    /// First channel of the group.
    base: usize,
    channels: &'a [u32],
    /// Index of the first entry.
    first: usize,
    kernels: Option<&'a [u32]>,
}

impl Part<'_> {
    /// Returns the number of entries.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.channels.len()
    }

    /// Returns the channel (numbered over all groups) and the kernel of an entry.
    #[inline(always)]
    pub(super) fn entry(&self, place: usize) -> (usize, usize) {
        let kernel = match self.kernels {
            Some(kernels) => kernels[place] as usize,
            None => self.first + place,
        };
        (self.base + self.channels[place] as usize, kernel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KernelPattern;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_hold_the_entries_of_the_lists(
            groups in 1_usize..4, per in 1_usize..5, inputs in 0_usize..5, transposed: bool,
            bits in prop::collection::vec(any::<bool>(), 100),
        ) {
            let pattern = KernelPattern::from_fn(groups * per, inputs, |o, i| bits[o * 5 + i]);
            let lists = if transposed { pattern.transposed(groups) } else { pattern.rows(groups) }.unwrap();
            let rows = Rows::new(&lists);
            let found: Vec<_> = (0..rows.len())
                .flat_map(|row| { let part = rows.row(row); (0..part.len()).map(move |k| { let (c, kernel) = part.entry(k); (row, c, kernel) }) })
                .collect();
            prop_assert_eq!(found, lists.iter().collect::<Vec<_>>());
        }

        #[test]
        fn cuts_cover_every_row(outputs in 0_usize..40, parts in 0_usize..9) {
            let pattern = KernelPattern::from_fn(outputs, 7, |o, i| (o * i) % 3 == 0);
            let lists = pattern.rows(1).unwrap();
            let cuts = Rows::new(&lists).cuts(parts);
            prop_assert_eq!((cuts[0], cuts[cuts.len() - 1]), (0, outputs));
            prop_assert!(outputs == 0 || cuts.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}
