//! Reductions and softmax: along positions they leave channels alone, along channels they mix them.

use burn::backend::ir::{ActivationOperationIr as A, NumericOperationIr as N, OperationIr, TensorIr};

use super::super::context::Context;

const MIXED: &str = "a reduction runs along its channels";

pub(super) fn flow(op: &OperationIr, context: &mut Context) -> bool {
    match op {
        OperationIr::NumericFloat(
            _,
            N::MeanDim(op) | N::SumDim(op) | N::ProdDim(op) | N::MaxDim(op) | N::MinDim(op) | N::MaxAbsDim(op),
        ) => {
            reduce(&op.input, &op.out, &[op.axis], context);
        }
        OperationIr::NumericFloat(_, N::SumDims(op)) => reduce(&op.input, &op.out, &op.axes, context),
        OperationIr::NumericFloat(_, N::CumSum(op) | N::CumProd(op) | N::CumMin(op) | N::CumMax(op))
        | OperationIr::Activation(A::Softmax(op) | A::LogSoftmax(op) | A::Softmin(op)) => {
            let axes = context.axes(&op.input);
            if let Some(labels) = axes.get(op.axis).and_then(Option::as_ref) {
                context.labels.pin(labels, MIXED);
            }
            context.tensors.insert(op.out.id, axes);
        }
        _ => return false,
    }
    true
}

fn reduce(input: &TensorIr, out: &TensorIr, along: &[usize], context: &mut Context) {
    let mut axes = context.axes(input);
    for &axis in along {
        if let Some(labels) = axes.get_mut(axis).and_then(Option::take) {
            context.labels.pin(&labels, MIXED);
        }
    }
    if axes.len() == out.shape.num_dims() {
        context.tensors.insert(out.id, axes);
    }
}
