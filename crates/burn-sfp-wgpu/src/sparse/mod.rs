//! Convolutions of which most kernels are gone.
//!
//! A kernel-sparse convolution leads from input channel i to output channel o by a kernel of kh times kw numbers
//! only where the pattern says so (the connections that AFCC keeps, METHOD 4):
//!
//! ```text
//! y[n, o] = bias[o] + sum over the kernels k of o:  values[k] * x[n, input of k]      (* the convolution of maps)
//! ```
//!
//! A thread computes a tile of one output map (all of it, where the map is small) in registers, so that every
//! number it reads of the input reaches up to kh * kw outputs and every weight the whole tile; threads of a cube
//! share the output and so its weights, and lie along samples and tiles. Where those are few, several threads
//! share out a row of kernels and add up in a fixed order. The gradient by the input is the same gather over the
//! transposed pattern; the gradient by the values adds up for each kernel by itself. No atomic operations.

mod gather;
mod geometry;
mod pattern;
mod plan;
#[cfg(test)]
mod tests;
mod values;

use burn_cubecl::tensor::CubeTensor;

use crate::GpuError;
use crate::device::{checked, contiguous, float_type, guarded};
use crate::error::{dims, expect_len, same_device};
use gather::Gather;
pub use geometry::ConvGeometry;
pub use pattern::DevicePattern;
use plan::Plan;
use values::ValuesGradient;

/// The convolution of `x` with the kernels of the pattern.
///
/// * `x`: `[N, I, H, W]` in f32, f16 or bf16 (where the device reads it); any strides (row-major is fastest);
/// * `values`: `[K, kh, kw]` of the same type, the kernels in the order of the pattern;
/// * `bias`: `[O]` of the same type, or `None` for zeros.
///
/// Gives `[N, O, H', W']` of the same type, row-major; sums are in f32. An output without kernels is its bias.
///
/// # Errors
/// [`GpuError::Shape`], [`GpuError::Geometry`], [`GpuError::Dtype`] and [`GpuError::OtherDevice`] for wrong
/// arguments, before anything is launched; [`GpuError::OutOfMemory`] and [`GpuError::Device`] when the runtime
/// refuses an allocation or the kernel. The kernel runs later: a device lost while it runs shows at the next read.
///
/// # Example
/// ```
/// use burn::tensor::Tensor;
/// use burn_cubecl::CubeBackend;
/// use burn_sfp_wgpu::{ConvGeometry, DevicePattern, sparse_conv2d};
///
/// # let Some(device) = std::panic::catch_unwind(|| {
/// #     let device = burn::tensor::Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
/// #     let _ = Tensor::<1>::zeros([1], &device).into_data();
/// #     device
/// # }).ok() else { println!("skipped: no wgpu adapter"); return Ok(()) };
/// // One sample of two channels, [1, 2, 1, 3]; one output that sees the second channel by a kernel of [1, 2].
/// let x = Tensor::<4>::from_data([[[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]]], &device);
/// let values = Tensor::<3>::from_data([[[1.0, 10.0]]], &device);
/// let x = x.try_into_primitive::<CubeBackend>().unwrap();
/// let values = values.try_into_primitive::<CubeBackend>().unwrap();
/// let pattern = DevicePattern::upload(&x.device, 2, 1, &[0, 1], &[1])?;
/// let geometry = ConvGeometry { stride: [1, 1], padding: [[0, 0]; 2], dilation: [1, 1], groups: 1 };
/// let y = sparse_conv2d(x, values, None, &pattern, &geometry)?;
/// let y = Tensor::<4>::from_primitive::<CubeBackend>(y);
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [54.0, 65.0]);
/// # Ok::<(), burn_sfp_wgpu::GpuError>(())
/// ```
pub fn sparse_conv2d(
    x: CubeTensor,
    values: CubeTensor,
    bias: Option<CubeTensor>,
    pattern: &DevicePattern,
    geometry: &ConvGeometry,
) -> Result<CubeTensor, GpuError> {
    forward(x, values, bias, pattern, geometry, |gather| gather.run())
}

/// [`sparse_conv2d`] with a choice of kernel.
fn forward(
    x: CubeTensor,
    values: CubeTensor,
    bias: Option<CubeTensor>,
    pattern: &DevicePattern,
    geometry: &ConvGeometry,
    run: impl FnOnce(Gather) -> Result<CubeTensor, GpuError>,
) -> Result<CubeTensor, GpuError> {
    let from: [usize; 4] = dims("axes of the input", &x)?;
    let kernel = check_values(&x, &values, pattern)?;
    let output = check(&x, from, pattern, geometry, kernel)?;
    if let Some(bias) = &bias {
        let [length] = dims("axes of the bias", bias)?;
        expect_len("numbers of the bias", pattern.outputs(), length)?;
        same_type("bias", &x, bias)?;
    }
    let element = float_type("input", &x)?;
    guarded(|| {
        checked(run(Gather {
            source: contiguous(x),
            values: contiguous(values),
            bias: bias.map(contiguous),
            lists: &pattern.rows,
            places: None,
            kernels: pattern.kernels(),
            from,
            to: [from[0], pattern.outputs(), output[0], output[1]],
            plan: plan(geometry, kernel, false),
            element,
        })?)
    })
}

