//! [`Kernels`]: the weight of a layer, addressed by output and input.

use std::borrow::Cow;

use super::norm::Norm;

/// The weight of a layer, addressed by `(output, input)`; returned by [`PolicyContext::kernels`](crate::PolicyContext::kernels).
#[derive(Clone, Debug)]
pub struct Kernels<'a> {
    pub(super) values: Cow<'a, [f32]>,
    pub(super) outputs: usize,
    pub(super) inputs: usize,
    /// Elements of one kernel.
    pub(super) size: usize,
    /// Outputs of one group.
    pub(super) per_group: usize,
    /// Whether the weight has the axis of its inputs before that of its outputs.
    pub(super) inputs_first: bool,
}

impl Kernels<'_> {
    /// Returns the number of outputs and of inputs (of one group).
    pub fn shape(&self) -> (usize, usize) {
        (self.outputs, self.inputs)
    }

    /// Returns the elements of one kernel, or an empty slice if the indices are out of range.
    pub fn kernel(&self, output: usize, input: usize) -> &[f32] {
        if output >= self.outputs || input >= self.inputs {
            return &[];
        }
        let at = if self.inputs_first {
            let (group, member) = (output / self.per_group, output % self.per_group);
            (group * self.inputs + input) * self.per_group + member
        } else {
            output * self.inputs + input
        };
        &self.values[at * self.size..(at + 1) * self.size]
    }

    /// Returns the norm of each output's kernels, summed in the order of their elements. Several sums run side by side, because
    /// a single one would wait for each addition.
    pub(crate) fn norms(&self, norm: Norm) -> Vec<f64> {
        const ROWS: usize = 8;
        let mut sums = vec![0.0; self.outputs];
        if self.inputs_first {
            // Neighbours in memory are elements of one kernel, then kernels of other outputs of the group.
            let row = self.per_group * self.size;
            for (group, sums) in sums.chunks_mut(self.per_group.max(1)).enumerate() {
                for row in self.values[group * self.inputs * row..].chunks(row.max(1)).take(self.inputs) {
                    if self.size == 1 {
                        sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += norm.term(value));
                        continue;
                    }
                    for (sum, kernel) in sums.iter_mut().zip(row.chunks(self.size.max(1))) {
                        kernel.iter().for_each(|&value| *sum += norm.term(value));
                    }
                }
            }
        } else {
            let row = self.inputs * self.size;
            for (rows, sums) in self.values.chunks(ROWS * row.max(1)).zip(sums.chunks_mut(ROWS)) {
                if sums.len() < ROWS {
                    for (sum, row) in sums.iter_mut().zip(rows.chunks(row.max(1))) {
                        row.iter().for_each(|&value| *sum += norm.term(value));
                    }
                    continue;
                }
                let rows: [&[f32]; ROWS] = std::array::from_fn(|k| &rows[k * row..(k + 1) * row]);
                let mut all = [0.0; ROWS];
                for at in 0..row {
                    for (sum, row) in all.iter_mut().zip(&rows) {
                        *sum += norm.term(row[at]);
                    }
                }
                sums.copy_from_slice(&all);
            }
        }
        sums.into_iter().map(|sum| norm.of_sum(sum)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norms_are_those_of_the_kernels_bit_by_bit() {
        // Outputs, inputs of a group, size of a kernel, groups, inputs before outputs.
        for (outputs, inputs, size, groups, inputs_first) in [
            (19, 5, 9, 1, false),
            (8, 7, 1, 1, false),
            (3, 1, 4, 3, false),
            (13, 6, 1, 1, true),
            (12, 4, 9, 3, true),
            (6, 1, 1, 6, true),
        ] {
            let values = (0..outputs * inputs * size).map(|k| ((k * 37 % 101) as f32 * 0.731).sin()).collect();
            let kernels = Kernels { values, outputs, inputs, size, per_group: outputs / groups, inputs_first };
            for norm in [Norm::L1, Norm::L2] {
                let each = |output| norm.of((0..inputs).flat_map(|input| kernels.kernel(output, input)));
                let expected: Vec<u64> = (0..outputs).map(|output| f64::to_bits(each(output))).collect();
                let found: Vec<u64> = kernels.norms(norm).into_iter().map(f64::to_bits).collect();
                assert_eq!(found, expected, "{outputs} x {inputs} x {size}, {groups} groups, {inputs_first}");
            }
        }
    }
}
