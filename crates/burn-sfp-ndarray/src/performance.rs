//! Performance matrices of the filters of a layer, and their Boolean matrices and clusters in one fused pass.
//!
//! The performance matrix of filter f, `[C, C]` with row = label shown and column = output unit, is
//!
//! ```text
//! P_f[i][j] = sum_s Abar[i, f, s] * R[f, s, j]
//! ```
//!
//! with the class means `Abar` `[C, F, S]` and the readout `R` `[F, S, C]` (`docs/method.md`, section 2; Tzach et al.
//! 2025, Phys. Rev. E 111, 065307). Each filter is one product `[C, S] x [S, C]` in single precision, computed from views
//! of both arrays. The filters run in parallel, each on one thread from start to end. So the number of threads does not
//! change any bit, and the matrices of all filters are never in memory at once. A matrix of many labels is not in memory as a whole
//! either: it is computed twice, a few rows at a time, first for its largest element and then for the Boolean matrix.

use ndarray::{Array2, ArrayView3, ArrayViewMut2, Axis};
use rayon::prelude::*;

use crate::boolean::{larger, largest};
use crate::gemm::assign_product;
use crate::{BooleanMatrix, FilterClusters, KernelError, clusters, expect_readout, expect_threshold};

/// Elements of a performance matrix that are computed together: 256 KiB, a part of the second-level cache.
const BLOCK: usize = 1 << 16;
/// Fewest rows that are computed together; every product packs the readout once.
const ROWS: usize = 64;
/// Most elements of a performance matrix that is kept as a whole: 8 MiB a thread.
const WHOLE: usize = 1 << 21;
/// Bytes that all threads together may use for matrices. Where one filter needs more, one is worked on at a time.
const MEMORY: usize = 1 << 28;

/// The labels that a filter recognizes, its noise and the largest element of its performance matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct FilterPerformance {
    /// The clusters in the order they were opened, each a list of labels in ascending order; none for a
    /// silent filter.
    pub clusters: Vec<Vec<usize>>,
    /// `n_f`: the number of elements of the Boolean matrix that are 1 outside the blocks of the clusters.
    pub noise: usize,
    /// The part of [`noise`](Self::noise) in the columns of labels that belong to a cluster.
    pub column_noise: usize,
    /// The largest element of the performance matrix; NaN when any element is NaN.
    pub max: f64,
    /// The number of elements that the rounding of another device may move to the other side of the threshold:
    /// `|P_f[i][j] / max P_f - threshold| <= NEAR`, with [`NEAR`](crate::NEAR) = 1e-5. It is 0 when the largest element
    /// is not positive or not finite.
    pub near: usize,
}

/// Computes the Boolean matrix of every filter: `B_f[i][j] = P_f[i][j] / max P_f > threshold`.
///
/// * `means`: `[C, F, S]`, the mean activation of each label; any strides;
/// * `readout`: `[F, S, C]`; any strides;
/// * `threshold`: 0.3 in the paper.
///
/// The rules for the threshold and for elements that are not finite are those of
/// [`BooleanMatrix::from_performance`]. Source: `docs/method.md`, sections 2 and 3 (Tzach et al. 2025, Phys. Rev. E
/// 111, 065307).
///
/// # Errors
/// [`KernelError::Shape`] when the lengths disagree, [`KernelError::Threshold`] when the threshold is not
/// finite.
///
/// # Example
/// ```
/// use burn_sfp_ndarray::boolean_matrices;
/// use ndarray::array;
///
/// let means = array![[[1.0_f32]], [[0.5]]]; // [C = 2, F = 1, S = 1]
/// let readout = array![[[2.0_f32, -1.0]]]; // [F = 1, S = 1, C = 2]
/// let boolean = boolean_matrices(means.view(), readout.view(), 0.3)?;
/// assert_eq!(boolean.len(), 1);
/// assert!(boolean[0].get(0, 0) && boolean[0].get(1, 0)); // 2 and 1, of at most 2
/// assert!(!boolean[0].get(0, 1) && !boolean[0].get(1, 1));
/// # Ok::<(), burn_sfp_ndarray::KernelError>(())
/// ```
pub fn boolean_matrices(
    means: ArrayView3<f32>,
    readout: ArrayView3<f32>,
    threshold: f64,
) -> Result<Vec<BooleanMatrix>, KernelError> {
    check(means, readout)?;
    expect_threshold(threshold)?;
    let (classes, filters, _) = means.dim();
    Ok((0..filters)
        .into_par_iter()
        .with_min_len(filters_per_task(filters, classes, WHOLE))
        .map_init(
            || Rows::new(classes, WHOLE),
            |rows, filter| {
                let mut boolean = BooleanMatrix::empty(classes);
                rows.fill(means, readout, filter, threshold, &mut boolean);
                boolean
            },
        )
        .collect())
}