/// The gradient of [`sparse_conv2d`] by its input.
///
/// * `grad`: `[N, O, H', W']` in f32, f16 or bf16, the output's gradient; any strides;
/// * `values`: `[K, kh, kw]` of the same type;
/// * `input_shape`: `[N, I, H, W]`.
///
/// Gives `[N, I, H, W]` of the same type, row-major; sums are in f32.
///
/// # Errors
/// As [`sparse_conv2d`].
///
/// # Example
/// ```
/// use burn::tensor::Tensor;
/// use burn_cubecl::CubeBackend;
/// use burn_sfp_wgpu::{ConvGeometry, DevicePattern, sparse_conv2d_grad_input};
///
/// # let Some(device) = std::panic::catch_unwind(|| {
/// #     let device = burn::tensor::Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
/// #     let _ = Tensor::<1>::zeros([1], &device).into_data();
/// #     device
/// # }).ok() else { println!("skipped: no wgpu adapter"); return Ok(()) };
/// let grad = Tensor::<4>::from_data([[[[1.0, 2.0]]]], &device);
/// let values = Tensor::<3>::from_data([[[1.0, 10.0]]], &device);
/// let grad = grad.try_into_primitive::<CubeBackend>().unwrap();
/// let values = values.try_into_primitive::<CubeBackend>().unwrap();
/// let pattern = DevicePattern::upload(&grad.device, 2, 1, &[0, 1], &[1])?;
/// let geometry = ConvGeometry { stride: [1, 1], padding: [[0, 0]; 2], dilation: [1, 1], groups: 1 };
/// let x = sparse_conv2d_grad_input(grad, values, &pattern, &geometry, [1, 2, 1, 3])?;
/// let x = Tensor::<4>::from_primitive::<CubeBackend>(x);
/// assert_eq!(x.into_data().try_to_vec::<f32>().unwrap(), [0.0, 0.0, 0.0, 1.0, 12.0, 20.0]);
/// # Ok::<(), burn_sfp_wgpu::GpuError>(())
/// ```
pub fn sparse_conv2d_grad_input(
    grad: CubeTensor,
    values: CubeTensor,
    pattern: &DevicePattern,
    geometry: &ConvGeometry,
    input_shape: [usize; 4],
) -> Result<CubeTensor, GpuError> {
    backward(grad, values, pattern, geometry, input_shape, |gather| gather.run())
}

/// [`sparse_conv2d_grad_input`] with a choice of kernel.
fn backward(
    grad: CubeTensor,
    values: CubeTensor,
    pattern: &DevicePattern,
    geometry: &ConvGeometry,
    input_shape: [usize; 4],
    run: impl FnOnce(Gather) -> Result<CubeTensor, GpuError>,
) -> Result<CubeTensor, GpuError> {
    let from: [usize; 4] = dims("axes of the gradient", &grad)?;
    let kernel = check_values(&grad, &values, pattern)?;
    let output = check(&grad, input_shape, pattern, geometry, kernel)?;
    check_grad(from, input_shape[0], pattern, output)?;
    let element = float_type("gradient", &grad)?;
    guarded(|| {
        checked(run(Gather {
            source: contiguous(grad),
            values: contiguous(values),
            bias: None,
            lists: &pattern.columns,
            places: Some(&pattern.places),
            kernels: pattern.kernels(),
            from,
            to: input_shape,
            plan: plan(geometry, kernel, true),
            element,
        })?)
    })
}

