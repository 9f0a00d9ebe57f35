//! Ridge readouts, solved for from sums over the samples.

use ndarray::{Array2, Array3, Axis};

use crate::SfpError;

/// Solves the normal equations of ridge regression on the centered class indicators (docs/method.md, section 1):
///
/// ```text
/// (X'X + shift I) R = X' (Y - 1 y'),    shift = strength * trace(X'X) / (F S)
/// ```
///
/// `sums` are the class sums `[C, F, S]`, from which the right-hand side follows; `gram` is the lower triangle of X'X. Returns R
/// as `[F, S, C]`.
pub(crate) fn ridge_readout(
    path: &str,
    sums: &Array3<f64>,
    counts: &[u64],
    gram: Array2<f64>,
    strength: f64,
) -> Result<Array3<f32>, SfpError> {
    let (classes, filters, positions) = sums.dim();
    let features = filters * positions;
    let total: u64 = counts.iter().sum();
    let all = sums.sum_axis(Axis(0));
    let mut rhs = Array2::<f64>::zeros((features, classes));
    for (class, &count) in counts.iter().enumerate() {
        let share = count as f64 / total as f64;
        for f in 0..filters {
            for s in 0..positions {
                rhs[[f * positions + s, class]] = sums[[class, f, s]] - share * all[[f, s]];
            }
        }
    }
    let mean_diagonal = gram.diag().sum() / features as f64;
    // A layer whose output is zero on all samples has a zero readout.
    let shift = if mean_diagonal > 0.0 { strength * mean_diagonal } else { 1.0 };
    let weights = burn_sfp_ndarray::cholesky_solve(gram, shift, rhs)
        .map_err(|error| SfpError::Readout { path: path.to_string(), message: error.to_string() })?;
    let weights = weights.mapv(|weight| weight as f32).into_shape_with_order((filters, positions, classes));
    weights.map_err(|error| SfpError::Readout { path: path.to_string(), message: error.to_string() })
}
