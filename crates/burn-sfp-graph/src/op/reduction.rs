//! Reductions, softmax, sorting: along positions they leave channels alone. Along channels a sum loses nothing with a zero, nor does a
//! maximum of values that cannot be negative, and a mean gets another factor; everything else mixes them.

use std::collections::HashSet;

use burn::backend::ir::{
    ActivationOperationIr as A, BaseOperationIr as B, NumericOperationIr as N, OperationIr, TensorIr,
};

use super::description::{Constants, Describe, Described, FREE, Family, ShapeOf, same_exponent};
use super::name::name;
use crate::channels::context::Context;
use crate::channels::ids::ChannelId;

pub(super) const FAMILY: Family = Family { read, kinds: &[] };

/// An operation that mixes the elements along some axes.
struct Reduction<'a> {
    op: &'a OperationIr,
    input: &'a TensorIr,
    outs: Vec<&'a TensorIr>,
    along: Vec<usize>,
    across: Across,
    /// Whether zeros give zero.
    zero: bool,
    /// Whether equal elements give that element.
    constant: bool,
    /// Whether a positive factor of the elements is one of the result.
    scales: bool,
}

/// What becomes of the result when an element that is zero leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Across {
    /// It is another one.
    Mixed,
    /// It is the same.
    Sum,
    /// It gets a factor.
    Mean,
    /// It is the same where no element is negative.
    Maximum,
}

impl Reduction<'_> {
    fn zero(self) -> Self {
        Self { zero: true, ..self }
    }

    fn constant(self) -> Self {
        Self { constant: true, ..self }
    }

    fn scales(self) -> Self {
        Self { scales: true, ..self }
    }

    fn across(self, across: Across) -> Self {
        Self { across, ..self }
    }
}

fn read(op: &OperationIr) -> Option<Described<'_>> {
    let along = |input, along| Reduction {
        op,
        input,
        outs: op.outputs().collect(),
        along,
        across: Across::Mixed,
        zero: false,
        constant: false,
        scales: false,
    };
    let row = match op {
        OperationIr::NumericFloat(_, op) => numeric(op, along)?,
        OperationIr::NumericInt(_, op) => {
            Reduction { zero: false, constant: false, across: Across::Mixed, ..numeric(op, along)? }
        }
        OperationIr::Activation(A::Softmax(op) | A::LogSoftmax(op) | A::Softmin(op)) => along(&op.input, vec![op.axis]),
        OperationIr::BaseFloat(op) | OperationIr::BaseInt(op) | OperationIr::BaseBool(op) => match op {
            B::AllDim(op) | B::AnyDim(op) => along(&op.input, vec![op.axis]),
            B::All(op) | B::Any(op) => along(&op.input, (0..op.input.shape.num_dims()).collect()),
            B::Unfold(op) => along(&op.input, vec![op.dim]),
            _ => return None,
        },
        _ => return None,
    };
    Some(Box::new(row))
}

fn numeric<'a>(op: &'a N, along: impl Fn(&'a TensorIr, Vec<usize>) -> Reduction<'a>) -> Option<Reduction<'a>> {
    let all = |input: &'a TensorIr| along(input, (0..input.shape.num_dims()).collect());
    Some(match op {
        N::MeanDim(op) => along(&op.input, vec![op.axis]).zero().constant().scales().across(Across::Mean),
        N::SumDim(op) => along(&op.input, vec![op.axis]).zero().scales().across(Across::Sum),
        N::SumDims(op) => along(&op.input, op.axes.clone()).zero().scales().across(Across::Sum),
        N::MaxDim(op) => along(&op.input, vec![op.axis]).zero().constant().scales().across(Across::Maximum),
        N::MinDim(op) => along(&op.input, vec![op.axis]).zero().constant().scales(),
        N::ProdDim(op) => along(&op.input, vec![op.axis]).zero(),
        N::MaxAbsDim(op) => along(&op.input, vec![op.axis]).zero().scales().across(Across::Sum),
        N::ArgMax(op) | N::ArgMin(op) | N::ArgTopK(op) | N::TopK(op) => along(&op.input, vec![op.axis]),
        N::MaxDimWithIndices(op) | N::MinDimWithIndices(op) => along(&op.tensor, vec![op.dim]),
        N::TopKWithIndices(op) => along(&op.tensor, vec![op.dim]),
        N::Sum(op) => all(&op.input).zero().scales().across(Across::Sum),
        N::MaxAbs(op) => all(&op.input).zero().scales().across(Across::Sum),
        N::Max(op) => all(&op.input).zero().scales().across(Across::Maximum),
        N::Mean(op) => all(&op.input).zero().scales().across(Across::Mean),
        N::Prod(op) | N::Min(op) => all(&op.input),
        N::CumSum(op) => along(&op.input, vec![op.axis]).zero().scales(),
        N::CumProd(op) | N::CumMin(op) | N::CumMax(op) => along(&op.input, vec![op.axis]),
        N::Sort(op) => along(&op.input, vec![op.dim]).zero().scales(),
        N::ArgSort(op) => along(&op.input, vec![op.dim]),
        N::SortWithIndices(op) => along(&op.input, vec![op.dim]),
        _ => return None,
    })
}

