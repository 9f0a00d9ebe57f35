//! Which kernels stay: compressed rows over (output filter, input filter).

use std::borrow::Cow;

use crate::KernelError;

/// The kernels of a convolution that stay: for each output filter the ascending list of inputs, within its
/// group, that it still reads. The k-th entry of all the lists, one after another, owns kernel k of
/// [`sparse_conv2d`](crate::sparse_conv2d).
///
/// # Example
/// ```
/// use burn_sfp_ndarray::KernelPattern;
///
/// // Output 0 reads inputs 0 and 2, output 1 reads nothing, output 2 reads input 1.
/// let pattern = KernelPattern::new(3, vec![0, 2, 2, 3], vec![0, 2, 1])?;
/// assert_eq!((pattern.outputs(), pattern.inputs_per_group(), pattern.kept()), (3, 3, 3));
/// assert_eq!(pattern.row(0), [0, 2]);
/// assert!(pattern.row(1).is_empty());
/// assert_eq!(pattern, KernelPattern::from_fn(3, 3, |o, i| [(0, 0), (0, 2), (2, 1)].contains(&(o, i))));
/// # Ok::<(), burn_sfp_ndarray::KernelError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelPattern {
    inputs_per_group: usize,
    offsets: Vec<u32>,
    inputs: Vec<u32>,
}

impl KernelPattern {
    /// From compressed rows: output filter o reads `inputs[offsets[o]..offsets[o + 1]]`.
    ///
    /// * `offsets`: O + 1 ascending numbers from 0 to the number of `inputs`;
    /// * `inputs`: strictly ascending within a row, each below `inputs_per_group`.
    ///
    /// # Errors
    /// [`KernelError::Pattern`] when the lists are anything else.
    ///
    /// # Example
    /// ```
    /// use burn_sfp_ndarray::{KernelError, KernelPattern};
    ///
    /// assert!(KernelPattern::new(2, vec![0, 1, 2], vec![1, 1]).is_ok());
    /// let descending = KernelPattern::new(2, vec![0, 2], vec![1, 0]);
    /// assert!(matches!(descending, Err(KernelError::Pattern { output: 0, .. })));
    /// ```
    pub fn new(inputs_per_group: usize, offsets: Vec<u32>, inputs: Vec<u32>) -> Result<Self, KernelError> {
        let wrong = |output, what| Err(KernelError::Pattern { output, what });
        if offsets.first() != Some(&0) {
            return wrong(0, "offsets have to start with 0");
        }
        for (output, pair) in offsets.windows(2).enumerate() {
            if pair[0] > pair[1] {
                return wrong(output, "offsets have to ascend");
            }
            let Some(row) = inputs.get(pair[0] as usize..pair[1] as usize) else {
                return wrong(output, "offsets must not go beyond the list of inputs");
            };
            if row.windows(2).any(|pair| pair[0] >= pair[1]) {
                return wrong(output, "inputs have to ascend strictly within a row");
            }
            if row.last().is_some_and(|&input| input as usize >= inputs_per_group) {
                return wrong(output, "inputs have to be below the number of inputs of a group");
            }
        }
        if offsets.last().is_some_and(|&end| end as usize != inputs.len()) {
            return wrong(offsets.len() - 1, "the last offset has to be the number of inputs listed");
        }
        Ok(Self { inputs_per_group, offsets, inputs })
    }

    /// The pattern with the kernel from input i to output o where `keep(o, i)` holds.
    ///
    /// No more than `u32::MAX` kernels are kept.
    ///
    /// # Example
    /// ```
    /// use burn_sfp_ndarray::KernelPattern;
    ///
    /// let diagonal = KernelPattern::from_fn(4, 4, |output, input| output == input);
    /// assert_eq!(diagonal.inputs(), [0, 1, 2, 3]);
    /// ```
    pub fn from_fn(outputs: usize, inputs_per_group: usize, mut keep: impl FnMut(usize, usize) -> bool) -> Self {
        let mut offsets = vec![0];
        let mut inputs = Vec::new();
        let mut kept = 0_u32;
        for output in 0..outputs {
            for (input, number) in (0..inputs_per_group).zip(0_u32..) {
                if kept < u32::MAX && keep(output, input) {
                    inputs.push(number);
                    kept += 1;
                }
            }
            offsets.push(kept);
        }
        Self { inputs_per_group, offsets, inputs }
    }

