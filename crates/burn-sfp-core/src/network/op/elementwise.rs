//! Activations and element-wise arithmetic with broadcasting: an index of the output is the same index of each operand.

use burn::backend::ir::{
    ActivationOperationIr as A, BaseOperationIr as B, FloatOperationIr as F, NumericOperationIr as N, OperationIr,
    TensorIr,
};

use super::super::context::Context;
use super::dims;

pub(super) fn is_activation(op: &OperationIr) -> bool {
    use OperationIr::{Activation, Float, NumericFloat};
    matches!(
        op,
        Activation(
            A::Relu(_)
                | A::LeakyRelu(_)
                | A::PRelu(_)
                | A::Gelu(_)
                | A::Sigmoid(_)
                | A::HardSigmoid(_)
                | A::LogSigmoid(_)
        ) | Float(_, F::Tanh(_) | F::Erf(_))
            | NumericFloat(_, N::Clamp(_) | N::ClampMin(_) | N::ClampMax(_))
    )
}

pub(super) fn flow(op: &OperationIr, context: &mut Context) -> bool {
    use OperationIr::{Activation, BaseFloat, Float, NumericFloat};
    match op {
        Activation(A::Relu(op) | A::Gelu(op) | A::Sigmoid(op) | A::LogSigmoid(op))
        | NumericFloat(_, N::Abs(op) | N::Neg(op) | N::Sign(op)) => unary(&op.input, &op.out, context),
        Float(
            _,
            F::Exp(op)
            | F::Log(op)
            | F::Log1p(op)
            | F::Erf(op)
            | F::Sqrt(op)
            | F::Cos(op)
            | F::Cosh(op)
            | F::Sin(op)
            | F::Sinh(op)
            | F::Tan(op)
            | F::Tanh(op)
            | F::Round(op)
            | F::Floor(op)
            | F::Ceil(op)
            | F::Trunc(op)
            | F::Recip(op),
        ) => unary(&op.input, &op.out, context),
        Activation(A::LeakyRelu(op)) | Float(_, F::PowfScalar(op)) => unary(&op.lhs, &op.out, context),
        Activation(A::HardSigmoid(op)) => unary(&op.tensor, &op.out, context),
        NumericFloat(
            _,
            N::AddScalar(op)
            | N::SubScalar(op)
            | N::MulScalar(op)
            | N::DivScalar(op)
            | N::RemScalar(op)
            | N::PowiScalar(op)
            | N::ClampMin(op)
            | N::ClampMax(op),
        ) => unary(&op.lhs, &op.out, context),
        NumericFloat(_, N::Clamp(op)) => unary(&op.tensor, &op.out, context),
        NumericFloat(_, N::Add(op) | N::Sub(op) | N::Mul(op) | N::Div(op)) => {
            binary(&op.lhs, &op.rhs, &op.out, context)
        }
        // PReLU's slopes are a parameter of one number or one a channel (axis 1).
        Activation(A::PRelu(op)) => {
            let (axes, slope) = (context.axes(&op.lhs), context.axes(&op.rhs));
            match (&slope[0], axes.get(1)) {
                (Some(slope), Some(Some(channels))) if slope.len() == channels.len() => {
                    context.labels.union_all(slope, channels)
                }
                (Some(slope), _) => context.labels.pin(slope, "one slope serves all channels"),
                _ => {}
            }
            context.tensors.insert(op.out.id, axes);
        }
        BaseFloat(B::MaskFill(op)) => unary(&op.tensor, &op.out, context),
        _ => return false,
    }
    true
}

fn unary(input: &TensorIr, out: &TensorIr, context: &mut Context) {
    let axes = context.axes(input);
    context.tensors.insert(out.id, axes);
}

fn binary(lhs: &TensorIr, rhs: &TensorIr, out: &TensorIr, context: &mut Context) {
    let (left, right, to) = (context.axes(lhs), context.axes(rhs), dims(out));
    let (l, r) = (dims(lhs), dims(rhs));
    let mut axes = vec![None; to.len()];
    for (axis, slot) in axes.iter_mut().enumerate() {
        let at = |len: usize| (axis + len).checked_sub(to.len());
        let side = |labels: &Vec<Option<Vec<u32>>>, shape: &[usize]| {
            let axis = at(shape.len())?;
            // A broadcast axis (length 1 against many) carries no channel of the result.
            (shape[axis] == to[axis]).then(|| labels[axis].clone()).flatten()
        };
        for (labels, shape) in [(&left, &l), (&right, &r)] {
            if let Some(own) = at(shape.len()).filter(|&a| shape[a] == 1 && to[axis] != 1)
                && let Some(labels) = &labels[own]
            {
                context.labels.pin(labels, "it is spread over many channels");
            }
        }
        let (a, b) = (side(&left, &l), side(&right, &r));
        let broadcast = |shape: &[usize]| at(shape.len()).is_none_or(|a| shape[a] == 1 && to[axis] != 1);
        match (&a, &b) {
            (Some(_), Some(_)) => context.unify(&a, &b, "it meets another number of channels"),
            (Some(labels), None) if !broadcast(&r) && to[axis] > 1 => {
                context.labels.pin(labels, "it meets a constant of the network")
            }
            (None, Some(labels)) if !broadcast(&l) && to[axis] > 1 => {
                context.labels.pin(labels, "it meets a constant of the network")
            }
            _ => {}
        }
        *slot = a.or(b);
    }
    context.tensors.insert(out.id, axes);
}
