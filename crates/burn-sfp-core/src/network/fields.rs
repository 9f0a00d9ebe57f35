//! Plain fields that count channels or groups, and layers whose code does not allow their channels to leave.

use std::collections::{BTreeSet, HashSet};

use burn::backend::ir::{BaseOperationIr as B, FloatOperationIr, NumericOperationIr as N, OperationIr, TensorId};

use super::context::{Context, CountedField};
use super::{ChannelId, Network};
use crate::FieldEdit;

/// Layers of Burn whose forward pass joins or checks widths in a way that leaves no other width possible.
const FIXED: [(&str, &str); 4] = [
    (
        "MultiHeadAttention",
        "Burn's MultiHeadAttention gives its heads together the width of its input; put burn_sfp's `core::nn::HeadAttention` in \
         its place, which is made from it with `from`",
    ),
    ("Gru", STATE),
    ("Lstm", STATE),
    ("Rnn", STATE),
];
const STATE: &str = "Burn's recurrent layers keep the width of their state in a field";
/// What these recurrent layers read may leave.
const READ: &str = "input_transform.weight";

/// Pins the parameters of such layers.
pub(super) fn fixed_layers(network: &Network, context: &mut Context) {
    for parameter in &network.parameters {
        let reason = FIXED.iter().find(|(container, _)| parameter.holders.iter().any(|holder| holder == container));
        if let Some((_, reason)) = reason {
            let axes: Vec<_> = parameter.shape.iter().map(|&length| Some(context.labels.fresh(length))).collect();
            let first = usize::from(*reason == STATE && parameter.path.ends_with(READ));
            context.pin_axes(&axes[first..], reason);
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
    let readers = |tensor| network.index.readers(tensor).iter().map(|&reader| &network.operations[reader]);
    let reshaped = readers(gamma).find_map(|op| match op {
        OperationIr::BaseFloat(B::Reshape(op)) if op.input.id == gamma => Some(op.out.id),
        _ => None,
    })?;
    let product = readers(reshaped).find_map(|op| match op {
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

/// A root-mean-square normalisation over labelled channels. It can lose channels exactly: with `c` of `C` channels left, the
/// mean of squares is `C / c` times as large, which gamma times `sqrt(C / c)` and epsilon times `C / c` undo.
#[derive(Clone, Debug)]
pub(super) struct RootMeanSquare {
    /// Index of its gamma among the parameters.
    pub gamma: usize,
    /// What the mean of squares is written to.
    pub mean: TensorId,
    /// The operation that adds epsilon.
    pub add: usize,
    pub epsilon: f64,
}

/// Burn's `RmsNorm`s, written out in plain operations: from gamma back to the mean.
pub(super) fn root_mean_squares(network: &Network) -> Vec<RootMeanSquare> {
    let gammas =
        network.parameters.iter().enumerate().filter(|(_, p)| p.container == "RmsNorm" && p.path.ends_with("gamma"));
    gammas.filter_map(|(gamma, parameter)| root_mean_square(network, gamma, parameter.tensor)).collect()
}

fn root_mean_square(network: &Network, gamma: usize, tensor: TensorId) -> Option<RootMeanSquare> {
    let index = &network.index;
    let maker = |tensor: TensorId| index.makers.get(&tensor).map(|&maker| (maker, &network.operations[maker]));
    // Gamma gets leading axes, then multiplies the quotient.
    let mut at = tensor;
    let quotient = loop {
        let &[reader] = index.readers(at) else { return None };
        match &network.operations[reader] {
            OperationIr::BaseFloat(B::Reshape(op)) => at = op.out.id,
            OperationIr::NumericFloat(_, N::Mul(op)) => break if op.rhs.id == at { op.lhs.id } else { op.rhs.id },
            _ => return None,
        }
    };
    let (_, OperationIr::NumericFloat(_, N::Div(op))) = maker(quotient)? else { return None };
    let mut at = op.rhs.id;
    let sum = loop {
        match maker(at)?.1 {
            OperationIr::BaseFloat(B::Cast(op)) => at = op.input.id,
            OperationIr::Float(_, FloatOperationIr::Sqrt(op)) => break op.input.id,
            _ => return None,
        }
    };
    let (add, OperationIr::NumericFloat(_, N::AddScalar(op))) = maker(sum)? else { return None };
    let (_, OperationIr::NumericFloat(_, N::MeanDim(mean))) = maker(op.lhs.id)? else { return None };
    Some(RootMeanSquare { gamma, mean: mean.out.id, add, epsilon: op.rhs.elem::<f64>() })
}

impl Network {
    /// Root-mean-square normalisations that lose channels (`removed` closed): index of gamma, operation that adds epsilon, epsilon,
    /// and the ratio of channels before and after.
    pub(super) fn shrunk_means(&self, removed: &BTreeSet<ChannelId>) -> Vec<(usize, usize, f64, f64)> {
        let shrunk = self.flow.means.iter().filter_map(|norm| {
            let before = self.parameters[norm.gamma].shape.first().copied()? as f64;
            let after = self.parameter_size_without(norm.gamma, removed) as f64;
            (after < before && after > 0.0).then_some((norm.gamma, norm.add, norm.epsilon, before / after))
        });
        shrunk.collect()
    }

    /// Parameters, by index, that have to be multiplied by a factor when channels leave (`removed` closed), and the factor: the
    /// gammas of root-mean-square normalisations.
    pub fn scales(&self, removed: &BTreeSet<ChannelId>) -> Vec<(usize, f64)> {
        self.shrunk_means(removed).into_iter().map(|(gamma, _, _, ratio)| (gamma, ratio.sqrt())).collect()
    }

    /// The plain fields that change when channels leave (`removed` closed): what a [`Shrink`](crate::Shrink) has to set.
    pub fn field_edits(&self, removed: &BTreeSet<ChannelId>) -> Vec<FieldEdit> {
        let mut edits: Vec<FieldEdit> = Vec::new();
        let mut seen = HashSet::new();
        for field in &self.flow.fields {
            let after = field.of.iter().filter(|label| !removed.contains(label)).count();
            let parameter = &self.parameters[field.parameter];
            let path = parameter.path.rsplit_once('.').map_or("", |(holder, _)| holder).to_string();
            if after == field.of.len() || !seen.insert((path.clone(), field.field)) {
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
        for (gamma, _, epsilon, ratio) in self.shrunk_means(removed) {
            let gamma = &self.parameters[gamma];
            edits.push(FieldEdit {
                path: gamma.path.rsplit_once('.').map_or("", |(holder, _)| holder).to_string(),
                container: gamma.container.clone(),
                field: "epsilon".to_string(),
                before: epsilon,
                after: epsilon * ratio,
            });
        }
        edits
    }
}
