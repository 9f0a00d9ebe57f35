//! Strides, paddings and dilations, reduced to what the inner loops need: lattices of positions and taps.

use crate::{ConvGeometry, KernelError, KernelPattern, expect_len};

/// The shapes of a convolution, checked against each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Problem {
    /// `[N, I, H, W]`.
    pub(super) input: [usize; 4],
    /// `[N, O, H', W']`.
    pub(super) output: [usize; 4],
    pub(super) kernel: [usize; 2],
    pub(super) geometry: ConvGeometry,
}

impl Problem {
    /// Checks the shapes against each other and computes the shape of the output.
    pub(super) fn new(
        input: [usize; 4],
        kernel: [usize; 2],
        pattern: &KernelPattern,
        geometry: &ConvGeometry,
    ) -> Result<Self, KernelError> {
        let [samples, inputs, height, width] = input;
        let [rows, columns] = geometry.output_size([height, width], kernel)?;
        let (outputs, groups) = (pattern.outputs(), geometry.groups);
        if !outputs.is_multiple_of(groups) {
            return Err(KernelError::Groups { filters: outputs, groups });
        }
        let asked = groups.checked_mul(pattern.inputs_per_group());
        expect_len("input filters, groups times inputs per group", asked.unwrap_or(usize::MAX), inputs)?;
        // The input is in memory, but the output and the packed copies may be too large for it.
        let output = [samples, outputs, rows, columns];
        for shape in [input, output] {
            // The factor 2^10 covers the lanes of a vector times the bytes of an element.
            let elements = shape.iter().try_fold(1_usize << 10, |product, &length| product.checked_mul(length.max(1)));
            if elements.is_none_or(|elements| elements > isize::MAX as usize) {
                return Err(KernelError::Geometry { what: "an array exceeds the address space" });
            }
        }
        Ok(Self { input, output, kernel, geometry: *geometry })
    }

    /// Returns the number of taps (elements) of a kernel.
    pub(super) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Returns the lattice of the forward convolution, in which every output position reads the input.
    pub(super) fn forward(&self) -> Lattice {
        let ConvGeometry { stride, padding, dilation, .. } = self.geometry;
        let shift = |axis: usize, tap: usize| (tap * dilation[axis]) as isize - padding[axis][0] as isize;
        let taps = self.each_tap().map(|(weight, tap)| Tap { weight, shift: [shift(0, tap[0]), shift(1, tap[1])] });
        Lattice {
            size: [self.output[2], self.output[3]],
            origin: [0, 0],
            step: [1, 1],
            read: stride,
            taps: taps.collect(),
        }
    }

    /// Returns the lattices of the gradient with respect to the input.
    ///
    /// Input position p reads output position `(p + before - tap * dilation) / stride` where that is an integer.
    /// Positions that are equal modulo the stride have the same taps, so they form one lattice.
    pub(super) fn backward(&self) -> Vec<Lattice> {
        let ConvGeometry { stride, padding, dilation, .. } = self.geometry;
        let size = [self.input[2], self.input[3]];
        let mut lattices = Vec::new();
        for row in 0..stride[0].min(size[0]) {
            for column in 0..stride[1].min(size[1]) {
                let origin = [row, column];
                let shift = |axis: usize, tap: usize| {
                    let distance = (origin[axis] + padding[axis][0]) as isize - (tap * dilation[axis]) as isize;
                    let stride = stride[axis] as isize;
                    (distance % stride == 0).then_some(distance / stride)
                };
                let taps = self
                    .each_tap()
                    .filter_map(|(weight, tap)| Some(Tap { weight, shift: [shift(0, tap[0])?, shift(1, tap[1])?] }));
                lattices.push(Lattice {
                    size: [0, 1].map(|axis| (size[axis] - origin[axis]).div_ceil(stride[axis])),
                    origin,
                    step: stride,
                    read: [1, 1],
                    taps: taps.collect(),
                });
            }
        }
        lattices
    }

    /// Iterates over the taps: index in the kernel, and row and column.
    fn each_tap(&self) -> impl Iterator<Item = (usize, [usize; 2])> {
        let width = self.kernel[1];
        (0..self.taps()).map(move |tap| (tap, [tap / width, tap % width]))
    }
}

/// An element of the kernel and the offset at which it reads the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tap {
    /// Index in the kernel.
    pub(super) weight: usize,
    /// Offset in rows and columns.
    pub(super) shift: [isize; 2],
}

/// Positions of a result that have the same taps.
///
/// Position q of the lattice is position `origin + step * q` of the result. For every tap it reads position
/// `read * q + shift` of the source, or zero where that is outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lattice {
    /// Rows and columns of the lattice.
    pub(super) size: [usize; 2],
    pub(super) origin: [usize; 2],
    pub(super) step: [usize; 2],
    pub(super) read: [usize; 2],
    pub(super) taps: Vec<Tap>,
}

impl Lattice {
    /// Returns the number of positions.
    pub(super) fn positions(&self) -> usize {
        self.size[0] * self.size[1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> ConvGeometry {
        ConvGeometry::default()
    }

    #[test]
    fn shapes_that_do_not_fit_together_are_rejected() {
        let pattern = KernelPattern::from_fn(4, 2, |_, _| true);
        let new = |inputs, groups| {
            Problem::new([1, inputs, 4, 4], [1, 1], &pattern, &ConvGeometry { groups, ..plain() }).map(|_| ())
        };
        assert_eq!(new(6, 3), Err(KernelError::Groups { filters: 4, groups: 3 }));
        assert!(matches!(new(2, 2), Err(KernelError::Shape { expected: 4, found: 2, .. })));
        assert_eq!(new(4, 2), Ok(()));
        let padding = [[1 << 28, 0], [1 << 28, 0]];
        let huge = Problem::new([64, 2, 4, 4], [1, 1], &pattern, &ConvGeometry { padding, ..plain() });
        assert!(matches!(huge, Err(KernelError::Geometry { .. })));
    }

    #[test]
    fn a_strided_gradient_splits_into_lattices() {
        let pattern = KernelPattern::from_fn(1, 1, |_, _| true);
        let geometry = ConvGeometry { stride: [2, 2], padding: [[1, 1], [1, 1]], ..plain() };
        let problem = Problem::new([1, 1, 5, 4], [3, 3], &pattern, &geometry).unwrap();
        let lattices = problem.backward();
        assert_eq!(lattices.iter().map(|lattice| lattice.taps.len()).collect::<Vec<_>>(), [1, 2, 2, 4]);
        assert_eq!(lattices.iter().map(|lattice| lattice.size).collect::<Vec<_>>(), [[3, 2], [3, 2], [2, 2], [2, 2]]);
        assert_eq!(lattices.iter().map(Lattice::positions).sum::<usize>(), 20);
    }
}
