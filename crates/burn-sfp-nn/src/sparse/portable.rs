//! The sparse convolution by Burn's own operations, for devices without a sparse kernel of this project: a dense convolution over
//! a weight with zeros where nothing is connected.

use burn::tensor::Tensor;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;

use super::call::SparseConv;
use super::format::WeightFormat;
use super::recorded::{is_recording, record};
use super::skipped_macs::add_skipped_macs;
use super::weight::{DenseShape, scatter};

pub(super) fn convolve(x: Tensor<4>, values: Tensor<3>, call: &SparseConv) -> Tensor<4> {
    let [height, width] = call.kernel;
    let (outputs, inputs) = (call.pattern.outputs(), call.pattern.inputs_per_group());
    let groups = call.geometry.groups;
    // Before anything of that size is made.
    let channels = x.dims()[1];
    assert_eq!(channels, inputs.saturating_mul(groups), "a sparse layer of {groups} groups of {inputs} inputs");
    let of = DenseShape { shape: [outputs, inputs, height, width], output_axis: 0 };
    let rows = values.dims()[0];
    // Copies keep Burn from working in place, so there are none unless they are asked for.
    let read = is_recording().then(|| (x.clone(), values.clone()));
    let weight = scatter(values.reshape([rows, 1, height, width]), &WeightFormat::Kernels(call.pattern.clone()), &of);
    let [top, side] = call.geometry.padding;
    let padding = [(top[0], top[1]), (side[0], side[1])];
    let options = ConvOptions::new_with_padding(call.geometry.stride, padding, call.geometry.dilation, groups);
    let out = conv2d(x, weight, None, options);
    if let Some((x, values)) = read {
        record(x, values, &out, call);
    }
    // A capture counts the whole convolution, but devices with a sparse kernel run less.
    let positions = out.dims().iter().product::<usize>() / outputs.max(1);
    let skipped = outputs * inputs - call.pattern.kept();
    add_skipped_macs(positions as u64 * skipped as u64 * (height * width) as u64);
    out
}
