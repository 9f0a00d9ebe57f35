//! The gradient with respect to the input, as a convolution of its own.

use ndarray::{Array4, ArrayView4, Axis, s};

use crate::{ConvGeometry, Epilogue, KernelError, expect_len};

use super::{PackedConv2d, WinogradConv2d, WinogradTile, packed_conv2d, winograd_conv2d};

/// Computes the gradient of a two-dimensional convolution with strides of 1 with respect to its input: a convolution of the
/// gradient with the weights turned by 180 degrees, inputs and outputs exchanged.
///
/// * `grad`: `[N, O, H', W']`, the gradient with respect to the result; any strides (row-major is fastest);
/// * `weights`: `[O, I, kh, kw]`, any strides;
/// * `tile`: computes by [`winograd_conv2d`] with this tile, `None` by [`packed_conv2d`];
/// * result: `[N, groups * I, H, W]`, row-major.
///
/// Any number of threads gives the same bits.
///
/// # Errors
/// [`KernelError::Geometry`] for a stride other than 1 and for padding of a whole kernel or more (see
/// [`takes_conv2d_grad_input`]), [`KernelError::Shape`] when lengths disagree, and those of [`PackedConv2d::new`],
/// [`WinogradConv2d::new`] and the convolutions.
///
/// # Example
/// ```
/// use burn_sfp_ndarray::{ConvGeometry, conv2d_grad_input};
/// use ndarray::{Array4, array};
///
/// let weights = array![[[[1.0_f32, 2.0]]]]; // y[p] = x[p] + 2 x[p + 1]
/// let dx = conv2d_grad_input(array![[[[1.0_f32, 10.0]]]].view(), weights.view(), &ConvGeometry::default(), None)?;
/// assert_eq!(dx, array![[[[1.0, 12.0, 20.0]]]]);
/// # Ok::<(), burn_sfp_ndarray::KernelError>(())
/// ```
pub fn conv2d_grad_input(
    grad: ArrayView4<f32>,
    weights: ArrayView4<f32>,
    geometry: &ConvGeometry,
    tile: Option<WinogradTile>,
) -> Result<Array4<f32>, KernelError> {
    let (outputs, inputs, height, width) = weights.dim();
    let geometry = turned(geometry, [height, width])?;
    if outputs % geometry.groups != 0 {
        return Err(KernelError::Groups { filters: outputs, groups: geometry.groups });
    }
    expect_len("filters of the gradient", outputs, grad.dim().1)?;
    // A convolution has no empty result, but the input that it came from may have been empty.
    let length = |axis: usize, result: usize, kernel: usize| {
        let [before, after] = geometry.padding[axis];
        (result + before + after).saturating_sub(kernel.saturating_sub(1) * geometry.dilation[axis])
    };
    let size = [length(0, grad.dim().2, height), length(1, grad.dim().3, width)];
    if size.contains(&0) {
        return Ok(Array4::zeros((grad.dim().0, geometry.groups * inputs, size[0], size[1])));
    }
    let weights = exchanged(weights, geometry.groups);
    match tile {
        Some(tile) => {
            winograd_conv2d(grad, &WinogradConv2d::new(weights.view(), &geometry, tile)?, Epilogue::default(), None)
        }
        None => packed_conv2d(grad, &PackedConv2d::new(weights.view(), &geometry)?, Epilogue::default(), None),
    }
}

/// Returns whether [`conv2d_grad_input`] takes kernels of these rows and columns in this geometry.
///
/// # Example
/// ```
/// use burn_sfp_ndarray::{ConvGeometry, takes_conv2d_grad_input};
///
/// assert!(takes_conv2d_grad_input([3, 3], &ConvGeometry { padding: [[1, 1], [1, 1]], ..ConvGeometry::default() }));
/// assert!(!takes_conv2d_grad_input([3, 3], &ConvGeometry { stride: [2, 2], ..ConvGeometry::default() }));
/// ```
pub fn takes_conv2d_grad_input(kernel: [usize; 2], geometry: &ConvGeometry) -> bool {
    turned(geometry, kernel).is_ok()
}

/// Returns the geometry of the convolution that computes the gradient.
fn turned(geometry: &ConvGeometry, kernel: [usize; 2]) -> Result<ConvGeometry, KernelError> {
    if geometry.stride != [1, 1] {
        return Err(KernelError::Geometry { what: "the gradient is a convolution for strides of 1" });
    }
    let mut padding = geometry.padding;
    for (axis, sides) in padding.iter_mut().enumerate() {
        let reach = kernel[axis].checked_sub(1).and_then(|steps| steps.checked_mul(geometry.dilation[axis]));
        for side in sides {
            let Some(left) = reach.and_then(|reach| reach.checked_sub(*side)) else {
                return Err(KernelError::Geometry { what: "the padding is as large as the kernel" });
            };
            *side = left;
        }
    }
    Ok(ConvGeometry { padding, ..*geometry })
}

/// Returns the weights turned by 180 degrees, inputs and outputs of each group exchanged: `[groups * I, O / groups, kh, kw]`.
fn exchanged(weights: ArrayView4<f32>, groups: usize) -> Array4<f32> {
    let (outputs, inputs, height, width) = weights.dim();
    let per_group = outputs / groups.max(1);
    let mut exchanged = Array4::zeros((groups * inputs, per_group, height, width));
    for group in 0..groups {
        let from = weights.slice(s![group * per_group..(group + 1) * per_group, .., ..;-1, ..;-1]);
        let mut to = exchanged.slice_mut(s![group * inputs..(group + 1) * inputs, .., .., ..]);
        // By inputs, so that the elements written lie side by side.
        for (mut to, from) in to.axis_iter_mut(Axis(0)).zip(from.axis_iter(Axis(1))) {
            to.assign(&from);
        }
    }
    exchanged
}
