//! Activations and element-wise arithmetic with broadcasting: an index of the output is the same index of each operand.
//!
//! Each operation is one row below: its operands, its result, what becomes of a channel of zeros, and whether it is an activation.
//! By convention none of them counts multiply-adds.

use std::collections::HashSet;

use burn::backend::ir::{
    ActivationOperationIr as A, BaseOperationIr as B, BinaryOpIr, BoolOperationIr as L, FloatOperationIr as F,
    IntOperationIr as I, NumericOperationIr as N, OperationIr, ScalarIr, ScalarOpIr, TensorIr, UnaryOpIr,
};

use super::description::{
    Constants, Describe, Described, FREE, Family, Role, ShapeOf, dims, is_zero_along, runs_along, same_exponent,
};
use crate::channels::context::Context;
use crate::channels::ids::{Axes, ChannelId};

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
    sign: Sign,
    factor: Factor,
    /// The operand of which zero gives an infinite value or none.
    pole: Option<usize>,
    /// Whether the second operand only says which elements are taken.
    masked: bool,
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

/// Whether an element of the result may be negative.
#[derive(Clone, Copy)]
enum Sign {
    Any,
    /// Never.
    Never,
    /// Not where none of the operands is.
    Kept,
}

/// What a positive factor of the operands is of the result.
#[derive(Clone, Copy)]
enum Factor {
    /// Nothing that is known.
    None,
    /// The same, where all operands have it.
    Same,
    /// The product of those of the operands.
    Product,
    /// The quotient of those of the operands.
    Quotient,
    /// A power of it, by half of this number.
    HalfPower(i32),
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
        Self {
            operands,
            out,
            zero: Zero::Lost,
            role: Role::Other,
            scalar: Scalar::Other,
            sign: Sign::Any,
            factor: Factor::None,
            pole: None,
            masked: false,
        }
    }

    fn masked(self) -> Self {
        Self { masked: true, ..self }
    }

    fn sign(self, sign: Sign) -> Self {
        Self { sign, ..self }
    }

    fn factor(self, factor: Factor) -> Self {
        Self { factor, ..self }
    }

    fn pole(self, operand: usize) -> Self {
        Self { pole: Some(operand), ..self }
    }

    fn zero(self, zero: Zero) -> Self {
        Self { zero, ..self }
    }

    fn activation(self) -> Self {
        Self { role: Role::Activation, ..self }
    }

    fn linear(self, scalar: Scalar) -> Self {
        Self { scalar, ..self.zero(Zero::Kept).factor(Factor::Same) }
    }
}

/// The sign of a result to which a scalar is a factor or a summand.
fn sign_of(scalar: &ScalarOpIr) -> Sign {
    if scalar.rhs.elem::<f64>() >= 0.0 { Sign::Kept } else { Sign::Any }
}

/// A power by a number.
fn power(op: &ScalarOpIr) -> Elementwise<'_> {
    let exponent = op.rhs.elem::<f64>();
    let halves = 2.0 * exponent;
    let factor =
        if halves.fract() == 0.0 && halves.abs() < 64.0 { Factor::HalfPower(halves as i32) } else { Factor::None };
    let power = scalar(op).factor(factor).sign(if exponent % 2.0 == 0.0 { Sign::Never } else { Sign::Kept });
    match exponent {
        0.0 => power,
        _ if exponent > 0.0 => power.zero(Zero::Kept),
        _ => power.pole(0),
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
        A::Relu(op) => unary(op).zero(Zero::Kept).sign(Sign::Never).factor(Factor::Same).activation(),
        A::Gelu(op) => unary(op).zero(Zero::Kept).sign(Sign::Kept).activation(),
        A::Sigmoid(op) => unary(op).sign(Sign::Never).activation(),
        A::LogSigmoid(op) => unary(op).activation(),
        A::LeakyRelu(op) => scalar(op).zero(Zero::Kept).sign(Sign::Kept).factor(Factor::Same).activation(),
        A::HardSigmoid(op) => Elementwise::of(vec![&op.tensor], &op.out).sign(Sign::Never).activation(),
        _ => return None,
    })
}

