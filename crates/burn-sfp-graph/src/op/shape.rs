//! Operations that move whole axes: reshape, permute, swap, flip, expand, repeat, concatenate, pad, cast.

use std::collections::HashSet;

use burn::backend::ir::{
    BaseOperationIr as B, CatOpIr, NumericOperationIr as N, OperationIr, PadModeIr, PadOpIr, TensorIr,
};

use super::description::{
    Constants, Describe, Described, FREE, Family, ShapeOf, dims, is_zero_along, runs_along, same_exponent,
};
use super::reshape;
use crate::channels::context::Context;
use crate::channels::ids::{Axes, ChannelId};

pub(super) const FAMILY: Family = Family { read, kinds: &[] };

fn read(op: &OperationIr) -> Option<Described<'_>> {
    let (float, op) = match op {
        OperationIr::NumericFloat(_, N::Pad(op)) | OperationIr::NumericInt(_, N::Pad(op)) => {
            return Some(Box::new(Padded(op)));
        }
        OperationIr::BaseFloat(op) => (true, op),
        OperationIr::BaseInt(op) | OperationIr::BaseBool(op) => (false, op),
        _ => return None,
    };
    let moved = |input, out, constant, linear| Moved {
        op,
        input,
        out,
        float,
        constant: constant && float,
        linear: linear && float,
    };
    Some(match op {
        B::Reshape(op) => Box::new(moved(&op.input, &op.out, true, true)),
        B::SwapDims(op) => Box::new(moved(&op.input, &op.out, true, true)),
        B::Permute(op) => Box::new(moved(&op.input, &op.out, true, true)),
        B::Flip(op) => Box::new(moved(&op.input, &op.out, true, false)),
        B::Expand(op) => Box::new(moved(&op.input, &op.out, false, false)),
        B::RepeatDim(op) => Box::new(moved(&op.tensor, &op.out, false, false)),
        B::Cast(op) => Box::new(moved(&op.input, &op.out, false, false)),
        B::Cat(op) => Box::new(Joined { op, float }),
        _ => return None,
    })
}

/// Elements of one tensor in another order or shape. All of these keep zero.
struct Moved<'a> {
    op: &'a B,
    input: &'a TensorIr,
    out: &'a TensorIr,
    float: bool,
    /// Whether constant channels are followed through it.
    constant: bool,
    /// Whether a factor is followed through it.
    linear: bool,
}

impl<'a> Describe<'a> for Moved<'a> {
    fn flow(&self, context: &mut Context) {
        let axes = match self.op {
            B::Reshape(_) => reshape::reshape(self.input, self.out, context),
            B::Expand(_) => expand(self.input, self.out, context),
            op => {
                let mut axes = context.axes(self.input);
                match op {
                    B::SwapDims(op) => axes.swap(op.dim1, op.dim2),
                    B::Permute(op) => axes = op.axes.iter().map(|&axis| axes[axis].clone()).collect(),
                    B::Flip(op) => {
                        for &axis in &op.axes {
                            axes[axis].iter_mut().for_each(|ids| ids.reverse());
                        }
                    }
                    B::RepeatDim(op) => axes[op.dim].iter_mut().for_each(|ids| *ids = ids.repeat(op.times)),
                    _ => {}
                }
                axes
            }
        };
        context.set(self.out, axes);
    }

    fn zero_along(&self, axis: usize, context: &Context) -> bool {
        let zero = |own: usize| context.is_zero(self.input, own);
        match self.op {
            B::Reshape(_) => {
                // An index there is gone where any of its coordinates is.
                let carries = |own: &usize| {
                    let axes = context.tensors.get(&self.input.id);
                    axes.is_some_and(|axes| context.may_shrink(&axes[*own]))
                };
                let mut from = reshape::sources(self.input, self.out, axis).filter(carries).peekable();
                from.peek().is_some() && from.all(zero)
            }
            B::SwapDims(op) if axis == op.dim1 => zero(op.dim2),
            B::SwapDims(op) if axis == op.dim2 => zero(op.dim1),
            B::Permute(op) => op.axes.get(axis).is_some_and(|&own| zero(own)),
            B::Expand(_) => is_zero_along(self.input, self.out, axis, context),
            _ => zero(axis),
        }
    }

    fn non_negative(&self, context: &Context) -> bool {
        context.non_negative.contains(&self.input.id)
    }

    fn exponent(&self, exponents: &[i32]) -> Option<i32> {
        same_exponent(exponents).filter(|_| self.float)
    }

    fn constant(&self, known: &Constants<'_>) -> HashSet<ChannelId> {
        if self.constant { known.of(self.input) } else { HashSet::new() }
    }

    fn macs(&self, _shape: &ShapeOf<'_>) -> Option<u64> {
        FREE
    }

    fn linear_in(&self) -> Option<&'a TensorIr> {
        self.linear.then_some(self.input)
    }

    fn mean_free(&self, axis: usize) -> Vec<(&'a TensorIr, usize)> {
        let own = match self.op {
            B::Reshape(_) => unmoved(self.input, self.out, axis),
            B::SwapDims(op) if axis == op.dim1 => Some(op.dim2),
            B::SwapDims(op) if axis == op.dim2 => Some(op.dim1),
            B::Permute(op) => op.axes.get(axis).copied(),
            B::Expand(_) | B::RepeatDim(_) => runs_along(self.input, self.out, axis),
            _ => Some(axis),
        };
        own.filter(|_| self.float).map(|own| (self.input, own)).into_iter().collect()
    }
}

