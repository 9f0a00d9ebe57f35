//! Stride, padding, dilation and groups of a two-dimensional convolution, and the limits of the sizes.

use crate::KernelError;

/// The largest length of a map's side, kernel side, padding, stride or dilation.
///
/// The kernels add and multiply two such lengths; at this limit the results stay far from overflow in 64 bits.
pub const LONGEST_AXIS: usize = 1 << 28;

/// The smaller limit of the GPU kernels, which compute positions in 32-bit signed integers.
///
/// A tile of up to 8 outputs per axis begins inside the padded input, which has at most 3 times this length, and its last
/// output lies up to 7 strides further. So positions reach 10 times this length, which must stay below 2^31.
pub const LONGEST_AXIS_GPU: usize = 1 << 24;

/// The largest number of elements of a kernel, `kh * kw`; the kernels list each of them.
pub const MOST_TAPS: usize = 1 << 20;

/// Stride, padding, dilation and groups of a two-dimensional convolution; axis 0 is rows (height), axis 1 columns (width).
///
/// The default has stride and dilation 1, no padding and one group.
///
/// # Example
/// ```
/// use burn_sfp_kernels::ConvGeometry;
///
/// // A 3 x 3 kernel that keeps the size of the map.
/// let same = ConvGeometry { padding: [[1, 1], [1, 1]], ..ConvGeometry::default() };
/// assert_eq!(same.output_size([7, 9], [3, 3])?, [7, 9]);
/// # Ok::<(), burn_sfp_kernels::KernelError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvGeometry {
    /// Distance between the input positions of neighbouring outputs: `[rows, columns]`.
    pub stride: [usize; 2],
    /// Zeros around the input: `[axis][before, after]`.
    pub padding: [[usize; 2]; 2],
    /// Distance between neighbouring taps of a kernel: `[rows, columns]`.
    pub dilation: [usize; 2],
    /// Number of groups; group g of the output filters reads group g of the input filters.
    pub groups: usize,
}

impl Default for ConvGeometry {
    fn default() -> Self {
        Self { stride: [1, 1], padding: [[0, 0], [0, 0]], dilation: [1, 1], groups: 1 }
    }
}

impl ConvGeometry {
    /// Returns rows and columns of the output:
    /// `(size + before + after - dilation * (kernel - 1) - 1) / stride + 1`, rounded down.
    ///
    /// * `input`: rows and columns of the input, without padding;
    /// * `kernel`: rows and columns of a kernel.
    ///
    /// # Errors
    /// [`KernelError::Geometry`] when a stride, dilation, number of groups or kernel side is zero, a length exceeds
    /// [`LONGEST_AXIS`] or a kernel has more than [`MOST_TAPS`] elements; [`KernelError::SmallInput`] when the kernel
    /// is larger than the padded input.
    ///
    /// # Example
    /// ```
    /// use burn_sfp_kernels::ConvGeometry;
    ///
    /// let geometry = ConvGeometry { stride: [2, 1], padding: [[1, 1], [0, 0]], ..ConvGeometry::default() };
    /// assert_eq!(geometry.output_size([8, 8], [3, 3])?, [4, 6]);
    /// # Ok::<(), burn_sfp_kernels::KernelError>(())
    /// ```
    pub fn output_size(&self, input: [usize; 2], kernel: [usize; 2]) -> Result<[usize; 2], KernelError> {
        let lengths = [input, kernel, self.stride, self.dilation, self.padding[0], self.padding[1]];
        if lengths.iter().flatten().any(|&length| length > LONGEST_AXIS) {
            return wrong("a length exceeds 2^28, the limit");
        }
        if self.stride.contains(&0) {
            return wrong("a stride is 0; the smallest stride is 1");
        }
        if self.dilation.contains(&0) {
            return wrong("a dilation is 0; the smallest dilation is 1");
        }
        if self.groups == 0 {
            return wrong("the number of groups is 0; a convolution without groups has 1");
        }
        if kernel.contains(&0) {
            return wrong("a kernel has no elements; its sides are at least 1");
        }
        let mut output = [0; 2];
        for axis in 0..2 {
            let padded = input[axis] + self.padding[axis][0] + self.padding[axis][1];
            // Both factors are at most 2^28, so the product is exact in 64 bits.
            let span = self.dilation[axis] as u64 * (kernel[axis] as u64 - 1) + 1;
            if span > padded as u64 {
                let kernel = usize::try_from(span).unwrap_or(usize::MAX);
                return Err(KernelError::SmallInput { axis, kernel, input: padded });
            }
            output[axis] = (padded - span as usize) / self.stride[axis] + 1;
        }
        if kernel[0].saturating_mul(kernel[1]) > MOST_TAPS {
            return wrong("a kernel has more than 2^20 elements, the limit");
        }
        Ok(output)
    }

    /// Returns rows and columns of the output as [`output_size`](Self::output_size) does, within the limit of the
    /// GPU kernels.
    ///
    /// # Errors
    /// Those of [`output_size`](Self::output_size), with [`LONGEST_AXIS_GPU`] in place of [`LONGEST_AXIS`].
    ///
    /// # Example
    /// ```
    /// use burn_sfp_kernels::{ConvGeometry, LONGEST_AXIS_GPU};
    ///
    /// let geometry = ConvGeometry::default();
    /// assert_eq!(geometry.output_size_on_gpu([8, 8], [3, 3])?, [6, 6]);
    /// assert!(geometry.output_size_on_gpu([LONGEST_AXIS_GPU + 1, 1], [1, 1]).is_err());
    /// # Ok::<(), burn_sfp_kernels::KernelError>(())
    /// ```
    pub fn output_size_on_gpu(&self, input: [usize; 2], kernel: [usize; 2]) -> Result<[usize; 2], KernelError> {
        let lengths = [input, kernel, self.stride, self.dilation, self.padding[0], self.padding[1]];
        if lengths.iter().flatten().any(|&length| length > LONGEST_AXIS_GPU) {
            return wrong("a length exceeds 2^24, the limit of the GPU kernels");
        }
        self.output_size(input, kernel)
    }
}

/// Returns the error for a geometry that describes no convolution.
fn wrong<T>(what: &'static str) -> Result<T, KernelError> {
    Err(KernelError::Geometry { what })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> ConvGeometry {
        ConvGeometry::default()
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
    fn zeros_and_lengths_beyond_the_limits_are_rejected() {
        let geometry = |error: Result<_, KernelError>| matches!(error, Err(KernelError::Geometry { .. }));
        assert!(geometry(ConvGeometry { stride: [1, 0], ..plain() }.output_size([4, 4], [1, 1])));
        assert!(geometry(ConvGeometry { dilation: [0, 1], ..plain() }.output_size([4, 4], [1, 1])));
        assert!(geometry(ConvGeometry { groups: 0, ..plain() }.output_size([4, 4], [1, 1])));
        assert!(geometry(plain().output_size([4, 4], [1, 0])));
        assert!(geometry(plain().output_size([usize::MAX, 4], [1, 1])));
        assert!(geometry(plain().output_size([1 << 11, 1 << 11], [1 << 11, 1 << 11])));
        assert!(plain().output_size([1 << 25, 4], [1, 1]).is_ok());
        assert!(geometry(plain().output_size_on_gpu([1 << 25, 4], [1, 1])));
    }
}
