//! Poolings, interpolation and resampling: samples and channels stay, positions change. By convention they count no multiply-adds.

use std::collections::HashSet;

use burn::backend::ir::{FloatOperationIr as F, ModuleOperationIr as M, OperationIr, TensorIr};

use super::description::{Constants, Describe, Described, FREE, Family, Role, ShapeOf, dims, same_exponent};
use crate::channels::context::Context;
use crate::channels::ids::ChannelId;

pub(super) const FAMILY: Family = Family { read, kinds: &[] };

/// An operation on windows of positions.
struct Pooling<'a> {
    x: &'a TensorIr,
    outs: Vec<&'a TensorIr>,
    /// Where the samples are taken, of a grid sampling.
    grid: Option<&'a TensorIr>,
    /// Whether it is a pooling proper, no interpolation or sampling.
    pools: bool,
    /// Whether a constant plane stays that constant: no zeros come in at the border.
    keeps_constants: bool,
}

fn read(op: &OperationIr) -> Option<Described<'_>> {
    let outs: Vec<&TensorIr> = op.outputs().collect();
    let pooling = |x, keeps_constants| Pooling { x, outs: outs.clone(), grid: None, pools: true, keeps_constants };
    let resampling = |x, grid| Pooling { x, outs: outs.clone(), grid, pools: false, keeps_constants: false };
    let row = match op {
        OperationIr::Module(op) => match op {
            M::AvgPool1d(op) => pooling(&op.x, op.padding == 0 && !op.ceil_mode),
            M::AvgPool2d(op) => pooling(&op.x, op.padding == [0, 0] && !op.ceil_mode),
            M::AdaptiveAvgPool1d(op) => pooling(&op.x, true),
            M::AdaptiveAvgPool2d(op) => pooling(&op.x, true),
            M::AdaptiveAvgPool3d(op) => pooling(&op.x, true),
            M::MaxPool1d(op) => pooling(&op.x, true),
            M::MaxPool1dWithIndices(op) => pooling(&op.x, true),
            M::MaxPool2d(op) => pooling(&op.x, true),
            M::MaxPool2dWithIndices(op) => pooling(&op.x, true),
            // Interpolation weights sum to one only up to rounding; sampling may reach outside.
            M::Interpolate(op) => resampling(&op.x, None),
            _ => return None,
        },
        OperationIr::Float(_, F::GridSample2d(op)) => resampling(&op.tensor, Some(&op.grid)),
        _ => return None,
    };
    Some(Box::new(row))
}

impl<'a> Describe<'a> for Pooling<'a> {
    fn flow(&self, context: &mut Context) {
        let input = context.axes(self.x);
        context.pin_axes(&input[2..], "a window slides along it");
        if let Some(grid) = self.grid {
            context.pin(grid, "it moves samples");
        }
        let mut axes = vec![None; dims(self.outs[0]).len()];
        axes[..2].clone_from_slice(&input[..2]);
        for out in &self.outs {
            context.set(out, axes.clone());
        }
    }

    fn zero_along(&self, axis: usize, context: &Context) -> bool {
        axis < 2 && context.is_zero(self.x, axis)
    }

    fn non_negative(&self, context: &Context) -> bool {
        self.pools && context.non_negative.contains(&self.x.id)
    }

    fn exponent(&self, exponents: &[i32]) -> Option<i32> {
        same_exponent(exponents).filter(|_| self.grid.is_none())
    }

    fn constant(&self, known: &Constants<'_>) -> HashSet<ChannelId> {
        if self.keeps_constants { known.of(self.x) } else { HashSet::new() }
    }

    fn macs(&self, _shape: &ShapeOf<'_>) -> Option<u64> {
        FREE
    }

    fn role(&self) -> Role {
        if self.pools { Role::Pooling } else { Role::Other }
    }
}
