//! Normalisations. Batch normalisation works channel by channel; layer normalisation mixes channels, so its must stay.
//! Burn writes group, instance and root-mean-square normalisation out in plain operations, which are followed as such; see
//! [`fields`](super::super::fields) for what their layers count.

use burn::backend::ir::{ModuleOperationIr, OperationIr};

use super::super::context::Context;

pub(super) fn is(op: &OperationIr) -> bool {
    matches!(op, OperationIr::Module(ModuleOperationIr::BatchNorm(_) | ModuleOperationIr::LayerNorm(_)))
}

pub(super) fn flow(op: &OperationIr, context: &mut Context) -> bool {
    match op {
        OperationIr::Module(ModuleOperationIr::BatchNorm(op)) => {
            let axes = context.axes(&op.x);
            for state in [&op.gamma, &op.beta, &op.mean, &op.variance] {
                let state = context.axes(state);
                context.unify(&axes[1], &state[0], "its batch normalisation's state is not a parameter");
            }
            context.set(&op.out, axes);
            true
        }
        OperationIr::Module(ModuleOperationIr::LayerNorm(op)) => {
            let axes = context.axes(&op.input);
            let reason = "a layer normalisation mixes its channels";
            if let Some(labels) = axes.last().and_then(Option::as_ref) {
                context.labels.pin(labels, reason);
            }
            for state in std::iter::once(&op.gamma).chain(op.beta.as_ref()) {
                context.pin(state, reason);
            }
            context.set(&op.out, axes);
            true
        }
        _ => false,
    }
}
