//! From mean activations and a readout to what each filter recognises.

#[cfg(feature = "wgpu")]
use burn::backend::DispatchDevice;
use burn::tensor::Device;
#[cfg(feature = "wgpu")]
use burn::tensor::{Tensor, TensorData};
use burn_sfp_ndarray::KernelError;
#[cfg(feature = "wgpu")]
use burn_sfp_ndarray::{BooleanMatrix, FilterClusters, clusters};
use ndarray::{Array3, ArrayView3};
use serde::{Deserialize, Serialize};

use crate::SfpError;
#[cfg(feature = "wgpu")]
use crate::backend::{device_error, on_cube};

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
    /// Elements of the performance matrix, over the largest one, within 1e-5 of the threshold: ties that the rounding of another
    /// device may decide the other way. 0 in files of older analyses.
    #[serde(default)]
    pub near: usize,
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
        let burn_sfp_ndarray::FilterPerformance { clusters, noise, column_noise, max, near } = found;
        Self { clusters, noise, column_noise, max, near }
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

/// The same on a device: on a CubeCL runtime (wgpu, Vulkan, CUDA) by its kernels, in single precision, a few filters at a time;
/// clusters follow on the host. Everywhere else as [`filter_performances`].
///
/// What differs between devices are ties, which [`FilterPerformance::near`] counts.
///
/// ```
/// use burn::tensor::Device;
/// use ndarray::array;
/// use burn_sfp_core::performance::device_filter_performances;
/// let (means, readout) = (array![[[2.0_f32]], [[0.5]]], array![[[1.0_f32, -1.0]]]);
/// let filters = device_filter_performances("conv", &means, &readout, 0.3, &Device::flex())?;
/// assert_eq!(filters[0].clusters, [vec![0]]);
/// # Ok::<(), burn_sfp_core::SfpError>(())
/// ```
///
/// # Errors
/// [`SfpError::Kernel`] where the shapes do not fit together, [`SfpError::Device`] where the device fails; `path` is the layer that
/// they name.
pub fn device_filter_performances(
    path: &str,
    means: &Array3<f32>,
    readout: &Array3<f32>,
    threshold: f64,
    device: &Device,
) -> Result<Vec<FilterPerformance>, SfpError> {
    performances(path, means, readout, threshold, Some(device))
}

/// [`device_filter_performances`], on the host where no device is named.
pub(crate) fn performances(
    path: &str,
    means: &Array3<f32>,
    readout: &Array3<f32>,
    threshold: f64,
    device: Option<&Device>,
) -> Result<Vec<FilterPerformance>, SfpError> {
    #[cfg(feature = "wgpu")]
    if let Some(device) = device
        && let Some(found) = on_device(path, means, readout, threshold, device)?
    {
        return Ok(found);
    }
    #[cfg(not(feature = "wgpu"))]
    let _ = device;
    let found = filter_performances(means.view(), readout.view(), threshold);
    found.map_err(|source| SfpError::Kernel { path: path.to_string(), source })
}

/// `None` where the device is no CubeCL runtime, or the shapes do not fit, which the host's kernel reports.
#[cfg(feature = "wgpu")]
fn on_device(
    path: &str,
    means: &Array3<f32>,
    readout: &Array3<f32>,
    threshold: f64,
    device: &Device,
) -> Result<Option<Vec<FilterPerformance>>, SfpError> {
    let (classes, filters, positions) = means.dim();
    if !matches!(device.as_dispatch(), DispatchDevice::Cube(_)) || readout.dim() != (filters, positions, classes) {
        return Ok(None);
    }
    let tensor = |array: &Array3<f32>| {
        let shape: [usize; 3] = array.dim().into();
        let numbers: Vec<f32> = array.iter().copied().collect();
        on_cube(&Tensor::<3>::from_data(TensorData::new(numbers, shape), device))
    };
    let (Some(means_there), Some(readout_there)) = (tensor(means), tensor(readout)) else { return Ok(None) };
    let packed = burn_sfp_wgpu::filter_performances(means_there, readout_there, threshold, None)
        .map_err(|error| device_error(path, &error))?;
    let words = classes * classes.div_ceil(32);
    let found = packed.max.iter().zip(&packed.near).enumerate().map(|(filter, (&max, &near))| {
        let boolean = BooleanMatrix::from_words(classes, &packed.words[filter * words..][..words], f64::from(max))?;
        let FilterClusters { clusters, noise, column_noise } = clusters(&boolean);
        Ok(FilterPerformance { clusters, noise, column_noise, max: f64::from(max), near: near as usize })
    });
    let found: Result<Vec<_>, KernelError> = found.collect();
    found.map(Some).map_err(|source| SfpError::Kernel { path: path.to_string(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_finds_the_same() {
        let value = |k: usize| ((k * 7919 % 104_729) as f32 / 104_729.0 - 0.4) * 2.0;
        let means = Array3::from_shape_fn((7, 19, 3), |(c, f, s)| value(c * 57 + f * 3 + s));
        let readout = Array3::from_shape_fn((19, 3, 7), |(f, s, j)| value(1000 + f * 21 + s * 7 + j));
        let host = filter_performances(means.view(), readout.view(), 0.3).unwrap();
        #[cfg(feature = "wgpu")]
        let gpu = crate::backend::tests::gpu();
        #[cfg(not(feature = "wgpu"))]
        let gpu = None;
        for device in [Some(Device::flex()), gpu].into_iter().flatten() {
            let found = device_filter_performances("layer", &means, &readout, 0.3, &device).unwrap();
            for (a, b) in host.iter().zip(&found).filter(|(a, _)| a.near == 0) {
                assert_eq!((&a.clusters, a.noise, a.column_noise), (&b.clusters, b.noise, b.column_noise));
                assert!((a.max - b.max).abs() < 1e-5);
            }
            let wrong = device_filter_performances("layer", &means, &means, 0.3, &device).unwrap_err();
            assert!(matches!(&wrong, SfpError::Kernel { path, .. } if path == "layer"));
        }
    }
}
