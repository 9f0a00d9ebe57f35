//! Linear layers and matrix products: the last axis of the left meets the second-last of the right.

use burn::backend::ir::{FloatOperationIr, ModuleOperationIr, OperationIr, TensorIr};

use super::super::context::Context;
use super::dims;

pub(super) fn flow(op: &OperationIr, context: &mut Context) -> bool {
    match op {
        OperationIr::Module(ModuleOperationIr::Linear(op)) => {
            product(&op.x, &op.weight, &op.out, context);
            if let Some(bias) = &op.bias {
                let (bias, out) = (context.axes(bias), context.axes(&op.out));
                context.unify(&bias[0], &out[out.len() - 1], "its bias is computed");
            }
            true
        }
        OperationIr::Float(_, FloatOperationIr::Matmul(op)) => {
            product(&op.lhs, &op.rhs, &op.out, context);
            true
        }
        _ => false,
    }
}

fn product(lhs: &TensorIr, rhs: &TensorIr, out: &TensorIr, context: &mut Context) {
    let (left, right) = (context.axes(lhs), context.axes(rhs));
    let (l, r, rank) = (left.len(), right.len(), dims(out).len());
    let reason = "it is an input of the network or a constant";
    context.unify(&left[l - 1], &right[r.saturating_sub(2)], reason);
    let mut axes = vec![None; rank];
    axes[rank - 1] = right[r - 1].clone();
    if l >= 2 {
        axes[rank - 2] = left[l - 2].clone();
    }
    // Batch axes: a channel there must be the same on both sides, or broadcast.
    for back in 3..=rank {
        let of = |axes: &Vec<Option<Vec<u32>>>| (axes.len() >= back).then(|| axes[axes.len() - back].clone()).flatten();
        let (a, b) = (of(&left), of(&right));
        match (a, b) {
            (Some(a), Some(b)) => {
                if a.len() == b.len() {
                    context.labels.union_all(&a, &b);
                    axes[rank - back] = Some(a);
                } else {
                    axes[rank - back] = Some(if a.len() > b.len() { a } else { b });
                }
            }
            (a, b) => axes[rank - back] = a.or(b).filter(|labels| labels.len() == dims(out)[rank - back]),
        }
    }
    context.tensors.insert(out.id, axes);
}
