//! Maximum pooling of maps.

use ndarray::{Array4, ArrayView4};
use pulp::{Arch, Simd, WithSimd};
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
    if from.is_empty() {
        out.fill(f32::NEG_INFINITY);
    }
    if out.is_empty() || from.is_empty() {
        return Ok(result);
    }
    let pool = Pool { kernel, geometry, from: [height, width], to: size };
    let maps = from.par_chunks(height * width).zip(out.par_chunks_mut(size[0] * size[1]));
    let arch = Arch::new();
    maps.for_each_init(|| vec![0.0; pool.row()], |row, (from, to)| arch.dispatch(Map { pool: &pool, from, to, row }));
    Ok(result)
}

/// The sizes of a map before and after.
struct Pool<'a> {
    kernel: [usize; 2],
    geometry: &'a ConvGeometry,
    from: [usize; 2],
    to: [usize; 2],
}

/// A map to pool.
struct Map<'a> {
    pool: &'a Pool<'a>,
    from: &'a [f32],
    to: &'a mut [f32],
    /// Room for the maxima of the columns of a row of windows, and for the padding around them.
    row: &'a mut [f32],
}

impl WithSimd for Map<'_> {
    type Output = ();

    /// The maxima of the columns of a row of windows first, then those of each window.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { pool, from, to, row } = self;
        let (width, [before, _]) = (pool.from[1], pool.padding());
        let (stride, dilation) = (pool.geometry.stride[1], pool.geometry.dilation[1]);
        for (index, to) in to.chunks_exact_mut(pool.to[1]).enumerate() {
            row.fill(f32::NEG_INFINITY);
            for y in pool.taps(0, index) {
                every::<1>(&mut row[before..before + width], &from[y * width..(y + 1) * width]);
            }
            if !pool.is_padded() {
                for (column, to) in to.iter_mut().enumerate() {
                    *to = pool.taps(1, column).fold(f32::NEG_INFINITY, |most, x| larger(most, row[x]));
                }
                continue;
            }
            let mut first = 0;
            if stride == 2 && dilation == 1 && pool.kernel[1] >= 2 {
                // The first two at once: both are in the row, since the window is.
                to.iter_mut().zip(row.as_chunks::<2>().0).for_each(|(most, pair)| *most = larger(pair[0], pair[1]));
                first = 2;
            } else {
                to.fill(f32::NEG_INFINITY);
            }
            for tap in first..pool.kernel[1] {
                let row = &row[tap * dilation..];
                match stride {
                    1 => every::<1>(to, row),
                    2 => every::<2>(to, row),
                    _ => {
                        let row = row.iter().step_by(stride);
                        to.iter_mut().zip(row).for_each(|(most, &value)| *most = larger(*most, value));
                    }
                }
            }
        }
    }
}

/// Replaces each maximum by the value in its place, among every `N`-th one, where that is larger.
#[inline(always)]
fn every<const N: usize>(most: &mut [f32], values: &[f32]) {
    let whole = values.as_chunks::<N>();
    let count = most.len().min(whole.0.len());
    let (first, last) = most.split_at_mut(count);
    for (most, values) in first.iter_mut().zip(whole.0) {
        *most = larger(*most, values[0]);
    }
    // The last one may have fewer behind it.
    if let (Some(most), Some(&value)) = (last.first_mut(), whole.1.first()) {
        *most = larger(*most, value);
    }
}

impl Pool<'_> {
    /// Places for padding before and behind a row, where they are few.
    fn padding(&self) -> [usize; 2] {
        if self.is_padded() { self.geometry.padding[1] } else { [0, 0] }
    }

    /// Whether the padding is part of a row; where there is much of it, the places of each window are looked up.
    fn is_padded(&self) -> bool {
        self.geometry.padding[1].iter().all(|&padding| padding <= self.from[1])
    }

    /// Elements of a row with its padding.
    fn row(&self) -> usize {
        let [before, after] = self.padding();
        before + self.from[1] + after
    }

    /// The positions of a window along an axis that are no padding.
    #[inline(always)]
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
            shape in (0_usize..3, 0_usize..4, 0_usize..12, 0_usize..12),
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
