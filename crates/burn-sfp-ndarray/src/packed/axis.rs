//! One axis of a convolution: which elements of the input the taps read.

use std::ops::Range;

use crate::ConvGeometry;

/// One axis of a convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    /// Length of the input.
    pub(super) input: usize,
    /// Length of the output.
    pub(super) output: usize,
    pub(super) stride: usize,
    dilation: usize,
    /// Zeros before the input.
    before: usize,
    kernel: usize,
}

impl Axis {
    /// Returns both axes; a map is a single row where no tap leaves the position of its output.
    pub(super) fn both(
        geometry: &ConvGeometry,
        input: [usize; 2],
        output: [usize; 2],
        kernel: [usize; 2],
    ) -> [Self; 2] {
        let axis = |axis: usize| Self {
            input: input[axis],
            output: output[axis],
            stride: geometry.stride[axis],
            dilation: geometry.dilation[axis],
            before: geometry.padding[axis][0],
            kernel: kernel[axis],
        };
        let [rows, columns] = [axis(0), axis(1)];
        if kernel == [1, 1] && geometry.stride == [1, 1] && geometry.padding == [[0, 0]; 2] {
            let long = |axis: Self, length| Self { input: length, output: length, ..axis };
            return [long(rows, 1), long(columns, input[0] * input[1])];
        }
        [rows, columns]
    }

    /// Returns the number of taps.
    pub(super) fn taps(&self) -> usize {
        self.kernel
    }

    /// Returns the padded position that a tap reads for output 0.
    pub(super) fn offset(&self, tap: usize) -> usize {
        tap * self.dilation
    }

    /// Returns the remainders, ascending, that the positions which the taps read leave on division by the stride.
    pub(super) fn phases(&self) -> Vec<usize> {
        let mut phases: Vec<_> = (0..self.kernel).map(|tap| self.offset(tap) % self.stride).collect();
        phases.sort_unstable();
        phases.dedup();
        phases
    }

    /// Returns how many strides the last tap reads beyond the first one.
    pub(super) fn reach(&self) -> usize {
        self.offset(self.kernel - 1) / self.stride
    }

    /// Returns the part of `count` padded positions, `stride` apart from `first` on, that lies on the input.
    pub(super) fn inside(&self, first: usize, count: usize) -> Range<usize> {
        let steps = |to: usize| to.saturating_sub(first).div_ceil(self.stride);
        let end = steps(self.before + self.input).min(count);
        steps(self.before).min(end)..end
    }

    /// Returns the element of the input at a padded position that lies on it.
    pub(super) fn element(&self, padded: usize) -> usize {
        padded - self.before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_on_the_input() {
        let axis = Axis { input: 5, output: 3, stride: 2, dilation: 1, before: 3, kernel: 4 };
        for (first, count) in [(0, 9), (1, 4), (3, 2), (8, 3), (20, 1), (0, 1)] {
            let expected: Vec<_> = (0..count).filter(|place| (3..8).contains(&(first + 2 * place))).collect();
            assert_eq!(axis.inside(first, count).collect::<Vec<_>>(), expected);
        }
        assert_eq!((axis.phases(), axis.reach()), (vec![0, 1], 1));
        assert_eq!(axis.element(4), 1);
    }
}
