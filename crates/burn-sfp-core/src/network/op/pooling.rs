//! Poolings, interpolation and resampling: samples and channels stay, positions change.

use burn::backend::ir::{FloatOperationIr as F, ModuleOperationIr as M, OperationIr, TensorIr};

use super::super::context::Context;
use super::dims;

fn ends(op: &OperationIr) -> Option<(&TensorIr, &TensorIr)> {
    let op = match op {
        OperationIr::Module(op) => op,
        OperationIr::Float(_, F::GridSample2d(op)) => return Some((&op.tensor, &op.out)),
        _ => return None,
    };
    Some(match op {
        M::AvgPool1d(op) => (&op.x, &op.out),
        M::AvgPool2d(op) => (&op.x, &op.out),
        M::AdaptiveAvgPool1d(op) => (&op.x, &op.out),
        M::AdaptiveAvgPool2d(op) => (&op.x, &op.out),
        M::AdaptiveAvgPool3d(op) => (&op.x, &op.out),
        M::MaxPool1d(op) => (&op.x, &op.out),
        M::MaxPool1dWithIndices(op) => (&op.x, &op.out),
        M::MaxPool2d(op) => (&op.x, &op.out),
        M::MaxPool2dWithIndices(op) => (&op.x, &op.out),
        M::Interpolate(op) => (&op.x, &op.out),
        _ => return None,
    })
}

pub(super) fn is(op: &OperationIr) -> bool {
    let resampled = matches!(op, OperationIr::Module(M::Interpolate(_)) | OperationIr::Float(..));
    ends(op).is_some() && !resampled
}

/// Whether a constant plane stays that constant: no zeros come in at the border.
pub(in crate::network) fn keeps_constants(op: &OperationIr) -> bool {
    match op {
        OperationIr::Module(M::AvgPool1d(op)) => op.padding == 0 && !op.ceil_mode,
        OperationIr::Module(M::AvgPool2d(op)) => op.padding == [0, 0] && !op.ceil_mode,
        // Interpolation weights sum to one only up to rounding; sampling may reach outside.
        OperationIr::Module(M::Interpolate(_)) | OperationIr::Float(..) => false,
        _ => ends(op).is_some(),
    }
}

pub(super) fn flow(op: &OperationIr, context: &mut Context) -> bool {
    let Some((x, out)) = ends(op) else { return false };
    let input = context.axes(x);
    context.pin_axes(&input[2..], "a window slides along it");
    if let OperationIr::Float(_, F::GridSample2d(op)) = op {
        context.pin(&op.grid, "it moves samples");
    }
    let mut axes = vec![None; dims(out).len()];
    axes[..2].clone_from_slice(&input[..2]);
    for out in op.outputs() {
        context.set(out, axes.clone());
    }
    true
}
