//! The gradient with respect to the bias: sums over samples and positions.

use ndarray::{Array1, ArrayView4};
use pulp::Arch;
use rayon::prelude::*;

use crate::batch_norm::Sum;
use crate::maps::Maps;

/// Computes the gradient of a two-dimensional convolution with respect to its bias.
///
/// * `grad`: `[N, O, H', W']`, the gradient with respect to the result; any strides (row-major is fastest);
/// * result: `[O]`, the sums over samples and positions: of a map in single precision, over the samples in double precision.
///
/// Any number of threads gives the same bits.
///
/// # Example
/// ```
/// use burn_sfp_ndarray::conv2d_grad_bias;
/// use ndarray::{Array4, array};
///
/// let grad = Array4::from_shape_fn((2, 3, 2, 2), |(_, filter, ..)| filter as f32);
/// assert_eq!(conv2d_grad_bias(grad.view()), array![0.0, 8.0, 16.0]);
/// ```
pub fn conv2d_grad_bias(grad: ArrayView4<f32>) -> Array1<f32> {
    grad_bias(Arch::new(), grad)
}

/// Computes [`conv2d_grad_bias`] with a given instruction set.
pub(super) fn grad_bias(arch: Arch, grad: ArrayView4<f32>) -> Array1<f32> {
    let (_, filters, height, width) = grad.dim();
    let mut sums = Array1::zeros(filters);
    let grad = grad.as_standard_layout();
    let (Some(values), Some(sums_of)) = (grad.as_slice(), sums.as_slice_mut()) else { return sums };
    let maps = Maps { values, channels: filters, elements: height * width };
    sums_of.par_iter_mut().enumerate().for_each(|(filter, sum)| {
        *sum = maps.of(filter).map(|map| f64::from(arch.dispatch(Sum(map)))).sum::<f64>() as f32;
    });
    sums
}
