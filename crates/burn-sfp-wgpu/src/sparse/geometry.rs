//! Stride, padding, dilation and groups of a convolution.

use crate::GpuError;

/// How a two-dimensional convolution moves over its input; the axes are height and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Steps between neighbouring outputs.
    pub stride: [usize; 2],
    /// Zeros added before and after each axis: `[axis][before, after]`.
    pub padding: [[usize; 2]; 2],
    /// Steps between neighbouring taps of a kernel.
    pub dilation: [usize; 2],
    /// Number of groups of channels that do not mix.
    pub groups: usize,
}

impl ConvGeometry {
    /// Height and width of the output for an input of this height and width.
    ///
    /// # Errors
    /// [`GpuError::Geometry`] when a stride, a dilation or a kernel's side is 0, or when the kernel does not fit
    /// into the padded input.
    ///
    /// # Example
    /// ```
    /// use burn_sfp_wgpu::ConvGeometry;
    ///
    /// let geometry = ConvGeometry { stride: [2, 1], padding: [[1, 1], [0, 0]], dilation: [1, 1], groups: 1 };
    /// assert_eq!(geometry.output_size([8, 8], [3, 3])?, [4, 6]);
    /// # Ok::<(), burn_sfp_wgpu::GpuError>(())
    /// ```
    pub fn output_size(&self, input: [usize; 2], kernel: [usize; 2]) -> Result<[usize; 2], GpuError> {
        let mut output = [0; 2];
        for axis in 0..2 {
            let wrong = |what| Err(GpuError::Geometry { what, axis });
            if self.stride[axis] == 0 || self.dilation[axis] == 0 || kernel[axis] == 0 {
                return wrong("stride, dilation and kernel must be at least 1");
            }
            let [before, after] = self.padding[axis];
            let sizes = [input[axis], before, after, self.dilation[axis], kernel[axis], self.stride[axis]];
            if sizes.iter().any(|&size| size > 1 << 24) {
                return wrong("sizes must be at most 2^24");
            }
            let extent = self.dilation[axis] * (kernel[axis] - 1) + 1;
            let Some(free) = (input[axis] + before + after).checked_sub(extent) else {
                return wrong("the kernel is larger than the padded input; use more padding");
            };
            output[axis] = free / self.stride[axis] + 1;
        }
        Ok(output)
    }
}
