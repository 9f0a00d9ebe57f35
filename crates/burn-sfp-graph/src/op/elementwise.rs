//! Activations and element-wise arithmetic with broadcasting: an index of the output is the same index of each operand.
//!
//! Each operation is one row below: its operands, its result, what becomes of a channel of zeros, and whether it is an activation.
//! By convention none of them counts multiply-adds.

use std::collections::HashSet;

use burn::backend::ir::{
    ActivationOperationIr as A, BaseOperationIr as B, BinaryOpIr, BoolOperationIr as L, FloatOperationIr as F,
    IntOperationIr as I, NumericOperationIr as N, OperationIr, ScalarOpIr, TensorIr, UnaryOpIr,
};

use super::description::{Constants, Describe, Described, FREE, Family, Role, ShapeOf, dims, runs_along};
use crate::channels::context::Context;
use crate::channels::ids::ChannelId;

pub(super) const FAMILY: Family = Family { read, kinds: &[] };

fn read(op: &OperationIr) -> Option<Described<'_>> {
    let row = match op {
        OperationIr::Activation(A::PRelu(op)) => return Some(Box::new(Slopes(op))),
        OperationIr::Activation(op) => activation(op),
        OperationIr::Float(_, op) => float(op),
        OperationIr::NumericFloat(_, op) | OperationIr::NumericInt(_, op) => numeric(op),
        OperationIr::BaseFloat(op) | OperationIr::BaseInt(op) | OperationIr::BaseBool(op) => base(op),
        OperationIr::Int(op) => int(op),
        OperationIr::Bool(op) => Some(bool(op)),
        _ => None,
    };
    row.map(|row| Box::new(row) as Described<'_>)
}

/// An operation that works element by element.
struct Elementwise<'a> {
    operands: Vec<&'a TensorIr>,
    out: &'a TensorIr,
    zero: Zero,
    role: Role,
    scalar: Scalar,
}

/// What becomes of a channel of zeros.
#[derive(Clone, Copy)]
enum Zero {
    /// Nothing is known of the result.
    Lost,
    /// Zero at zero.
    Kept,
    /// A sum or difference: zero where both sides are.
    Sum,
    /// A product: zero where one factor is.
    Product,
    /// A quotient: zero where the numerator is.
    Quotient,
}

/// How a scalar works on the only operand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scalar {
    Other,
    Factor,
    Divisor,
}

impl<'a> Elementwise<'a> {
    fn of(operands: Vec<&'a TensorIr>, out: &'a TensorIr) -> Self {
        Self { operands, out, zero: Zero::Lost, role: Role::Other, scalar: Scalar::Other }
    }

    fn zero(self, zero: Zero) -> Self {
        Self { zero, ..self }
    }

    fn activation(self) -> Self {
        Self { role: Role::Activation, ..self }
    }

    fn linear(self, scalar: Scalar) -> Self {
        Self { scalar, ..self.zero(Zero::Kept) }
    }
}

fn unary(op: &UnaryOpIr) -> Elementwise<'_> {
    Elementwise::of(vec![&op.input], &op.out)
}

fn binary(op: &BinaryOpIr) -> Elementwise<'_> {
    Elementwise::of(vec![&op.lhs, &op.rhs], &op.out)
}

fn scalar(op: &ScalarOpIr) -> Elementwise<'_> {
    Elementwise::of(vec![&op.lhs], &op.out)
}

fn activation(op: &A) -> Option<Elementwise<'_>> {
    Some(match op {
        A::Relu(op) | A::Gelu(op) => unary(op).zero(Zero::Kept).activation(),
        A::Sigmoid(op) | A::LogSigmoid(op) => unary(op).activation(),
        A::LeakyRelu(op) => scalar(op).zero(Zero::Kept).activation(),
        A::HardSigmoid(op) => Elementwise::of(vec![&op.tensor], &op.out).activation(),
        _ => return None,
    })
}