impl<'a> Reduction<'a> {
    /// Whether the result is a sum or a mean along each axis.
    fn is_linear(&self) -> bool {
        matches!(self.op, OperationIr::NumericFloat(_, N::MeanDim(_) | N::SumDim(_) | N::SumDims(_)))
    }

    /// Why no channel along an axis may leave, where none may.
    fn why_not(&self, axis: usize, context: &Context) -> Option<String> {
        let (zero, name) = (context.is_zero(self.input, axis), name(self.op));
        let mixed = |what: &str| Some(format!("{name} runs along its channels{what}"));
        let out = self.outs.first()?.id;
        match self.across {
            Across::Mixed => mixed(""),
            _ if !zero => mixed(", which are not zero without their weights"),
            Across::Sum => None,
            Across::Maximum if context.non_negative.contains(&self.input.id) => None,
            Across::Maximum => mixed(", and its operand may be negative"),
            Across::Mean if context.divisible.contains(&out) => None,
            Across::Mean => match context.fixed_means.get(&out) {
                Some(reader) => mixed(&format!(", and {reader} cannot take the factor that a mean over fewer gets")),
                None => mixed(""),
            },
        }
    }
}

impl<'a> Describe<'a> for Reduction<'a> {
    fn flow(&self, context: &mut Context) {
        let mut axes = context.axes(self.input);
        for &axis in &self.along {
            let Some(ids) = axes.get_mut(axis).and_then(Option::take) else { continue };
            match self.why_not(axis, context) {
                Some(reason) => context.sets.pin(&ids, &reason),
                None => context.summed.extend(ids),
            }
        }
        for out in &self.outs {
            let rank = out.shape.num_dims();
            let mut own = axes.clone();
            // A reduction to one element has lost its axes, a sliding window (`unfold`) has gained one.
            own.resize(rank, None);
            context.set(out, if rank < axes.len() { vec![None; rank] } else { own });
        }
    }

    fn zero_along(&self, axis: usize, context: &Context) -> bool {
        let whole = self.outs.iter().all(|out| out.shape.num_dims() == self.input.shape.num_dims());
        self.zero && whole && !self.along.contains(&axis) && context.is_zero(self.input, axis)
    }

    fn non_negative(&self, context: &Context) -> bool {
        let softmax = matches!(self.op, OperationIr::Activation(A::Softmax(_) | A::Softmin(_)));
        let largest = matches!(self.op, OperationIr::NumericFloat(_, N::MaxAbs(_) | N::MaxAbsDim(_)));
        softmax || largest || (self.scales && context.non_negative.contains(&self.input.id))
    }

    fn exponent(&self, exponents: &[i32]) -> Option<i32> {
        same_exponent(exponents).filter(|_| self.scales)
    }

    fn mean_free(&self, axis: usize) -> Vec<(&'a TensorIr, usize)> {
        let passes = self.is_linear() && !self.along.contains(&axis);
        passes.then_some((self.input, axis)).into_iter().collect()
    }

    fn constant(&self, known: &Constants<'_>) -> HashSet<ChannelId> {
        if self.constant { known.of(self.input) } else { HashSet::new() }
    }

    fn macs(&self, _shape: &ShapeOf<'_>) -> Option<u64> {
        FREE
    }
}
