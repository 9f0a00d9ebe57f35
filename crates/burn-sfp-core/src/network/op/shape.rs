//! Operations that move whole axes: permute, swap, flip, expand, repeat, concatenate, pad, cast.

use burn::backend::ir::{BaseOperationIr as B, NumericOperationIr as N, OperationIr, TensorIr};

use super::super::context::Context;
use super::super::labels::Axes;
use super::{dims, reshape};

pub(super) fn flow(op: &OperationIr, context: &mut Context) -> bool {
    if let OperationIr::NumericFloat(_, N::Pad(op)) | OperationIr::NumericInt(_, N::Pad(op)) = op {
        let axes = context.axes(&op.input);
        let padded: Axes = axes
            .into_iter()
            .zip(&op.padding)
            .map(|(labels, &(before, after))| {
                let labels = labels?;
                // What is padded counts as channels of their own, which must stay.
                let (mut all, end) = (context.labels.fresh(before), context.labels.fresh(after));
                context.labels.pin(&all, "its channel axis is padded");
                context.labels.pin(&end, "its channel axis is padded");
                all.extend(labels);
                all.extend(end);
                Some(all)
            })
            .collect();
        context.set(&op.out, padded);
        return true;
    }
    let (OperationIr::BaseFloat(op) | OperationIr::BaseInt(op) | OperationIr::BaseBool(op)) = op else { return false };
    let (out, axes) = match op {
        B::Reshape(op) => (&op.out, reshape::reshape(&op.input, &op.out, context)),
        B::SwapDims(op) => {
            let mut axes = context.axes(&op.input);
            axes.swap(op.dim1, op.dim2);
            (&op.out, axes)
        }
        B::Permute(op) => {
            let axes = context.axes(&op.input);
            (&op.out, op.axes.iter().map(|&axis| axes[axis].clone()).collect())
        }
        B::Flip(op) => {
            let mut axes = context.axes(&op.input);
            for &axis in &op.axes {
                if let Some(labels) = &mut axes[axis] {
                    labels.reverse();
                }
            }
            (&op.out, axes)
        }
        B::Expand(op) => (&op.out, expand(&op.input, &op.out, context)),
        B::RepeatDim(op) => {
            let mut axes = context.axes(&op.tensor);
            if let Some(labels) = &mut axes[op.dim] {
                *labels = labels.repeat(op.times);
            }
            (&op.out, axes)
        }
        B::Cat(op) => (&op.out, cat(&op.tensors, op.dim, context)),
        B::Cast(op) => (&op.out, context.axes(&op.input)),
        _ => return false,
    };
    context.set(out, axes);
    true
}

/// An axis of length 1 that is spread gets labels that nothing carries yet: its new length follows what it meets.
fn expand(input: &TensorIr, out: &TensorIr, context: &mut Context) -> Axes {
    let axes = context.axes(input);
    let (from, to) = (dims(input), dims(out));
    let extra = to.len() - from.len();
    (0..to.len())
        .map(|axis| match axis.checked_sub(extra) {
            Some(own) if from[own] == to[axis] => axes[own].clone(),
            own => {
                if let Some(labels) = own.and_then(|own| axes[own].as_ref()) {
                    context.labels.pin(labels, "it is spread over many channels");
                }
                Some(context.labels.fresh(to[axis]))
            }
        })
        .collect()
}

fn cat(tensors: &[TensorIr], dim: usize, context: &mut Context) -> Axes {
    let all: Vec<Axes> = tensors.iter().map(|tensor| context.axes(tensor)).collect();
    let mut axes = all[0].clone();
    for (axis, slot) in axes.iter_mut().enumerate() {
        if axis == dim {
            continue;
        }
        for other in &all[1..] {
            context.unify(slot, &other[axis], "it is concatenated with something that carries no channels");
        }
    }
    if all.iter().any(|axes| axes[dim].is_some()) {
        // A part without channels (an input, a constant) gets labels of its own that must stay.
        let mut joined = Vec::new();
        for (part, tensor) in all.iter().zip(tensors) {
            match &part[dim] {
                Some(labels) => joined.extend_from_slice(labels),
                None => {
                    let labels = context.labels.fresh(dims(tensor)[dim]);
                    context.labels.pin(&labels, "it is an input of the network or a constant");
                    joined.extend(labels);
                }
            }
        }
        axes[dim] = Some(joined);
    }
    axes
}
