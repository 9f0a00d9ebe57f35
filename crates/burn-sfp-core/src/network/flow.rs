//! Which indices of which parameters carry the same channel, and which channels must stay.

use std::collections::{BTreeMap, HashMap};

use burn::backend::ir::TensorId;

use super::labels::{Axes, Labels};
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
        if let Some(axes) = context.tensors.get(&network.output).cloned() {
            for labels in axes.iter().flatten() {
                context.labels.pin(labels, "it is an output of the network");
            }
        }
        context.finish(network)
    }
}

/// What an operation's description works on: the axes of the tensors so far, and the union-find.
pub(super) struct Context {
    pub labels: Labels,
    pub tensors: HashMap<TensorId, Axes>,
    parameters: HashMap<TensorId, usize>,
}

impl Context {
    fn new(network: &Network) -> Self {
        Self { labels: Labels::default(), tensors: HashMap::new(), parameters: network.parameter_index() }
    }

    /// The axes of a tensor. A parameter's axes get fresh labels when they are first read; anything else
    /// that no operation has made (inputs, constants) carries no channel.
    pub fn axes(&mut self, tensor: &burn::backend::ir::TensorIr) -> Axes {
        if let Some(axes) = self.tensors.get(&tensor.id) {
            return axes.clone();
        }
        let shape: Vec<usize> = tensor.shape.iter().copied().collect();
        let axes: Axes = if self.parameters.contains_key(&tensor.id) {
            // Kernel axes of convolutions and axes of length 1 carry no channel of their own.
            shape
                .iter()
                .enumerate()
                .map(|(axis, &len)| (axis < 2 || shape.len() < 3).then(|| self.labels.fresh(len)))
                .collect()
        } else {
            vec![None; shape.len()]
        };
        self.tensors.insert(tensor.id, axes.clone());
        axes
    }

    /// Every channel of the tensor must stay.
    pub fn pin(&mut self, tensor: &burn::backend::ir::TensorIr, reason: &str) {
        for labels in self.axes(tensor).iter().flatten() {
            self.labels.pin(labels, reason);
        }
    }

    /// One axis of two tensors is the same channel, index by index. Where only one side carries channels
    /// they must stay: the other side cannot shrink with them.
    pub fn unify(&mut self, a: &Option<Vec<ChannelId>>, b: &Option<Vec<ChannelId>>, reason: &str) {
        match (a, b) {
            (Some(a), Some(b)) if a.len() == b.len() => self.labels.union_all(a, b),
            (Some(a), Some(b)) => {
                self.labels.pin(a, reason);
                self.labels.pin(b, reason);
            }
            (Some(one), None) | (None, Some(one)) => self.labels.pin(one, reason),
            (None, None) => {}
        }
    }

    fn finish(mut self, network: &Network) -> Flow {
        let mut tensors = std::mem::take(&mut self.tensors);
        for axes in tensors.values_mut() {
            for labels in axes.iter_mut().flatten() {
                for label in labels.iter_mut() {
                    *label = self.labels.find(*label);
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
        Flow { parameters, tensors, pinned: self.labels.pinned().clone() }
    }
}