fn float(op: &F) -> Option<Elementwise<'_>> {
    Some(match op {
        F::Tanh(op) | F::Erf(op) => unary(op).zero(Zero::Kept).activation(),
        F::Sqrt(op) => unary(op).zero(Zero::Kept),
        F::Exp(op) | F::Log(op) | F::Log1p(op) | F::Recip(op) => unary(op),
        F::Cos(op) | F::Cosh(op) | F::Sin(op) | F::Sinh(op) | F::Tan(op) => unary(op),
        F::ArcCos(op) | F::ArcCosh(op) | F::ArcSin(op) | F::ArcSinh(op) | F::ArcTan(op) | F::ArcTanh(op) => unary(op),
        F::Round(op) | F::Floor(op) | F::Ceil(op) | F::Trunc(op) | F::IsNan(op) | F::IsInf(op) => unary(op),
        F::PowfScalar(op) if op.rhs.elem::<f64>() > 0.0 => scalar(op).zero(Zero::Kept),
        F::PowfScalar(op) => scalar(op),
        F::IntoInt(op) => Elementwise::of(vec![&op.input], &op.out),
        F::ArcTan2(op) | F::Powf(op) | F::Hypot(op) => binary(op),
        _ => return None,
    })
}

fn numeric(op: &N) -> Option<Elementwise<'_>> {
    Some(match op {
        N::Abs(op) | N::Neg(op) => unary(op).zero(Zero::Kept),
        N::Sign(op) => unary(op),
        N::MulScalar(op) => scalar(op).linear(Scalar::Factor),
        N::DivScalar(op) => scalar(op).linear(Scalar::Divisor),
        N::PowiScalar(op) if op.rhs.elem::<f64>() > 0.0 => scalar(op).zero(Zero::Kept),
        N::PowiScalar(op) | N::AddScalar(op) | N::SubScalar(op) | N::RemScalar(op) => scalar(op),
        N::ClampMin(op) | N::ClampMax(op) => scalar(op).activation(),
        N::Clamp(op) => Elementwise::of(vec![&op.tensor], &op.out).activation(),
        N::GreaterElem(op) | N::GreaterEqualElem(op) | N::LowerElem(op) | N::LowerEqualElem(op) => scalar(op),
        N::Add(op) | N::Sub(op) => binary(op).zero(Zero::Sum),
        N::Mul(op) => binary(op).zero(Zero::Product),
        N::Div(op) => binary(op).zero(Zero::Quotient),
        N::Rem(op) | N::Powi(op) => binary(op),
        N::Greater(op) | N::GreaterEqual(op) | N::Lower(op) | N::LowerEqual(op) => binary(op),
        _ => return None,
    })
}

fn base(op: &B) -> Option<Elementwise<'_>> {
    Some(match op {
        B::MaskFill(op) => Elementwise::of(vec![&op.tensor, &op.mask], &op.out),
        B::MaskWhere(op) => Elementwise::of(vec![&op.tensor, &op.mask, &op.value], &op.out),
        B::Equal(op) | B::NotEqual(op) => binary(op),
        B::EqualElem(op) | B::NotEqualElem(op) => scalar(op),
        _ => return None,
    })
}

fn int(op: &I) -> Option<Elementwise<'_>> {
    Some(match op {
        I::IntoFloat(op) => Elementwise::of(vec![&op.input], &op.out),
        I::BitwiseNot(op) => unary(op),
        I::BitwiseAnd(op)
        | I::BitwiseOr(op)
        | I::BitwiseXor(op)
        | I::BitwiseLeftShift(op)
        | I::BitwiseRightShift(op) => binary(op),
        I::BitwiseAndScalar(op)
        | I::BitwiseOrScalar(op)
        | I::BitwiseXorScalar(op)
        | I::BitwiseLeftShiftScalar(op)
        | I::BitwiseRightShiftScalar(op) => scalar(op),
        _ => return None,
    })
}

fn bool(op: &L) -> Elementwise<'_> {
    match op {
        L::IntoFloat(op) | L::IntoInt(op) => Elementwise::of(vec![&op.input], &op.out),
        L::Not(op) => unary(op),
        L::And(op) | L::Or(op) | L::Xor(op) => binary(op),
    }
}

