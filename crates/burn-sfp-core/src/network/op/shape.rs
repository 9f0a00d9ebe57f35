//! Operations that move indices: reshape, permute, slice, concatenate, expand, pad.

use burn::backend::ir::{BaseOperationIr as B, NumericOperationIr as N, OperationIr, TensorIr};

use super::super::context::Context;
use super::super::labels::Axes;
use super::dims;

pub(super) fn flow(op: &OperationIr, context: &mut Context) -> bool {
    if let OperationIr::NumericFloat(_, N::Pad(op)) = op {
        let mut axes = context.axes(&op.input);
        for (axis, padding) in op.padding.iter().enumerate() {
            if *padding != (0, 0)
                && let Some(labels) = axes.get_mut(axis).and_then(Option::take)
            {
                context.labels.pin(&labels, "its channel axis is padded");
            }
        }
        context.tensors.insert(op.out.id, axes);
        return true;
    }
    let OperationIr::BaseFloat(op) = op else { return false };
    let (out, axes) = match op {
        B::Reshape(op) => (&op.out, reshape(&op.input, &op.out, context)),
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
        B::Expand(op) => {
            let axes = context.axes(&op.input);
            let (from, to) = (dims(&op.input), dims(&op.out));
            let extra = to.len() - from.len();
            for (axis, labels) in axes.iter().enumerate() {
                if let Some(labels) = labels.as_ref().filter(|_| from[axis] != to[axis + extra]) {
                    context.labels.pin(labels, "it is spread over many channels");
                }
            }
            let axes = (0..to.len())
                .map(|axis| axis.checked_sub(extra).filter(|&a| from[a] == to[axis]).and_then(|a| axes[a].clone()))
                .collect();
            (&op.out, axes)
        }
        B::Slice(op) => {
            let mut axes = context.axes(&op.tensor);
            let shape = dims(&op.tensor);
            for (axis, range) in op.ranges.iter().enumerate() {
                let (whole, labels) = (shape[axis], &mut axes[axis]);
                let Some(all) = labels else { continue };
                let end = range.end.unwrap_or(whole as isize);
                let bound =
                    |at: isize| (if at < 0 { at + whole as isize } else { at }).clamp(0, whole as isize) as usize;
                let (start, end) = (bound(range.start), bound(end));
                if range.step == 1 && start <= end {
                    *labels = Some(all[start..end].to_vec());
                } else {
                    let all = labels.take().unwrap_or_default();
                    context.labels.pin(&all, "its channels are sliced with a step");
                }
            }
            (&op.out, axes)
        }
        B::Cat(op) => (&op.out, cat(&op.tensors, op.dim, context)),
        B::Cast(op) => (&op.out, context.axes(&op.input)),
        _ => return false,
    };
    context.tensors.insert(out.id, axes);
    true
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

/// Splits both shapes into the smallest runs of axes with equal products; inside a run a channel axis may
/// absorb axes without channels (a flatten: every channel becomes a run of features) or shed axes of length 1.
fn reshape(input: &TensorIr, out: &TensorIr, context: &mut Context) -> Axes {
    let axes = context.axes(input);
    let (from, to) = (dims(input), dims(out));
    let mut result: Axes = vec![None; to.len()];
    let (mut i, mut o) = (0, 0);
    while i < from.len() || o < to.len() {
        let (i0, o0) = (i, o);
        let (mut p, mut q) = (1, 1);
        loop {
            if i < from.len() && (p <= q || o >= to.len()) {
                p *= from[i];
                i += 1;
            } else if o < to.len() {
                q *= to[o];
                o += 1;
            } else {
                break;
            }
            if p == q && p != 1 {
                break;
            }
            if p == q && i >= from.len() && o >= to.len() {
                break;
            }
        }
        let channels: Vec<usize> = (i0..i).filter(|&axis| axes[axis].is_some() && from[axis] > 1).collect();
        let wide: Vec<usize> = (o0..o).filter(|&axis| to[axis] > 1).collect();
        match (channels.as_slice(), wide.as_slice()) {
            ([], _) => {}
            // One channel axis, one output axis: each index of the output belongs to one channel.
            (&[channel], &[target]) => {
                let Some(labels) = &axes[channel] else { continue };
                let inner: usize = from[channel + 1..i].iter().product();
                result[target] = Some((0..to[target]).map(|k| labels[(k / inner) % from[channel]]).collect());
            }
            // The run is cut the other way round, but the channel axis comes out whole (only its neighbours change).
            (&[channel], _) => {
                let Some(labels) = &axes[channel] else { continue };
                let (outer, inner): (usize, usize) =
                    (from[i0..channel].iter().product(), from[channel + 1..i].iter().product());
                let mut before = 1;
                let whole = (o0..o).find(|&axis| {
                    let hit = before == outer
                        && to[axis] == from[channel]
                        && to[axis + 1..o].iter().product::<usize>() == inner;
                    before *= to[axis];
                    hit
                });
                match whole {
                    Some(target) => result[target] = Some(labels.clone()),
                    None => context.labels.pin(labels, "a reshape splits its channel axis"),
                }
            }
            _ => {
                for &axis in &channels {
                    if let Some(labels) = &axes[axis] {
                        context.labels.pin(labels, "a reshape joins several channel axes");
                    }
                }
            }
        }
    }
    result
}
