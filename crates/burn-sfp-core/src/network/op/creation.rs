//! Tensors made on the spot: their sizes follow whatever they meet.

use burn::backend::ir::{BaseOperationIr as B, FloatOperationIr as F, NumericOperationIr as N, OperationIr};

use super::super::context::Context;

pub(super) fn flow(op: &OperationIr, context: &mut Context) -> bool {
    let out = match op {
        OperationIr::BaseFloat(B::Empty(op) | B::Ones(op) | B::Zeros(op))
        | OperationIr::BaseInt(B::Empty(op) | B::Ones(op) | B::Zeros(op))
        | OperationIr::BaseBool(B::Empty(op) | B::Ones(op) | B::Zeros(op)) => &op.out,
        OperationIr::NumericFloat(_, N::Full(op)) | OperationIr::NumericInt(_, N::Full(op)) => &op.out,
        OperationIr::Float(_, F::Random(op)) | OperationIr::NumericInt(_, N::IntRandom(op)) => &op.out,
        _ => return false,
    };
    let axes = out.shape.iter().map(|&length| Some(context.labels.fresh(length))).collect();
    context.set(out, axes);
    true
}
