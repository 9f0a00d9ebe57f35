//! The CPU's kernel on the memory of flex and ndarray tensors. `None` where a tensor does not live there, or the shapes do not fit.

use burn::tensor::Tensor;
use burn_sfp_ndarray::{
    ConvGeometry, ConvShapes, Epilogue, PackedConv2d, WinogradConv2d, packed_conv2d, winograd_conv2d,
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