impl<'a> Describe<'a> for Elementwise<'a> {
    fn flow(&self, context: &mut Context) {
        let operands: Vec<_> = self.operands.iter().map(|operand| (context.axes(operand), dims(operand))).collect();
        let to = dims(self.out);
        let along = |axis: usize| {
            let mut found: Option<Vec<ChannelId>> = None;
            let mut bare = false;
            for (ids, shape) in &operands {
                let Some(own) = (axis + shape.len()).checked_sub(to.len()) else { continue };
                if shape[own] != to[axis] {
                    if let Some(ids) = &ids[own] {
                        context.sets.pin(ids, "it is spread over many channels");
                    }
                    continue;
                }
                match (&found, &ids[own]) {
                    (Some(found), Some(ids)) => context.sets.union_all(found, ids),
                    (None, Some(ids)) => found = Some(ids.clone()),
                    (_, None) => bare = true,
                }
            }
            if bare && let Some(ids) = &found {
                context.sets.pin(ids, "it meets an input of the network or a constant");
            }
            found
        };
        let axes = (0..to.len()).map(along).collect();
        context.set(self.out, axes);
    }

    fn keeps_zero(&self, context: &Context) -> bool {
        let zero = |operand: &&TensorIr| context.is_zero(operand);
        match self.zero {
            Zero::Lost => false,
            Zero::Kept => self.operands.iter().all(zero),
            // Both sides have to run along every axis with channels: a bias of the positions is not zero where a channel is.
            Zero::Sum => {
                let carried = context.tensors.get(&self.out.id).map(Vec::as_slice).unwrap_or_default();
                let runs_along = |side: &TensorIr| {
                    carried.iter().enumerate().all(|(axis, ids)| {
                        let own = (axis + side.shape.num_dims()).checked_sub(carried.len());
                        !context.may_shrink(ids) || own.is_some_and(|own| side.shape[own] == self.out.shape[axis])
                    })
                };
                self.operands.iter().all(|side| zero(side) && runs_along(side))
            }
            // A factor of zero is enough, where it runs along the channels.
            Zero::Product => self.operands.iter().any(|factor| factor.shape == self.out.shape && zero(factor)),
            Zero::Quotient => self.operands[0].shape == self.out.shape && zero(&self.operands[0]),
        }
    }

    fn constant(&self, known: &Constants<'_>) -> HashSet<ChannelId> {
        known.of_all(&self.operands)
    }

    fn macs(&self, _shape: &ShapeOf<'_>) -> Option<u64> {
        FREE
    }

    fn role(&self) -> Role {
        self.role
    }

    fn elementwise(&self) -> Option<(&[&'a TensorIr], &'a TensorIr)> {
        Some((&self.operands, self.out))
    }

    fn linear_in(&self) -> Option<&'a TensorIr> {
        (self.scalar != Scalar::Other).then(|| self.operands[0])
    }

    fn mean_free(&self, axis: usize) -> Vec<(&'a TensorIr, usize)> {
        let along = |operand: &&'a TensorIr| runs_along(operand, self.out, axis).map(|own| (*operand, own));
        let all: Vec<Option<(&TensorIr, usize)>> = self.operands.iter().map(along).collect();
        match (self.zero, &all[..]) {
            // Another summand that does not run along the axis would be the same for all of its indices.
            (Zero::Sum, _) => all.into_iter().collect::<Option<_>>().unwrap_or_default(),
            // A factor that does not run along the axis is.
            (Zero::Product, &[Some(one), None] | &[None, Some(one)]) | (Zero::Quotient, &[Some(one), None]) => {
                vec![one]
            }
            (Zero::Kept, &[Some(one)]) if self.scalar != Scalar::Other => vec![one],
            _ => Vec::new(),
        }
    }

    fn undo(&self, before: f64, after: f64) -> Option<f64> {
        match self.scalar {
            Scalar::Other => None,
            Scalar::Factor => Some(before / after),
            Scalar::Divisor => Some(after / before),
        }
    }
}

/// PReLU: its slopes are a parameter of one element or one a channel (axis 1).
struct Slopes<'a>(&'a BinaryOpIr);

impl<'a> Describe<'a> for Slopes<'a> {
    fn flow(&self, context: &mut Context) {
        let op = self.0;
        let (axes, slope) = (context.axes(&op.lhs), context.axes(&op.rhs));
        if dims(&op.rhs).iter().product::<usize>() == 1 {
            context.pin_axes(&slope, "one slope serves all channels");
        } else if let Some(channels) = axes.get(1) {
            context.unify(channels, &slope[1.min(slope.len() - 1)], "its slopes are not a parameter");
        }
        context.set(&op.out, axes);
    }

    fn macs(&self, _shape: &ShapeOf<'_>) -> Option<u64> {
        FREE
    }

    fn role(&self) -> Role {
        Role::Activation
    }
}
