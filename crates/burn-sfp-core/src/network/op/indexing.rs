//! Operations that pick some indices of an axis: slice, select, gather, scatter, assignments.

use burn::backend::ir::{BaseOperationIr as B, OperationIr, TensorIr};
use burn::tensor::Slice;

use super::super::context::Context;
use super::dims;

const FIXED: &str = "fixed indices pick from its channel axis";
const STEPPED: &str = "its channels are sliced with a step";

pub(super) fn flow(op: &OperationIr, context: &mut Context) -> bool {
    let (OperationIr::BaseFloat(op) | OperationIr::BaseInt(op) | OperationIr::BaseBool(op)) = op else { return false };
    match op {
        B::Slice(op) => {
            let mut axes = context.axes(&op.tensor);
            for (axis, length) in dims(&op.tensor).into_iter().enumerate() {
                let window = op.ranges.get(axis).map_or(Window::whole(length), |range| Window::of(range, length));
                axes[axis] = axes[axis].take().and_then(|labels| window.cut(labels, context));
            }
            context.set(&op.out, axes);
        }
        B::SliceAssign(op) => {
            let (axes, value) = (context.axes(&op.tensor), context.axes(&op.value));
            for (axis, length) in dims(&op.tensor).into_iter().enumerate() {
                let window = op.ranges.get(axis).map_or(Window::whole(length), |range| Window::of(range, length));
                let cut = axes[axis].clone().and_then(|labels| window.cut(labels, context));
                context.unify(&cut, &value[axis], "something without channels is written into it");
            }
            context.set(&op.out, axes);
        }
        B::Select(op) => along(&op.tensor, op.dim, &[], &op.out, context),
        B::Gather(op) => along(&op.tensor, op.dim, &[&op.indices], &op.out, context),
        B::Scatter(op) => along(&op.tensor, op.dim, &[&op.indices, &op.value], &op.out, context),
        B::SelectAssign(op) => along(&op.tensor, op.dim, &[&op.value], &op.out, context),
        _ => return false,
    }
    true
}

/// Channels of the other axes stay what they are, in the tensor and in what goes with it index by index.
fn along(tensor: &TensorIr, dim: usize, with: &[&TensorIr], out: &TensorIr, context: &mut Context) {
    let mut axes = context.axes(tensor);
    if let Some(labels) = axes[dim].take() {
        context.labels.pin(&labels, FIXED);
    }
    for other in with {
        let own = context.axes(other);
        for axis in 0..axes.len() {
            if axis == dim {
                context.pin_axes(&own[axis..=axis], FIXED);
            } else {
                context.unify(&axes[axis], &own[axis], "indices that carry no channels pick from it");
            }
        }
    }
    context.set(out, axes);
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

    /// The labels inside. A window's bounds are numbers in the graph, whether the module computes them from the width
    /// or from the widths of other layers: the axis is cut into blocks that every bound falls between, and every block
    /// shrinks alike, so that the bounds keep their proportions either way.
    fn cut(&self, labels: Vec<u32>, context: &mut Context) -> Option<Vec<u32>> {
        if self.start == 0 && self.end == self.length {
            return match self.step {
                1 => Some(labels),
                -1 => Some(labels.into_iter().rev().collect()),
                _ => {
                    context.labels.pin(&labels, STEPPED);
                    None
                }
            };
        }
        if self.step != 1 {
            context.labels.pin(&labels, STEPPED);
            return None;
        }
        let block = gcd(gcd(self.start, self.end), self.length);
        for (k, &label) in labels.iter().enumerate() {
            context.labels.union(label, labels[k % block]);
        }
        Some(labels[self.start..self.end].to_vec())
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

/// Where the bounds of a slice come to lie when only the indices for which `keep` holds stay.
pub(in crate::network) fn kept_range(range: &Slice, length: usize, keep: &dyn Fn(usize) -> bool) -> (usize, usize) {
    let window = Window::of(range, length);
    let before = |bound: usize| (0..bound).filter(|&k| keep(k)).count();
    (before(window.start), before(window.end))
}

/// The labels of an axis inside a slice, for tests of the rule above.
#[cfg(test)]
mod tests {
    use super::super::super::Network;
    use super::super::super::labels::Axes;
    use super::*;
    use std::collections::BTreeMap;

    fn context() -> Context {
        let network = Network {
            operations: vec![],
            values: BTreeMap::new(),
            inputs: vec![],
            outputs: vec![],
            output_shapes: vec![],
            input_shapes: vec![],
            parameters: vec![],
            batch: 1,
            skipped: 0,
            device: burn::tensor::Device::flex(),
            layers: vec![],
            heads: vec![],
            flow: Default::default(),
            index: Default::default(),
        };
        Context::new(&network)
    }

    #[test]
    fn halves_shrink_alike() {
        let mut context = context();
        let labels: Axes = vec![Some(context.labels.fresh(8))];
        let labels = labels[0].clone().unwrap();
        let half = Window { start: 0, end: 4, step: 1, length: 8 }.cut(labels.clone(), &mut context).unwrap();
        assert_eq!(half, labels[..4]);
        assert_eq!(context.labels.find(labels[1]), context.labels.find(labels[5]));
        assert_ne!(context.labels.find(labels[1]), context.labels.find(labels[2]));
    }
}
