//! The Boolean matrix of a filter, packed into bits.
//!
//! Divide the performance matrix by its largest element, then
//! `B_f[i][j] = P_f[i][j] / max P_f > threshold` (Tzach et al. 2025, Phys. Rev. E 111, 065307; METHOD
//! section 3). A filter whose largest element is not positive recognises nothing: its matrix is all zeros.

use ndarray::ArrayView2;
use pulp::{Arch, Simd, WithSimd};

use crate::KernelError;
use crate::error::expect_len;
use crate::pack::{Cuts, pack_rows};

/// Bits in a word.
const BITS: usize = u64::BITS as usize;

/// Distance from the threshold, as a share of the largest element, up to which another device's rounding
/// may put an element on the other side: elements of [`FilterPerformance::near`](crate::FilterPerformance).
pub const NEAR: f64 = 1e-5;

/// A Boolean `C x C` matrix `B_f`: row = label shown, column = output unit, 64 columns to a word.
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
    /// Divides the performance matrix `[C, C]` by its largest element and compares: one where
    /// `P[i][j] / max P > threshold`, strictly, evaluated in double precision as `P[i][j] > threshold * max P`.
    ///
    /// All zeros when the largest element is not positive, is infinite, or when any element is NaN.
    /// Source: METHOD section 3 (Tzach et al. 2025, Phys. Rev. E 111, 065307).
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
        check_threshold(threshold)?;
        let mut boolean = Self::empty(classes);
        match performance.to_slice() {
            Some(flat) => boolean.fill(flat, threshold),
            None => boolean.fill(&performance.iter().copied().collect::<Vec<f32>>(), threshold),
        };
        Ok(boolean)
    }

    /// The matrix with a one where `one(row, column)` holds, for matrices that come from elsewhere;
    /// [`max`](Self::max) is 1 when there is any one, else 0.
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

    /// The matrix from packed bits that were computed elsewhere, on a GPU say.
    ///
    /// * `words`: row-major `[C, ceil(C / 32)]`; bit `j % 32` of word `j / 32` of row i is `B_f[i][j]`; bits
    ///   from C on are ignored;
    /// * `max`: the largest element of the performance matrix. When it is not positive or not finite the
    ///   filter recognises nothing, and the matrix is all zeros whatever the bits.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when the number of words is another.
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
        expect_len("words of 32 columns, rows times words of a row", expected, words.len())?;
        let mut boolean = Self::empty(classes);
        boolean.max = if classes == 0 { 0.0 } else { max };
        if classes == 0 || !recognises(max) {
            return Ok(boolean);
        }
        // Ones below C in the last word of a row.
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

    /// All zeros.
    pub(crate) fn empty(classes: usize) -> Self {
        let words_per_row = classes.div_ceil(BITS);
        Self { classes, words_per_row, words: vec![0; classes * words_per_row], max: 0.0 }
    }

    /// Overwrites the matrix from a row-major performance matrix of the same number of classes, and counts
    /// the elements at a distance of at most [`NEAR`] from the threshold.
    pub(crate) fn fill(&mut self, performance: &[f32], threshold: f64) -> usize {
        self.fill_below(performance, largest(performance), threshold)
    }

    /// As [`fill`](Self::fill), where the [`largest`] element is known.
    pub(crate) fn fill_below(&mut self, performance: &[f32], largest: f32, threshold: f64) -> usize {
        debug_assert_eq!(performance.len(), self.classes * self.classes);
        self.max = f64::from(largest);
        if self.words.is_empty() {
            self.max = 0.0;
            return 0;
        }
        if !recognises(self.max) {
            self.words.fill(0);
            return 0;
        }
        let cuts = Cuts { above: round_down(threshold * self.max), near: near(threshold, self.max) };
        pack_rows(Arch::new(), performance, self.classes, cuts, &mut self.words)
    }

    /// C, the number of labels.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// `B_f[i][j]`, for label shown i and output unit j; false outside the matrix.
    pub fn get(&self, i: usize, j: usize) -> bool {
        i < self.classes && j < self.classes && self.bit(i, j)
    }

    /// Row i: bit `j % 64` of word `j / 64` is column j, bits from C on are zero. Empty outside the matrix.
    pub fn row(&self, i: usize) -> &[u64] {
        if i < self.classes { &self.words[i * self.words_per_row..][..self.words_per_row] } else { &[] }
    }

    /// The largest element of the performance matrix, 0 for a matrix without elements, NaN when any
    /// element is NaN. Not positive or not finite: the filter recognises nothing.
    pub fn max(&self) -> f64 {
        self.max
    }

    /// Number of ones.
    pub fn count_ones(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// As [`get`](Self::get), for indices that are inside.
    pub(crate) fn bit(&self, i: usize, j: usize) -> bool {
        self.words[i * self.words_per_row + j / BITS] >> (j % BITS) & 1 == 1
    }
}