/// The gradient of [`sparse_conv2d`] by its values.
///
/// * `x`: `[N, I, H, W]` in f32, f16 or bf16; any strides;
/// * `grad`: `[N, O, H', W']` of the same type, the output's gradient; any strides;
/// * `kernel`: kh and kw.
///
/// Gives `[K, kh, kw]` of the same type, row-major, in the order of the pattern; sums are in f32.
///
/// # Errors
/// As [`sparse_conv2d`].
///
/// # Example
/// ```
/// use burn::tensor::Tensor;
/// use burn_cubecl::CubeBackend;
/// use burn_sfp_wgpu::{ConvGeometry, DevicePattern, sparse_conv2d_grad_values};
///
/// # let Some(device) = std::panic::catch_unwind(|| {
/// #     let device = burn::tensor::Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
/// #     let _ = Tensor::<1>::zeros([1], &device).into_data();
/// #     device
/// # }).ok() else { println!("skipped: no wgpu adapter"); return Ok(()) };
/// let x = Tensor::<4>::from_data([[[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]]], &device);
/// let grad = Tensor::<4>::from_data([[[[1.0, 10.0]]]], &device);
/// let x = x.try_into_primitive::<CubeBackend>().unwrap();
/// let grad = grad.try_into_primitive::<CubeBackend>().unwrap();
/// let pattern = DevicePattern::upload(&x.device, 2, 1, &[0, 1], &[1])?;
/// let geometry = ConvGeometry { stride: [1, 1], padding: [[0, 0]; 2], dilation: [1, 1], groups: 1 };
/// let values = sparse_conv2d_grad_values(x, grad, &pattern, &geometry, [1, 2])?;
/// let values = Tensor::<3>::from_primitive::<CubeBackend>(values);
/// assert_eq!(values.into_data().try_to_vec::<f32>().unwrap(), [54.0, 65.0]);
/// # Ok::<(), burn_sfp_wgpu::GpuError>(())
/// ```
pub fn sparse_conv2d_grad_values(
    x: CubeTensor,
    grad: CubeTensor,
    pattern: &DevicePattern,
    geometry: &ConvGeometry,
    kernel: [usize; 2],
) -> Result<CubeTensor, GpuError> {
    values_gradient(x, grad, pattern, geometry, kernel, |gradient| gradient.run())
}

/// [`sparse_conv2d_grad_values`] with a choice of kernel.
fn values_gradient(
    x: CubeTensor,
    grad: CubeTensor,
    pattern: &DevicePattern,
    geometry: &ConvGeometry,
    kernel: [usize; 2],
    run: impl FnOnce(ValuesGradient) -> Result<CubeTensor, GpuError>,
) -> Result<CubeTensor, GpuError> {
    let from: [usize; 4] = dims("axes of the input", &x)?;
    let to: [usize; 4] = dims("axes of the gradient", &grad)?;
    let output = check(&x, from, pattern, geometry, kernel)?;
    check_grad(to, from[0], pattern, output)?;
    same_type("gradient", &x, &grad)?;
    let element = float_type("input", &x)?;
    guarded(|| {
        let plan = plan(geometry, kernel, false);
        checked(run(ValuesGradient { x: contiguous(x), grad: contiguous(grad), pattern, from, to, plan, element })?)
    })
}

fn plan(geometry: &ConvGeometry, kernel: [usize; 2], transposed: bool) -> Plan {
    Plan {
        kernel,
        stride: geometry.stride,
        dilation: geometry.dilation,
        padding: [geometry.padding[0][0], geometry.padding[1][0]],
        transposed,
        tile: [1, 1],
        whole: None,
    }
}

/// Device, channels and geometry; gives height and width of the output.
fn check(
    first: &CubeTensor,
    input: [usize; 4],
    pattern: &DevicePattern,
    geometry: &ConvGeometry,
    kernel: [usize; 2],
) -> Result<[usize; 2], GpuError> {
    if first.device != pattern.device {
        let (expected, found) = (format!("{:?}", first.device), format!("{:?}", pattern.device));
        return Err(GpuError::OtherDevice { what: "pattern", expected, found });
    }
    expect_len("groups of the pattern", geometry.groups, pattern.groups())?;
    expect_len("channels of the input", pattern.inputs(), input[1])?;
    geometry.output_size([input[2], input[3]], kernel)
}

/// One kernel for each of the pattern's, of the first tensor's type; gives their size.
fn check_values(first: &CubeTensor, values: &CubeTensor, pattern: &DevicePattern) -> Result<[usize; 2], GpuError> {
    let [kernels, height, width] = dims("axes of the values", values)?;
    expect_len("kernels of the values", pattern.kernels(), kernels)?;
    same_type("values", first, values)?;
    Ok([height, width])
}

/// The gradient has the shape of the output.
fn check_grad(found: [usize; 4], samples: usize, pattern: &DevicePattern, size: [usize; 2]) -> Result<(), GpuError> {
    expect_len("samples of the gradient", samples, found[0])?;
    expect_len("channels of the gradient", pattern.outputs(), found[1])?;
    expect_len("height of the gradient", size[0], found[2])?;
    expect_len("width of the gradient", size[1], found[3])
}

fn same_type(what: &'static str, first: &CubeTensor, second: &CubeTensor) -> Result<(), GpuError> {
    same_device(what, first, second)?;
    if first.dtype == second.dtype { Ok(()) } else { Err(GpuError::Dtype { what, found: second.dtype }) }
}
