//! Search for elements that are infinite or NaN.

use ndarray::{ArrayView3, Axis};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Elements that are tested together; only a block with a hit is searched for its place.
const BLOCK: usize = 1024;
/// Elements per task.
const CHUNK: usize = 32 * BLOCK;

/// Returns the index `[n, f, s]` of the first element, in row-major order, that is infinite or NaN.
///
/// * `acts`: `[N, F, S]`, any strides (row-major is fastest: it is read at memory bandwidth).
///
/// A network that overflows produces such activations, and a single one makes a mean of its label infinite or NaN.
///
/// # Example
/// ```
/// use burn_sfp_ndarray::find_non_finite;
/// use ndarray::Array3;
///
/// let mut acts = Array3::<f32>::zeros((4, 3, 2));
/// assert_eq!(find_non_finite(acts.view()), None);
/// acts[[2, 1, 0]] = f32::INFINITY;
/// acts[[3, 0, 0]] = f32::NAN;
/// assert_eq!(find_non_finite(acts.view()), Some([2, 1, 0]));
/// ```
pub fn find_non_finite(acts: ArrayView3<f32>) -> Option<[usize; 3]> {
    let (_, filters, positions) = acts.dim();
    if let Some(flat) = acts.to_slice() {
        let arch = Arch::new();
        let place = flat
            .par_chunks(CHUNK)
            .enumerate()
            .find_map_first(|(chunk, values)| Some(chunk * CHUNK + arch.dispatch(FirstIn(values))?))?;
        let (row, position) = (place / positions, place % positions);
        return Some([row / filters, row % filters, position]);
    }
    acts.axis_iter(Axis(0)).into_par_iter().enumerate().find_map_first(|(sample, plane)| {
        (plane.indexed_iter())
            .find(|(_, value)| !value.is_finite())
            .map(|((filter, position), _)| [sample, filter, position])
    })
}

/// Returns the index of the first element that is not finite, with the widest vectors available.
struct FirstIn<'a>(&'a [f32]);

impl WithSimd for FirstIn<'_> {
    type Output = Option<usize>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Option<usize> {
        const EXPONENT: u32 = 0x7f80_0000;
        for (block, values) in self.0.chunks(BLOCK).enumerate() {
            // A value is infinite or NaN when its exponent is all ones. Without an early exit the loop is vectorized.
            let mut found = 0_u32;
            for value in values {
                found |= u32::from(value.to_bits() & EXPONENT == EXPONENT);
            }
            if found != 0
                && let Some(place) = values.iter().position(|value| !value.is_finite())
            {
                return Some(block * BLOCK + place);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{in_pool, random_f32, with_layout};
    use ndarray::Array3;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn finds_the_first_of_several(
            shape in (1_usize..12, 1_usize..20, 1_usize..300), layout in 0_u8..4,
            places in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..3), 0..4), seed: u64,
        ) {
            let mut acts = random_f32(shape, seed);
            let flat = acts.as_slice_mut().unwrap();
            let mut first = None;
            for (place, kind) in places {
                let place = place.index(flat.len());
                flat[place] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][kind];
                first = Some(first.unwrap_or(usize::MAX).min(place));
            }
            let expected = first.map(|place: usize| {
                [place / shape.2 / shape.1, place / shape.2 % shape.1, place % shape.2]
            });
            prop_assert_eq!(with_layout(&acts, layout, |acts| find_non_finite(acts)), expected);
        }
    }

    #[test]
    fn first_over_many_chunks_on_any_number_of_threads() {
        let mut acts = Array3::from_elem((8, 100, 200), f32::MAX);
        acts[[2, 3, 199]] = f32::NAN;
        acts[[7, 99, 199]] = f32::NEG_INFINITY;
        for threads in [1, 2, 5] {
            assert_eq!(in_pool(threads, || find_non_finite(acts.view())), Some([2, 3, 199]));
        }
    }

    #[test]
    fn empty_arrays_and_extreme_values_are_finite() {
        assert_eq!(find_non_finite(Array3::zeros((0, 3, 2)).view()), None);
        assert_eq!(find_non_finite(Array3::zeros((3, 0, 2)).view()), None);
        assert_eq!(find_non_finite(Array3::zeros((3, 2, 0)).view()), None);
        for value in [f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45, -0.0] {
            assert_eq!(find_non_finite(Array3::from_elem((1, 1, 5), value).view()), None);
        }
    }
}
