//! Strides, paddings and dilations, reduced to what a kernel loop needs: lattices of positions and taps.

use crate::KernelError;
use crate::error::expect_len;

use super::KernelPattern;

/// Largest length of an axis, padding, stride or dilation: sums and products of two stay far from overflow.
const LARGEST: usize = 1 << 28;
/// Most elements of a kernel: each is listed.
const MOST_TAPS: usize = 1 << 20;

/// How a convolution moves over its input; axis 0 is rows, axis 1 columns.
///
/// # Example
/// ```
/// use burn_sfp_ndarray::ConvGeometry;
///
/// // A 3 x 3 kernel that keeps the size of the map.
/// let same = ConvGeometry { stride: [1, 1], padding: [[1, 1], [1, 1]], dilation: [1, 1], groups: 1 };
/// assert_eq!(same.output_size([7, 9], [3, 3])?, [7, 9]);
/// # Ok::<(), burn_sfp_ndarray::KernelError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Steps between output positions.
    pub stride: [usize; 2],
    /// Zeros around the input: `[axis][before, after]`.
    pub padding: [[usize; 2]; 2],
    /// Steps between the taps of a kernel.
    pub dilation: [usize; 2],
    /// Group g of the output filters reads group g of the input filters.
    pub groups: usize,
}

impl ConvGeometry {
    /// Rows and columns of the output: `(size + before + after - dilation (kernel - 1) - 1) / stride + 1`.
    ///
    /// # Errors
    /// [`KernelError::Geometry`] for a stride, dilation, number of groups or kernel side of zero or a length
    /// beyond 2^28, [`KernelError::SmallInput`] when the kernel does not fit into the padded input.
    pub fn output_size(&self, input: [usize; 2], kernel: [usize; 2]) -> Result<[usize; 2], KernelError> {
        let wrong = |what| Err(KernelError::Geometry { what });
        if self.stride.contains(&0) {
            return wrong("a stride is 0; strides count from 1");
        }
        if self.dilation.contains(&0) {
            return wrong("a dilation is 0; dilations count from 1");
        }
        if self.groups == 0 {
            return wrong("0 groups; a convolution without groups has 1");
        }
        if kernel.contains(&0) {
            return wrong("a kernel without elements; its sides count from 1");
        }
        let lengths = [input, kernel, self.stride, self.dilation, self.padding[0], self.padding[1]];
        if lengths.iter().flatten().any(|&length| length > LARGEST) {
            return wrong("a length is beyond 2^28");
        }
        let mut output = [0; 2];
        for axis in 0..2 {
            let padded = input[axis] + self.padding[axis][0] + self.padding[axis][1];
            // Both factors are at most 2^28; in 64 bits the product is exact.
            let span = self.dilation[axis] as u64 * (kernel[axis] as u64 - 1) + 1;
            if span > padded as u64 {
                let kernel = usize::try_from(span).unwrap_or(usize::MAX);
                return Err(KernelError::SmallInput { axis, kernel, input: padded });
            }
            output[axis] = (padded - span as usize) / self.stride[axis] + 1;
        }
        Ok(output)
    }
}

/// A convolution whose shapes agree.
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
    /// Checks the shapes against each other.
    pub(super) fn new(
        input: [usize; 4],
        kernel: [usize; 2],
        pattern: &KernelPattern,
        geometry: &ConvGeometry,
    ) -> Result<Self, KernelError> {
        if kernel[0].saturating_mul(kernel[1]) > MOST_TAPS {
            return Err(KernelError::Geometry { what: "a kernel has more than 2^20 elements" });
        }
        let [samples, inputs, height, width] = input;
        let [rows, columns] = geometry.output_size([height, width], kernel)?;
        let (outputs, groups) = (pattern.outputs(), geometry.groups);
        if !outputs.is_multiple_of(groups) {
            return Err(KernelError::Groups { filters: outputs, groups });
        }
        let asked = groups.checked_mul(pattern.inputs_per_group());
        expect_len("input filters, groups times inputs of a group", asked.unwrap_or(usize::MAX), inputs)?;
        // An input exists in memory; an output and the packed forms need not fit.
        let output = [samples, outputs, rows, columns];
        for shape in [input, output] {
            // 2^10 leaves room for the lanes of a vector and the bytes of a number.
            let elements = shape.iter().try_fold(1_usize << 10, |product, &length| product.checked_mul(length.max(1)));
            if elements.is_none_or(|elements| elements > isize::MAX as usize) {
                return Err(KernelError::Geometry { what: "an array is too large to be held in memory" });
            }
        }
        Ok(Self { input, output, kernel, geometry: *geometry })
    }

    /// Taps of a kernel.
    pub(super) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// The forward convolution: every output position reads the input.
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

    /// The gradient with respect to the input: input position p receives from output position
    /// `(p + before - tap dilation) / stride` where that is a whole number. Positions that are equal
    /// modulo the stride share their taps, so they make a lattice.
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

    /// Number, row and column of every tap.
    fn each_tap(&self) -> impl Iterator<Item = (usize, [usize; 2])> {
        let width = self.kernel[1];
        (0..self.taps()).map(move |tap| (tap, [tap / width, tap % width]))
    }
}

