//! Maximum pooling of maps.

use ndarray::{Array4, ArrayView4};
use rayon::prelude::*;

use crate::{ConvGeometry, KernelError};

/// Computes the maximum of each window of a map. Padding never is the maximum, a window of padding alone gives negative infinity, and one with NaN gives
/// NaN.
///
/// * `input`: `[N, C, H, W]`; any strides (row-major is fastest);
/// * `kernel`: rows and columns of a window; `geometry` has the stride, the padding and the dilation, its groups do not count;
/// * result: `[N, C, H', W']`, row-major; H' and W' are [`ConvGeometry::output_size`].
///
/// # Errors
/// Those of [`ConvGeometry::output_size`], and [`KernelError::Geometry`] where the result has more elements than fit into memory.
///
/// # Example
/// ```
/// use burn_sfp_ndarray::{ConvGeometry, max_pool2d};
/// use ndarray::array;
///
/// let x = array![[[[1.0_f32, 5.0, 2.0], [4.0, 3.0, 6.0]]]];
/// let geometry = ConvGeometry { stride: [2, 2], ..ConvGeometry::default() };
/// assert_eq!(max_pool2d(x.view(), [2, 2], &geometry)?, array![[[[5.0]]]]);
/// # Ok::<(), burn_sfp_ndarray::KernelError>(())
/// ```
pub fn max_pool2d(
    input: ArrayView4<f32>,
    kernel: [usize; 2],
    geometry: &ConvGeometry,
) -> Result<Array4<f32>, KernelError> {
    let (samples, channels, height, width) = input.dim();
    let size = geometry.output_size([height, width], kernel)?;
    let shape = [samples, channels, size[0], size[1]];
    let elements = shape.iter().try_fold(size_of::<f32>(), |product, &length| product.checked_mul(length));
    if elements.is_none_or(|bytes| isize::try_from(bytes).is_err()) {
        return Err(KernelError::Geometry { what: "the result has more elements than fit into memory" });
    }
    let mut result = Array4::zeros(shape);
    let input = input.as_standard_layout();
    let (Some(from), Some(out)) = (input.as_slice(), result.as_slice_mut()) else { return Ok(result) };
    if out.is_empty() || height * width == 0 {
        return Ok(result);
    }
    let pool = Pool { kernel, geometry, from: [height, width], to: size };
    let maps = from.par_chunks(height * width).zip(out.par_chunks_mut(size[0] * size[1]));
    maps.for_each_init(|| vec![0.0; width], |row, (from, to)| pool.map(from, to, row));
    Ok(result)
}

/// The sizes of a map before and after.
struct Pool<'a> {
    kernel: [usize; 2],
    geometry: &'a ConvGeometry,
    from: [usize; 2],
    to: [usize; 2],
}

impl Pool<'_> {
    /// Pools a map; `row` has room for the maxima of the columns of a row of windows.
    fn map(&self, from: &[f32], to: &mut [f32], row: &mut [f32]) {
        let width = self.from[1];
        for (index, to) in to.chunks_exact_mut(self.to[1]).enumerate() {
            row.fill(f32::NEG_INFINITY);
            for y in self.taps(0, index) {
                row.iter_mut()
                    .zip(&from[y * width..(y + 1) * width])
                    .for_each(|(most, &value)| *most = larger(*most, value));
            }
            let plain = self.geometry.padding[1] == [0, 0] && self.geometry.dilation[1] == 1;
            match (plain, self.kernel[1], self.geometry.stride[1]) {
                (true, 2, 2) => {
                    to.iter_mut().zip(row.chunks_exact(2)).for_each(|(to, pair)| *to = larger(pair[0], pair[1]))
                }
                _ => {
                    for (column, to) in to.iter_mut().enumerate() {
                        *to = self.taps(1, column).fold(f32::NEG_INFINITY, |most, x| larger(most, row[x]));
                    }
                }
            }
        }
    }

    /// The positions of a window along an axis that are no padding.
    fn taps(&self, axis: usize, index: usize) -> impl Iterator<Item = usize> + use<> {
        let (dilation, length) = (self.geometry.dilation[axis], self.from[axis]);
        let start = index * self.geometry.stride[axis];
        let before = self.geometry.padding[axis][0];
        let first = before.saturating_sub(start).div_ceil(dilation);
        (first..self.kernel[axis])
            .map(move |tap| start + tap * dilation - before)
            .take_while(move |&position| position < length)
    }
}

/// The larger one, NaN where one of them is.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random_f32;
    use proptest::prelude::*;

    /// Window by window.
    fn plain(x: &Array4<f32>, kernel: [usize; 2], geometry: &ConvGeometry, size: [usize; 2]) -> Array4<f32> {
        let (n, c, height, width) = x.dim();
        Array4::from_shape_fn((n, c, size[0], size[1]), |(n, c, row, column)| {
            let mut most = f32::NEG_INFINITY;
            for i in 0..kernel[0] {
                for j in 0..kernel[1] {
                    let y = (row * geometry.stride[0] + i * geometry.dilation[0]).checked_sub(geometry.padding[0][0]);
                    let z =
                        (column * geometry.stride[1] + j * geometry.dilation[1]).checked_sub(geometry.padding[1][0]);
                    if let (Some(y), Some(z)) = (y, z)
                        && y < height
                        && z < width
                        && !most.is_nan()
                        && (x[[n, c, y, z]] > most || x[[n, c, y, z]].is_nan())
                    {
                        most = x[[n, c, y, z]];
                    }
                }
            }
            most
        })
    }

    proptest! {
        #[test]
        fn windows_have_their_maxima(
            shape in (0_usize..3, 1_usize..4, 1_usize..12, 1_usize..12),
            kernel in [1_usize..5, 1_usize..5],
            stride in [1_usize..4, 1_usize..4],
            dilation in [1_usize..3, 1_usize..3],
            padding in [0_usize..5, 0_usize..5],
            seed: u64,
            with_nan: bool,
        ) {
            let padding = padding.map(|padding| [padding, padding]);
            let geometry = ConvGeometry { stride, padding, dilation, groups: 1 };
            let mut x = random_f32(shape, seed);
            if with_nan && let Some(value) = x.iter_mut().nth(seed as usize % 7) {
                *value = f32::NAN;
            }
            if let Ok(size) = geometry.output_size([shape.2, shape.3], kernel) {
                let found = max_pool2d(x.view(), kernel, &geometry).unwrap();
                let expected = plain(&x, kernel, &geometry, size);
                prop_assert_eq!(found.mapv(f32::to_bits), expected.mapv(f32::to_bits));
                let turned = x.view().permuted_axes([0, 1, 3, 2]).as_standard_layout().into_owned();
                let turned = turned.view().permuted_axes([0, 1, 3, 2]);
                let found = max_pool2d(turned, kernel, &geometry).unwrap();
                prop_assert_eq!(found.mapv(f32::to_bits), expected.mapv(f32::to_bits));
            }
        }
    }

    #[test]
    fn what_cannot_be_pooled() {
        let x = Array4::<f32>::zeros((1, 1, 3, 3));
        assert!(max_pool2d(x.view(), [4, 4], &ConvGeometry::default()).is_err());
        assert_eq!(
            max_pool2d(Array4::zeros((0, 2, 3, 3)).view(), [2, 2], &ConvGeometry::default()).unwrap().dim(),
            (0, 2, 2, 2)
        );
    }
}
