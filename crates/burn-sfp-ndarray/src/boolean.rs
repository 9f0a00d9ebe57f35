//! The Boolean matrix of a filter, packed into bits.
//!
//! Divide the performance matrix by its largest element, then
//! `B_f[i][j] = P_f[i][j] / max P_f > threshold` (Tzach et al. 2025, Phys. Rev. E 111, 065307; METHOD
//! section 3). A filter whose largest element is not positive recognises nothing: its matrix is all zeros.

use ndarray::ArrayView2;

use crate::KernelError;
use crate::error::expect_len;

/// Bits in a word.
const BITS: usize = u64::BITS as usize;

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
            None => {
                let flat: Vec<f32> = performance.iter().copied().collect();
                boolean.fill(&flat, threshold);
            }
        }
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

    /// All zeros.
    pub(crate) fn empty(classes: usize) -> Self {
        let words_per_row = classes.div_ceil(BITS);
        Self { classes, words_per_row, words: vec![0; classes * words_per_row], max: 0.0 }
    }

    /// Overwrites the matrix from a row-major performance matrix of the same number of classes.
    pub(crate) fn fill(&mut self, performance: &[f32], threshold: f64) {
        debug_assert_eq!(performance.len(), self.classes * self.classes);
        self.max = f64::from(largest(performance));
        if self.words.is_empty() {
            self.max = 0.0;
            return;
        }
        if !(self.max > 0.0 && self.max.is_finite()) {
            self.words.fill(0);
            return;
        }
        let cut = round_down(threshold * self.max);
        let rows = performance.chunks_exact(self.classes);
        for (words, row) in self.words.chunks_exact_mut(self.words_per_row).zip(rows) {
            for (word, values) in words.iter_mut().zip(row.chunks(BITS)) {
                *word = pack(values, cut);
            }
        }
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

/// The largest number, NaN when there is one, minus infinity for an empty list.
fn largest(values: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut max = [f32::NEG_INFINITY; LANES];
    let mut nan = [false; LANES];
    let mut blocks = values.chunks_exact(LANES);
    for block in &mut blocks {
        for lane in 0..LANES {
            let value = block[lane];
            max[lane] = if value > max[lane] { value } else { max[lane] };
            nan[lane] |= value.is_nan();
        }
    }
    let rest = blocks.remainder();
    if nan.contains(&true) || rest.iter().any(|value| value.is_nan()) {
        return f32::NAN;
    }
    (max.iter().chain(rest).copied()).fold(f32::NEG_INFINITY, f32::max)
}

/// The largest single precision number not above `value`: for a single precision p,
/// `p > value` in double precision exactly when `p > round_down(value)` in single precision.
fn round_down(value: f64) -> f32 {
    let nearest = value as f32;
    if f64::from(nearest) > value { nearest.next_down() } else { nearest }
}

/// Bit i is `values[i] > cut`, for at most 64 values.
fn pack(values: &[f32], cut: f32) -> u64 {
    /// Moves bit 0 of byte i to bit 56 + i.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let mut bytes = [0_u8; BITS];
    for (byte, &value) in bytes.iter_mut().zip(values) {
        *byte = u8::from(value > cut);
    }
    let (eights, _) = bytes.as_chunks::<8>();
    (eights.iter().enumerate())
        .fold(0, |word, (place, &eight)| word | u64::from_le_bytes(eight).wrapping_mul(GATHER) >> 56 << (8 * place))
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
