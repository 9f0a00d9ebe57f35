//! Class sums: the sums of the activations of each class label.
//!
//! The single-filter performance matrix is linear in the activations, so it needs only the mean activation of each
//! label, `Abar[c, f, s] = sums[c, f, s] / count[c]` (`docs/method.md`, section 2; Tzach et al. 2025, Phys. Rev. E 111,
//! 065307). This kernel adds one batch to the sums.
//!
//! The samples of a label are added in their order in the batch, each directly to the running double precision sum. So
//! the result has the same bits for any number of threads, any memory layout and any cut into batches. The threads divide
//! the filters and positions among themselves.

use ndarray::{ArrayView3, ArrayViewMut2, ArrayViewMut3, Axis, Zip, s};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::{KernelError, SamplesByLabel, expect_labels, expect_len};

/// Most elements `F * S` per task: 16 KiB of sums, which stay in the first-level cache.
const LARGEST_CHUNK: usize = 2048;
/// Fewest elements that are worth a task.
const SMALLEST_CHUNK: usize = 256;

/// Adds a batch of activations to the sums of their labels: `sums[labels[n], f, s] += acts[n, f, s]`.
///
/// * `acts`: `[N, F, S]`, the layer's output for N samples, F filters, S positions; any strides
///   (row-major is fastest);
/// * `labels`: N labels below C;
/// * `sums`: `[C, F, S]`, the running sums, any strides.
///
/// These are the class means of `docs/method.md`, section 2, before the division by the number of samples (Tzach et al.
/// 2025, Phys. Rev. E 111, 065307). Infinite activations and NaN are added like any other value; see
/// [`find_non_finite`](crate::find_non_finite).
///
/// # Errors
/// [`KernelError::Shape`] when the lengths disagree, [`KernelError::Label`] for the first label that is not below C;
/// `sums` is unchanged in both cases.
///
/// # Example
/// ```
/// use burn_sfp_ndarray::class_sums;
/// use ndarray::{Array3, array};
///
/// let acts = array![[[1.0_f32, 2.0]], [[10.0, 20.0]], [[100.0, 200.0]]]; // [N = 3, F = 1, S = 2]
/// let mut sums = Array3::<f64>::zeros((2, 1, 2));
/// class_sums(acts.view(), &[1, 0, 1], sums.view_mut())?;
/// assert_eq!(sums, array![[[10.0, 20.0]], [[101.0, 202.0]]]);
/// # Ok::<(), burn_sfp_ndarray::KernelError>(())
/// ```
pub fn class_sums(acts: ArrayView3<f32>, labels: &[usize], sums: ArrayViewMut3<f64>) -> Result<(), KernelError> {
    let (samples, filters, positions) = acts.dim();
    let classes = sums.dim().0;
    expect_labels(labels, samples, classes)?;
    expect_len("filters of the sums", filters, sums.dim().1)?;
    expect_len("positions of the sums", positions, sums.dim().2)?;
    let plane = filters * positions;
    if plane == 0 || samples == 0 {
        return Ok(());
    }

    let groups = SamplesByLabel::new(labels);
    match (acts.to_slice(), sums.is_standard_layout()) {
        (Some(acts), true) => {
            let found = sums.len();
            let sums = sums.into_shape_with_order((classes, plane)).map_err(|_| KernelError::Shape {
                what: "elements of the sums",
                expected: classes * plane,
                found,
            })?;
            contiguous(acts, &groups, sums);
        }
        _ => strided(acts, &groups, sums),
    }
    Ok(())
}

/// Returns the elements per task, for at least four tasks per thread where the axis allows it; the cut does not change
/// the result.
fn chunk_length(elements: usize, smallest: usize, largest: usize) -> usize {
    let tasks = 4 * rayon::current_num_threads();
    elements.div_ceil(tasks).clamp(smallest, largest)
}

/// Adds row-major activations to row-major sums `[C, F * S]`.
fn contiguous(acts: &[f32], groups: &SamplesByLabel, mut sums: ArrayViewMut2<f64>) {
    let plane = sums.ncols();
    let length = chunk_length(plane, SMALLEST_CHUNK, LARGEST_CHUNK);
    let arch = Arch::new();
    sums.axis_chunks_iter_mut(Axis(1), length).into_par_iter().enumerate().for_each(|(chunk, mut sums)| {
        let width = sums.ncols();
        let start = chunk * length;
        for (class, samples) in groups.iter() {
            let mut row = sums.row_mut(class);
            let Some(row) = row.as_slice_mut() else {
                continue; // unreachable: a row of a row-major array is contiguous
            };
            for samples in samples.chunks(4) {
                let mut strips = [&acts[..0]; 4];
                for (strip, &sample) in strips.iter_mut().zip(samples) {
                    *strip = &acts[sample * plane + start..][..width];
                }
                arch.dispatch(AddStrips { sums: row, strips: &strips[..samples.len()] });
            }
        }
    });
}

/// Adds one to four strips to the sums, one after another, with the widest vectors available.
struct AddStrips<'a> {
    sums: &'a mut [f64],
    strips: &'a [&'a [f32]],
}

impl WithSimd for AddStrips<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        // The sums are read and written once for all strips.
        match *self.strips {
            [a, b, c, d] => add_four(self.sums, a, b, c, d),
            [a, b, c] => add_three(self.sums, a, b, c),
            [a, b] => add_two(self.sums, a, b),
            [a] => add_one(self.sums, a),
            _ => {} // unreachable: there are one to four
        }
    }
}

/// Adds four strips, one after another.
#[inline(always)]
fn add_four(sums: &mut [f64], a: &[f32], b: &[f32], c: &[f32], d: &[f32]) {
    for ((sum, (&a, &b)), (&c, &d)) in sums.iter_mut().zip(a.iter().zip(b)).zip(c.iter().zip(d)) {
        *sum = *sum + f64::from(a) + f64::from(b) + f64::from(c) + f64::from(d);
    }
}

