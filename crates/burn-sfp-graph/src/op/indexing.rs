//! Operations that pick some indices of an axis: slice, select, gather, scatter, assignments.

use std::collections::HashSet;

use burn::backend::ir::{BaseOperationIr as B, OperationIr, SliceAssignOpIr, SliceOpIr, TensorId, TensorIr};
use burn::tensor::Slice;
use num_integer::Integer;

use super::description::{Constants, Describe, Described, FREE, Family, ShapeOf, dims, same_exponent};
use crate::channels::context::Context;
use crate::channels::ids::ChannelId;
use crate::channels::left::Left;

const FIXED: &str = "fixed indices pick from its channel axis";
const STEPPED: &str = "its channels are sliced with a step";

pub(super) const FAMILY: Family = Family { read, kinds: &[] };

fn read(op: &OperationIr) -> Option<Described<'_>> {
    let (float, op) = match op {
        OperationIr::BaseFloat(op) => (true, op),
        OperationIr::BaseInt(op) | OperationIr::BaseBool(op) => (false, op),
        _ => return None,
    };
    Some(match op {
        B::Slice(op) => Box::new(Sliced { op, float }),
        B::SliceAssign(op) => Box::new(Written(op)),
        B::Select(op) => Box::new(Picked { tensor: &op.tensor, dim: op.dim, with: vec![], out: &op.out, whole: float }),
        B::Gather(op) => Box::new(picked(&op.tensor, op.dim, vec![&op.indices], &op.out)),
        B::Scatter(op) => Box::new(picked(&op.tensor, op.dim, vec![&op.indices, &op.value], &op.out)),
        B::SelectAssign(op) => Box::new(picked(&op.tensor, op.dim, vec![&op.value], &op.out)),
        _ => return None,
    })
}

/// A part of each axis.
struct Sliced<'a> {
    op: &'a SliceOpIr,
    float: bool,
}

impl<'a> Describe<'a> for Sliced<'a> {
    fn flow(&self, context: &mut Context) {
        let mut axes = context.axes(&self.op.tensor);
        for (axis, window) in windows(&self.op.tensor, &self.op.ranges).enumerate() {
            axes[axis] = axes[axis].take().and_then(|ids| match window.part() {
                Some(part) if context.is_free() => Some(ids[part.start..part.end].to_vec()),
                _ => window.cut(ids, context),
            });
        }
        context.set(&self.op.out, axes);
    }

    fn zero_along(&self, axis: usize, context: &Context) -> bool {
        context.is_zero(&self.op.tensor, axis)
    }

    fn non_negative(&self, context: &Context) -> bool {
        context.non_negative.contains(&self.op.tensor.id)
    }

    fn exponent(&self, exponents: &[i32]) -> Option<i32> {
        same_exponent(exponents)
    }

    fn constant(&self, known: &Constants<'_>) -> HashSet<ChannelId> {
        if self.float { known.of(&self.op.tensor) } else { HashSet::new() }
    }

    fn macs(&self, _shape: &ShapeOf<'_>) -> Option<u64> {
        FREE
    }

    fn mean_free(&self, axis: usize) -> Vec<(&'a TensorIr, usize)> {
        let whole = self.op.out.shape[axis] == self.op.tensor.shape[axis];
        (self.float && whole).then_some((&self.op.tensor, axis)).into_iter().collect()
    }

    fn mismatch(&self, smaller: &OperationIr, left: Left<'_>) -> Option<String> {
        let (OperationIr::BaseFloat(B::Slice(smaller))
        | OperationIr::BaseInt(B::Slice(smaller))
        | OperationIr::BaseBool(B::Slice(smaller))) = smaller
        else {
            return None;
        };
        other_window((&self.op.tensor, &self.op.ranges), (&smaller.tensor, &smaller.ranges), left)
    }
}

