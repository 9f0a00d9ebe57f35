//! The sparse kernel of the device that a tensor lives on: that of `burn-sfp-ndarray` on flex and ndarray, on the tensors' own memory,
//! that of `burn-sfp-wgpu` on the CubeCL runtimes.
//!
//! `None` where there is none for the device.

use burn::tensor::Tensor;

use super::call::{Finish, SparseConv};
use super::host;
use crate::bodies::{Task, ran_on_host};

/// Convolves tensors without autodiff.
pub(super) fn convolve(x: &Tensor<4>, values: &Tensor<3>, call: &SparseConv) -> Option<Tensor<4>> {
    let found = ran_on_host(Task::SparseForward, host::forward(x, values, call, &Finish::default()));
    #[cfg(feature = "wgpu")]
    let found = found.or_else(|| super::cube::forward(x, values, call));
    found.map(unwrap)
}

/// Convolves tensors without autodiff and applies something to each sum.
pub(super) fn convolve_and(x: &Tensor<4>, values: &Tensor<3>, call: &SparseConv, finish: &Finish) -> Option<Tensor<4>> {
    ran_on_host(Task::SparseForward, host::forward(x, values, call, finish)).map(unwrap)
}

/// The gradient of the input, of shape `shape`.
#[cfg(feature = "autodiff")]
pub(super) fn grad_input(
    grad: &Tensor<4>,
    values: &Tensor<3>,
    call: &SparseConv,
    shape: [usize; 4],
) -> Option<Tensor<4>> {
    let found = ran_on_host(Task::SparseGradInput, host::grad_input(grad, values, call, shape));
    #[cfg(feature = "wgpu")]
    let found = found.or_else(|| super::cube::grad_input(grad, values, call, shape));
    found.map(unwrap)
}

/// The gradient of the kernels.
#[cfg(feature = "autodiff")]
pub(super) fn grad_values(x: &Tensor<4>, grad: &Tensor<4>, call: &SparseConv) -> Option<Tensor<3>> {
    let found = ran_on_host(Task::SparseGradValues, host::grad_values(x, grad, call));
    #[cfg(feature = "wgpu")]
    let found = found.or_else(|| super::cube::grad_values(x, grad, call));
    found.map(unwrap)
}

/// A forward pass has no way to return an error; Burn's layers panic on inputs that do not fit, and so does this one.
fn unwrap<const D: usize>(done: Result<Tensor<D>, String>) -> Tensor<D> {
    done.unwrap_or_else(|message| panic!("sparse convolution: {message}"))
}