/// Adds three strips, one after another.
#[inline(always)]
fn add_three(sums: &mut [f64], a: &[f32], b: &[f32], c: &[f32]) {
    for ((sum, (&a, &b)), &c) in sums.iter_mut().zip(a.iter().zip(b)).zip(c) {
        *sum = *sum + f64::from(a) + f64::from(b) + f64::from(c);
    }
}

/// Adds two strips, one after another.
#[inline(always)]
fn add_two(sums: &mut [f64], a: &[f32], b: &[f32]) {
    for (sum, (&a, &b)) in sums.iter_mut().zip(a.iter().zip(b)) {
        *sum = *sum + f64::from(a) + f64::from(b);
    }
}

/// Adds one strip.
#[inline(always)]
fn add_one(sums: &mut [f64], a: &[f32]) {
    for (sum, &a) in sums.iter_mut().zip(a) {
        *sum += f64::from(a);
    }
}

/// Adds activations to sums of any strides.
fn strided(acts: ArrayView3<f32>, groups: &SamplesByLabel, mut sums: ArrayViewMut3<f64>) {
    let (_, filters, positions) = acts.dim();
    let smallest = SMALLEST_CHUNK.div_ceil(positions);
    let largest = LARGEST_CHUNK.div_ceil(positions).max(smallest);
    let length = chunk_length(filters, smallest, largest);
    sums.axis_chunks_iter_mut(Axis(1), length).into_par_iter().enumerate().for_each(|(chunk, mut sums)| {
        let start = chunk * length;
        let acts = acts.slice(s![.., start..start + sums.dim().1, ..]);
        for (class, samples) in groups.iter() {
            let mut sums = sums.index_axis_mut(Axis(0), class);
            for &sample in samples {
                Zip::from(&mut sums)
                    .and(acts.index_axis(Axis(0), sample))
                    .for_each(|sum, &value| *sum += f64::from(value));
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{in_pool, random_f32, random_labels, with_layout};
    use ndarray::{Array3, ShapeBuilder};
    use proptest::prelude::*;

    fn reference(acts: &Array3<f32>, labels: &[usize], sums: &mut Array3<f64>) {
        for ((n, f, s), &value) in acts.indexed_iter() {
            sums[[labels[n], f, s]] += f64::from(value);
        }
    }

    proptest! {
        #[test]
        fn matches_the_plain_loop_bit_for_bit(
            shape in (0_usize..30, 0_usize..40, 0_usize..20), classes in 1_usize..9,
            layout in 0_u8..4, column_major: bool, seed: u64,
        ) {
            let acts = random_f32(shape, seed);
            let labels = random_labels(shape.0, classes, seed);
            let start = random_f32((classes, shape.1, shape.2), !seed).mapv(f64::from);
            let mut expected = start.clone();
            reference(&acts, &labels, &mut expected);
            let mut sums = Array3::zeros((classes, shape.1, shape.2).set_f(column_major));
            sums.assign(&start);
            with_layout(&acts, layout, |acts| class_sums(acts, &labels, sums.view_mut())).unwrap();
            prop_assert_eq!(sums, expected);
        }
    }

    #[test]
    fn long_planes_and_any_number_of_threads_change_no_bit() {
        let acts = random_f32((37, 19, 311), 3);
        let labels = random_labels(37, 5, 3);
        let mut expected = Array3::zeros((5, 19, 311));
        reference(&acts, &labels, &mut expected);
        for layout in 0..4 {
            for threads in [1, 2, 5] {
                let mut sums = Array3::zeros((5, 19, 311));
                in_pool(threads, || with_layout(&acts, layout, |acts| class_sums(acts, &labels, sums.view_mut())))
                    .unwrap();
                assert_eq!(sums, expected, "layout {layout}, {threads} threads");
            }
        }
    }

    #[test]
    fn two_batches_equal_one() {
        let acts = random_f32((20, 7, 5), 1);
        let labels = random_labels(20, 3, 1);
        let mut whole = Array3::zeros((3, 7, 5));
        class_sums(acts.view(), &labels, whole.view_mut()).unwrap();
        let mut parts = Array3::zeros((3, 7, 5));
        for range in [0..13, 13..20] {
            let batch = acts.slice(s![range.clone(), .., ..]);
            class_sums(batch, &labels[range], parts.view_mut()).unwrap();
        }
        assert_eq!(whole, parts);
    }

    #[test]
    fn errors_say_where_and_leave_the_sums_alone() {
        let acts = Array3::<f32>::ones((3, 2, 4));
        let before = random_f32((2, 2, 4), 9).mapv(f64::from);
        let mut sums = before.clone();
        let label = class_sums(acts.view(), &[0, 2, 7], sums.view_mut());
        let (index, label_found, classes) = (1, 2, 2);
        assert_eq!(label, Err(KernelError::Label { index, label: label_found, classes }));
        assert!(matches!(
            class_sums(acts.view(), &[0, 1], sums.view_mut()),
            Err(KernelError::Shape { expected: 3, found: 2, .. })
        ));
        assert_eq!(sums, before);
        for wrong in [(2, 3, 4), (2, 2, 5)] {
            let mut sums = Array3::zeros(wrong);
            assert!(class_sums(acts.view(), &[0, 1, 1], sums.view_mut()).is_err());
            assert_eq!(sums, Array3::<f64>::zeros(wrong));
        }
        let mut none = Array3::zeros((0, 2, 4));
        assert!(matches!(
            class_sums(acts.view(), &[0, 0, 0], none.view_mut()),
            Err(KernelError::Label { index: 0, label: 0, classes: 0 })
        ));
    }
}
