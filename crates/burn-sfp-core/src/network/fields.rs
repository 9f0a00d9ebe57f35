//! Plain fields that count channels or groups, and layers whose code does not allow their channels to leave.

use std::collections::BTreeSet;

use burn::backend::ir::{BaseOperationIr as B, NumericOperationIr as N, OperationIr, TensorId};

use super::context::{Context, CountedField};
use super::{ChannelId, Network};
use crate::FieldEdit;

/// Layers of Burn whose forward pass joins or checks widths in a way that leaves no other width possible.
const FIXED: [(&str, &str); 1] = [(
    "MultiHeadAttention",
    "Burn's MultiHeadAttention gives its heads together the width of its input; burn_sfp's HeadAttention, made from it, does not",
)];

/// Pins the parameters of such layers.
pub(super) fn fixed_layers(network: &Network, context: &mut Context) {
    for parameter in &network.parameters {
        let reason = FIXED.iter().find(|(container, _)| parameter.holders.iter().any(|holder| holder == container));
        if let Some((_, reason)) = reason {
            let axes: Vec<_> = parameter.shape.iter().map(|&length| Some(context.labels.fresh(length))).collect();
            context.pin_axes(&axes, reason);
            context.tensors.insert(parameter.tensor, axes);
        }
    }
}

/// Channel counts of group and instance normalisations.
pub(super) fn normalizations(network: &Network, context: &mut Context) {
    for (index, parameter) in network.parameters.iter().enumerate() {
        let grouped = parameter.container == "GroupNorm";
        if !(grouped || parameter.container == "InstanceNorm") || !parameter.path.ends_with("gamma") {
            continue;
        }
        let Some(Some(channels)) = context.tensors.get(&parameter.tensor).and_then(|axes| axes.first()).cloned() else {
            continue;
        };
        context.fields.push(CountedField { parameter: index, field: "num_channels", of: channels });
        if grouped && let Some(groups) = groups_of(network, parameter.tensor, context) {
            context.fields.push(CountedField { parameter: index, field: "num_groups", of: groups });
        }
    }
}

/// The labels of a group normalisation's groups: from where its gamma is multiplied in, back along the normalised tensor to
/// the reshape that made the groups.
fn groups_of(network: &Network, gamma: TensorId, context: &Context) -> Option<Vec<ChannelId>> {
    let reshaped = network.operations.iter().find_map(|op| match op {
        OperationIr::BaseFloat(B::Reshape(op)) if op.input.id == gamma => Some(op.out.id),
        _ => None,
    })?;
    let product = network.operations.iter().find_map(|op| match op {
        OperationIr::NumericFloat(_, N::Mul(op)) if op.rhs.id == reshaped => Some(op.lhs.id),
        _ => None,
    })?;
    let mut at = product;
    let mut reshapes = 0;
    for _ in 0..8 {
        let maker = &network.operations[*network.index.makers.get(&at)?];
        if let OperationIr::BaseFloat(B::Reshape(op)) = maker {
            reshapes += 1;
            if reshapes == 2 {
                return context.tensors.get(&op.out.id)?.get(1)?.clone();
            }
        }
        at = maker.inputs().next()?.id;
    }
    None
}

impl Network {
    /// The plain fields that change when channels leave (`removed` closed): what a [`Shrink`](crate::Shrink) has to set.
    pub fn field_edits(&self, removed: &BTreeSet<ChannelId>) -> Vec<FieldEdit> {
        let mut edits: Vec<FieldEdit> = Vec::new();
        for field in &self.flow.fields {
            let after = field.of.iter().filter(|label| !removed.contains(label)).count();
            let parameter = &self.parameters[field.parameter];
            let path = parameter.path.rsplit_once('.').map_or("", |(holder, _)| holder).to_string();
            let known = edits.iter().any(|edit| edit.path == path && edit.field == field.field);
            if after == field.of.len() || known {
                continue;
            }
            edits.push(FieldEdit {
                path,
                container: parameter.container.clone(),
                field: field.field.to_string(),
                before: field.of.len() as f64,
                after: after as f64,
            });
        }
        edits
    }
}