/// Computes the performance matrix `[C, C]` of one filter, for inspection or plots.
///
/// * `means`: `[C, F, S]`, the mean activation of each label; any strides;
/// * `readout`: `[F, S, C]`; any strides;
/// * `filter`: below F.
///
/// The units are those of the readout's output (logits). Source: `docs/method.md`, section 2 (Tzach et al. 2025,
/// Phys. Rev. E 111, 065307).
///
/// # Errors
/// [`KernelError::Shape`] when the lengths disagree, [`KernelError::Filter`] when there is no such filter.
///
/// # Example
/// ```
/// use burn_sfp_ndarray::performance_matrix;
/// use ndarray::array;
///
/// let means = array![[[1.0_f32, 2.0]], [[0.0, 3.0]]]; // [C = 2, F = 1, S = 2]
/// let readout = array![[[1.0_f32, -1.0], [10.0, 0.0]]]; // [F = 1, S = 2, C = 2]
/// let performance = performance_matrix(means.view(), readout.view(), 0)?;
/// assert_eq!(performance, array![[21.0, -1.0], [30.0, 0.0]]);
/// # Ok::<(), burn_sfp_ndarray::KernelError>(())
/// ```
pub fn performance_matrix(
    means: ArrayView3<f32>,
    readout: ArrayView3<f32>,
    filter: usize,
) -> Result<Array2<f32>, KernelError> {
    check(means, readout)?;
    let (classes, filters, _) = means.dim();
    if filter >= filters {
        return Err(KernelError::Filter { filter, filters });
    }
    let mut performance = Array2::zeros((classes, classes));
    if let Some(performance) = performance.as_slice_mut() {
        product(means, readout, filter, performance);
    }
    Ok(performance)
}

/// Computes clusters, noise and largest element of every filter: performance matrix, Boolean matrix and clusters in
/// one pass over the filters.
///
/// * `means`: `[C, F, S]`, the mean activation of each label; any strides;
/// * `readout`: `[F, S, C]`; any strides;
/// * `threshold`: 0.3 in the paper.
///
/// Source: `docs/method.md`, sections 2 and 3 (Tzach et al. 2025, Phys. Rev. E 111, 065307).
///
/// # Errors
/// [`KernelError::Shape`] when the lengths disagree, [`KernelError::Threshold`] when the threshold is not
/// finite.
///
/// # Example
/// ```
/// use burn_sfp_ndarray::filter_performances;
/// use ndarray::array;
///
/// let means = array![[[1.0_f32], [-1.0]], [[0.5], [-1.0]]]; // [C = 2, F = 2, S = 1]
/// let readout = array![[[2.0_f32, -1.0]], [[1.0, 1.0]]]; // [F = 2, S = 1, C = 2]
/// let filters = filter_performances(means.view(), readout.view(), 0.3)?;
/// assert_eq!(filters[0].clusters, [vec![0]]);
/// assert_eq!(filters[0].noise, 1); // label 1 drives output 0
/// assert!(filters[1].clusters.is_empty()); // all elements negative: a silent filter
/// assert_eq!(filters[1].max, -1.0);
/// # Ok::<(), burn_sfp_ndarray::KernelError>(())
/// ```
pub fn filter_performances(
    means: ArrayView3<f32>,
    readout: ArrayView3<f32>,
    threshold: f64,
) -> Result<Vec<FilterPerformance>, KernelError> {
    filter_performances_within(means, readout, threshold, WHOLE)
}

