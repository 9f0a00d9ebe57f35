//! Tensors made on the spot: their sizes follow whatever they meet.

use burn::backend::ir::{BaseOperationIr as B, FloatOperationIr as F, NumericOperationIr as N, OperationIr, TensorIr};

use super::description::{Describe, Described, FREE, Family, ShapeOf};
use crate::channels::context::Context;

pub(super) const FAMILY: Family = Family { read, kinds: &[] };

fn read(op: &OperationIr) -> Option<Described<'_>> {
    let out = match op {
        OperationIr::BaseFloat(B::Empty(op) | B::Ones(op) | B::Zeros(op))
        | OperationIr::BaseInt(B::Empty(op) | B::Ones(op) | B::Zeros(op))
        | OperationIr::BaseBool(B::Empty(op) | B::Ones(op) | B::Zeros(op)) => &op.out,
        OperationIr::NumericFloat(_, N::Full(op)) | OperationIr::NumericInt(_, N::Full(op)) => &op.out,
        OperationIr::Float(_, F::Random(op)) | OperationIr::NumericInt(_, N::IntRandom(op)) => &op.out,
        _ => return None,
    };
    Some(Box::new(Created(out)))
}

struct Created<'a>(&'a TensorIr);

impl<'a> Describe<'a> for Created<'a> {
    fn flow(&self, context: &mut Context) {
        let axes = self.0.shape.iter().map(|&length| Some(context.sets.fresh(length))).collect();
        context.set(self.0, axes);
    }

    fn macs(&self, _shape: &ShapeOf<'_>) -> Option<u64> {
        FREE
    }
}
