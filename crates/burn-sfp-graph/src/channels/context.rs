//! What the description of an operation works on: the channel ids of the tensors so far.

use std::collections::{BTreeSet, HashMap, HashSet};

use burn::backend::ir::{TensorId, TensorIr};

use super::ids::{Axes, ChannelId, ChannelSets};
use crate::graph::Graph;

/// A plain field of a layer that counts channels or groups: it follows when some of them are removed.
#[derive(Clone, Debug)]
pub(crate) struct CountedField {
    /// Index of a parameter of the layer.
    pub parameter: usize,
    /// Name of the field.
    pub field: &'static str,
    /// What it counts.
    pub of: Vec<ChannelId>,
}

/// The channel ids along each axis of the tensors so far, and the union-find that unites them.
pub(crate) struct Context {
    pub sets: ChannelSets,
    pub tensors: HashMap<TensorId, Axes>,
    pub fields: Vec<CountedField>,
    /// Results of means over channels of which some can be removed exactly.
    pub divisible: HashSet<TensorId>,
    /// Results of other means, and the operation behind each that cannot take the factor that a mean gets.
    pub fixed_means: HashMap<TensorId, String>,
    /// Results of layer normalisations whose channels cannot leave, and why.
    pub fixed_norms: HashMap<TensorId, String>,
    /// Computed tensors and axes along which an index is zero once its channel is removed.
    pub zero: HashSet<(TensorId, usize)>,
    /// Computed tensors without negative elements.
    pub non_negative: HashSet<TensorId>,
    /// Tensors, each with an axis of it, that something is divided by although they are zero where a channel is removed.
    pub poles: Vec<(TensorId, usize)>,
    /// Axes of parameters that keep their values where channels are removed, because something would be divided by zero.
    pub unzeroed: BTreeSet<(usize, usize)>,
    /// The channels that sums, means and maxima run along.
    pub summed: Vec<ChannelId>,
    parameters: HashMap<TensorId, usize>,
    /// What to call the tensor of the module that a constant is computed from.
    constants: HashMap<TensorId, String>,
    /// Channels that a slice ties together because it cuts their axis into unequal parts: one of them, and what to say of it.
    pub uneven: Vec<(ChannelId, String)>,
    /// Slices, by position, whose parts shrink each by itself.
    free: BTreeSet<usize>,
}

impl Context {
    pub fn new(graph: &Graph) -> Self {
        Self {
            sets: ChannelSets::default(),
            tensors: HashMap::new(),
            fields: Vec::new(),
            divisible: HashSet::new(),
            fixed_means: HashMap::new(),
            fixed_norms: HashMap::new(),
            zero: HashSet::new(),
            non_negative: HashSet::new(),
            poles: Vec::new(),
            unzeroed: BTreeSet::new(),
            summed: Vec::new(),
            parameters: graph.parameter_index(),
            constants: graph.constant_origins(),
            uneven: Vec::new(),
            free: graph.free.clone(),
        }
    }

    /// Why channels must stay that meet a tensor without channels.
    pub fn why_bare(&self, tensor: &TensorIr) -> String {
        match self.constants.get(&tensor.id) {
            Some(constant) => format!(
                "it meets {constant} that the module holds and that is no parameter, so that its width cannot follow: as a `Param`, with \
                 `set_require_grad(false)` where it is not to be trained, it would"
            ),
            None => "it meets an input of the network or a constant".to_string(),
        }
    }

    /// Whether the operation that is followed is a slice whose parts shrink each by itself.
    pub fn is_free(&self) -> bool {
        self.sets.place.is_some_and(|place| self.free.contains(&place))
    }

    /// The channel ids along each axis of a tensor. A parameter's axes get fresh ids when they are first read; anything else that no
    /// operation produces (inputs, constants) carries no channel.
    pub fn axes(&mut self, tensor: &TensorIr) -> Axes {
        if let Some(axes) = self.tensors.get(&tensor.id) {
            return axes.clone();
        }
        let axes: Axes = if self.parameters.contains_key(&tensor.id) {
            tensor.shape.iter().map(|&len| Some(self.sets.fresh(len))).collect()
        } else {
            vec![None; tensor.shape.num_dims()]
        };
        self.tensors.insert(tensor.id, axes.clone());
        axes
    }

    /// Sets the channel ids of an operation's output.
    pub fn set(&mut self, out: &TensorIr, axes: Axes) {
        self.tensors.insert(out.id, axes);
    }