/// Which window of a smaller tensor is not what is left of that of a tensor.
fn other_window(
    (tensor, ranges): (&TensorIr, &[Slice]),
    (smaller, theirs): (&TensorIr, &[Slice]),
    left: Left<'_>,
) -> Option<String> {
    ranges.iter().zip(theirs).enumerate().find_map(|(axis, (ours, theirs))| {
        let length = tensor.shape[axis];
        let keep = left.keeps(tensor.id, axis).unwrap_or_else(|| vec![true; length]);
        let (expected, found) = (Window::of(ours, length), Window::of(theirs, smaller.shape[axis]));
        let step = (expected.step != found.step).then(|| format!("it takes every {}th of axis {axis}", found.step));
        let (expected, found) = (expected.kept(|k| keep[k]), found.kept(|_| true));
        let bounds = || format!("it takes {found:?} of axis {axis}, the plan's is {expected:?}");
        step.or_else(|| (expected != found).then(bounds))
    })
}

/// A tensor with another written over a part of it.
struct Written<'a>(&'a SliceAssignOpIr);

impl<'a> Describe<'a> for Written<'a> {
    fn flow(&self, context: &mut Context) {
        let op = self.0;
        let (axes, value) = (context.axes(&op.tensor), context.axes(&op.value));
        for (axis, window) in windows(&op.tensor, &op.ranges).enumerate() {
            let cut = axes[axis].clone().and_then(|ids| window.cut(ids, context));
            context.unify(&cut, &value[axis], "something without channels is written into it");
        }
        context.set(&op.out, axes);
    }

    fn zero_along(&self, axis: usize, context: &Context) -> bool {
        context.is_zero(&self.0.tensor, axis) && context.is_zero(&self.0.value, axis)
    }

    fn mismatch(&self, smaller: &OperationIr, left: Left<'_>) -> Option<String> {
        let (OperationIr::BaseFloat(B::SliceAssign(smaller))
        | OperationIr::BaseInt(B::SliceAssign(smaller))
        | OperationIr::BaseBool(B::SliceAssign(smaller))) = smaller
        else {
            return None;
        };
        other_window((&self.0.tensor, &self.0.ranges), (&smaller.tensor, &smaller.ranges), left)
    }

    fn macs(&self, _shape: &ShapeOf<'_>) -> Option<u64> {
        FREE
    }
}

/// Indices of one axis, picked or written by other tensors. Channels of the other axes stay what they are, in the tensor and in what
/// goes with it index by index.
struct Picked<'a> {
    tensor: &'a TensorIr,
    dim: usize,
    with: Vec<&'a TensorIr>,
    out: &'a TensorIr,
    /// Whether an index picks everything along the other axes, of floats.
    whole: bool,
}

fn picked<'a>(tensor: &'a TensorIr, dim: usize, with: Vec<&'a TensorIr>, out: &'a TensorIr) -> Picked<'a> {
    Picked { tensor, dim, with, out, whole: false }
}

impl<'a> Describe<'a> for Picked<'a> {
    fn flow(&self, context: &mut Context) {
        let mut axes = context.axes(self.tensor);
        if let Some(ids) = axes[self.dim].take() {
            context.sets.pin(&ids, FIXED);
        }
        for other in &self.with {
            let own = context.axes(other);
            for axis in 0..axes.len() {
                if axis == self.dim {
                    context.pin_axes(&own[axis..=axis], FIXED);
                } else {
                    context.unify(&axes[axis], &own[axis], "indices that carry no channels pick from it");
                }
            }
        }
        context.set(self.out, axes);
    }

    fn zero_along(&self, axis: usize, context: &Context) -> bool {
        self.with.is_empty() && axis != self.dim && context.is_zero(self.tensor, axis)
    }

    fn mean_free(&self, axis: usize) -> Vec<(&'a TensorIr, usize)> {
        (self.whole && axis != self.dim).then_some((self.tensor, axis)).into_iter().collect()
    }

    fn macs(&self, _shape: &ShapeOf<'_>) -> Option<u64> {
        FREE
    }
}

/// The window of each axis of a tensor; axes without a range are taken whole.
fn windows(tensor: &TensorIr, ranges: &[Slice]) -> impl Iterator<Item = Window> {
    let lengths = dims(tensor).into_iter().enumerate();
    lengths.map(|(axis, length)| ranges.get(axis).map_or(Window::whole(length), |range| Window::of(range, length)))
}

