//! Vectors that the transforms read and write at places a fixed distance apart, without a bounds check for each: the
//! unsafe code of the minimal filtering algorithms.
//!
//! The transforms of a vector of tiles read and write up to seventy vectors, and as many checks take as long as the sums.
//! So the furthest place is checked, once for all of them.

use pulp::Simd;

/// Where the elements (i, j) of a tile lie behind the place of the tile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places<const N: usize> {
    /// Invariant: each is at most `last`.
    each: [[usize; N]; N],
    last: usize,
}

impl<const N: usize> Places<N> {
    pub(super) fn new(each: [[usize; N]; N]) -> Self {
        Self { each, last: each.as_flattened().iter().copied().max().unwrap_or(0) }
    }

    /// Returns the places of a matrix, row-major, whose elements are `distance` apart.
    pub(super) fn matrix(distance: usize) -> Self {
        let mut each = [[0; N]; N];
        each.as_flattened_mut().iter_mut().enumerate().for_each(|(place, at)| *at = place.saturating_mul(distance));
        Self::new(each)
    }
}

/// The elements of a vector of tiles, at some places.
#[derive(Clone, Copy)]
pub(super) struct Elements<'a, const N: usize> {
    /// Invariant: a vector from the last of the places on lies in it.
    values: &'a [f32],
    places: &'a Places<N>,
}

impl<'a, const N: usize> Elements<'a, N> {
    /// Returns the elements; panics where a vector would go beyond the slice.
    #[inline(always)]
    pub(super) fn new<S: Simd>(values: &'a [f32], places: &'a Places<N>) -> Self {
        assert!(ends_inside(Some(places.last), S::F32_LANES, values));
        Self { values, places }
    }

    /// Returns the vectors of a column.
    #[inline(always)]
    pub(super) fn column<S: Simd>(&self, simd: S, column: usize) -> [S::f32s; N] {
        let mut vectors = [simd.splat_f32s(0.0); N];
        for (vector, row) in vectors.iter_mut().zip(&self.places.each) {
            let at = row[column];
            debug_assert!(at + S::F32_LANES <= self.values.len());
            // SAFETY: `at` is at most `places.last`, which `Places::new` computed, and `Self::new` checked that a vector from
            // there on lies in `values`. They are the only constructors, and the fields are private and never assigned.
            let values = unsafe { self.values.get_unchecked(at..at + S::F32_LANES) };
            *vector = S::as_simd_f32s(values).0[0];
        }
        vectors
    }
}

/// The products of a vector of tiles: product (i, j) at `distance * (N i + j)`.
#[derive(Clone, Copy)]
pub(super) struct Products<'a, const N: usize> {
    /// Invariant: the vector of the last product lies in it.
    values: &'a [f32],
    distance: usize,
}

impl<'a, const N: usize> Products<'a, N> {
    /// Returns the products; panics where a vector would go beyond the slice.
    #[inline(always)]
    pub(super) fn new<S: Simd>(values: &'a [f32], distance: usize) -> Self {
        assert!(ends_inside(distance.checked_mul(N * N - 1), S::F32_LANES, values));
        Self { values, distance }
    }

    /// Returns the vectors of a column.
    #[inline(always)]
    pub(super) fn column<S: Simd>(&self, simd: S, column: usize) -> [S::f32s; N] {
        assert!(column < N);
        let mut vectors = [simd.splat_f32s(0.0); N];
        for (row, vector) in vectors.iter_mut().enumerate() {
            let at = (row * N + column) * self.distance;
            debug_assert!(at + S::F32_LANES <= self.values.len());
            // SAFETY: `row` and `column` are below `N`, and `Self::new`, the only constructor, checked the last of such places
            // without overflow. The fields are private and never assigned.
            let values = unsafe { self.values.get_unchecked(at..at + S::F32_LANES) };
            *vector = S::as_simd_f32s(values).0[0];
        }
        vectors
    }
}

/// Where the results of a transform go: result (i, j) of `N` x `N` to `distance * (N i + j)`.
pub(super) struct Results<'a, const N: usize> {
    /// Invariant: the vector of the last result lies in it.
    values: &'a mut [f32],
    distance: usize,
}

