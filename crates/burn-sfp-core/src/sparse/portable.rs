//! The sparse convolution by Burn's own operations, for devices without a kernel of this library: the kernels are put back
//! into a dense weight.

use burn::tensor::Tensor;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;

use super::call::SparseConv;
use super::weight::{DenseShape, scatter};
use super::{Form, tally};

pub(super) fn convolve(x: Tensor<4>, values: Tensor<3>, call: &SparseConv) -> Tensor<4> {
    let [height, width] = call.kernel;
    let (outputs, inputs) = (call.pattern.outputs(), call.pattern.inputs_per_group());
    let groups = call.geometry.groups;
    let of = DenseShape { shape: [outputs, inputs, height, width], output_axis: 0 };
    let rows = values.dims()[0];
    let weight = scatter(values.reshape([rows, 1, height, width]), &Form::Kernels(call.pattern.clone()), &of);
    let [top, side] = call.geometry.padding;
    let padding = [(top[0], top[1]), (side[0], side[1])];
    let options = ConvOptions::new_with_padding(call.geometry.stride, padding, call.geometry.dilation, groups);
    let out = conv2d(x, weight, None, options);
    // A capture counts all of it; what other devices run for it is less.
    let positions = out.dims().iter().product::<usize>() / outputs.max(1);
    tally::skip((positions * (outputs * inputs - call.pattern.kept()) * height * width) as u64);
    out
}