    /// Index of the parameter that a tensor is, where it is one.
    pub fn parameter(&self, tensor: &TensorIr) -> Option<usize> {
        self.parameters.get(&tensor.id).copied()
    }

    /// Whether an index of the tensor along an axis is zero once its channel is removed, as it is in parameters.
    pub fn is_zero(&self, tensor: &TensorIr, axis: usize) -> bool {
        match self.parameters.get(&tensor.id) {
            Some(&parameter) => !self.unzeroed.contains(&(parameter, axis)),
            None => self.zero.contains(&(tensor.id, axis)),
        }
    }

    /// Whether some channel along an axis may be removed as far as is known.
    pub fn may_shrink(&self, axis: &Option<Vec<ChannelId>>) -> bool {
        axis.iter().flatten().any(|&id| self.sets.is_free(id))
    }

    /// Every channel of the tensor must stay.
    pub fn pin(&mut self, tensor: &TensorIr, reason: &str) {
        let axes = self.axes(tensor);
        self.pin_axes(&axes, reason);
    }

    /// Every channel along these axes must stay.
    pub fn pin_axes(&mut self, axes: &[Option<Vec<ChannelId>>], reason: &str) {
        for ids in axes.iter().flatten() {
            self.sets.pin(ids, reason);
        }
    }

    /// One axis of two tensors is the same channel, index by index. Where only one side carries channels
    /// they must stay: the other side cannot shrink with them.
    pub fn unify(&mut self, a: &Option<Vec<ChannelId>>, b: &Option<Vec<ChannelId>>, reason: &str) {
        match (a, b) {
            (Some(a), Some(b)) if a.len() == b.len() => self.sets.union_all(a, b),
            (Some(a), Some(b)) => {
                self.sets.pin(a, reason);
                self.sets.pin(b, reason);
            }
            (Some(one), None) | (None, Some(one)) => self.sets.pin(one, reason),
            (None, None) => {}
        }
    }

    /// Gives an axis the coordinates `lengths` (outermost first): the ids along each of them, `None` where nothing runs
    /// along it. The axis' own ids become products of these.
    pub fn split(&mut self, axis: &[ChannelId], lengths: &[usize]) -> Axes {
        let Some((&outer, rest)) = lengths.split_first() else { return vec![] };
        if rest.is_empty() {
            return vec![Some(axis.to_vec())];
        }
        let inner: usize = rest.iter().product();
        let roots: Vec<ChannelId> = axis.iter().map(|&id| self.sets.find(id)).collect();
        let (first, second): (Option<Vec<ChannelId>>, Option<Vec<ChannelId>>) =
            if inner == 1 || (0..axis.len()).all(|k| roots[k] == roots[k / inner * inner]) {
                // The same for every inner index (a flattened channel, say): it belongs to the outer coordinate.
                (Some((0..outer).map(|o| axis[o * inner]).collect()), None)
            } else if outer == 1 || (0..axis.len()).all(|k| roots[k] == roots[k % inner]) {
                (None, Some(axis[..inner].to_vec()))
            } else {
                let (outers, inners) = (self.sets.fresh(outer), self.sets.fresh(inner));
                for (k, &id) in axis.iter().enumerate() {
                    let product = self.sets.product(outers[k / inner], inners[k % inner]);
                    self.sets.union(id, product);
                }
                (Some(outers), Some(inners))
            };
        let mut axes = vec![first];
        match second {
            Some(ids) => axes.extend(self.split(&ids, rest)),
            None => axes.extend(std::iter::repeat_n(None, rest.len())),
        }
        axes
    }

    /// The ids of one axis made of several coordinates.
    pub fn join(&mut self, parts: &[Option<Vec<ChannelId>>], lengths: &[usize]) -> Option<Vec<ChannelId>> {
        let mut joined: Option<Vec<ChannelId>> = None;
        let mut outer = 1;
        for (part, &length) in parts.iter().zip(lengths) {
            joined = match (joined, part) {
                (None, None) => None,
                (None, Some(part)) => Some((0..outer * length).map(|k| part[k % length]).collect()),
                (Some(joined), None) => Some((0..outer * length).map(|k| joined[k / length]).collect()),
                (Some(joined), Some(part)) => {
                    Some((0..outer * length).map(|k| self.sets.product(joined[k / length], part[k % length])).collect())
                }
            };
            outer *= length;
        }
        joined
    }
}
