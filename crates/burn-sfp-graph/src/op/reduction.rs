//! Reductions, softmax, sorting: along positions they leave channels alone, along channels they mix them.

use std::collections::HashSet;

use burn::backend::ir::{
    ActivationOperationIr as A, BaseOperationIr as B, NumericOperationIr as N, OperationIr, TensorIr,
};

use super::description::{Constants, Describe, Described, FREE, Family, ShapeOf};
use crate::channels::context::Context;
use crate::channels::ids::ChannelId;

const MIXED: &str = "a reduction runs along its channels";

pub(super) const FAMILY: Family = Family { read, kinds: &[] };

/// An operation that mixes the elements along some axes.
struct Reduction<'a> {
    input: &'a TensorIr,
    outs: Vec<&'a TensorIr>,
    along: Vec<usize>,
    /// Whether zeros give zero.
    zero: bool,
    /// Whether equal elements give that element.
    constant: bool,
}

impl Reduction<'_> {
    fn zero(self) -> Self {
        Self { zero: true, ..self }
    }

    fn constant(self) -> Self {
        Self { constant: true, ..self }
    }
}

fn read(op: &OperationIr) -> Option<Described<'_>> {
    let along = |input, along| Reduction { input, outs: op.outputs().collect(), along, zero: false, constant: false };
    let row = match op {
        OperationIr::NumericFloat(_, op) => numeric(op, along)?,
        OperationIr::NumericInt(_, op) => Reduction { zero: false, constant: false, ..numeric(op, along)? },
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
    Some(match op {
        N::MeanDim(op) => along(&op.input, vec![op.axis]).zero().constant(),
        N::SumDim(op) => along(&op.input, vec![op.axis]).zero(),
        N::MaxDim(op) | N::MinDim(op) => along(&op.input, vec![op.axis]).constant(),
        N::ProdDim(op) | N::MaxAbsDim(op) => along(&op.input, vec![op.axis]),
        N::ArgMax(op) | N::ArgMin(op) | N::ArgTopK(op) | N::TopK(op) => along(&op.input, vec![op.axis]),
        N::MaxDimWithIndices(op) | N::MinDimWithIndices(op) => along(&op.tensor, vec![op.dim]),
        N::TopKWithIndices(op) => along(&op.tensor, vec![op.dim]),
        N::SumDims(op) => along(&op.input, op.axes.clone()),
        N::Mean(op) | N::Sum(op) | N::Prod(op) | N::Max(op) | N::Min(op) | N::MaxAbs(op) => {
            along(&op.input, (0..op.input.shape.num_dims()).collect())
        }
        N::CumSum(op) | N::CumProd(op) | N::CumMin(op) | N::CumMax(op) => along(&op.input, vec![op.axis]),
        N::Sort(op) | N::ArgSort(op) => along(&op.input, vec![op.dim]),
        N::SortWithIndices(op) => along(&op.input, vec![op.dim]),
        _ => return None,
    })
}

impl<'a> Describe<'a> for Reduction<'a> {
    fn flow(&self, context: &mut Context) {
        let mut axes = context.axes(self.input);
        // A root-mean-square normalisation can lose channels that are zero without their weights.
        let zero = context.zero.contains(&self.input.id);
        let divisible = zero && self.outs.first().is_some_and(|out| context.divisible.contains(&out.id));
        for &axis in &self.along {
            if let Some(ids) = axes.get_mut(axis).and_then(Option::take).filter(|_| !divisible) {
                context.sets.pin(&ids, MIXED);
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

    fn keeps_zero(&self, context: &Context) -> bool {
        self.zero && context.is_zero(self.input)
    }

    fn mean_free(&self, axis: usize) -> Vec<(&'a TensorIr, usize)> {
        // What keeps zero here is a sum or a mean.
        let passes = self.zero && !self.along.contains(&axis);
        passes.then_some((self.input, axis)).into_iter().collect()
    }

    fn constant(&self, known: &Constants<'_>) -> HashSet<ChannelId> {
        if self.constant { known.of(self.input) } else { HashSet::new() }
    }

    fn macs(&self, _shape: &ShapeOf<'_>) -> Option<u64> {
        FREE
    }
}
