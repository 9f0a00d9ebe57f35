//! The GPU's sparse kernels on the tensors of the CubeCL runtimes, whether Burn fuses their operations or not.

use std::sync::{Arc, Mutex, Weak};

use burn::backend::{Cube, TensorMetadata};
use burn::tensor::{DType, Tensor};
use burn_cubecl::CubeDevice;
use burn_cubecl::tensor::CubeTensor;
use burn_sfp_ndarray::KernelPattern;
use burn_sfp_wgpu::{DevicePattern, GpuError, KernelBackend, KernelError, sparse_conv2d};
#[cfg(feature = "autodiff")]
use burn_sfp_wgpu::{sparse_conv2d_grad_input, sparse_conv2d_grad_values};

use super::call::SparseConv;
use crate::bodies::{Body, Task, portable_forced, ran};
use crate::tensor::{CubePrimitive, cube_primitive};

/// Convolves; `None` where one of the tensors does not live on a CubeCL runtime.
pub(super) fn forward(x: &Tensor<4>, values: &Tensor<3>, call: &SparseConv) -> Option<Result<Tensor<4>, String>> {
    // Gradients have no portable body: they run where the forward pass ran.
    if portable_forced() {
        return None;
    }
    let shape = output_shape(x.dims(), values.dims(), call);
    Some(run(Task::SparseForward, pair(x, values)?, call, shape, |[x, values], pattern, call| {
        sparse_conv2d(x, values, None, pattern, &call.geometry)
    }))
}

#[cfg(feature = "autodiff")]
pub(super) fn grad_input(
    grad: &Tensor<4>,
    values: &Tensor<3>,
    call: &SparseConv,
    shape: [usize; 4],
) -> Option<Result<Tensor<4>, String>> {
    Some(run(Task::SparseGradInput, pair(grad, values)?, call, Ok(shape), move |[grad, values], pattern, call| {
        sparse_conv2d_grad_input(grad, values, pattern, &call.geometry, shape)
    }))
}

#[cfg(feature = "autodiff")]
pub(super) fn grad_values(x: &Tensor<4>, grad: &Tensor<4>, call: &SparseConv) -> Option<Result<Tensor<3>, String>> {
    let shape = [call.pattern.kept(), call.kernel[0], call.kernel[1]];
    Some(run(Task::SparseGradValues, pair(x, grad)?, call, Ok(shape), |[x, grad], pattern, call| {
        sparse_conv2d_grad_values(x, grad, pattern, &call.geometry, call.kernel)
    }))
}

/// Both tensors' primitives, if both live on a CubeCL runtime.
fn pair<const D: usize, const E: usize>(first: &Tensor<D>, second: &Tensor<E>) -> Option<[CubePrimitive; 2]> {
    Some([cube_primitive(first)?, cube_primitive(second)?])
}

/// The shape of the output. A fusing backend asks for it before the kernel can, so what does not fit is found here.
fn output_shape(x: [usize; 4], values: [usize; 3], call: &SparseConv) -> Result<[usize; 4], String> {
    let wrong = |what, expected, found| KernelError::Shape { what, expected, found }.to_string();
    let channels = call.pattern.inputs_per_group() * call.geometry.groups;
    if x[1] != channels {
        return Err(wrong("channels of the input", channels, x[1]));
    }
    if values[0] != call.pattern.kept() {
        return Err(wrong("kernels of the values", call.pattern.kept(), values[0]));
    }
    let size = call.geometry.output_size_on_gpu([x[2], x[3]], call.kernel).map_err(|error| error.to_string())?;
    Ok([x[0], call.pattern.outputs(), size[0], size[1]])
}

fn run<const D: usize>(
    task: Task,
    inputs: [CubePrimitive; 2],
    call: &SparseConv,
    shape: Result<[usize; D], String>,
    kernel: impl Fn([CubeTensor; 2], &DevicePattern, &SparseConv) -> Result<CubeTensor, GpuError> + Send + Sync + 'static,
) -> Result<Tensor<D>, String> {
    let shape = shape?;
    let device = TensorMetadata::device(&inputs[0]);
    let pattern = uploaded(&device, &call.pattern, call.geometry.groups).map_err(|error| error.to_string())?;
    let call = call.clone();
    let made = Cube::launch(inputs, shape.into(), DType::F32, move |inputs| {
        let made = kernel(inputs, &pattern, &call)?;
        ran(task, Body::Device);
        Ok(made)
    });
    Ok(Tensor::from_primitive::<Cube>(made.map_err(|error| error.to_string())?))
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
