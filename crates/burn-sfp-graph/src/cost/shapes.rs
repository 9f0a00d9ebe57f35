//! [`RunningShapes`]: the shapes of tensors while channels are removed and put back one by one.

use std::collections::{BTreeSet, HashMap};

use burn::backend::ir::TensorId;

use crate::channels::flow::Flow;
use crate::channels::ids::ChannelId;
use crate::network::Network;

/// The axes of tensors along which channels run, and what is left of each while channels are removed and put back one by one.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// use burn_sfp_graph::{Network, RunningShapes};
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.b.forward(self.a.forward(x)) }
/// # }
/// # let device = Device::flex();
/// # let mlp = Mlp { a: LinearConfig::new(4, 2).init(&device), b: LinearConfig::new(2, 3).init(&device) };
/// let network = Network::capture(&mlp, &Tensor::zeros([2, 4], &device))?;
/// let mut shapes = RunningShapes::of_parameters(&network);
/// let channels = network.layers()[0].output_channels();
/// shapes.remove(channels[0]);
/// assert!(shapes.would_empty(channels[1]));
/// shapes.restore(channels[0]);
/// assert!(!shapes.would_empty(channels[1]));
/// # Ok::<(), burn_sfp_graph::GraphError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RunningShapes<'a> {
    flow: &'a Flow,
    /// The different lists of channels along axes of tensors.
    axes: Vec<Axis>,
    /// The index of each list in `axes`.
    known: HashMap<&'a [ChannelId], usize>,
    /// For each axis of a tensor its index in `axes`, where channels run along it.
    tensors: HashMap<TensorId, Vec<Option<usize>>>,
    /// Axis and index of every place where an atom, or a product with it, stands.
    places: HashMap<ChannelId, Vec<(usize, usize)>>,
    removed: BTreeSet<ChannelId>,
}

/// One list of channels, along however many axes it runs.
#[derive(Clone, Debug)]
struct Axis {
    /// For each index how many of its atoms are removed.
    gone: Vec<u32>,
    left: usize,
}

impl<'a> RunningShapes<'a> {
    pub(crate) fn new(flow: &'a Flow) -> Self {
        let (axes, known, tensors) = (Vec::new(), HashMap::new(), HashMap::new());
        Self { flow, axes, known, tensors, places: HashMap::new(), removed: BTreeSet::new() }
    }

    /// The axes of all parameters and running statistics.
    pub fn of_parameters(network: &'a Network) -> Self {
        let mut shapes = Self::new(&network.flow);
        for parameter in &network.graph.parameters {
            shapes.axes_of(parameter.tensor);
        }
        shapes
    }

    /// The axes of a tensor along which channels run. The same list of channels is one axis, wherever it runs. All tensors have to be named
    /// before the first atom is removed.
    pub(crate) fn axes_of(&mut self, tensor: TensorId) -> Vec<usize> {
        if let Some(axes) = self.tensors.get(&tensor) {
            return axes.iter().flatten().copied().collect();
        }
        let flow = self.flow;
        let lists = flow.tensors.get(&tensor).map(Vec::as_slice).unwrap_or_default();
        let all: Vec<Option<usize>> = lists.iter().map(|ids| ids.as_deref().map(|ids| self.axis(ids))).collect();
        let found = all.iter().flatten().copied().collect();
        self.tensors.insert(tensor, all);
        found
    }

    fn axis(&mut self, ids: &'a [ChannelId]) -> usize {
        if let Some(&axis) = self.known.get(ids) {
            return axis;
        }
        let axis = self.axes.len();
        for (index, id) in ids.iter().enumerate() {
            for &atom in self.flow.atoms_of(id) {
                self.places.entry(atom).or_default().push((axis, index));
            }
        }
        self.axes.push(Axis { gone: vec![0; ids.len()], left: ids.len() });
        self.known.insert(ids, axis);
        axis
    }

    /// Number of axes so far.
    pub(crate) fn len(&self) -> usize {
        self.axes.len()
    }

    /// Removes an atom (see [`Flow`]), and with it every product that it is part of.
    pub fn remove(&mut self, atom: ChannelId) {
        self.shorten(atom);
    }

    /// Puts a removed atom back.
    pub fn restore(&mut self, atom: ChannelId) {
        self.lengthen(atom);
    }

    /// Whether some axis would lose its last index if the atom were removed.
    pub fn would_empty(&self, atom: ChannelId) -> bool {
        self.losses(atom).any(|(_, lost, left)| lost > 0 && lost == left)
    }

    /// Removes an atom. Returns the axes that are shorter then.
    pub(crate) fn shorten(&mut self, atom: ChannelId) -> BTreeSet<usize> {
        let mut shorter = BTreeSet::new();
        if !self.removed.insert(atom) {
            return shorter;
        }
        for &(axis, index) in self.places.get(&atom).into_iter().flatten() {
            let of = &mut self.axes[axis];
            of.gone[index] += 1;
            if of.gone[index] == 1 {
                of.left -= 1;
                shorter.insert(axis);
            }
        }
        shorter
    }

    /// Puts a removed atom back. Returns the axes that are longer then.
    pub(crate) fn lengthen(&mut self, atom: ChannelId) -> BTreeSet<usize> {
        let mut longer = BTreeSet::new();
        if !self.removed.remove(&atom) {
            return longer;
        }
        for &(axis, index) in self.places.get(&atom).into_iter().flatten() {
            let of = &mut self.axes[axis];
            of.gone[index] -= 1;
            if of.gone[index] == 0 {
                of.left += 1;
                longer.insert(axis);
            }
        }
        longer
    }

    pub(crate) fn removed(&self) -> &BTreeSet<ChannelId> {
        &self.removed
    }

    /// For each axis how many indices it would lose with an atom, and how many it has.
    pub(crate) fn losses(&self, atom: ChannelId) -> impl Iterator<Item = (usize, usize, usize)> {
        let mut losses: HashMap<usize, usize> = HashMap::new();
        for &(axis, index) in self.places.get(&atom).into_iter().flatten() {
            *losses.entry(axis).or_default() += usize::from(self.axes[axis].gone[index] == 0);
        }
        losses.into_iter().map(|(axis, lost)| (axis, lost, self.axes[axis].left))
    }

    /// Indices of an axis that are left.
    pub(crate) fn left(&self, axis: usize) -> usize {
        self.axes[axis].left
    }

    /// Elements of a tensor for one channel along each axis that has channels.
    pub(crate) fn without_channels(&self, tensor: TensorId, shape: &[usize]) -> usize {
        let axes = self.tensors.get(&tensor).map(Vec::as_slice).unwrap_or_default();
        let has_channels = |at: usize| axes.get(at).is_some_and(Option::is_some);
        shape.iter().enumerate().filter(|(at, _)| !has_channels(*at)).map(|(_, length)| length).product()
    }

    /// A tensor's shape without the removed channels.
    pub(crate) fn shape(&self, tensor: TensorId, mut shape: Vec<usize>) -> Vec<usize> {
        let axes = self.tensors.get(&tensor).map(Vec::as_slice).unwrap_or_default();
        for (length, axis) in shape.iter_mut().zip(axes) {
            *length = axis.map_or(*length, |axis| self.axes[axis].left);
        }
        shape
    }
}
