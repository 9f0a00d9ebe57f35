//! The Boolean matrix of a filter, packed into bits.
//!
//! `B_f[i][j] = P_f[i][j] / max P_f > threshold` (`docs/method.md`, section 3; Tzach et al. 2025, Phys. Rev. E 111,
//! 065307). A filter whose largest element is not positive recognizes nothing: its matrix is all zeros.

use ndarray::ArrayView2;
use pulp::{Arch, Simd, WithSimd};

use crate::pack::pack_rows;
use crate::{Cuts, KernelError, expect_len, expect_threshold, recognizes_nothing};

/// Bits in a word.
const BITS: usize = u64::BITS as usize;

/// The Boolean matrix `B_f` of a filter, `[C, C]` with row = label shown and column = output unit, 64 columns per word.
///
/// # Example
/// ```
/// use burn_sfp_ndarray::BooleanMatrix;
/// use ndarray::array;
///
/// let performance = array![[4.0_f32, 1.0], [-2.0, 3.0]];
/// let boolean = BooleanMatrix::from_performance(performance.view(), 0.3)?;
/// assert_eq!(boolean.max(), 4.0);
/// assert!(boolean.get(0, 0) && boolean.get(1, 1)); // 4/4 and 3/4 are above 0.3
/// assert!(!boolean.get(0, 1)); // 1/4 is not
/// assert_eq!(boolean.row(1), [0b10]);
/// assert_eq!(boolean.count_ones(), 2);
/// # Ok::<(), burn_sfp_ndarray::KernelError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct BooleanMatrix {
    classes: usize,
    words_per_row: usize,
    words: Vec<u64>,
    max: f64,
}

impl BooleanMatrix {
    /// Computes the Boolean matrix of a performance matrix `[C, C]`.
    ///
    /// An element is 1 where `P[i][j] / max P > threshold`, evaluated in double precision as
    /// `P[i][j] > threshold * max P`. The matrix is all zeros when the largest element is not positive or is infinite, or
    /// when any element is NaN. Source: `docs/method.md`, section 3 (Tzach et al. 2025, Phys. Rev. E 111, 065307).
    ///
    /// # Errors
    /// [`KernelError::Shape`] when the matrix is not square, [`KernelError::Threshold`] when the threshold
    /// is not finite.
    ///
    /// # Example
    /// ```
    /// use burn_sfp_ndarray::BooleanMatrix;
    /// use ndarray::array;
    ///
    /// let silent = BooleanMatrix::from_performance(array![[-1.0, -2.0], [0.0, -3.0]].view(), 0.3)?;
    /// assert_eq!(silent.count_ones(), 0);
    /// # Ok::<(), burn_sfp_ndarray::KernelError>(())
    /// ```
    pub fn from_performance(performance: ArrayView2<f32>, threshold: f64) -> Result<Self, KernelError> {
        let (classes, columns) = performance.dim();
        expect_len("columns of a performance matrix", classes, columns)?;
        expect_threshold(threshold)?;
        let mut boolean = Self::empty(classes);
        match performance.to_slice() {
            Some(flat) => boolean.fill(flat, threshold),
            None => boolean.fill(&performance.iter().copied().collect::<Vec<f32>>(), threshold),
        };
        Ok(boolean)
    }

    /// Creates the matrix that is 1 where `one(row, column)` is true, for matrices that are not computed from a
    /// performance matrix. [`max`](Self::max) is 1 when any element is 1, else 0.
    ///
    /// # Example
    /// ```
    /// use burn_sfp_ndarray::BooleanMatrix;
    ///
    /// let identity = BooleanMatrix::from_fn(3, |i, j| i == j);
    /// assert_eq!(identity.count_ones(), 3);
    /// ```
    pub fn from_fn(classes: usize, mut one: impl FnMut(usize, usize) -> bool) -> Self {
        let mut boolean = Self::empty(classes);
        for i in 0..classes {
            for j in 0..classes {
                if one(i, j) {
                    boolean.words[i * boolean.words_per_row + j / BITS] |= 1 << (j % BITS);
                    boolean.max = 1.0;
                }
            }
        }
        boolean
    }

