//! The CPU's kernels on the memory of flex and ndarray tensors. `None` where a tensor does not live there, or the shapes do not fit.

use burn::tensor::Tensor;
use burn_sfp_ndarray::{
    ConvGeometry, ConvShapes, Epilogue, PackedConv2d, WinogradConv2d, conv2d_grad_bias, conv2d_grad_input,
    conv2d_grad_weights, packed_conv2d, takes_conv2d_grad_input, winograd_conv2d, winograd_conv2d_grad_weights,
};

use crate::tensor::{from_array, on_host};

/// Convolves.
pub(super) fn forward(
    x: &Tensor<4>,
    weight: &Tensor<4>,
    bias: Option<&Tensor<1>>,
    geometry: &ConvGeometry,
) -> Option<Tensor<4>> {
    let ([samples, _, height, width], [outputs, inputs, kh, kw]) = (x.dims(), weight.dims());
    let kernel = [kh, kw];
    let size = geometry.output_size([height, width], kernel).ok()?;
    let shift = match bias {
        Some(bias) => Some(on_host(bias, |bias| bias.to_vec())?),
        None => None,
    };
    let shapes = ConvShapes { kernel, inputs, outputs, size, samples };
    let epilogue = Epilogue { shift: shift.as_deref(), ..Epilogue::default() };
    let done = on_host(x, |x| {
        on_host(weight, |weight| match shapes.tile(geometry) {
            Some(tile) => winograd_conv2d(x, &WinogradConv2d::new(weight, geometry, tile)?, epilogue, None),
            None => packed_conv2d(x, &PackedConv2d::new(weight, geometry)?, epilogue, None),
        })
    })??;
    Some(from_array(done.ok()?, &x.device()))
}

/// The gradient by the input, for strides of 1.
pub(super) fn grad_input(grad: &Tensor<4>, weight: &Tensor<4>, geometry: &ConvGeometry) -> Option<Tensor<4>> {
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
pub(super) fn grad_weight(
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
pub(super) fn grad_bias(grad: &Tensor<4>) -> Option<Tensor<1>> {
    Some(from_array(on_host(grad, conv2d_grad_bias)?, &grad.device()))
}
