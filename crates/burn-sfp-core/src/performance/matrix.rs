//! The performance matrix and the Boolean matrix of one filter, in double precision.

use burn_sfp_ndarray::KernelError;
use ndarray::{Array2, ArrayView2, ArrayView3, Axis};

/// The performance matrix `[C, C]` of one filter in double precision (docs/method.md, section 2):
///
/// ```text
/// P_f[i][j] = sum_s mean[i, f, s] * R[f, s, j]
/// ```
///
/// Row i is the label shown, column j the output unit of the readout. `means` are the mean activations of each label, `[C, F, S]`,
/// `readout` is `[F, S, C]`; the elements of either are `f32` or `f64`. [`Analysis::performance_matrix`](crate::Analysis) computes
/// it from what an analysis kept.
///
/// ```
/// use ndarray::array;
/// use burn_sfp_core::performance::{boolean_matrix, performance_matrix};
///
/// let means = array![[[1.0, 2.0]], [[0.0, 3.0]]];             // 2 labels, 1 filter, 2 positions
/// let readout = array![[[1.0_f32, -1.0], [10.0, 2.0]]];
/// let performance = performance_matrix(means.view(), readout.view(), 0)?;
/// assert_eq!(performance, array![[21.0, 3.0], [30.0, 6.0]]);
/// assert_eq!(boolean_matrix(performance.view(), 0.3), array![[true, false], [true, false]]);
/// # Ok::<(), burn_sfp_ndarray::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::Shape`] where the shapes do not fit together, [`KernelError::Filter`] where there is no such filter.
pub fn performance_matrix<M: Copy + Into<f64>, R: Copy + Into<f64>>(
    means: ArrayView3<'_, M>,
    readout: ArrayView3<'_, R>,
    filter: usize,
) -> Result<Array2<f64>, KernelError> {
    let (classes, filters, positions) = means.dim();
    let found = readout.dim();
    for (what, expected, found) in [
        ("filters of the readout", filters, found.0),
        ("positions of the readout", positions, found.1),
        ("classes of the readout", classes, found.2),
    ] {
        if expected != found {
            return Err(KernelError::Shape { what, expected, found });
        }
    }
    if filter >= filters {
        return Err(KernelError::Filter { filter, filters });
    }
    let means: Array2<f64> = means.index_axis(Axis(1), filter).mapv(Into::into);
    let readout: Array2<f64> = readout.index_axis(Axis(0), filter).mapv(Into::into);
    Ok(means.dot(&readout))
}

/// The Boolean matrix of a performance matrix (docs/method.md, section 3): `B[i][j] = P[i][j] / max(P) > threshold`.
///
/// All elements are `false` where the largest element of P is not positive or infinite, or where P holds NaN.
///
/// ```
/// use ndarray::array;
/// use burn_sfp_core::performance::boolean_matrix;
///
/// assert_eq!(boolean_matrix(array![[4.0, 1.0], [-2.0, 3.0]].view(), 0.3), array![[true, false], [false, true]]);
/// assert_eq!(boolean_matrix(array![[-1.0]].view(), 0.3), array![[false]]);
/// ```
pub fn boolean_matrix(performance: ArrayView2<'_, f64>, threshold: f64) -> Array2<bool> {
    let max = performance.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let defined = max > 0.0 && max.is_finite() && !performance.iter().any(|value| value.is_nan());
    // As the kernels compare: without a division, which would round.
    performance.mapv(|value| defined && value > threshold * max)
}