/// [`filter_performances`], whose matrices are kept as a whole up to this number of elements.
fn filter_performances_within(
    means: ArrayView3<f32>,
    readout: ArrayView3<f32>,
    threshold: f64,
    whole: usize,
) -> Result<Vec<FilterPerformance>, KernelError> {
    check(means, readout)?;
    expect_threshold(threshold)?;
    let (classes, filters, _) = means.dim();
    Ok((0..filters)
        .into_par_iter()
        .with_min_len(filters_per_task(filters, classes, whole))
        .map_init(
            || (Rows::new(classes, whole), BooleanMatrix::empty(classes)),
            |(rows, boolean), filter| {
                let near = rows.fill(means, readout, filter, threshold, boolean);
                let FilterClusters { clusters, noise, column_noise } = clusters(boolean);
                FilterPerformance { clusters, noise, column_noise, max: boolean.max(), near }
            },
        )
        .collect())
}

/// Checks that `means` `[C, F, S]` and `readout` `[F, S, C]` agree.
fn check(means: ArrayView3<f32>, readout: ArrayView3<f32>) -> Result<(), KernelError> {
    expect_readout(means.dim().into(), readout.dim().into())
}

/// Rows of a performance matrix that are computed together.
fn block_rows(classes: usize) -> usize {
    ROWS.max(BLOCK / classes.max(1)).min(classes)
}

fn block_elements(classes: usize) -> usize {
    block_rows(classes) * classes
}

/// Filters that a thread works on one after another, so that the matrices of all threads stay within [`MEMORY`].
fn filters_per_task(filters: usize, classes: usize, whole: usize) -> usize {
    let values = if classes * classes <= whole { classes * classes } else { block_elements(classes) };
    let bytes = values * size_of::<f32>() + classes * classes.div_ceil(8);
    filters.div_ceil((MEMORY / bytes.max(1)).max(1)).max(1)
}

/// Calls `each` with one block of rows of `P_f = Abar[:, f, :] R[f, :, :]` after another, and the number of its first row. `block` is
/// memory for [`block_elements`], or more.
fn in_rows(
    means: ArrayView3<f32>,
    readout: ArrayView3<f32>,
    filter: usize,
    block: &mut [f32],
    mut each: impl FnMut(usize, &[f32]),
) {
    let classes = means.dim().0;
    let means = means.index_axis_move(Axis(1), filter);
    let readout = readout.index_axis_move(Axis(0), filter);
    let rows = block_rows(classes).max(1);
    for (number, means) in means.axis_chunks_iter(Axis(0), rows).enumerate() {
        let block = &mut block[..means.nrows() * classes];
        if let Ok(into) = ArrayViewMut2::from_shape((means.nrows(), classes), &mut *block) {
            assign_product(into, means, readout);
        }
        each(number * rows, block);
    }
}

/// Memory for performance matrices: a whole one where it is small, else one block of rows.
struct Rows {
    values: Vec<f32>,
    is_whole: bool,
}

impl Rows {
    fn new(classes: usize, whole: usize) -> Self {
        let is_whole = classes * classes <= whole;
        Self { values: vec![0.0; if is_whole { classes * classes } else { block_elements(classes) }], is_whole }
    }

