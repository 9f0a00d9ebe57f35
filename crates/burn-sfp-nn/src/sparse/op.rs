//! The sparse convolution on any device, with gradients.
//!
//! Where the device has a sparse kernel (see [`dispatch`](super::dispatch)) that runs; elsewhere it is a dense convolution by Burn's
//! own operations, with the same result.

use burn::tensor::{DType, Tensor};

#[cfg(feature = "autodiff")]
use super::autodiff::convolve as tracked;
use super::call::{Finish, SparseConv};
use super::{dispatch, portable};
use crate::bodies::{Task, ran_portable};

/// Convolves `x`, `[N, I, H, W]`, with the kernels `values`, `[K, kh, kw]` in the order of the pattern, to `[N, O, H', W']`.
///
/// # Panics
/// Where the input does not fit the layer, as Burn's convolution does.
pub(crate) fn convolve(x: Tensor<4>, values: Tensor<3>, call: &SparseConv) -> Tensor<4> {
    // Without any kernel the weight is one row of zeros, for which the sparse kernels have no place.
    if call.pattern.kept() == 0 {
        return portable::convolve(x, values, call);
    }
    let other = [x.dtype(), values.dtype()].into_iter().find(|&dtype| dtype != DType::F32);
    if let Some(dtype) = other {
        let why = format_args!("its tensors are of type {dtype:?}, the kernels compute in F32");
        ran_portable(Task::SparseForward, &x.device(), why);
        return portable::convolve(x, values, call);
    }
    let found = if x.is_autodiff() || values.is_autodiff() {
        tracked(&x, &values, call)
    } else {
        dispatch::convolve(&x, &values, call)
    };
    found.unwrap_or_else(|| {
        let device = x.device();
        ran_portable(Task::SparseForward, &device, format_args!("there is none for {device:?} in this build"));
        portable::convolve(x, values, call)
    })
}

/// [`convolve`] without gradients and with something applied to each sum; `None` where the device has no kernel for it.
pub(crate) fn convolve_and(x: &Tensor<4>, values: &Tensor<3>, call: &SparseConv, finish: &Finish) -> Option<Tensor<4>> {
    if call.pattern.kept() == 0 { None } else { dispatch::convolve_and(x, values, call, finish) }
}

/// Without the feature `autodiff` Burn's own operations compute the gradients.
#[cfg(not(feature = "autodiff"))]
fn tracked(_x: &Tensor<4>, _values: &Tensor<3>, _call: &SparseConv) -> Option<Tensor<4>> {
    None
}