    /// O, the number of output filters.
    pub fn outputs(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Input filters of a group, of which some are listed.
    pub fn inputs_per_group(&self) -> usize {
        self.inputs_per_group
    }

    /// K, the number of kernels that stay.
    pub fn kept(&self) -> usize {
        self.inputs.len()
    }

    /// The inputs that an output filter reads, ascending; empty for a filter that does not exist.
    pub fn row(&self, output: usize) -> &[u32] {
        match self.offsets.get(output..).and_then(|rest| rest.get(..2)) {
            Some(ends) => &self.inputs[ends[0] as usize..ends[1] as usize],
            None => &[],
        }
    }

    /// O + 1 ascending numbers: row o is `inputs[offsets[o]..offsets[o + 1]]`.
    pub fn offsets(&self) -> &[u32] {
        &self.offsets
    }

    /// All rows, one after another.
    pub fn inputs(&self) -> &[u32] {
        &self.inputs
    }

    /// The rows a forward convolution goes through.
    pub(super) fn rows(&self, groups: usize) -> Rows<'_> {
        Rows {
            offsets: Cow::Borrowed(&self.offsets),
            channels: Cow::Borrowed(&self.inputs),
            kernels: None,
            per_group: (self.outputs() / groups).max(1),
            channels_per_group: self.inputs_per_group,
        }
    }

    /// The rows of the transposed pattern: for each input filter the outputs that read it, ascending.
    pub(super) fn transposed(&self, groups: usize) -> Rows<'static> {
        let per_group = self.outputs() / groups;
        let inputs = groups * self.inputs_per_group;
        let first = |output: usize| output / per_group * self.inputs_per_group;
        let mut offsets = vec![0_u32; inputs + 1];
        for output in 0..self.outputs() {
            for &input in self.row(output) {
                offsets[first(output) + input as usize + 1] += 1;
            }
        }
        for input in 0..inputs {
            offsets[input + 1] += offsets[input];
        }
        let mut next = offsets.clone();
        let mut channels = vec![0; self.kept()];
        let mut kernels = vec![0; self.kept()];
        let mut kernel = 0;
        for output in 0..self.outputs() {
            for &input in self.row(output) {
                let place = &mut next[first(output) + input as usize];
                channels[*place as usize] = (output % per_group) as u32;
                kernels[*place as usize] = kernel;
                *place += 1;
                kernel += 1;
            }
        }
        Rows {
            offsets: Cow::Owned(offsets),
            channels: Cow::Owned(channels),
            kernels: Some(kernels),
            per_group: self.inputs_per_group.max(1),
            channels_per_group: per_group,
        }
    }
}

/// What each filter of the result reads: channels of its group, ascending, and the kernel of each.
pub(super) struct Rows<'a> {
    offsets: Cow<'a, [u32]>,
    channels: Cow<'a, [u32]>,
    /// `None`: entry k has kernel k.
    kernels: Option<Vec<u32>>,
    /// Rows of a group.
    per_group: usize,
    channels_per_group: usize,
}

