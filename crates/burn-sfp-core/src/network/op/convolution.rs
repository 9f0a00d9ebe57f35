//! Convolutions: input channels meet axis 1 of the kernel, filters are its axis 0.

use burn::backend::ir::{ModuleOperationIr, OperationIr, TensorIr};

use super::super::context::Context;
use super::dims;

const GROUPED: &str = "a grouped convolution's `groups` is a plain field, which a plan cannot change yet";

pub(super) fn flow(op: &OperationIr, context: &mut Context) -> bool {
    let OperationIr::Module(op) = op else { return false };
    match op {
        ModuleOperationIr::Conv1d(op) => conv(&op.x, &op.weight, op.bias.as_ref(), op.options.groups, &op.out, context),
        ModuleOperationIr::Conv2d(op) => conv(&op.x, &op.weight, op.bias.as_ref(), op.options.groups, &op.out, context),
        ModuleOperationIr::Conv3d(op) => conv(&op.x, &op.weight, op.bias.as_ref(), op.options.groups, &op.out, context),
        _ => return false,
    }
    true
}

fn conv(
    x: &TensorIr,
    weight: &TensorIr,
    bias: Option<&TensorIr>,
    groups: usize,
    out: &TensorIr,
    context: &mut Context,
) {
    let (input, kernel) = (context.axes(x), context.axes(weight));
    if let Some(bias) = bias {
        let bias = context.axes(bias);
        context.unify(&bias[0], &kernel[0], "its bias is computed");
    }
    let mut axes = vec![None; dims(out).len()];
    axes[0] = input[0].clone();
    axes[1] = kernel[0].clone();
    if groups == 1 {
        context.unify(&input[1], &kernel[1], "it is an input of the network or a constant");
    } else {
        for labels in [&input[1], &kernel[0], &kernel[1]].into_iter().flatten() {
            context.labels.pin(labels, GROUPED);
        }
    }
    context.tensors.insert(out.id, axes);
}