    /// Creates the matrix from packed bits that were computed elsewhere, for example on a GPU.
    ///
    /// * `words`: row-major `[C, ceil(C / 32)]`; bit `j % 32` of word `j / 32` of row i is `B_f[i][j]`; bits
    ///   from C on are ignored;
    /// * `max`: the largest element of the performance matrix. When it is not positive or not finite, the filter
    ///   recognizes nothing, and the matrix is all zeros regardless of the bits.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when there are not `C * ceil(C / 32)` words.
    ///
    /// # Example
    /// ```
    /// use burn_sfp_ndarray::BooleanMatrix;
    ///
    /// let boolean = BooleanMatrix::from_words(2, &[0b01, 0b11], 4.0)?;
    /// assert_eq!(boolean.max(), 4.0);
    /// assert!(boolean.get(0, 0) && !boolean.get(0, 1) && boolean.get(1, 0) && boolean.get(1, 1));
    /// assert!(BooleanMatrix::from_words(33, &[0; 33], 1.0).is_err()); // 33 rows of two words
    /// # Ok::<(), burn_sfp_ndarray::KernelError>(())
    /// ```
    pub fn from_words(classes: usize, words: &[u32], max: f64) -> Result<Self, KernelError> {
        let halves = classes.div_ceil(u32::BITS as usize);
        let expected = classes.saturating_mul(halves);
        expect_len("words of 32 columns, rows times words per row", expected, words.len())?;
        let mut boolean = Self::empty(classes);
        boolean.max = if classes == 0 { 0.0 } else { max };
        if classes == 0 || recognizes_nothing(max) {
            return Ok(boolean);
        }
        // The bits below C in the last word of a row.
        let last = u64::MAX >> (boolean.words_per_row * BITS - classes);
        for (to, from) in boolean.words.chunks_exact_mut(boolean.words_per_row).zip(words.chunks_exact(halves)) {
            for (to, from) in to.iter_mut().zip(from.chunks(2)) {
                *to = from.iter().rev().fold(0, |word, &half| word << 32 | u64::from(half));
            }
            if let Some(word) = to.last_mut() {
                *word &= last;
            }
        }
        Ok(boolean)
    }

    /// Creates the matrix of zeros.
    pub(crate) fn empty(classes: usize) -> Self {
        let words_per_row = classes.div_ceil(BITS);
        Self { classes, words_per_row, words: vec![0; classes * words_per_row], max: 0.0 }
    }

    /// Overwrites the matrix with that of a row-major performance matrix of the same number of classes.
    ///
    /// Returns the number of elements at a distance of at most [`NEAR`](crate::NEAR) from the threshold.
    pub(crate) fn fill(&mut self, performance: &[f32], threshold: f64) -> usize {
        self.fill_below(performance, largest(performance), threshold)
    }

    /// Does the same as [`fill`](Self::fill) when the [`largest`] element is known.
    pub(crate) fn fill_below(&mut self, performance: &[f32], largest: f32, threshold: f64) -> usize {
        debug_assert_eq!(performance.len(), self.classes * self.classes);
        self.start(largest, threshold).map_or(0, |cuts| self.fill_rows(0, performance, cuts))
    }

    /// Starts over when the [`largest`] element is known. What is returned goes to [`fill_rows`](Self::fill_rows) with every row;
    /// `None` when the filter recognizes nothing and the matrix is zero.
    pub(crate) fn start(&mut self, largest: f32, threshold: f64) -> Option<Cuts> {
        self.max = if self.words.is_empty() { 0.0 } else { f64::from(largest) };
        let cuts = if self.words.is_empty() { None } else { Cuts::new(threshold, self.max) };
        if cuts.is_none() {
            self.words.fill(0);
        }
        cuts
    }

    /// Overwrites rows from `first` on. Returns the number of elements that are near the threshold.
    pub(crate) fn fill_rows(&mut self, first: usize, performance: &[f32], cuts: Cuts) -> usize {
        let rows = performance.len() / self.classes.max(1);
        let words = &mut self.words[first * self.words_per_row..][..rows * self.words_per_row];
        pack_rows(Arch::new(), performance, self.classes, cuts, words)
    }

    /// Returns C, the number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Returns `B_f[i][j]`, for label shown i and output unit j; false outside the matrix.
    pub fn get(&self, i: usize, j: usize) -> bool {
        i < self.classes && j < self.classes && self.bit(i, j)
    }

