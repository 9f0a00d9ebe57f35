//! Samples of a batch grouped by class label.

use std::ops::Range;

/// The samples of a batch grouped by class label; within a label they keep their order in the batch.
///
/// # Example
/// ```
/// use burn_sfp_kernels::SamplesByLabel;
///
/// let grouped = SamplesByLabel::new(&[5, 0, 5]);
/// assert_eq!(grouped.order(), [1, 0, 2]);
/// let groups: Vec<_> = grouped.iter().collect();
/// assert_eq!(groups, [(0, &[1][..]), (5, &[0, 2])]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SamplesByLabel {
    order: Vec<usize>,
    groups: Vec<(usize, Range<usize>)>,
}

impl SamplesByLabel {
    /// Groups the samples, of which sample n has label `labels[n]`.
    pub fn new(labels: &[usize]) -> Self {
        let mut order: Vec<usize> = (0..labels.len()).collect();
        order.sort_by_key(|&sample| labels[sample]); // a stable sort
        let mut groups = Vec::new();
        let mut start = 0;
        for group in order.chunk_by(|&a, &b| labels[a] == labels[b]) {
            groups.push((labels[group[0]], start..start + group.len()));
            start += group.len();
        }
        Self { order, groups }
    }

    /// Returns the indices of the samples in ascending order of their labels.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// Returns each label that has samples, in ascending order, with its range of [`order`](Self::order).
    pub fn ranges(&self) -> &[(usize, Range<usize>)] {
        &self.groups
    }

    /// Iterates over the labels that have samples, in ascending order, and their samples.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[usize])> {
        self.groups.iter().map(|(label, range)| (*label, &self.order[range.clone()]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_label_owns_its_samples_in_order(labels in prop::collection::vec(0_usize..7, 0..40)) {
            let grouped = SamplesByLabel::new(&labels);
            let found: Vec<(usize, Vec<usize>)> = grouped.iter().map(|(label, s)| (label, s.to_vec())).collect();
            let of = |label: usize| (0..labels.len()).filter(|&n| labels[n] == label).collect::<Vec<_>>();
            let expected: Vec<_> = (0..7).map(|label| (label, of(label))).filter(|(_, s)| !s.is_empty()).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
