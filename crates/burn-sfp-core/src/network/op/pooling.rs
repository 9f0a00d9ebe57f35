//! Poolings and interpolation: samples and channels stay, positions change.

use burn::backend::ir::{ModuleOperationIr as M, OperationIr, TensorIr};

use super::super::context::Context;
use super::dims;

fn ends(op: &OperationIr) -> Option<(&TensorIr, &TensorIr)> {
    let OperationIr::Module(op) = op else { return None };
    Some(match op {
        M::AvgPool1d(op) => (&op.x, &op.out),
        M::AvgPool2d(op) => (&op.x, &op.out),
        M::AdaptiveAvgPool1d(op) => (&op.x, &op.out),
        M::AdaptiveAvgPool2d(op) => (&op.x, &op.out),
        M::MaxPool1d(op) => (&op.x, &op.out),
        M::MaxPool1dWithIndices(op) => (&op.x, &op.out),
        M::MaxPool2d(op) => (&op.x, &op.out),
        M::MaxPool2dWithIndices(op) => (&op.x, &op.out),
        M::Interpolate(op) => (&op.x, &op.out),
        _ => return None,
    })
}

pub(super) fn is(op: &OperationIr) -> bool {
    ends(op).is_some() && !matches!(op, OperationIr::Module(M::Interpolate(_)))
}

pub(super) fn flow(op: &OperationIr, context: &mut Context) -> bool {
    let Some((x, out)) = ends(op) else { return false };
    let input = context.axes(x);
    let mut axes = vec![None; dims(out).len()];
    axes[..2].clone_from_slice(&input[..2]);
    context.tensors.insert(out.id, axes);
    true
}