    /// Returns row i: bit `j % 64` of word `j / 64` is column j, bits from C on are zero. Empty outside the matrix.
    pub fn row(&self, i: usize) -> &[u64] {
        if i < self.classes { &self.words[i * self.words_per_row..][..self.words_per_row] } else { &[] }
    }

    /// Returns the largest element of the performance matrix; 0 for a matrix without elements, NaN when any element is
    /// NaN. When it is not positive or not finite, the filter recognizes nothing.
    pub fn max(&self) -> f64 {
        self.max
    }

    /// Returns the number of elements that are 1.
    pub fn count_ones(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Returns the same as [`get`](Self::get), for indices inside the matrix.
    pub(crate) fn bit(&self, i: usize, j: usize) -> bool {
        self.words[i * self.words_per_row + j / BITS] >> (j % BITS) & 1 == 1
    }
}

/// Returns the largest value; NaN when any value is NaN, minus infinity for an empty list.
pub(crate) fn largest(values: &[f32]) -> f32 {
    Arch::new().dispatch(Largest(values))
}

/// Computes [`largest`] with the widest vectors available.
struct Largest<'a>(&'a [f32]);

impl WithSimd for Largest<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        // Several maxima, since each comparison depends on the one before.
        const UNITS: usize = 4;
        let (vectors, rest) = S::as_simd_f32s(self.0);
        let mut max = [simd.splat_f32s(f32::NEG_INFINITY); UNITS];
        let zero = simd.splat_f32s(0.0);
        // Only NaN differs from itself; `no_nan` stays all ones until a NaN occurs.
        let mut no_nan = simd.equal_f32s(zero, zero);
        let mut take = |max: &mut S::f32s, values: S::f32s| {
            *max = simd.select_f32s(simd.less_than_f32s(*max, values), values, *max);
            no_nan = simd.and_m32s(no_nan, simd.equal_f32s(values, values));
        };
        let (blocks, single) = vectors.as_chunks::<UNITS>();
        for block in blocks {
            for (max, &values) in max.iter_mut().zip(block) {
                take(max, values);
            }
        }
        for &values in single {
            take(&mut max[0], values);
        }
        let nan = simd.select_f32s(no_nan, zero, simd.splat_f32s(1.0));
        if pulp::bytemuck::cast_slice::<_, f32>(&[nan]).iter().any(|&nan| nan != 0.0)
            || rest.iter().any(|value| value.is_nan())
        {
            return f32::NAN;
        }
        let max: &[f32] = pulp::bytemuck::cast_slice(&max);
        max.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
    }
}

