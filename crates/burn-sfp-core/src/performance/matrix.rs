//! From mean activations and a readout to what each filter recognises.

use burn::tensor::{Device, Tensor, TensorData};
use burn_sfp_ndarray::{BooleanMatrix, KernelError, clusters};
use ndarray::{Array3, ArrayView3, Axis};
use serde::{Deserialize, Serialize};

use crate::SfpError;

/// What one filter recognises (METHOD section 3).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FilterPerformance {
    /// Clusters of labels, each ascending, in the order of their first labels.
    pub clusters: Vec<Vec<usize>>,
    /// Ones of the Boolean matrix outside the blocks of the clusters.
    pub noise: usize,
    /// The same in the columns of the filter's own labels.
    pub column_noise: usize,
    /// Largest element of the performance matrix, in units of the readout's output.
    pub max: f64,
}

impl FilterPerformance {
    /// L_f: the labels of all clusters, ascending.
    pub fn labels(&self) -> Vec<usize> {
        let mut labels: Vec<usize> = self.clusters.iter().flatten().copied().collect();
        labels.sort_unstable();
        labels
    }

    /// Whether the filter recognises no label.
    pub fn is_silent(&self) -> bool {
        self.clusters.is_empty()
    }
}

impl From<burn_sfp_ndarray::FilterPerformance> for FilterPerformance {
    fn from(found: burn_sfp_ndarray::FilterPerformance) -> Self {
        Self { clusters: found.clusters, noise: found.noise, column_noise: found.column_noise, max: found.max }
    }
}

/// Every filter's clusters, noise and largest element, on the CPU.
///
/// `means` is Abar as `[C, F, S]`, `readout` is R as `[F, S, C]`; threshold as in METHOD section 3, equation
/// `B_f[i][j] = P_f[i][j] / max P_f > threshold`.
///
/// ```
/// use ndarray::array;
/// use burn_sfp_core::performance::filter_performances;
/// let means = array![[[2.0_f32]], [[0.5]]];           // two labels, one filter, one position
/// let readout = array![[[1.0_f32, -1.0]]];
/// let filters = filter_performances(means.view(), readout.view(), 0.3)?;
/// assert_eq!(filters[0].clusters, [vec![0]]);
/// # Ok::<(), burn_sfp_ndarray::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::Shape`] where the shapes do not fit together.
pub fn filter_performances(
    means: ArrayView3<'_, f32>,
    readout: ArrayView3<'_, f32>,
    threshold: f64,
) -> Result<Vec<FilterPerformance>, KernelError> {
    Ok(burn_sfp_ndarray::filter_performances(means, readout, threshold)?.into_iter().map(Into::into).collect())
}

/// Filters whose performance matrices are on the device at a time.
const CHUNK: usize = 16;

/// The same with the products made by Burn's operations on any device, a few filters at a time; threshold and
/// clusters follow on the host.
///
/// # Errors
/// [`SfpError::Kernel`] where the shapes do not fit together, [`SfpError::Capture`] where the device cannot be read.
pub fn portable_filter_performances(
    means: &Array3<f32>,
    readout: &Array3<f32>,
    threshold: f64,
    device: &Device,
) -> Result<Vec<FilterPerformance>, SfpError> {
    let (classes, filters, positions) = means.dim();
    if readout.dim() != (filters, positions, classes) {
        let source = burn_sfp_ndarray::filter_performances(means.view(), readout.view(), threshold);
        if let Err(source) = source {
            return Err(SfpError::Kernel { path: String::new(), source });
        }
    }
    let tensor = |view: ArrayView3<'_, f32>| -> Tensor<3> {
        let (a, b, c) = view.dim();
        Tensor::from_data(TensorData::new(view.iter().copied().collect::<Vec<f32>>(), [a, b, c]), device)
    };
    let mut found = Vec::with_capacity(filters);
    for start in (0..filters).step_by(CHUNK) {
        let end = (start + CHUNK).min(filters);
        let range = ndarray::Slice::from(start..end);
        // [C, f, S] -> [f, C, S], times [f, S, C].
        let left = tensor(means.slice_axis(Axis(1), range)).swap_dims(0, 1);
        let right = tensor(readout.slice_axis(Axis(0), range));
        for matrix in crate::backend::to_array3(&left.matmul(right))?.outer_iter() {
            let boolean = BooleanMatrix::from_performance(matrix, threshold)
                .map_err(|source| SfpError::Kernel { path: String::new(), source })?;
            let parts = clusters(&boolean);
            found.push(FilterPerformance {
                clusters: parts.clusters,
                noise: parts.noise,
                column_noise: parts.column_noise,
                max: boolean.max(),
            });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(deprecated)] // burn-ndarray is supported as long as it exists
    fn both_bodies_find_the_same_clusters() {
        let value = |k: usize| ((k * 7919 % 104_729) as f32 / 104_729.0 - 0.4) * 2.0;
        let means = Array3::from_shape_fn((7, 19, 3), |(c, f, s)| value(c * 57 + f * 3 + s));
        let readout = Array3::from_shape_fn((19, 3, 7), |(f, s, j)| value(1000 + f * 21 + s * 7 + j));
        let host = filter_performances(means.view(), readout.view(), 0.3).unwrap();
        for device in [Device::flex(), Device::ndarray()] {
            let portable = portable_filter_performances(&means, &readout, 0.3, &device).unwrap();
            for (a, b) in host.iter().zip(&portable) {
                assert_eq!((&a.clusters, a.noise, a.column_noise), (&b.clusters, b.noise, b.column_noise));
                assert!((a.max - b.max).abs() < 1e-5);
            }
        }
    }
}
