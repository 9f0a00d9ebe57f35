//! The CPU's kernels of the gradients, on the memory of flex and ndarray tensors. `None` where a tensor does not live there, or there is no kernel.

use burn::tensor::Tensor;
use burn_sfp_ndarray::{
    ConvGeometry, ConvShapes, conv2d_grad_bias, conv2d_grad_input, conv2d_grad_weights, takes_conv2d_grad_input,
    winograd_conv2d_grad_weights,
};

use crate::tensor::{from_array, on_host};

/// The gradient by the input, for strides of 1.
pub(super) fn by_input(grad: &Tensor<4>, weight: &Tensor<4>, geometry: &ConvGeometry) -> Option<Tensor<4>> {
    let ([samples, _, height, width], [outputs, inputs, kh, kw]) = (grad.dims(), weight.dims());
    let kernel = [kh, kw];
    if !takes_conv2d_grad_input(kernel, geometry) {
        return None;
    }
    // Of about the size of what is computed.
    let size = [height, width];
    let tile = ConvShapes { kernel, inputs: outputs, outputs: inputs, size, samples }.tile(geometry);
    let done = on_host(grad, |grad| on_host(weight, |weight| conv2d_grad_input(grad, weight, geometry, tile)))??;
    Some(from_array(done.ok()?, &grad.device()))
}

/// The gradient by the weight, whose kernels have these rows and columns.
pub(super) fn by_weight(
    x: &Tensor<4>,
    grad: &Tensor<4>,
    geometry: &ConvGeometry,
    kernel: [usize; 2],
) -> Option<Tensor<4>> {
    let ([samples, inputs, ..], [_, outputs, height, width]) = (x.dims(), grad.dims());
    let size = [height, width];
    let tile = ConvShapes { kernel, inputs, outputs, size, samples }.tile_of_grad_weights(geometry);
    let done = on_host(x, |x| {
        on_host(grad, |grad| match tile {
            Some(tile) => winograd_conv2d_grad_weights(x, grad, geometry, tile),
            None => conv2d_grad_weights(x, grad, geometry, kernel),
        })
    })??;
    Some(from_array(done.ok()?, &x.device()))
}

/// The gradient by the bias.
pub(super) fn by_bias(grad: &Tensor<4>) -> Option<Tensor<1>> {
    Some(from_array(on_host(grad, conv2d_grad_bias)?, &grad.device()))
}