/// One element of the kernel and how far from a position it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tap {
    /// Place in the kernel.
    pub(super) weight: usize,
    /// Row and column.
    pub(super) shift: [isize; 2],
}

/// Positions of a result that share their taps: position q of the lattice is `origin + step q` of the
/// result and reads `read q + shift` of the source, for every tap that lands inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lattice {
    pub(super) size: [usize; 2],
    pub(super) origin: [usize; 2],
    pub(super) step: [usize; 2],
    pub(super) read: [usize; 2],
    pub(super) taps: Vec<Tap>,
}

impl Lattice {
    /// Number of positions.
    pub(super) fn positions(&self) -> usize {
        self.size[0] * self.size[1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> ConvGeometry {
        ConvGeometry { stride: [1, 1], padding: [[0, 0], [0, 0]], dilation: [1, 1], groups: 1 }
    }

    #[test]
    fn output_sizes() {
        let size = |stride, before, after, dilation, input, kernel| {
            let geometry = ConvGeometry {
                stride: [stride, 1],
                padding: [[before, after], [0, 0]],
                dilation: [dilation, 1],
                groups: 1,
            };
            geometry.output_size([input, 1], [kernel, 1]).map(|size| size[0])
        };
        assert_eq!(size(1, 1, 1, 1, 8, 3), Ok(8));
        assert_eq!(size(2, 1, 1, 1, 8, 3), Ok(4));
        assert_eq!(size(2, 3, 3, 1, 224, 7), Ok(112));
        assert_eq!(size(1, 0, 0, 2, 5, 3), Ok(1));
        assert_eq!(size(3, 0, 2, 1, 0, 2), Ok(1));
        assert_eq!(size(1, 0, 0, 2, 4, 3), Err(KernelError::SmallInput { axis: 0, kernel: 5, input: 4 }));
        assert!(matches!(size(1, 1 << 28, 1 << 28, 1 << 28, 1, 1 << 28), Err(KernelError::SmallInput { .. })));
    }

    #[test]
    fn what_is_zero_or_does_not_divide_is_refused() {
        let geometry = |error: Result<_, KernelError>| matches!(error, Err(KernelError::Geometry { .. }));
        assert!(geometry(ConvGeometry { stride: [1, 0], ..plain() }.output_size([4, 4], [1, 1])));
        assert!(geometry(ConvGeometry { dilation: [0, 1], ..plain() }.output_size([4, 4], [1, 1])));
        assert!(geometry(ConvGeometry { groups: 0, ..plain() }.output_size([4, 4], [1, 1])));
        assert!(geometry(plain().output_size([4, 4], [1, 0])));
        assert!(geometry(plain().output_size([usize::MAX, 4], [1, 1])));
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
    fn a_strided_gradient_falls_into_lattices() {
        let pattern = KernelPattern::from_fn(1, 1, |_, _| true);
        let geometry = ConvGeometry { stride: [2, 2], padding: [[1, 1], [1, 1]], ..plain() };
        let problem = Problem::new([1, 1, 5, 4], [3, 3], &pattern, &geometry).unwrap();
        let lattices = problem.backward();
        assert_eq!(lattices.iter().map(|lattice| lattice.taps.len()).collect::<Vec<_>>(), [1, 2, 2, 4]);
        assert_eq!(lattices.iter().map(|lattice| lattice.size).collect::<Vec<_>>(), [[3, 2], [3, 2], [2, 2], [2, 2]]);
        assert_eq!(lattices.iter().map(Lattice::positions).sum::<usize>(), 20);
    }
}