impl Rows<'_> {
    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Number of entries.
    pub(super) fn entries(&self) -> usize {
        self.channels.len()
    }

    /// Number of the first entry of a row, and, for `len()`, of all entries.
    pub(super) fn start(&self, row: usize) -> usize {
        self.offsets[row] as usize
    }

    /// Channels of a group.
    pub(super) fn channels_per_group(&self) -> usize {
        self.channels_per_group
    }

    /// The part of a row whose channels, counted within the group, are at least `from` and below `to`.
    #[inline(always)]
    pub(super) fn part(&self, row: usize, from: usize, to: usize) -> Part<'_> {
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
            kernels: self.kernels.as_ref().map(|kernels| &kernels[start + first..start + last]),
        }
    }

    /// A whole row.
    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> Part<'_> {
        self.part(row, 0, usize::MAX)
    }

    /// Cuts the rows into about `parts` runs of equal work: the starts of the runs, then the number of rows.
    pub(super) fn cuts(&self, parts: usize) -> Vec<usize> {
        // A row costs something even without entries.
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

/// Some entries of a row.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    base: usize,
    channels: &'a [u32],
    first: usize,
    kernels: Option<&'a [u32]>,
}

impl Part<'_> {
    /// Number of entries.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.channels.len()
    }

    /// Channel, counted over all groups, and kernel of an entry.
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
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lists_and_rule_say_the_same(outputs in 0_usize..12, inputs in 0_usize..12, bits in prop::collection::vec(any::<bool>(), 144)) {
            let keep = |o: usize, i: usize| bits[o * 12 + i];
            let pattern = KernelPattern::from_fn(outputs, inputs, keep);
            prop_assert_eq!(pattern.outputs(), outputs);
            prop_assert_eq!(pattern.kept(), (0..outputs).flat_map(|o| (0..inputs).map(move |i| (o, i))).filter(|&(o, i)| keep(o, i)).count());
            for o in 0..outputs {
                let expected: Vec<u32> = (0..inputs).filter(|&i| keep(o, i)).map(|i| i as u32).collect();
                prop_assert_eq!(pattern.row(o), expected);
            }
            let again = KernelPattern::new(inputs, pattern.offsets().to_vec(), pattern.inputs().to_vec());
            prop_assert_eq!(again.unwrap(), pattern);
        }

        #[test]
        fn transposing_moves_every_kernel(groups in 1_usize..4, per in 1_usize..5, inputs in 0_usize..5, bits in prop::collection::vec(any::<bool>(), 100)) {
            let outputs = groups * per;
            let pattern = KernelPattern::from_fn(outputs, inputs, |o, i| bits[o * 5 + i]);
            let rows = pattern.transposed(groups);
            prop_assert_eq!(rows.len(), groups * inputs);
            let forward = pattern.rows(groups);
            let mut expected: Vec<_> = (0..outputs)
                .flat_map(|o| { let row = forward.row(o); (0..row.len()).map(move |k| { let (i, kernel) = row.entry(k); (i, o, kernel) }) })
                .collect();
            expected.sort_unstable();
            let found: Vec<_> = (0..rows.len())
                .flat_map(|i| { let row = rows.row(i); (0..row.len()).map(move |k| { let (o, kernel) = row.entry(k); (i, o, kernel) }) })
                .collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn cuts_cover_every_row(outputs in 0_usize..40, parts in 0_usize..9) {
            let pattern = KernelPattern::from_fn(outputs, 7, |o, i| (o * i) % 3 == 0);
            let cuts = pattern.rows(1).cuts(parts);
            prop_assert_eq!((cuts[0], cuts[cuts.len() - 1]), (0, outputs));
            prop_assert!(outputs == 0 || cuts.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }

    #[test]
    fn wrong_lists_are_refused() {
        let wrong = |offsets: &[u32], inputs: &[u32]| {
            matches!(KernelPattern::new(3, offsets.to_vec(), inputs.to_vec()), Err(KernelError::Pattern { .. }))
        };
        assert!(wrong(&[], &[]));
        assert!(wrong(&[1, 2], &[0, 1]));
        assert!(wrong(&[0, 2, 1], &[0, 1]));
        assert!(wrong(&[0, 3], &[0, 1]));
        assert!(wrong(&[0, 1], &[0, 1]));
        assert!(wrong(&[0, 2], &[1, 1]));
        assert!(wrong(&[0, 2], &[1, 3]));
        assert!(!wrong(&[0], &[]));
        assert!(KernelPattern::from_fn(2, 2, |_, _| true).row(2).is_empty());
    }
}