fn float(op: &F) -> Option<Elementwise<'_>> {
    Some(match op {
        F::Tanh(op) | F::Erf(op) => unary(op).zero(Zero::Kept).sign(Sign::Kept).activation(),
        F::Sqrt(op) => unary(op).zero(Zero::Kept).sign(Sign::Never).factor(Factor::HalfPower(1)),
        F::Exp(op) | F::Cosh(op) => unary(op).sign(Sign::Never),
        F::Recip(op) => unary(op).sign(Sign::Kept).factor(Factor::HalfPower(-2)).pole(0),
        F::Log(op) => unary(op).pole(0),
        F::Log1p(op) => unary(op).zero(Zero::Kept).sign(Sign::Kept),
        F::Sin(op) | F::Sinh(op) | F::Tan(op) => unary(op).zero(Zero::Kept),
        F::ArcSin(op) | F::ArcSinh(op) | F::ArcTan(op) | F::ArcTanh(op) => unary(op).zero(Zero::Kept),
        F::Cos(op) | F::ArcCos(op) | F::ArcCosh(op) | F::IsNan(op) | F::IsInf(op) => unary(op),
        F::Round(op) | F::Floor(op) | F::Ceil(op) | F::Trunc(op) => unary(op).zero(Zero::Kept).sign(Sign::Kept),
        F::PowfScalar(op) => power(op),
        F::IntoInt(op) => Elementwise::of(vec![&op.input], &op.out),
        F::ArcTan2(op) | F::Powf(op) | F::Hypot(op) => binary(op),
        _ => return None,
    })
}

fn numeric(op: &N) -> Option<Elementwise<'_>> {
    Some(match op {
        N::Abs(op) => unary(op).zero(Zero::Kept).sign(Sign::Never).factor(Factor::Same),
        N::Neg(op) => unary(op).zero(Zero::Kept).factor(Factor::Same),
        N::Sign(op) => unary(op).zero(Zero::Kept).sign(Sign::Kept),
        N::MulScalar(op) => scalar(op).linear(Scalar::Factor).sign(sign_of(op)),
        N::DivScalar(op) => scalar(op).linear(Scalar::Divisor).sign(sign_of(op)),
        N::PowiScalar(op) => power(op),
        N::AddScalar(op) => scalar(op).sign(sign_of(op)),
        N::SubScalar(op) | N::RemScalar(op) => scalar(op),
        N::ClampMin(op) => clamp(scalar(op), Some(op.rhs), None),
        N::ClampMax(op) => clamp(scalar(op), None, Some(op.rhs)),
        N::Clamp(op) => clamp(Elementwise::of(vec![&op.tensor], &op.out), Some(op.min), Some(op.max)),
        N::GreaterElem(op) | N::GreaterEqualElem(op) | N::LowerElem(op) | N::LowerEqualElem(op) => scalar(op),
        N::Add(op) => binary(op).zero(Zero::Sum).sign(Sign::Kept).factor(Factor::Same),
        N::Sub(op) => binary(op).zero(Zero::Sum).factor(Factor::Same),
        N::Mul(op) => {
            let sign = if op.lhs.id == op.rhs.id { Sign::Never } else { Sign::Kept };
            binary(op).zero(Zero::Product).sign(sign).factor(Factor::Product)
        }
        N::Div(op) => binary(op).zero(Zero::Quotient).sign(Sign::Kept).factor(Factor::Quotient).pole(1),
        N::Rem(op) | N::Powi(op) => binary(op),
        N::Greater(op) | N::GreaterEqual(op) | N::Lower(op) | N::LowerEqual(op) => binary(op),
        _ => return None,
    })
}

