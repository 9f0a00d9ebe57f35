//! The CPU's sparse kernels on the memory of flex and ndarray tensors.

use burn::tensor::Tensor;
use burn_sfp_ndarray::{Epilogue, KernelError, sparse_conv2d};
#[cfg(feature = "autodiff")]
use burn_sfp_ndarray::{sparse_conv2d_grad_input, sparse_conv2d_grad_values};
use ndarray::{Array, Dimension, IntoDimension};

use super::call::{Finish, SparseConv};
use crate::tensor::{from_array, on_host};

/// Convolves; `None` where one of the tensors does not live in host memory.
pub(super) fn forward(
    x: &Tensor<4>,
    values: &Tensor<3>,
    call: &SparseConv,
    finish: &Finish,
) -> Option<Result<Tensor<4>, String>> {
    let (scale, shift, relu) = (finish.scale.as_deref(), finish.shift.as_deref(), finish.relu);
    let epilogue = Epilogue { scale, shift, relu, most: None };
    let done = on_host(x, |input| {
        on_host(values, |values| sparse_conv2d(input, values, &call.pattern, &call.geometry, epilogue))
    })??;
    Some(made(done, x))
}

#[cfg(feature = "autodiff")]
pub(super) fn grad_input(
    grad: &Tensor<4>,
    values: &Tensor<3>,
    call: &SparseConv,
    shape: [usize; 4],
) -> Option<Result<Tensor<4>, String>> {
    let done = on_host(grad, |grad| {
        on_host(values, |values| sparse_conv2d_grad_input(grad, values, &call.pattern, &call.geometry, shape))
    })??;
    Some(made(done, grad))
}

#[cfg(feature = "autodiff")]
pub(super) fn grad_values(x: &Tensor<4>, grad: &Tensor<4>, call: &SparseConv) -> Option<Result<Tensor<3>, String>> {
    let done = on_host(x, |input| {
        on_host(grad, |grad| sparse_conv2d_grad_values(input, grad, &call.pattern, &call.geometry, call.kernel))
    })??;
    Some(made(done, x))
}

/// Turns a result into a tensor on the device of another one.
fn made<const D: usize, const E: usize, Dim: Dimension>(
    done: Result<Array<f32, Dim>, KernelError>,
    beside: &Tensor<E>,
) -> Result<Tensor<D>, String>
where
    [usize; D]: IntoDimension<Dim = Dim>,
{
    done.map(|array| from_array(array, &beside.device())).map_err(|error| error.to_string())
}
