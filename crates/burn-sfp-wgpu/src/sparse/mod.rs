//! Sparse convolutions, which compute only the kernels that a pattern keeps.
//!
//! Kernel k, of kh times kw elements, connects one input channel with one output channel (`docs/method.md`, section 4):
//!
//! ```text
//! y[n, o] = bias[o] + sum over the kernels k of o:  values[k] * x[n, input of k]      (* is the convolution of maps)
//! ```
//!
//! A thread computes a tile of one output map (all of a small map) in registers. So every input element that it reads
//! serves up to kh * kw outputs, and every weight serves the whole tile. The threads of a cube compute the same output
//! channel, whose weights they share, for neighbouring samples and tiles. Where these are few, several threads divide a
//! row of kernels among themselves and add up their sums in a fixed order. The gradient by the input is the same gather over
//! the transposed pattern; the gradient by the values computes a sum per kernel and tap. There are no atomic operations.

mod gather;
mod gather_kernel;
mod pattern;
mod plan;
#[cfg(test)]
mod tests;
mod tile;
mod values;
mod values_kernel;

use burn_cubecl::tensor::CubeTensor;
use burn_sfp_kernels::{ConvGeometry, expect_gradient, expect_len};

pub use self::pattern::DevicePattern;

use self::gather::Gather;
use self::plan::Plan;
use self::values::ValuesGradient;
use crate::GpuError;
use crate::device::{RowMajor, checked, float_type, guarded};
use crate::error::{dims, same_type};

/// Computes the convolution of `x` with the kernels of the pattern.
///
/// * `x`: `[N, I, H, W]` in f32, f16 or bf16 (if the device supports it); any strides (row-major is fastest);
/// * `values`: `[K, kh, kw]` of the same type, the kernels in the order of the pattern;
/// * `bias`: `[O]` of the same type, or `None` for zeros;
/// * result: `[N, O, H', W']` of the same type, row-major; H' and W' are [`ConvGeometry::output_size`].
///
/// Sums are in f32. An output channel without kernels holds its bias.
///
/// # Errors
/// [`GpuError::Argument`], [`GpuError::Dtype`] and [`GpuError::OtherDevice`] for wrong arguments, before anything is
/// launched; [`GpuError::OutOfMemory`] and [`GpuError::Device`] when the runtime rejects an allocation or the kernel.
/// The kernel runs later: a device that is lost while it runs is reported at the next read.
///
/// # Example
/// ```
/// use burn::tensor::Tensor;
/// use burn_cubecl::CubeBackend;
/// use burn_sfp_wgpu::{ConvGeometry, DevicePattern, KernelPattern, sparse_conv2d};
///
/// # let Some(device) = std::panic::catch_unwind(|| {
/// #     let device = burn::tensor::Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
/// #     let _ = Tensor::<1>::zeros([1], &device).into_data();
/// #     device
/// # }).ok() else { println!("skipped: no wgpu adapter"); return Ok(()) };
/// // One sample of two channels, [1, 2, 1, 3]; one output, which reads the second channel with a kernel of [1, 2].
/// let x = Tensor::<4>::from_data([[[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]]], &device);
/// let values = Tensor::<3>::from_data([[[1.0, 10.0]]], &device);
/// let x = x.try_into_primitive::<CubeBackend>().unwrap();
/// let values = values.try_into_primitive::<CubeBackend>().unwrap();
/// let pattern = KernelPattern::new(2, vec![0, 1], vec![1])?;
/// let pattern = DevicePattern::upload(&x.device, &pattern, 1)?;
/// let geometry = ConvGeometry::default();
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

/// Checks the arguments of [`sparse_conv2d`] and runs its gather.
fn forward(
    x: CubeTensor,
    values: CubeTensor,
    bias: Option<CubeTensor>,
    pattern: &DevicePattern,
    geometry: &ConvGeometry,
    run: impl FnOnce(Gather) -> Result<RowMajor, GpuError>,
) -> Result<CubeTensor, GpuError> {
    let from: [usize; 4] = dims("axes of the input", &x)?;
    let kernel = kernel_of(&x, &values, pattern)?;
    let to = output_shape(&x, from, pattern, geometry, kernel)?;
    if let Some(bias) = &bias {
        let [length] = dims("axes of the bias", bias)?;
        expect_len("elements of the bias, one per output channel", pattern.outputs(), length)?;
        same_type("bias", &x, bias)?;
    }
    let element = float_type("input", &x)?;
    guarded(|| {
        checked(run(Gather {
            source: RowMajor::new(x)?,
            values: RowMajor::new(values)?,
            bias: bias.map(RowMajor::new).transpose()?,
            lists: &pattern.rows,
            places: None,
            kernels: pattern.kernels(),
            from,
            to,
            plan: plan(geometry, kernel, false),
            element,
        })?)
    })
}

