//! What an operation's description works on.

use std::collections::{HashMap, HashSet};

use burn::backend::ir::{TensorId, TensorIr};

use super::labels::{Axes, Labels};
use super::{ChannelId, Network};

/// A plain field of a layer that counts labelled things: it follows when some of them leave.
#[derive(Clone, Debug)]
pub(super) struct CountedField {
    /// Index of a parameter of the layer.
    pub parameter: usize,
    pub field: &'static str,
    pub of: Vec<ChannelId>,
}

/// The axes of the tensors so far, and the union-find.
pub(super) struct Context {
    pub labels: Labels,
    pub tensors: HashMap<TensorId, Axes>,
    pub fields: Vec<CountedField>,
    /// Results of means over channels that can lose some exactly.
    pub divisible: HashSet<TensorId>,
    /// Tensors whose channels are zero where the parameters that make them are.
    pub zero: HashSet<TensorId>,
    parameters: HashMap<TensorId, usize>,
}

impl Context {
    pub fn new(network: &Network) -> Self {
        Self {
            labels: Labels::default(),
            tensors: HashMap::new(),
            fields: Vec::new(),
            divisible: HashSet::new(),
            zero: HashSet::new(),
            parameters: network.parameter_index(),
        }
    }

    /// The axes of a tensor. A parameter's axes get fresh labels when they are first read; anything else
    /// that no operation has made (inputs, constants) carries no channel.
    pub fn axes(&mut self, tensor: &TensorIr) -> Axes {
        if let Some(axes) = self.tensors.get(&tensor.id) {
            return axes.clone();
        }
        let axes: Axes = if self.parameters.contains_key(&tensor.id) {
            tensor.shape.iter().map(|&len| Some(self.labels.fresh(len))).collect()
        } else {
            vec![None; tensor.shape.num_dims()]
        };
        self.tensors.insert(tensor.id, axes.clone());
        axes
    }

    /// Labels the axes of an operation's output.
    pub fn set(&mut self, out: &TensorIr, axes: Axes) {
        self.tensors.insert(out.id, axes);
    }

    /// Index of the parameter that a tensor is, where it is one.
    pub fn parameter(&self, tensor: &TensorIr) -> Option<usize> {
        self.parameters.get(&tensor.id).copied()
    }

    /// Every channel of the tensor must stay.
    pub fn pin(&mut self, tensor: &TensorIr, reason: &str) {
        let axes = self.axes(tensor);
        self.pin_axes(&axes, reason);
    }

    /// Every channel along these axes must stay.
    pub fn pin_axes(&mut self, axes: &[Option<Vec<ChannelId>>], reason: &str) {
        for labels in axes.iter().flatten() {
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

    /// Gives an axis the coordinates `lengths` (outermost first): the labels of each of them, `None` where nothing runs
    /// along it. The axis' own labels become products of these.
    pub fn split(&mut self, axis: &[ChannelId], lengths: &[usize]) -> Axes {
        let Some((&outer, rest)) = lengths.split_first() else { return vec![] };
        if rest.is_empty() {
            return vec![Some(axis.to_vec())];
        }
        let inner: usize = rest.iter().product();
        let roots: Vec<ChannelId> = axis.iter().map(|&label| self.labels.find(label)).collect();
        let (first, second): (Option<Vec<ChannelId>>, Option<Vec<ChannelId>>) =
            if inner == 1 || (0..axis.len()).all(|k| roots[k] == roots[k / inner * inner]) {
                // The same for every inner index (a flattened channel, say): it belongs to the outer coordinate.
                (Some((0..outer).map(|o| axis[o * inner]).collect()), None)
            } else if outer == 1 || (0..axis.len()).all(|k| roots[k] == roots[k % inner]) {
                (None, Some(axis[..inner].to_vec()))
            } else {
                let (outers, inners) = (self.labels.fresh(outer), self.labels.fresh(inner));
                for (k, &label) in axis.iter().enumerate() {
                    let product = self.labels.product(outers[k / inner], inners[k % inner]);
                    self.labels.union(label, product);
                }
                (Some(outers), Some(inners))
            };
        let mut axes = vec![first];
        match second {
            Some(labels) => axes.extend(self.split(&labels, rest)),
            None => axes.extend(std::iter::repeat_n(None, rest.len())),
        }
        axes
    }

    /// The labels of one axis made of several coordinates.
    pub fn join(&mut self, parts: &[Option<Vec<ChannelId>>], lengths: &[usize]) -> Option<Vec<ChannelId>> {
        let mut joined: Option<Vec<ChannelId>> = None;
        let mut outer = 1;
        for (part, &length) in parts.iter().zip(lengths) {
            joined = match (joined, part) {
                (None, None) => None,
                (None, Some(part)) => Some((0..outer * length).map(|k| part[k % length]).collect()),
                (Some(joined), None) => Some((0..outer * length).map(|k| joined[k / length]).collect()),
                (Some(joined), Some(part)) => Some(
                    (0..outer * length).map(|k| self.labels.product(joined[k / length], part[k % length])).collect(),
                ),
            };
            outer *= length;
        }
        joined
    }
}