/// `Ok` for a finite threshold.
pub(crate) fn check_threshold(threshold: f64) -> Result<(), KernelError> {
    if threshold.is_finite() { Ok(()) } else { Err(KernelError::Threshold { found: threshold }) }
}

/// Whether a filter with this largest element recognises anything.
fn recognises(max: f64) -> bool {
    max > 0.0 && max.is_finite()
}

/// The largest number, NaN when there is one, minus infinity for an empty list.
pub(crate) fn largest(values: &[f32]) -> f32 {
    Arch::new().dispatch(Largest(values))
}

/// [`largest`], with the widest vectors there are.
struct Largest<'a>(&'a [f32]);

impl WithSimd for Largest<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        // Several maxima, since each waits for the one before.
        const UNITS: usize = 4;
        let (vectors, rest) = S::as_simd_f32s(self.0);
        let mut max = [simd.splat_f32s(f32::NEG_INFINITY); UNITS];
        let zero = simd.splat_f32s(0.0);
        // Only NaN differs from itself; `numbers` stays all ones until there is one.
        let mut numbers = simd.equal_f32s(zero, zero);
        let mut take = |max: &mut S::f32s, values: S::f32s| {
            *max = simd.select_f32s(simd.less_than_f32s(*max, values), values, *max);
            numbers = simd.and_m32s(numbers, simd.equal_f32s(values, values));
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
        let nan = simd.select_f32s(numbers, zero, simd.splat_f32s(1.0));
        if pulp::bytemuck::cast_slice::<_, f32>(&[nan]).iter().any(|&nan| nan != 0.0)
            || rest.iter().any(|value| value.is_nan())
        {
            return f32::NAN;
        }
        let max: &[f32] = pulp::bytemuck::cast_slice(&max);
        max.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
    }
}

/// The larger of two [`largest`] numbers: NaN when either is.
pub(crate) fn larger(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) }
}

/// The single precision numbers p with `|p / max - threshold| <= NEAR` in double precision, for a positive
/// finite `max`: from the first result on, and below the second.
fn near(threshold: f64, max: f64) -> (f32, f32) {
    // Neither the division nor the subtraction ever turns an order around, so the numbers make an interval.
    (first(|p| f64::from(p) / max - threshold >= -NEAR), first(|p| f64::from(p) / max - threshold > NEAR))
}

/// The smallest number for which `holds`, which holds for every larger one and for infinity.
fn first(holds: impl Fn(f32) -> bool) -> f32 {
    /// The number at a place of the order from minus to plus infinity.
    fn number(place: u32) -> f32 {
        f32::from_bits(if place >> 31 == 1 { place ^ 1 << 31 } else { !place })
    }
    let (mut low, mut high) = (!f32::NEG_INFINITY.to_bits(), f32::INFINITY.to_bits() | 1 << 31);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(number(middle)) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    number(low)
}

/// The largest single precision number not above `value`: for a single precision p,
/// `p > value` in double precision exactly when `p > round_down(value)` in single precision.
fn round_down(value: f64) -> f32 {
    let nearest = value as f32;
    if f64::from(nearest) > value { nearest.next_down() } else { nearest }
}

#[cfg(test)]
mod tests {
    use super::*;
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
                // Beyond the last column anything may stand.
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

        #[test]
        fn rounding_down_keeps_every_comparison(value in prop::num::f64::ANY, p in prop::num::f32::ANY) {
            prop_assume!(!value.is_nan());
            prop_assert_eq!(f64::from(p) > value, p > round_down(value));
            let near = value as f32;
            for p in [near.next_down(), near, near.next_up()] {
                prop_assert_eq!(f64::from(p) > value, p > round_down(value));
            }
        }
    }

    #[test]
    fn the_comparison_is_strict() {
        let boolean = BooleanMatrix::from_performance(array![[4.0, 1.0], [1.0_f32.next_up(), 0.0]].view(), 0.25);
        let boolean = boolean.unwrap();
        assert!(boolean.get(0, 0) && !boolean.get(0, 1) && boolean.get(1, 0) && !boolean.get(1, 1));
    }

    #[test]
    fn nothing_is_recognised_without_a_positive_finite_maximum() {
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
    fn outside_the_matrix_there_is_nothing() {
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