/// Computes the gradient of [`sparse_conv2d`] with respect to its input.
///
/// * `grad`: `[N, O, H', W']` in f32, f16 or bf16, the gradient with respect to the output; any strides;
/// * `values`: `[K, kh, kw]` of the same type, the kernels in the order of the pattern;
/// * `input_shape`: `[N, I, H, W]`;
/// * result: `[N, I, H, W]` of the same type, row-major; sums are in f32.
///
/// # Errors
/// Those of [`sparse_conv2d`].
///
/// # Example
/// ```
/// use burn::tensor::Tensor;
/// use burn_cubecl::CubeBackend;
/// use burn_sfp_wgpu::{ConvGeometry, DevicePattern, KernelPattern, sparse_conv2d_grad_input};
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
/// let pattern = KernelPattern::new(2, vec![0, 1], vec![1])?;
/// let pattern = DevicePattern::upload(&grad.device, &pattern, 1)?;
/// let geometry = ConvGeometry::default();
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

/// Checks the arguments of [`sparse_conv2d_grad_input`] and runs its gather.
fn backward(
    grad: CubeTensor,
    values: CubeTensor,
    pattern: &DevicePattern,
    geometry: &ConvGeometry,
    input_shape: [usize; 4],
    run: impl FnOnce(Gather) -> Result<RowMajor, GpuError>,
) -> Result<CubeTensor, GpuError> {
    let from: [usize; 4] = dims("axes of the gradient", &grad)?;
    let kernel = kernel_of(&grad, &values, pattern)?;
    expect_gradient(output_shape(&grad, input_shape, pattern, geometry, kernel)?, from)?;
    let element = float_type("gradient", &grad)?;
    guarded(|| {
        checked(run(Gather {
            source: RowMajor::new(grad)?,
            values: RowMajor::new(values)?,
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

/// Computes the gradient of [`sparse_conv2d`] with respect to its values.
///
/// * `x`: `[N, I, H, W]` in f32, f16 or bf16; any strides;
/// * `grad`: `[N, O, H', W']` of the same type, the gradient with respect to the output; any strides;
/// * `kernel`: `[kh, kw]`;
/// * result: `[K, kh, kw]` of the same type, row-major, in the order of the pattern; sums are in f32.
///
/// # Errors
/// Those of [`sparse_conv2d`].
///
/// # Example
/// ```
/// use burn::tensor::Tensor;
/// use burn_cubecl::CubeBackend;
/// use burn_sfp_wgpu::{ConvGeometry, DevicePattern, KernelPattern, sparse_conv2d_grad_values};
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
/// let pattern = KernelPattern::new(2, vec![0, 1], vec![1])?;
/// let pattern = DevicePattern::upload(&x.device, &pattern, 1)?;
/// let geometry = ConvGeometry::default();
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

/// Checks the arguments of [`sparse_conv2d_grad_values`] and runs it.
fn values_gradient(
    x: CubeTensor,
    grad: CubeTensor,
    pattern: &DevicePattern,
    geometry: &ConvGeometry,
    kernel: [usize; 2],
    run: impl FnOnce(ValuesGradient) -> Result<RowMajor, GpuError>,
) -> Result<CubeTensor, GpuError> {
    let from: [usize; 4] = dims("axes of the input", &x)?;
    let to: [usize; 4] = dims("axes of the gradient", &grad)?;
    expect_gradient(output_shape(&x, from, pattern, geometry, kernel)?, to)?;
    same_type("gradient", &x, &grad)?;
    let element = float_type("input", &x)?;
    guarded(|| {
        let plan = plan(geometry, kernel, false);
        let (x, grad) = (RowMajor::new(x)?, RowMajor::new(grad)?);
        checked(run(ValuesGradient { x, grad, pattern, from, to, plan, element })?)
    })
}

/// Returns the plan of a geometry, with one output per tile.
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

/// Checks device, channels and geometry of a convolution, and returns the shape of its output.
fn output_shape(
    first: &CubeTensor,
    input: [usize; 4],
    pattern: &DevicePattern,
    geometry: &ConvGeometry,
    kernel: [usize; 2],
) -> Result<[usize; 4], GpuError> {
    if first.device != pattern.device {
        let (expected, found) = (format!("{:?}", first.device), format!("{:?}", pattern.device));
        return Err(GpuError::OtherDevice { what: "pattern", expected, found });
    }
    expect_len("groups of the pattern", geometry.groups, pattern.groups())?;
    expect_len("channels of the input", pattern.inputs(), input[1])?;
    let [height, width] = geometry.output_size_on_gpu([input[2], input[3]], kernel)?;
    Ok([input[0], pattern.outputs(), height, width])
}

/// Checks that there is one kernel for each of the pattern, of the first tensor's type; returns rows and columns of a
/// kernel.
fn kernel_of(first: &CubeTensor, values: &CubeTensor, pattern: &DevicePattern) -> Result<[usize; 2], GpuError> {
    let [kernels, height, width] = dims("axes of the values", values)?;
    expect_len("kernels of the values", pattern.kernels(), kernels)?;
    same_type("values", first, values)?;
    Ok([height, width])
}
