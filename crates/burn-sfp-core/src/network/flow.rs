//! Which indices of which parameters carry the same channel, and which channels must stay.

use std::collections::{BTreeMap, HashMap};

use burn::backend::ir::TensorId;

use super::context::Context;
use super::labels::Axes;
use super::{ChannelId, Network, op};

/// The channels along one axis of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamAxis {
    /// The axis.
    pub axis: usize,
    /// For each index the set of indices it can only leave with.
    pub channels: Vec<ChannelId>,
}

/// How channels run through the network: equal [`ChannelId`]s leave together, wherever they stand.
#[derive(Clone, Debug, Default)]
pub struct Flow {
    pub(crate) parameters: BTreeMap<usize, Vec<ParamAxis>>,
    pub(crate) tensors: HashMap<TensorId, Axes>,
    pub(crate) pinned: HashMap<ChannelId, String>,
}

impl Flow {
    /// The labelled axes of a parameter, by its index in [`Network::parameters`].
    pub fn parameter(&self, index: usize) -> &[ParamAxis] {
        self.parameters.get(&index).map(Vec::as_slice).unwrap_or_default()
    }

    /// Why a channel must stay, `None` where it may go.
    pub fn pinned(&self, channel: ChannelId) -> Option<&str> {
        self.pinned.get(&channel).map(String::as_str)
    }

    pub(crate) fn of(network: &Network) -> Self {
        let mut context = Context::new(network);
        for (index, operation) in network.operations.iter().enumerate() {
            op::flow(operation, index, &mut context);
        }
        for output in &network.outputs {
            let axes = context.tensors.get(output).cloned().unwrap_or_default();
            for labels in axes.iter().flatten() {
                context.labels.pin(labels, "it is an output of the network");
            }
        }
        finish(context, network)
    }
}

/// Every label becomes its set's representative.
fn finish(mut context: Context, network: &Network) -> Flow {
    let mut tensors = std::mem::take(&mut context.tensors);
    for axes in tensors.values_mut() {
        for labels in axes.iter_mut().flatten() {
            for label in labels.iter_mut() {
                *label = context.labels.find(*label);
            }
        }
    }
    let mut parameters = BTreeMap::new();
    for (index, parameter) in network.parameters.iter().enumerate() {
        let Some(axes) = tensors.get(&parameter.tensor) else { continue };
        let axes: Vec<ParamAxis> = axes
            .iter()
            .enumerate()
            .filter_map(|(axis, labels)| Some(ParamAxis { axis, channels: labels.clone()? }))
            .collect();
        parameters.insert(index, axes);
    }
    Flow { parameters, tensors, pinned: context.labels.pinned().clone() }
}
