//! Activations and element-wise arithmetic with broadcasting: an index of the output is the same index of each operand.

use burn::backend::ir::{
    ActivationOperationIr as A, BaseOperationIr as B, BoolOperationIr as L, FloatOperationIr as F, IntOperationIr as I,
    NumericOperationIr as N, OperationIr, TensorIr,
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

/// Operands and result of an operation that works element by element, `None` for any other.
pub(in crate::network) fn operands(op: &OperationIr) -> Option<(Vec<&TensorIr>, &TensorIr)> {
    Some(match op {
        OperationIr::Activation(op) => match op {
            A::Relu(op) | A::Gelu(op) | A::Sigmoid(op) | A::LogSigmoid(op) => (vec![&op.input], &op.out),
            A::LeakyRelu(op) => (vec![&op.lhs], &op.out),
            A::HardSigmoid(op) => (vec![&op.tensor], &op.out),
            _ => return None,
        },
        OperationIr::Float(_, op) => match op {
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
            | F::ArcCos(op)
            | F::ArcCosh(op)
            | F::ArcSin(op)
            | F::ArcSinh(op)
            | F::ArcTan(op)
            | F::ArcTanh(op)
            | F::Round(op)
            | F::Floor(op)
            | F::Ceil(op)
            | F::Trunc(op)
            | F::Recip(op)
            | F::IsNan(op)
            | F::IsInf(op) => (vec![&op.input], &op.out),
            F::PowfScalar(op) => (vec![&op.lhs], &op.out),
            F::IntoInt(op) => (vec![&op.input], &op.out),
            F::ArcTan2(op) | F::Powf(op) | F::Hypot(op) => (vec![&op.lhs, &op.rhs], &op.out),
            _ => return None,
        },
        OperationIr::NumericFloat(_, op) | OperationIr::NumericInt(_, op) => match op {
            N::Abs(op) | N::Neg(op) | N::Sign(op) => (vec![&op.input], &op.out),
            N::AddScalar(op)
            | N::SubScalar(op)
            | N::MulScalar(op)
            | N::DivScalar(op)
            | N::RemScalar(op)
            | N::PowiScalar(op)
            | N::ClampMin(op)
            | N::ClampMax(op)
            | N::GreaterElem(op)
            | N::GreaterEqualElem(op)
            | N::LowerElem(op)
            | N::LowerEqualElem(op) => (vec![&op.lhs], &op.out),
            N::Clamp(op) => (vec![&op.tensor], &op.out),
            N::Add(op)
            | N::Sub(op)
            | N::Mul(op)
            | N::Div(op)
            | N::Rem(op)
            | N::Powi(op)
            | N::Greater(op)
            | N::GreaterEqual(op)
            | N::Lower(op)
            | N::LowerEqual(op) => (vec![&op.lhs, &op.rhs], &op.out),
            _ => return None,
        },
        OperationIr::BaseFloat(op) | OperationIr::BaseInt(op) | OperationIr::BaseBool(op) => match op {
            B::MaskFill(op) => (vec![&op.tensor, &op.mask], &op.out),
            B::MaskWhere(op) => (vec![&op.tensor, &op.mask, &op.value], &op.out),
            B::Equal(op) | B::NotEqual(op) => (vec![&op.lhs, &op.rhs], &op.out),
            B::EqualElem(op) | B::NotEqualElem(op) => (vec![&op.lhs], &op.out),
            _ => return None,
        },
        OperationIr::Int(op) => match op {
            I::IntoFloat(op) => (vec![&op.input], &op.out),
            I::BitwiseNot(op) => (vec![&op.input], &op.out),
            I::BitwiseAnd(op)
            | I::BitwiseOr(op)
            | I::BitwiseXor(op)
            | I::BitwiseLeftShift(op)
            | I::BitwiseRightShift(op) => (vec![&op.lhs, &op.rhs], &op.out),
            I::BitwiseAndScalar(op)
            | I::BitwiseOrScalar(op)
            | I::BitwiseXorScalar(op)
            | I::BitwiseLeftShiftScalar(op)
            | I::BitwiseRightShiftScalar(op) => (vec![&op.lhs], &op.out),
            _ => return None,
        },
        OperationIr::Bool(op) => match op {
            L::IntoFloat(op) | L::IntoInt(op) => (vec![&op.input], &op.out),
            L::Not(op) => (vec![&op.input], &op.out),
            L::And(op) | L::Or(op) | L::Xor(op) => (vec![&op.lhs, &op.rhs], &op.out),
        },
        _ => return None,
    })
}

pub(super) fn flow(op: &OperationIr, context: &mut Context) -> bool {
    // PReLU's slopes are a parameter of one number or one a channel (axis 1).
    if let OperationIr::Activation(A::PRelu(op)) = op {
        let (axes, slope) = (context.axes(&op.lhs), context.axes(&op.rhs));
        if dims(&op.rhs).iter().product::<usize>() == 1 {
            context.pin_axes(&slope, "one slope serves all channels");
        } else if let Some(channels) = axes.get(1) {
            context.unify(channels, &slope[1.min(slope.len() - 1)], "its slopes are not a parameter");
        }
        context.set(&op.out, axes);
        return true;
    }
    let Some((inputs, out)) = operands(op) else { return false };
    let (all, to) = (inputs.iter().map(|input| (context.axes(input), dims(input))).collect::<Vec<_>>(), dims(out));
    let axes = (0..to.len())
        .map(|axis| {
            let mut found: Option<Vec<u32>> = None;
            let mut bare = false;
            for (labels, shape) in &all {
                let Some(own) = (axis + shape.len()).checked_sub(to.len()) else { continue };
                if shape[own] != to[axis] {
                    if let Some(labels) = &labels[own] {
                        context.labels.pin(labels, "it is spread over many channels");
                    }
                    continue;
                }
                match (&found, &labels[own]) {
                    (Some(found), Some(labels)) => context.labels.union_all(found, labels),
                    (None, Some(labels)) => found = Some(labels.clone()),
                    (_, None) => bare = true,
                }
            }
            if bare && let Some(labels) = &found {
                context.labels.pin(labels, "it meets an input of the network or a constant");
            }
            found
        })
        .collect();
    context.set(out, axes);
    true
}
