//! The kernels that a sparse convolution keeps, as compressed rows over output filters and input filters.

use crate::KernelError;

/// The kernels that a sparse convolution keeps.
///
/// For each output filter the pattern lists, in ascending order, the input filters (numbered within their group)
/// that it reads. The k-th entry of all lists, one after another, belongs to kernel k of the values `[K, kh, kw]`.
///
/// # Example
/// ```
/// use burn_sfp_kernels::KernelPattern;
///
/// // Output 0 reads inputs 0 and 2, output 1 reads nothing, output 2 reads input 1.
/// let pattern = KernelPattern::new(3, vec![0, 2, 2, 3], vec![0, 2, 1])?;
/// assert_eq!((pattern.outputs(), pattern.inputs_per_group(), pattern.kept()), (3, 3, 3));
/// assert_eq!(pattern.row(0), [0, 2]);
/// assert!(pattern.row(1).is_empty());
/// assert_eq!(pattern, KernelPattern::from_fn(3, 3, |o, i| [(0, 0), (0, 2), (2, 1)].contains(&(o, i))));
/// # Ok::<(), burn_sfp_kernels::KernelError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelPattern {
    inputs_per_group: usize,
    offsets: Vec<u32>,
    inputs: Vec<u32>,
}

impl KernelPattern {
    /// Creates a pattern from compressed rows: output filter o reads `inputs[offsets[o]..offsets[o + 1]]`.
    ///
    /// * `inputs_per_group`: input filters of a group;
    /// * `offsets`: O + 1 ascending values, from 0 to the number of `inputs`;
    /// * `inputs`: strictly ascending within a row, each below `inputs_per_group`.
    ///
    /// # Errors
    /// [`KernelError::Pattern`] when the lists break one of these rules.
    ///
    /// # Example
    /// ```
    /// use burn_sfp_kernels::{KernelError, KernelPattern};
    ///
    /// assert!(KernelPattern::new(2, vec![0, 1, 2], vec![1, 1]).is_ok());
    /// let descending = KernelPattern::new(2, vec![0, 2], vec![1, 0]);
    /// assert!(matches!(descending, Err(KernelError::Pattern { index: 1, .. })));
    /// ```
    pub fn new(inputs_per_group: usize, offsets: Vec<u32>, inputs: Vec<u32>) -> Result<Self, KernelError> {
        let wrong = |what, index| Err(KernelError::Pattern { what, index });
        if offsets.first() != Some(&0) {
            return wrong("the list of offsets must start with 0", 0);
        }
        if let Some(place) = offsets.windows(2).position(|pair| pair[0] > pair[1]) {
            return wrong("the offsets must ascend", place + 1);
        }
        let last = offsets.len() - 1;
        if offsets[last] as usize != inputs.len() {
            return wrong("the last of the offsets must be the number of inputs listed", last);
        }
        if let Some(place) = inputs.iter().position(|&input| input as usize >= inputs_per_group) {
            return wrong("every one of the inputs must be below the number of inputs per group", place);
        }
        for pair in offsets.windows(2) {
            let row = &inputs[pair[0] as usize..pair[1] as usize];
            if let Some(place) = row.windows(2).position(|pair| pair[0] >= pair[1]) {
                return wrong("the inputs must ascend strictly within a row", pair[0] as usize + place + 1);
            }
        }
        Ok(Self { inputs_per_group, offsets, inputs })
    }

    /// Creates the pattern that keeps the kernel from input i to output o where `keep(o, i)` is true.
    ///
    /// At most `u32::MAX` kernels are kept; `keep` is not called after that.
    ///
    /// # Example
    /// ```
    /// use burn_sfp_kernels::KernelPattern;
    ///
    /// let diagonal = KernelPattern::from_fn(4, 4, |output, input| output == input);
    /// assert_eq!(diagonal.inputs(), [0, 1, 2, 3]);
    /// ```
    pub fn from_fn(outputs: usize, inputs_per_group: usize, mut keep: impl FnMut(usize, usize) -> bool) -> Self {
        let mut offsets = vec![0];
        let mut inputs = Vec::new();
        let mut kept = 0_u32;
        for output in 0..outputs {
            for (input, id) in (0..inputs_per_group).zip(0_u32..) {
                if kept < u32::MAX && keep(output, input) {
                    inputs.push(id);
                    kept += 1;
                }
            }
            offsets.push(kept);
        }
        Self { inputs_per_group, offsets, inputs }
    }

    /// Returns O, the number of output filters.
    pub fn outputs(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Returns the number of input filters of a group.
    pub fn inputs_per_group(&self) -> usize {
        self.inputs_per_group
    }

    /// Returns K, the number of kernels kept.
    pub fn kept(&self) -> usize {
        self.inputs.len()
    }

    /// Returns the inputs that an output filter reads, ascending; empty when there is no such filter.
    pub fn row(&self, output: usize) -> &[u32] {
        match self.offsets.get(output..).and_then(|rest| rest.get(..2)) {
            Some(ends) => &self.inputs[ends[0] as usize..ends[1] as usize],
            None => &[],
        }
    }

    /// Returns the O + 1 ascending offsets of the rows: row o is `inputs[offsets[o]..offsets[o + 1]]`.
    pub fn offsets(&self) -> &[u32] {
        &self.offsets
    }

    /// Returns all rows, one after another.
    pub fn inputs(&self) -> &[u32] {
        &self.inputs
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