/// A part of an axis that a slice takes, in the order of the axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Part {
    start: usize,
    end: usize,
    whole: usize,
}

impl Part {
    pub fn length(self) -> usize {
        self.end - self.start
    }

    /// The common divisor of a number and of all bounds.
    pub fn common(self, other: usize) -> usize {
        [self.whole, self.start, self.end].iter().fold(other, |block, bound| block.gcd(bound)).max(1)
    }
}

/// The tensor and the axes of which an operation takes a part of floats, and the parts.
pub(crate) fn parts(op: &OperationIr) -> Vec<(TensorId, usize, Part)> {
    let OperationIr::BaseFloat(B::Slice(op)) = op else { return Vec::new() };
    let all = windows(&op.tensor, &op.ranges).enumerate();
    all.filter_map(|(axis, window)| Some((op.tensor.id, axis, window.part()?))).collect()
}

/// The part of an axis that a slice takes.
struct Window {
    start: usize,
    end: usize,
    step: isize,
    length: usize,
}

impl Window {
    fn whole(length: usize) -> Self {
        Self { start: 0, end: length, step: 1, length }
    }

    fn of(range: &Slice, length: usize) -> Self {
        let bound = |at: isize| (if at < 0 { at + length as isize } else { at }).clamp(0, length as isize) as usize;
        let (start, end) = (bound(range.start), range.end.map_or(length, bound));
        Self { start, end: end.max(start), step: range.step, length }
    }

    /// The window as a part, where it is one and not the whole axis.
    fn part(&self) -> Option<Part> {
        let &Self { start, end, step, length } = self;
        (step == 1 && start < end && end - start < length).then_some(Part { start, end, whole: length })
    }

    /// The channel ids inside. A window's bounds are constants of the graph, whether the module computes them from the width or from the
    /// widths of other layers: the axis is cut into blocks that every bound falls between, and every block shrinks alike, so that the
    /// bounds keep their proportions either way.
    fn cut(&self, ids: Vec<ChannelId>, context: &mut Context) -> Option<Vec<ChannelId>> {
        if self.start == 0 && self.end == self.length {
            return match self.step {
                1 => Some(ids),
                -1 => Some(ids.into_iter().rev().collect()),
                _ => {
                    context.sets.pin(&ids, STEPPED);
                    None
                }
            };
        }
        if self.step != 1 {
            context.sets.pin(&ids, STEPPED);
            return None;
        }
        let block = self.start.gcd(&self.end).gcd(&self.length).max(1);
        for (k, &id) in ids.iter().enumerate() {
            context.sets.union(id, ids[k % block]);
        }
        if let (Some(place), true) = (context.sets.place, self.end - self.start > block) {
            let Self { start, end, length, .. } = self;
            let what = format!(
                "operation {place} takes {start}..{end} of {length} channels, and unequal parts shrink alike, by their common divisor \
                 {block}, unless their sizes are computed from parameters (`layer.weight.dims()`)"
            );
            context.uneven.extend(ids.first().map(|&id| (id, what)));
        }
        Some(ids[self.start..self.end].to_vec())
    }

    /// Where the bounds come to lie when only the indices for which `keep` holds stay.
    fn kept(&self, keep: impl Fn(usize) -> bool) -> (usize, usize) {
        let before = |bound: usize| (0..bound).filter(|&k| keep(k)).count();
        (before(self.start), before(self.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;

    #[test]
    fn halves_shrink_alike() {
        let mut context = Context::new(&Graph::default());
        let ids = context.sets.fresh(8);
        let half = Window { start: 0, end: 4, step: 1, length: 8 }.cut(ids.clone(), &mut context).unwrap();
        assert_eq!(half, ids[..4]);
        assert_eq!(context.sets.find(ids[1]), context.sets.find(ids[5]));
        assert_ne!(context.sets.find(ids[1]), context.sets.find(ids[2]));
    }
}
