//! The lists that the loops of a sparse convolution and of its gradients walk, for a number of groups.

use std::borrow::Cow;

use crate::{KernelError, KernelPattern};

/// The rows of kernels of a convolution: for each filter of the result, the channels of the source that it reads and the
/// kernel of each.
///
/// [`KernelPattern::rows`] returns the rows of the forward convolution, one per output filter;
/// [`KernelPattern::transposed`] those of the gradient with respect to the input, one per input filter.
///
/// # Example
/// ```
/// use burn_sfp_kernels::KernelPattern;
///
/// // Output 0 reads inputs 0 and 1, output 1 reads input 1.
/// let pattern = KernelPattern::new(2, vec![0, 2, 3], vec![0, 1, 1])?;
/// let transposed = pattern.transposed(1)?;
/// let found: Vec<_> = transposed.iter().collect();
/// assert_eq!(found, [(0, 0, 0), (1, 0, 1), (1, 1, 2)]); // input, output, kernel
/// # Ok::<(), burn_sfp_kernels::KernelError>(())
/// ```
#[derive(Clone, Debug)]
pub struct KernelRows<'a> {
    offsets: Cow<'a, [u32]>,
    channels: Cow<'a, [u32]>,
    kernels: Option<Vec<u32>>,
    per_group: usize,
    channels_per_group: usize,
}

impl KernelRows<'_> {
    /// Returns the number of rows, one per filter of the result.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Returns whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the ascending offsets of the rows, one more than there are rows: row r has the entries from
    /// `offsets[r]` on and below `offsets[r + 1]`.
    pub fn offsets(&self) -> &[u32] {
        &self.offsets
    }

    /// Returns the channel of every entry, numbered within its group; ascending within a row.
    pub fn channels(&self) -> &[u32] {
        &self.channels
    }

    /// Returns the kernel of every entry; `None` when entry k has kernel k.
    pub fn kernels(&self) -> Option<&[u32]> {
        self.kernels.as_deref()
    }

    /// Returns the number of rows of a group.
    pub fn rows_per_group(&self) -> usize {
        self.per_group
    }

    /// Returns the number of channels of a group.
    pub fn channels_per_group(&self) -> usize {
        self.channels_per_group
    }

    /// Iterates over all entries: row, channel (numbered over all groups) and kernel.
    pub fn iter(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        self.offsets.windows(2).enumerate().flat_map(move |(row, ends)| {
            let base = row / self.per_group.max(1) * self.channels_per_group;
            (ends[0] as usize..ends[1] as usize).map(move |entry| {
                let kernel = self.kernels.as_ref().map_or(entry, |kernels| kernels[entry] as usize);
                (row, base + self.channels[entry] as usize, kernel)
            })
        })
    }
}

impl KernelPattern {
    /// Returns the lists of the forward convolution with this number of groups: for each output filter the inputs
    /// that it reads.
    ///
    /// # Errors
    /// [`KernelError::Groups`] when `groups` is 0 or does not divide the output filters; [`KernelError::Geometry`]
    /// when there are 2^32 - 1 output filters or input filters, or more.
    pub fn rows(&self, groups: usize) -> Result<KernelRows<'_>, KernelError> {
        let (per_group, _) = self.divide(groups)?;
        Ok(KernelRows {
            offsets: Cow::Borrowed(self.offsets()),
            channels: Cow::Borrowed(self.inputs()),
            kernels: None,
            per_group,
            channels_per_group: self.inputs_per_group(),
        })
    }

    /// Returns the lists of the gradient with respect to the input: for each input filter, over all groups, the
    /// outputs that read it.
    ///
    /// # Errors
    /// Those of [`rows`](Self::rows).
    pub fn transposed(&self, groups: usize) -> Result<KernelRows<'static>, KernelError> {
        let (per_group, inputs) = self.divide(groups)?;
        // First input filter of the group of an output filter.
        let first = |output: usize| output / per_group * self.inputs_per_group();
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
        Ok(KernelRows {
            offsets: Cow::Owned(offsets),
            channels: Cow::Owned(channels),
            kernels: Some(kernels),
            per_group: self.inputs_per_group(),
            channels_per_group: per_group,
        })
    }

    /// Returns the output filters of a group and the input filters of all groups.
    fn divide(&self, groups: usize) -> Result<(usize, usize), KernelError> {
        if groups == 0 || !self.outputs().is_multiple_of(groups) {
            return Err(KernelError::Groups { filters: self.outputs(), groups });
        }
        let fits = |&count: &usize| count < u32::MAX as usize;
        match groups.checked_mul(self.inputs_per_group()).filter(fits) {
            Some(inputs) if fits(&self.outputs()) => Ok((self.outputs() / groups, inputs)),
            _ => Err(KernelError::Geometry {
                what: "there are 2^32 - 1 filters or more; the lists number them in 32 bits",
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn transposing_moves_every_kernel(groups in 1_usize..4, per in 1_usize..5, inputs in 0_usize..5, bits in prop::collection::vec(any::<bool>(), 100)) {
            let outputs = groups * per;
            let pattern = KernelPattern::from_fn(outputs, inputs, |o, i| bits[o * 5 + i]);
            let rows = pattern.transposed(groups).unwrap();
            prop_assert_eq!(rows.len(), groups * inputs);
            let forward = pattern.rows(groups).unwrap();
            let mut expected: Vec<_> = forward.iter().map(|(o, i, kernel)| (i, o, kernel)).collect();
            expected.sort_unstable();
            prop_assert_eq!(rows.iter().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn entries_are_numbered_over_all_groups() {
        let pattern = KernelPattern::new(3, vec![0, 2, 3], vec![0, 2, 1]).unwrap();
        assert_eq!(pattern.rows(2).unwrap().iter().collect::<Vec<_>>(), [(0, 0, 0), (0, 2, 1), (1, 4, 2)]);
    }

    #[test]
    fn groups_must_divide_the_outputs() {
        let pattern = KernelPattern::from_fn(4, 2, |_, _| true);
        for groups in [0, 3] {
            assert_eq!(pattern.rows(groups).unwrap_err(), KernelError::Groups { filters: 4, groups });
            assert_eq!(pattern.transposed(groups).unwrap_err(), KernelError::Groups { filters: 4, groups });
        }
        let wide = KernelPattern::new(usize::MAX, vec![0], vec![]).unwrap();
        assert!(matches!(wide.transposed(1), Err(KernelError::Geometry { .. })));
    }
}