/// Values between two bounds.
fn clamp(row: Elementwise<'_>, min: Option<ScalarIr>, max: Option<ScalarIr>) -> Elementwise<'_> {
    let (min, max) = (min.map(|min| min.elem::<f64>()), max.map(|max| max.elem::<f64>()));
    let zero = min.is_none_or(|min| min <= 0.0) && max.is_none_or(|max| max >= 0.0);
    let sign = if min.is_some_and(|min| min >= 0.0) {
        Sign::Never
    } else if max.is_none_or(|max| max >= 0.0) {
        Sign::Kept
    } else {
        Sign::Any
    };
    row.zero(if zero { Zero::Kept } else { Zero::Lost }).sign(sign).activation()
}

fn base(op: &B) -> Option<Elementwise<'_>> {
    Some(match op {
        B::MaskFill(op) => {
            let value = op.value.elem::<f64>();
            let row = Elementwise::of(vec![&op.tensor, &op.mask], &op.out).masked();
            let row = if value == 0.0 { row.zero(Zero::Kept) } else { row };
            if value >= 0.0 { row.sign(Sign::Kept) } else { row }
        }
        B::MaskWhere(op) => {
            let row = Elementwise::of(vec![&op.tensor, &op.mask, &op.value], &op.out).masked();
            row.zero(Zero::Kept).sign(Sign::Kept)
        }
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
        L::IntoFloat(op) | L::IntoInt(op) => Elementwise::of(vec![&op.input], &op.out).sign(Sign::Never),
        L::Not(op) => unary(op),
        L::And(op) | L::Or(op) | L::Xor(op) => binary(op),
    }
}

impl<'a> Elementwise<'a> {
    /// The operands whose elements are part of the result.
    fn values(&self) -> impl Iterator<Item = &'a TensorIr> {
        let mask = if self.masked { 1 } else { usize::MAX };
        self.operands.iter().enumerate().filter(move |(index, _)| *index != mask).map(|(_, operand)| *operand)
    }
}

impl<'a> Describe<'a> for Elementwise<'a> {
    fn flow(&self, context: &mut Context) {
        let operands: Vec<_> = self.operands.iter().map(|operand| (context.axes(operand), dims(operand))).collect();
        let to = dims(self.out);
        let along = |axis: usize| {
            let mut found: Option<Vec<ChannelId>> = None;
            let mut bare = None;
            for ((ids, shape), operand) in operands.iter().zip(&self.operands) {
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
                    (_, None) => bare = bare.or(Some(operand)),
                }
            }
            if let (Some(bare), Some(ids)) = (bare, &found) {
                let reason = context.why_bare(bare);
                context.sets.pin(ids, &reason);
            }
            found
        };
        let axes: Axes = (0..to.len()).map(along).collect();
        if let Some(pole) = self.pole {
            let pole = self.operands[pole];
            for (axis, channels) in axes.iter().enumerate() {
                if let Some(own) = runs_along(pole, self.out, axis)
                    && context.is_zero(pole, own)
                    && context.may_shrink(channels)
                {
                    context.poles.push((pole.id, own));
                }
            }
        }
        context.set(self.out, axes);
    }

    fn zero_along(&self, axis: usize, context: &Context) -> bool {
        let zero = |operand: &TensorIr| is_zero_along(operand, self.out, axis, context);
        if self.pole.is_some_and(|pole| zero(self.operands[pole])) {
            return false;
        }
        match self.zero {
            Zero::Lost => false,
            // A side that is spread along the channels, a bias of the positions say, is not zero where a channel is.
            Zero::Kept | Zero::Sum => self.values().all(zero),
            // A factor of zero is enough.
            Zero::Product => self.values().any(zero),
            Zero::Quotient => zero(self.operands[0]),
        }
    }

    fn non_negative(&self, context: &Context) -> bool {
        match self.sign {
            Sign::Any => false,
            Sign::Never => true,
            Sign::Kept => self.values().all(|operand| context.non_negative.contains(&operand.id)),
        }
    }

    fn exponent(&self, exponents: &[i32]) -> Option<i32> {
        match (self.factor, exponents) {
            (Factor::Same, _) => same_exponent(exponents),
            (Factor::Product, &[left, right]) => Some(left + right),
            (Factor::Quotient, &[left, right]) => Some(left - right),
            (Factor::HalfPower(halves), &[only]) => {
                only.checked_mul(halves).filter(|twice| twice % 2 == 0).map(|twice| twice / 2)
            }
            _ => None,
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

    fn zero_along(&self, axis: usize, context: &Context) -> bool {
        context.is_zero(&self.0.lhs, axis)
    }

    fn exponent(&self, exponents: &[i32]) -> Option<i32> {
        exponents.first().copied().filter(|_| exponents.get(1) == Some(&0))
    }

    fn macs(&self, _shape: &ShapeOf<'_>) -> Option<u64> {
        FREE
    }

    fn role(&self) -> Role {
        Role::Activation
    }
}
