//! Reductions, softmax, sorting: along positions they leave channels alone, along channels they mix them.

use burn::backend::ir::{
    ActivationOperationIr as A, BaseOperationIr as B, NumericOperationIr as N, OperationIr, TensorIr,
};

use super::super::context::Context;

const MIXED: &str = "a reduction runs along its channels";

pub(super) fn flow(op: &OperationIr, context: &mut Context) -> bool {
    let (input, along): (&TensorIr, Vec<usize>) = match op {
        OperationIr::NumericFloat(_, op) | OperationIr::NumericInt(_, op) => match op {
            N::MeanDim(op)
            | N::SumDim(op)
            | N::ProdDim(op)
            | N::MaxDim(op)
            | N::MinDim(op)
            | N::MaxAbsDim(op)
            | N::ArgMax(op)
            | N::ArgMin(op)
            | N::ArgTopK(op)
            | N::TopK(op) => (&op.input, vec![op.axis]),
            N::MaxDimWithIndices(op) | N::MinDimWithIndices(op) => (&op.tensor, vec![op.dim]),
            N::TopKWithIndices(op) => (&op.tensor, vec![op.dim]),
            N::SumDims(op) => (&op.input, op.axes.clone()),
            N::Mean(op) | N::Sum(op) | N::Prod(op) | N::Max(op) | N::Min(op) | N::MaxAbs(op) => {
                (&op.input, (0..op.input.shape.num_dims()).collect())
            }
            N::CumSum(op) | N::CumProd(op) | N::CumMin(op) | N::CumMax(op) => (&op.input, vec![op.axis]),
            N::Sort(op) | N::ArgSort(op) => (&op.input, vec![op.dim]),
            N::SortWithIndices(op) => (&op.input, vec![op.dim]),
            _ => return false,
        },
        OperationIr::Activation(A::Softmax(op) | A::LogSoftmax(op) | A::Softmin(op)) => (&op.input, vec![op.axis]),
        OperationIr::BaseFloat(op) | OperationIr::BaseInt(op) | OperationIr::BaseBool(op) => match op {
            B::AllDim(op) | B::AnyDim(op) => (&op.input, vec![op.axis]),
            B::All(op) | B::Any(op) => (&op.input, (0..op.input.shape.num_dims()).collect()),
            B::Unfold(op) => (&op.input, vec![op.dim]),
            _ => return false,
        },
        _ => return false,
    };
    let mut axes = context.axes(input);
    for axis in along {
        // A root-mean-square normalisation can lose channels that are zero without their weights.
        let zero = context.zero.contains(&input.id);
        let divisible = zero && op.outputs().next().is_some_and(|out| context.divisible.contains(&out.id));
        if let Some(labels) = axes.get_mut(axis).and_then(Option::take).filter(|_| !divisible) {
            context.labels.pin(&labels, MIXED);
        }
    }
    for out in op.outputs() {
        let rank = out.shape.num_dims();
        let mut own = axes.clone();
        // A reduction to one number has lost its axes, a sliding window (`unfold`) has gained one.
        own.resize(rank, None);
        context.set(out, if rank < axes.len() { vec![None; rank] } else { own });
    }
    true
}
