//! The GPU's sparse kernels on the tensors of the CubeCL runtimes.

use std::sync::{Arc, Mutex, Weak};

use burn::tensor::Tensor;
use burn_cubecl::CubeDevice;
use burn_cubecl::tensor::CubeTensor;
use burn_sfp_ndarray::KernelPattern;
use burn_sfp_wgpu::{ConvGeometry, DevicePattern, GpuError, sparse_conv2d};
#[cfg(feature = "autodiff")]
use burn_sfp_wgpu::{sparse_conv2d_grad_input, sparse_conv2d_grad_values};

use super::call::SparseConv;
use crate::tensor::{from_cube, on_cube};

/// Convolves; `None` where one of the tensors does not live on a CubeCL runtime, or is hidden by a fusing backend.
pub(super) fn forward(x: &Tensor<4>, values: &Tensor<3>, call: &SparseConv) -> Option<Result<Tensor<4>, String>> {
    let (x, values) = (on_cube(x)?, on_cube(values)?);
    Some(run(&x.device.clone(), call, |pattern, geometry| sparse_conv2d(x, values, None, pattern, geometry)))
}

#[cfg(feature = "autodiff")]
pub(super) fn grad_input(
    grad: &Tensor<4>,
    values: &Tensor<3>,
    call: &SparseConv,
    shape: [usize; 4],
) -> Option<Result<Tensor<4>, String>> {
    let (grad, values) = (on_cube(grad)?, on_cube(values)?);
    Some(run(&grad.device.clone(), call, |pattern, geometry| {
        sparse_conv2d_grad_input(grad, values, pattern, geometry, shape)
    }))
}

#[cfg(feature = "autodiff")]
pub(super) fn grad_values(x: &Tensor<4>, grad: &Tensor<4>, call: &SparseConv) -> Option<Result<Tensor<3>, String>> {
    let (x, grad) = (on_cube(x)?, on_cube(grad)?);
    Some(run(&x.device.clone(), call, |pattern, geometry| {
        sparse_conv2d_grad_values(x, grad, pattern, geometry, call.kernel)
    }))
}

fn run<const D: usize>(
    device: &CubeDevice,
    call: &SparseConv,
    kernel: impl FnOnce(&DevicePattern, &ConvGeometry) -> Result<CubeTensor, GpuError>,
) -> Result<Tensor<D>, String> {
    let pattern = uploaded(device, &call.pattern, call.geometry.groups).map_err(|error| error.to_string())?;
    let done = kernel(&pattern, &call.geometry).map_err(|error| error.to_string())?;
    from_cube(done).ok_or_else(|| "the result cannot be handed back to Burn".into())
}

/// Patterns uploaded to devices, kept as long as a layer holds them.
static UPLOADED: Mutex<Vec<Upload>> = Mutex::new(Vec::new());

struct Upload {
    of: Weak<KernelPattern>,
    groups: usize,
    device: CubeDevice,
    pattern: Arc<DevicePattern>,
}

fn uploaded(device: &CubeDevice, of: &Arc<KernelPattern>, groups: usize) -> Result<Arc<DevicePattern>, GpuError> {
    let mut all = UPLOADED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let known = all
        .iter()
        .find(|upload| upload.of.as_ptr() == Arc::as_ptr(of) && upload.groups == groups && upload.device == *device);
    if let Some(upload) = known {
        return Ok(upload.pattern.clone());
    }
    all.retain(|upload| upload.of.strong_count() > 0);
    let pattern = Arc::new(DevicePattern::upload(device, of, groups)?);
    all.push(Upload { of: Arc::downgrade(of), groups, device: device.clone(), pattern: pattern.clone() });
    Ok(pattern)
}