/// Returns the larger of two results of [`largest`]; NaN when either is NaN.
pub(crate) fn larger(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NEAR;
    use crate::testing::random_f32;
    use ndarray::{Array2, array};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn matches_the_definition(classes in 0_usize..140, threshold in -0.5_f64..1.2, seed: u64) {
            let performance = random_f32((classes, classes), seed);
            let max = performance.iter().map(|&p| f64::from(p)).reduce(f64::max).unwrap_or(0.0);
            let boolean = BooleanMatrix::from_performance(performance.view(), threshold).unwrap();
            prop_assert_eq!(boolean.max(), max);
            let mut ones = 0;
            for ((i, j), &p) in performance.indexed_iter() {
                let expected = max > 0.0 && f64::from(p) > threshold * max;
                ones += usize::from(expected);
                prop_assert_eq!(boolean.get(i, j), expected);
            }
            // No stray bits behind the last column.
            prop_assert_eq!(boolean.count_ones(), ones);
            let transposed = BooleanMatrix::from_performance(performance.t(), threshold).unwrap();
            prop_assert!((0..classes).all(|i| (0..classes).all(|j| boolean.get(i, j) == transposed.get(j, i))));
        }

        #[test]
        fn words_of_32_columns_say_the_same(classes in 0_usize..140, seed: u64, stray: u32) {
            let expected = BooleanMatrix::from_performance(random_f32((classes, classes), seed).view(), 0.3).unwrap();
            let halves = classes.div_ceil(32);
            let mut words = vec![0_u32; classes * halves];
            for (i, j) in (0..classes).flat_map(|i| (0..32 * halves).map(move |j| (i, j))) {
                // Bits beyond the last column are arbitrary.
                let one = if j < classes { expected.get(i, j) } else { stray >> (j % 32) & 1 == 1 };
                words[i * halves + j / 32] |= u32::from(one) << (j % 32);
            }
            prop_assert_eq!(&BooleanMatrix::from_words(classes, &words, expected.max()).unwrap(), &expected);
            let silent = BooleanMatrix::from_words(classes, &words, f64::NAN).unwrap();
            prop_assert_eq!(silent.count_ones(), 0);
            let wrong = BooleanMatrix::from_words(classes + 1, &words, 1.0);
            let refused = matches!(wrong, Err(KernelError::Shape { .. }));
            prop_assert!(refused);
        }

        #[test]
        fn counts_what_is_near_the_threshold(
            classes in 0_usize..90, threshold in prop_oneof![-0.5_f64..1.2, Just(NEAR), Just(-NEAR), Just(0.0), Just(1e300)], max in prop_oneof![1e-30_f32..1e-29, 0.1_f32..9.0, 1e30_f32..1e31],
            seed: u64,
        ) {
            let mut performance = random_f32((classes, classes), seed);
            // Most elements within twice the distance, some at its very edge.
            performance.mapv_inplace(|p| ((threshold + 2.0 * NEAR * f64::from(p)) * f64::from(max)) as f32);
            for (place, value) in performance.iter_mut().enumerate() {
                let edge = (threshold + if place % 2 == 0 { NEAR } else { -NEAR }) * f64::from(max);
                match place % 7 {
                    0 | 1 => *value = edge as f32,
                    2 => *value = (edge as f32).next_up(),
                    3 => *value = (edge as f32).next_down(),
                    _ => {}
                }
            }
            if classes > 0 {
                performance[[classes - 1, 0]] = max;
            }
            let mut boolean = BooleanMatrix::empty(classes);
            let found = boolean.fill(performance.as_slice().unwrap(), threshold);
            let max = boolean.max();
            let is_near = |p: &&f32| (f64::from(**p) / max - threshold).abs() <= NEAR;
            prop_assert_eq!(found, performance.iter().filter(is_near).count());
        }
    }

    #[test]
    fn the_comparison_is_strict() {
        let boolean = BooleanMatrix::from_performance(array![[4.0, 1.0], [1.0_f32.next_up(), 0.0]].view(), 0.25);
        let boolean = boolean.unwrap();
        assert!(boolean.get(0, 0) && !boolean.get(0, 1) && boolean.get(1, 0) && !boolean.get(1, 1));
    }

    #[test]
    fn nothing_is_recognized_without_a_positive_finite_maximum() {
        for value in [0.0, -0.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            let boolean = BooleanMatrix::from_performance(Array2::from_elem((5, 5), value).view(), -1.0);
            assert_eq!(boolean.unwrap().count_ones(), 0, "{value}");
            assert_eq!(BooleanMatrix::empty(5).fill(&[value; 25], 0.0), 0, "{value}");
        }
        for place in 0..25 {
            let mut performance = Array2::ones((5, 5));
            performance[[place / 5, place % 5]] = f32::NAN;
            let boolean = BooleanMatrix::from_performance(performance.view(), 0.3).unwrap();
            assert!(boolean.max().is_nan());
            assert_eq!(boolean.count_ones(), 0);
        }
    }

    #[test]
    fn elements_outside_the_matrix_are_zero() {
        let boolean = BooleanMatrix::from_fn(3, |_, _| true);
        assert!(!boolean.get(3, 0) && !boolean.get(0, 3) && !boolean.get(0, 64));
        assert!(boolean.row(3).is_empty());
        assert_eq!(boolean.row(2), [0b111]);
    }

    #[test]
    fn errors() {
        let wide = BooleanMatrix::from_performance(Array2::zeros((2, 3)).view(), 0.3);
        assert!(matches!(wide, Err(KernelError::Shape { expected: 2, found: 3, .. })));
        for threshold in [f64::NAN, f64::INFINITY] {
            let result = BooleanMatrix::from_performance(Array2::zeros((2, 2)).view(), threshold);
            assert!(matches!(result, Err(KernelError::Threshold { .. })));
        }
    }
}
