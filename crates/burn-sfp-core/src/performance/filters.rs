//! Clusters and noise of every filter of a layer, on the host or on a device.

#[cfg(feature = "wgpu")]
use burn::backend::DispatchDevice;
use burn::tensor::Device;
#[cfg(feature = "wgpu")]
use burn::tensor::{DType, Tensor, TensorData};
use burn_sfp_ndarray::KernelError;
#[cfg(feature = "wgpu")]
use burn_sfp_ndarray::{BooleanMatrix, FilterClusters, clusters};
use ndarray::{Array3, ArrayView3};

use super::filter::FilterPerformance;
use crate::SfpError;
#[cfg(feature = "wgpu")]
use crate::sums::device_error;
#[cfg(feature = "wgpu")]
use burn_sfp_nn::bodies::portable_forced;
use burn_sfp_nn::bodies::{Body, Task, ran};
#[cfg(feature = "wgpu")]
use burn_sfp_nn::tensor::on_cube;

/// Clusters, noise and largest element of every filter, computed on the CPU in single precision.
///
/// `means` are the mean activations of each label, `[C, F, S]`, `readout` is `[F, S, C]`; the Boolean matrix is
/// `B_f[i][j] = P_f[i][j] / max(P_f) > threshold` (docs/method.md, sections 2 and 3).
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

/// Clusters, noise and largest element of every filter, computed on a device.
///
/// On a CubeCL runtime (wgpu, Vulkan, CUDA) its kernels compute the matrices in single precision, a few filters at a time, and the
/// clusters are formed on the host. Other devices use [`filter_performances`]. Results of devices differ at most in the elements
/// that [`FilterPerformance::near`] counts. Arguments are those of [`filter_performances`].
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
/// [`SfpError::Kernel`] where the shapes do not fit together, [`SfpError::Device`] where the device fails; both name the layer
/// `path`.
pub fn device_filter_performances(
    path: &str,
    means: &Array3<f32>,
    readout: &Array3<f32>,
    threshold: f64,
    device: &Device,
) -> Result<Vec<FilterPerformance>, SfpError> {
    performances(path, means, readout, threshold, Some(device))
}

/// Computes as [`device_filter_performances`] does, on the host where no device is given.
pub(crate) fn performances(
    path: &str,
    means: &Array3<f32>,
    readout: &Array3<f32>,
    threshold: f64,
    device: Option<&Device>,
) -> Result<Vec<FilterPerformance>, SfpError> {
    #[cfg(feature = "wgpu")]
    if let Some(device) = device
        && !portable_forced()
        && let Some(found) = on_device(path, means, readout, threshold, device)?
    {
        return Ok(found);
    }
    #[cfg(not(feature = "wgpu"))]
    let _ = device;
    ran(Task::FilterPerformances, Body::Host);
    let found = filter_performances(means.view(), readout.view(), threshold);
    found.map_err(|source| SfpError::Kernel { path: path.to_string(), source })
}

/// Computes on a CubeCL runtime; `None` where the device is none, or where the shapes do not fit, which the host's kernel reports.
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
        let values: Vec<f32> = array.iter().copied().collect();
        on_cube(&Tensor::<3>::from_data(TensorData::new(values, shape), (device, DType::F32)))
    };
    let (Some(means_there), Some(readout_there)) = (tensor(means), tensor(readout)) else { return Ok(None) };
    let packed = means_there
        .and_then(|means| burn_sfp_wgpu::filter_performances(means, readout_there?, threshold, None))
        .map_err(|error| device_error(path, &error))?;
    ran(Task::FilterPerformances, Body::Device);
    let words = classes * classes.div_ceil(32);
    let found = packed.max.iter().zip(&packed.near).enumerate().map(|(filter, (&max, &near))| {
        let boolean = BooleanMatrix::from_words(classes, &packed.words[filter * words..][..words], f64::from(max))?;
        let FilterClusters { clusters, noise, column_noise } = clusters(&boolean);
        Ok(FilterPerformance {
            clusters,
            noise,
            column_noise,
            max: f64::from(max),
            near: near as usize,
            label_weight: 0.0,
        })
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
        let gpu = crate::gpu::gpu();
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