impl<'a, const N: usize> Results<'a, N> {
    /// Returns the places of results; panics where a vector would go beyond the slice.
    #[inline(always)]
    pub(super) fn new<S: Simd>(values: &'a mut [f32], distance: usize) -> Self {
        assert!(ends_inside(distance.checked_mul(N * N - 1), S::F32_LANES, values));
        Self { values, distance }
    }

    /// Stores the results of a row.
    #[inline(always)]
    pub(super) fn set<S: Simd>(&mut self, row: usize, vectors: [S::f32s; N]) {
        assert!(row < N);
        for (column, &vector) in vectors.iter().enumerate() {
            let at = (row * N + column) * self.distance;
            debug_assert!(at + S::F32_LANES <= self.values.len());
            // SAFETY: as in `Products::column`.
            let values = unsafe { self.values.get_unchecked_mut(at..at + S::F32_LANES) };
            S::as_mut_simd_f32s(values).0[0] = vector;
        }
    }
}

/// Copies the elements of a vector of tiles from several pieces of `P` tiles to `[row][column][tile]`.
///
/// * `starts`: the places of the pieces, behind which the elements lie at `places`; panics where one would go beyond the
///   slice.
#[inline(always)]
pub(super) fn gather<S: Simd, const P: usize, const N: usize>(
    values: &[f32],
    starts: &[usize],
    places: &Places<N>,
    to: &mut [f32],
) {
    let furthest = starts.iter().copied().max().unwrap_or(0);
    assert!(ends_inside(furthest.checked_add(places.last), P, values));
    for (&place, to) in places.each.as_flattened().iter().zip(to.chunks_exact_mut(S::F32_LANES)) {
        for (&start, to) in starts.iter().zip(to.as_chunks_mut::<P>().0) {
            let at = place + start;
            debug_assert!(at + P <= values.len());
            // SAFETY: `start` is at most `furthest`, `place` at most `places.last`, and the piece from their sum on was checked above.
            to.copy_from_slice(unsafe { values.get_unchecked(at..at + P) });
        }
    }
}

/// Returns whether `count` elements from place `last` on lie in a slice; `None` is beyond every slice.
#[inline(always)]
fn ends_inside(last: Option<usize>, count: usize, values: &[f32]) -> bool {
    last.and_then(|last| last.checked_add(count)).is_some_and(|end| end <= values.len())
}

#[cfg(test)]
mod tests {
    use pulp::Scalar;

    use super::*;

    fn panics(run: impl FnOnce() + std::panic::UnwindSafe) -> bool {
        std::panic::catch_unwind(run).is_err()
    }

    #[test]
    fn places_beyond_the_end_are_refused() {
        let values: Vec<f32> = (0..10).map(|place| place as f32).collect();
        let places = Places::new([[0, 9], [3, 1]]);
        assert_eq!(Elements::new::<Scalar>(&values, &places).column(Scalar::new(), 1), [9.0, 1.0]);
        assert!(panics(|| _ = Elements::new::<Scalar>(&values[..9], &places)));
        assert!(panics(|| _ = Elements::new::<Scalar>(&values, &Places::<2>::matrix(usize::MAX))));
        assert_eq!(Products::<2>::new::<Scalar>(&values, 3).column(Scalar::new(), 1), [3.0, 9.0]);
        assert!(panics(|| _ = Products::<2>::new::<Scalar>(&values, 4)));
        assert!(panics(|| _ = Products::<2>::new::<Scalar>(&values, usize::MAX / 2)));
        assert!(panics(|| _ = Products::<2>::new::<Scalar>(&values, 3).column(Scalar::new(), 2)));
        let mut to = values.clone();
        Results::<2>::new::<Scalar>(&mut to, 3).set::<Scalar>(1, [-1.0, -2.0]);
        assert_eq!(to, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, -1.0, 7.0, 8.0, -2.0]);
        assert!(panics(|| _ = Results::<2>::new::<Scalar>(&mut [0.0; 9], 3)));
        let gathered = |starts: &[usize]| {
            let mut to = [0.0; 4];
            gather::<Scalar, 1, 2>(&values, starts, &places, &mut to);
            to
        };
        assert_eq!(gathered(&[0]), [0.0, 9.0, 3.0, 1.0]);
        assert!(panics(|| _ = gathered(&[1])));
        assert!(panics(|| _ = gathered(&[usize::MAX])));
    }
}