/// The axis of a reshaped tensor that an axis of the result is, `None` where a reshape splits or joins it.
fn unmoved(input: &TensorIr, out: &TensorIr, axis: usize) -> Option<usize> {
    let inside = |shape: &[usize], axis: usize| shape[axis + 1..].iter().product::<usize>();
    let (from, to) = (dims(input), dims(out));
    (0..from.len()).find(|&own| from[own] == to[axis] && inside(&from, own) == inside(&to, axis))
}

/// An axis of length 1 that is spread gets ids that nothing carries yet: its new length follows what it meets.
fn expand(input: &TensorIr, out: &TensorIr, context: &mut Context) -> Axes {
    let axes = context.axes(input);
    let (from, to) = (dims(input), dims(out));
    let extra = to.len() - from.len();
    (0..to.len())
        .map(|axis| match axis.checked_sub(extra) {
            Some(own) if from[own] == to[axis] => axes[own].clone(),
            own => {
                if let Some(ids) = own.and_then(|own| axes[own].as_ref()) {
                    context.sets.pin(ids, "it is spread over many channels");
                }
                Some(context.sets.fresh(to[axis]))
            }
        })
        .collect()
}

/// Tensors side by side along one axis.
struct Joined<'a> {
    op: &'a CatOpIr,
    float: bool,
}

impl<'a> Describe<'a> for Joined<'a> {
    fn flow(&self, context: &mut Context) {
        let (tensors, dim) = (&self.op.tensors, self.op.dim);
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
            // A part without channels (an input, a constant) gets ids of its own that must stay.
            let mut joined = Vec::new();
            for (part, tensor) in all.iter().zip(tensors) {
                match &part[dim] {
                    Some(ids) => joined.extend_from_slice(ids),
                    None => {
                        let ids = context.sets.fresh(dims(tensor)[dim]);
                        context.sets.pin(&ids, "it is an input of the network or a constant");
                        joined.extend(ids);
                    }
                }
            }
            axes[dim] = Some(joined);
        }
        context.set(&self.op.out, axes);
    }

    fn zero_along(&self, axis: usize, context: &Context) -> bool {
        self.op.tensors.iter().all(|part| {
            // A part without channels there never leaves.
            let fixed = context.tensors.get(&part.id).is_some_and(|axes| axes[axis].is_none());
            (axis == self.op.dim && fixed) || context.is_zero(part, axis)
        })
    }

    fn non_negative(&self, context: &Context) -> bool {
        self.op.tensors.iter().all(|part| context.non_negative.contains(&part.id))
    }

    fn exponent(&self, exponents: &[i32]) -> Option<i32> {
        same_exponent(exponents)
    }

    fn constant(&self, known: &Constants<'_>) -> HashSet<ChannelId> {
        let dim = self.op.dim;
        // Along the channels each part brings its own; along anything else two constants may meet.
        if !self.float || !known.along(&self.op.out, dim).iter().any(|id| known.carried.contains(id)) {
            return HashSet::new();
        }
        let constant = |part: &TensorIr, id: &ChannelId| known.found.get(&part.id).is_some_and(|ids| ids.contains(id));
        let everywhere = |id: &ChannelId| {
            self.op.tensors.iter().all(|part| !known.along(part, dim).contains(id) || constant(part, id))
        };
        known.carried.iter().filter(|id| everywhere(id)).copied().collect()
    }

    fn mean_free(&self, axis: usize) -> Vec<(&'a TensorIr, usize)> {
        let parts = self.op.tensors.iter().map(|part| (part, axis));
        if self.float && axis != self.op.dim { parts.collect() } else { Vec::new() }
    }

    fn macs(&self, _shape: &ShapeOf<'_>) -> Option<u64> {
        FREE
    }
}

/// A tensor with something around it.
struct Padded<'a>(&'a PadOpIr);

impl<'a> Describe<'a> for Padded<'a> {
    fn flow(&self, context: &mut Context) {
        let axes = context.axes(&self.0.input);
        let padded = axes.into_iter().zip(&self.0.padding).map(|(ids, &(before, after))| {
            let ids = ids?;
            // What is padded counts as channels of their own, which must stay.
            let (mut all, end) = (context.sets.fresh(before), context.sets.fresh(after));
            context.sets.pin(&all, "its channel axis is padded");
            context.sets.pin(&end, "its channel axis is padded");
            all.extend(ids);
            all.extend(end);
            Some(all)
        });
        let padded: Axes = padded.collect();
        context.set(&self.0.out, padded);
    }

    fn zero_along(&self, axis: usize, context: &Context) -> bool {
        let zeros = match self.0.mode {
            PadModeIr::Constant(value) => value.elem::<f64>() == 0.0,
            PadModeIr::Reflect | PadModeIr::Edge => true,
        };
        zeros && context.is_zero(&self.0.input, axis)
    }

    fn macs(&self, _shape: &ShapeOf<'_>) -> Option<u64> {
        FREE
    }
}