    /// Computes the Boolean matrix of a filter; returns the number of elements near the threshold. The blocks have the same bits
    /// however often they are computed.
    fn fill(
        &mut self,
        means: ArrayView3<f32>,
        readout: ArrayView3<f32>,
        filter: usize,
        threshold: f64,
        boolean: &mut BooleanMatrix,
    ) -> usize {
        if self.is_whole {
            let max = product(means, readout, filter, &mut self.values);
            return boolean.fill_below(&self.values, max, threshold);
        }
        let mut max = f32::NEG_INFINITY;
        in_rows(means, readout, filter, &mut self.values, |_, block| max = larger(max, largest(block)));
        let Some(cuts) = boolean.start(max, threshold) else { return 0 };
        let mut near = 0;
        in_rows(means, readout, filter, &mut self.values, |first, block| near += boolean.fill_rows(first, block, cuts));
        near
    }
}

/// Writes `P_f = Abar[:, f, :] R[f, :, :]` to a row-major buffer of C * C elements and returns the largest of them.
///
/// The rows are computed in blocks, so that they are searched for the largest element while they are in the cache.
fn product(means: ArrayView3<f32>, readout: ArrayView3<f32>, filter: usize, into: &mut [f32]) -> f32 {
    let classes = means.dim().0;
    let means = means.index_axis_move(Axis(1), filter);
    let readout = readout.index_axis_move(Axis(0), filter);
    let rows = block_rows(classes).max(1);
    let mut max = f32::NEG_INFINITY;
    for (means, into) in means.axis_chunks_iter(Axis(0), rows).zip(into.chunks_mut((rows * classes).max(1))) {
        if let Ok(into) = ArrayViewMut2::from_shape((means.nrows(), classes), &mut *into) {
            assign_product(into, means, readout);
        }
        max = larger(max, largest(into));
    }
    max
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NEAR;
    use crate::cluster::tests::reference as reference_clusters;
    use crate::testing::{in_pool, random_f32, with_layout};
    use ndarray::Array3;
    use proptest::prelude::*;

    fn reference(means: &Array3<f32>, readout: &Array3<f32>, filter: usize) -> Array2<f64> {
        let (classes, _, positions) = means.dim();
        Array2::from_shape_fn((classes, classes), |(i, j)| {
            (0..positions).map(|s| f64::from(means[[i, filter, s]]) * f64::from(readout[[filter, s, j]])).sum()
        })
    }

    proptest! {
        #[test]
        fn matches_the_definition(
            classes in 0_usize..80, filters in 0_usize..6, positions in 0_usize..12,
            layouts in (0_u8..4, 0_u8..4), threshold in 0.0_f64..0.9, seed: u64,
        ) {
            let means = random_f32((classes, filters, positions), seed);
            let readout = random_f32((filters, positions, classes), !seed);
            with_layout(&means, layouts.0, |means_view| with_layout(&readout, layouts.1, |readout_view| {
                let boolean = boolean_matrices(means_view, readout_view, threshold).unwrap();
                let fused = filter_performances(means_view, readout_view, threshold).unwrap();
                assert_eq!((boolean.len(), fused.len()), (filters, filters));
                for filter in 0..filters {
                    let expected = reference(&means, &readout, filter);
                    let found = performance_matrix(means_view, readout_view, filter).unwrap();
                    for (index, &value) in expected.indexed_iter() {
                        assert!((f64::from(found[index]) - value).abs() < 1e-5);
                    }
                    // The separate steps give the same results as the fused pass.
                    let alone = BooleanMatrix::from_performance(found.view(), threshold).unwrap();
                    assert_eq!(boolean[filter], alone);
                    let max = found.iter().map(|&p| f64::from(p)).reduce(f64::max).unwrap_or(0.0);
                    let one = |i, j| max > 0.0 && f64::from(found[[i, j]]) > threshold * max;
                    let clusters = reference_clusters(&one, classes);
                    assert_eq!(fused[filter].max, max);
                    let near = |p: &&f32| max > 0.0 && (f64::from(**p) / max - threshold).abs() <= NEAR;
                    assert_eq!(fused[filter].near, found.iter().filter(near).count());
                    assert_eq!(fused[filter].clusters, clusters.clusters);
                    assert_eq!(fused[filter].noise, clusters.noise);
                    assert_eq!(fused[filter].column_noise, clusters.column_noise);
                }
            }));
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let mut means = random_f32((100, 40, 9), 5);
        means.slice_mut(ndarray::s![.., 7, ..]).fill(0.0);
        means[[3, 11, 2]] = f32::NAN;
        let readout = random_f32((40, 9, 100), 6);
        let run = |threads| {
            in_pool(threads, || {
                let boolean = boolean_matrices(means.view(), readout.view(), 0.3).unwrap();
                let fused = filter_performances(means.view(), readout.view(), 0.3).unwrap();
                // `Debug` prints values so that they parse back to the same bits, and NaN equals NaN in print.
                (format!("{boolean:?}"), format!("{fused:?}"))
            })
        };
        let one = run(1);
        assert!(run(2) == one && run(5) == one);
    }

    #[test]
    fn matrices_in_blocks_have_the_same_bits() {
        for (classes, positions) in [(1, 1), (63, 4), (300, 1), (517, 3)] {
            let mut means = random_f32((classes, 6, positions), 7);
            means.slice_mut(ndarray::s![.., 2, ..]).fill(0.0);
            means[[classes / 2, 3, 0]] = f32::NAN;
            let readout = random_f32((6, positions, classes), 8);
            let run = |whole| {
                let found = filter_performances_within(means.view(), readout.view(), 0.3, whole).unwrap();
                format!("{found:?}")
            };
            assert!(run(0) == run(usize::MAX), "{classes} classes, {positions} positions");
        }
    }

    #[test]
    fn threads_share_a_fixed_memory() {
        assert_eq!(filters_per_task(512, 100, WHOLE), 1);
        // 2.6 MB of rows and 12.5 MB of bits each: 17 filters at a time.
        assert_eq!(filters_per_task(32, 10_000, WHOLE), 2);
        assert_eq!(filters_per_task(32, 200_000, WHOLE), 32);
        assert_eq!(filters_per_task(0, 0, WHOLE), 1);
    }

    #[test]
    fn a_filter_with_nan_is_silent_and_affects_no_other() {
        for positions in [1, 2, 5] {
            let mut means = Array3::ones((3, 3, positions));
            means[[1, 1, 0]] = f32::NAN;
            let readout = Array3::ones((3, positions, 3));
            let found = in_pool(1, || filter_performances(means.view(), readout.view(), 0.3).unwrap());
            assert!(found[1].clusters.is_empty() && found[1].max.is_nan());
            for filter in [0, 2] {
                assert_eq!(found[filter].clusters, [vec![0, 1, 2]]);
            }
        }
    }

    #[test]
    fn errors() {
        let means = Array3::zeros((4, 3, 2));
        for (wrong, expected, found) in [((2, 2, 4), 3, 2), ((3, 1, 4), 2, 1), ((3, 2, 5), 4, 5)] {
            let readout = Array3::zeros(wrong);
            let error = filter_performances(means.view(), readout.view(), 0.3).unwrap_err();
            assert!(matches!(error, KernelError::Shape { expected: e, found: f, .. } if e == expected && f == found));
            assert!(boolean_matrices(means.view(), readout.view(), 0.3).is_err());
            assert!(performance_matrix(means.view(), readout.view(), 0).is_err());
        }
        let readout = Array3::zeros((3, 2, 4));
        let filter = performance_matrix(means.view(), readout.view(), 3);
        assert_eq!(filter, Err(KernelError::Filter { filter: 3, filters: 3 }));
        let threshold = filter_performances(means.view(), readout.view(), f64::NAN);
        assert!(matches!(threshold, Err(KernelError::Threshold { .. })));
    }
}
