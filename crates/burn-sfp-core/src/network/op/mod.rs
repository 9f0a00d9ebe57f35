//! How a channel goes through an operation: one description next to each family of operations, read by
//! grouping, rewriting and counting alike.

mod convolution;
mod creation;
mod elementwise;
mod indexing;
mod matmul;
mod normalization;
mod pooling;
mod reduction;
mod reshape;
mod shape;
mod zero;

use std::fmt::Write;

use burn::backend::ir::{OperationIr, TensorIr};

use super::context::Context;

pub(super) use convolution::{Convolution, convolution};
pub(super) use elementwise::operands as elementwise_operands;
pub(super) use indexing::kept_range;
pub(super) use pooling::keeps_constants as pooling_keeps_constants;

/// What an operation is, where the tap of a layer looks for what follows directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Normalization,
    Activation,
    Pooling,
    Other,
}

/// Unifies the channels that the operation ties together and labels its outputs.
pub(super) fn flow(op: &OperationIr, index: usize, context: &mut Context) {
    let described = convolution::flow(op, context)
        || matmul::flow(op, context)
        || normalization::flow(op, context)
        || pooling::flow(op, context)
        || shape::flow(op, context)
        || indexing::flow(op, context)
        || reduction::flow(op, context)
        || elementwise::flow(op, context)
        || creation::flow(op, context);
    if !described {
        let reason = format!("operation {index} ({}) is not followed", name(op));
        for input in op.inputs() {
            context.pin(input, &reason);
        }
    }
    if zero::keeps(op, context) {
        context.zero.extend(op.outputs().map(|output| output.id));
    }
    for output in op.outputs() {
        // What an operation did not label carries no channel.
        context.tensors.entry(output.id).or_insert_with(|| vec![None; output.shape.num_dims()]);
    }
}

/// The operation's family.
pub(super) fn family(op: &OperationIr) -> Family {
    if normalization::is(op) {
        Family::Normalization
    } else if pooling::is(op) {
        Family::Pooling
    } else if elementwise::is_activation(op) {
        Family::Activation
    } else {
        Family::Other
    }
}

/// The operation's name without its operands, for example `Conv2d`.
pub(super) fn name(op: &OperationIr) -> String {
    let mut text = Head::default();
    // An error means that nothing more is needed.
    let _ = write!(text, "{op:?}");
    let Head(text) = text;
    let inner = text.split('(').nth(1).unwrap_or(&text);
    inner.rsplit(", ").next().unwrap_or(inner).split([' ', '{']).next().unwrap_or(inner).to_string()
}

/// Text up to its second parenthesis.
#[derive(Default)]
struct Head(String);

impl Write for Head {
    fn write_str(&mut self, more: &str) -> std::fmt::Result {
        self.0.push_str(more);
        if self.0.matches('(').nth(1).is_some() { Err(std::fmt::Error) } else { Ok(()) }
    }
}

fn dims(tensor: &TensorIr) -> Vec<usize> {
    tensor.shape.iter().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::ir::{ActivationOperationIr, TensorId, UnaryOpIr};
    use burn::backend::{DType, Shape};

    #[test]
    fn names_are_short() {
        let tensor = |id| TensorIr::uninit(TensorId::new(id), Shape::new([1]), DType::F32);
        let op = OperationIr::Activation(ActivationOperationIr::Relu(UnaryOpIr { input: tensor(0), out: tensor(1) }));
        assert_eq!(name(&op), "Relu");
        assert_eq!(family(&op), Family::Activation);
    }
}
