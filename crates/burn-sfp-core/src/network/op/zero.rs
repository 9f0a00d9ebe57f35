//! Whether channels whose parameters are zero are zero in a result: what a mean over channels has to know before it may
//! lose some.

use burn::backend::ir::{
    ActivationOperationIr as A, BaseOperationIr as B, FloatOperationIr as F, ModuleOperationIr as M,
    NumericOperationIr as N, OperationIr, TensorIr,
};

use super::super::context::Context;
use super::convolution::convolution;
use super::pooling;

/// Whether the channels that an operation's result carries are zero where the parameters that make them are.
pub(super) fn keeps(op: &OperationIr, context: &mut Context) -> bool {
    let zero = |tensor: &TensorIr| context.zero.contains(&tensor.id) || context.parameter(tensor).is_some();
    if let Some(conv) = convolution(op) {
        return zero(conv.weight);
    }
    if pooling::is(op) {
        return op.inputs().next().is_some_and(zero);
    }
    match op {
        OperationIr::Module(M::Linear(op)) => zero(&op.weight),
        OperationIr::Module(M::Embedding(op)) => zero(&op.weights),
        OperationIr::Module(M::BatchNorm(op)) => zero(&op.gamma) && zero(&op.beta),
        OperationIr::Float(_, F::Matmul(op)) => {
            let rows = op.lhs.clone();
            let columns = zero(&op.rhs);
            let labelled_rows = context.axes(&rows).iter().rev().skip(1).any(Option::is_some);
            columns && (!labelled_rows || context.zero.contains(&rows.id))
        }
        OperationIr::Activation(A::Relu(op) | A::Gelu(op)) => zero(&op.input),
        OperationIr::Activation(A::LeakyRelu(op)) => zero(&op.lhs),
        OperationIr::Float(_, F::Tanh(op) | F::Erf(op) | F::Sqrt(op)) => zero(&op.input),
        OperationIr::NumericFloat(_, op) => match op {
            N::Abs(op) | N::Neg(op) => zero(&op.input),
            N::MulScalar(op) | N::DivScalar(op) => zero(&op.lhs),
            N::PowiScalar(op) => zero(&op.lhs) && op.rhs.elem::<f64>() > 0.0,
            // Both sides have to run along every axis with channels: a bias of the positions is not zero where a channel is.
            N::Add(op) | N::Sub(op) => {
                let carried = context.tensors.get(&op.out.id).cloned().unwrap_or_default();
                let runs_along = |side: &TensorIr| {
                    carried.iter().enumerate().all(|(axis, labels)| {
                        let own = (axis + side.shape.num_dims()).checked_sub(carried.len());
                        labels.is_none() || own.is_some_and(|own| side.shape[own] == op.out.shape[axis])
                    })
                };
                [&op.lhs, &op.rhs].into_iter().all(|side| zero(side) && runs_along(side))
            }
            // A factor of zero is enough, where it runs along the channels.
            N::Mul(op) => [&op.lhs, &op.rhs].iter().any(|factor| factor.shape == op.out.shape && zero(factor)),
            N::Div(op) => op.lhs.shape == op.out.shape && zero(&op.lhs),
            N::MeanDim(op) | N::SumDim(op) => zero(&op.input),
            _ => false,
        },
        OperationIr::BaseFloat(op) => match op {
            B::Reshape(op) | B::Expand(op) => zero(&op.input),
            B::SwapDims(op) => zero(&op.input),
            B::Permute(op) => zero(&op.input),
            B::Flip(op) => zero(&op.input),
            B::Slice(op) => zero(&op.tensor),
            B::Cast(op) => zero(&op.input),
            B::RepeatDim(op) => zero(&op.tensor),
            B::Cat(op) => op.tensors.iter().all(zero),
            _ => false,
        },
        _ => false,
    }
}
