//! Normalisations. Batch normalisation works channel by channel; layer normalisation mixes channels, which can only leave where their mean
//! can be taken out of what is normalised (`layers/stream.rs`).
//!
//! Burn writes group, instance and root-mean-square normalisation out in plain operations, which are followed as such; `layers/burn.rs`
//! knows what their layers count.

use std::collections::HashSet;

use burn::backend::ir::{BatchNormOpIr, LayerNormOpIr, ModuleOperationIr as M, OperationIr};

use super::description::{Constants, Describe, Described, FREE, Family, Role, ShapeOf};
use crate::channels::context::Context;
use crate::channels::ids::ChannelId;

pub(super) const FAMILY: Family = Family { read, kinds: &[] };

fn read(op: &OperationIr) -> Option<Described<'_>> {
    match op {
        OperationIr::Module(M::BatchNorm(op)) => Some(Box::new(BatchNorm(op))),
        OperationIr::Module(M::LayerNorm(op)) => Some(Box::new(LayerNorm(op))),
        _ => None,
    }
}

/// The batch normalisation that an operation is.
pub(crate) fn batch_norm(op: &OperationIr) -> Option<&BatchNormOpIr> {
    match op {
        OperationIr::Module(M::BatchNorm(op)) => Some(op),
        _ => None,
    }
}

/// The layer normalisation that an operation is.
pub(crate) fn layer_norm(op: &OperationIr) -> Option<&LayerNormOpIr> {
    match op {
        OperationIr::Module(M::LayerNorm(op)) => Some(op),
        _ => None,
    }
}

struct BatchNorm<'a>(&'a BatchNormOpIr);

impl<'a> Describe<'a> for BatchNorm<'a> {
    fn flow(&self, context: &mut Context) {
        let op = self.0;
        let axes = context.axes(&op.x);
        for state in [&op.gamma, &op.beta, &op.mean, &op.variance] {
            let state = context.axes(state);
            context.unify(&axes[1], &state[0], "its batch normalisation's state is not a parameter");
        }
        context.set(&op.out, axes);
    }

    fn zero_along(&self, axis: usize, context: &Context) -> bool {
        axis == 1 && context.is_zero(&self.0.gamma, 0) && context.is_zero(&self.0.beta, 0)
    }

    fn constant(&self, known: &Constants<'_>) -> HashSet<ChannelId> {
        known.of(&self.0.x)
    }

    fn macs(&self, _shape: &ShapeOf<'_>) -> Option<u64> {
        FREE
    }

    fn role(&self) -> Role {
        Role::Normalization
    }
}

struct LayerNorm<'a>(&'a LayerNormOpIr);

impl<'a> Describe<'a> for LayerNorm<'a> {
    fn flow(&self, context: &mut Context) {
        let op = self.0;
        let axes = context.axes(&op.input);
        let channels = axes.last().cloned().flatten();
        let why_not = context.fixed_norms.get(&op.out.id).cloned();
        if let (Some(ids), Some(reason)) = (&channels, &why_not) {
            context.sets.pin(ids, reason);
        }
        for state in std::iter::once(&op.gamma).chain(op.beta.as_ref()) {
            match &why_not {
                Some(reason) => context.pin(state, reason),
                None => {
                    let state = context.axes(state);
                    context.unify(&channels, &state[0], "it meets an input of the network or a constant");
                }
            }
        }
        context.set(&op.out, axes);
    }

    fn zero_along(&self, axis: usize, context: &Context) -> bool {
        let LayerNormOpIr { gamma, beta, out, .. } = self.0;
        let scaled = axis + 1 == out.shape.num_dims() && context.is_zero(gamma, 0);
        scaled && beta.as_ref().is_none_or(|beta| context.is_zero(beta, 0))
    }

    fn macs(&self, _shape: &ShapeOf<'_>) -> Option<u64> {
        FREE
    }

    fn role(&self) -> Role {
        Role::Normalization
    }
}
