//! What an operation's description works on.

use std::collections::HashMap;

use burn::backend::ir::{TensorId, TensorIr};

use super::labels::{Axes, Labels};
use super::{ChannelId, Network};

/// The axes of the tensors so far, and the union-find.
pub(super) struct Context {
    pub labels: Labels,
    pub tensors: HashMap<TensorId, Axes>,
    parameters: HashMap<TensorId, usize>,
}

impl Context {
    pub fn new(network: &Network) -> Self {
        Self { labels: Labels::default(), tensors: HashMap::new(), parameters: network.parameter_index() }
    }

    /// The axes of a tensor. A parameter's axes get fresh labels when they are first read; anything else
    /// that no operation has made (inputs, constants) carries no channel.
    pub fn axes(&mut self, tensor: &TensorIr) -> Axes {
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
    pub fn pin(&mut self, tensor: &TensorIr, reason: &str) {
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
}
