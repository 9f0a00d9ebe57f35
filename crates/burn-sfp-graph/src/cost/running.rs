//! [`RunningCost`]: what a network costs while channels are removed one by one.

use std::collections::{BTreeSet, HashMap};

use burn::backend::ir::{TensorId, TensorIr};

use crate::channels::ids::ChannelId;
use crate::network::Network;
use crate::op::describe;

/// Multiply-adds and parameters of a network while channels are removed one by one.
///
/// Removing an atom recounts only the operations and parameters on whose axes it, or a product with it, stands, so that a planner can ask
/// for the cost after every step.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// use burn_sfp_graph::{Network, RunningCost};
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> {
/// #         self.b.forward(burn::tensor::activation::relu(self.a.forward(x)))
/// #     }
/// # }
/// # let device = Device::flex();
/// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 3).init(&device) };
/// let network = Network::capture(&mlp, &Tensor::zeros([2, 4], &device))?;
/// let mut cost = RunningCost::of(&network);
/// assert_eq!((cost.macs(), cost.parameters()), (4 * 8 + 8 * 3, (4 + 1) * 8 + (8 + 1) * 3));
/// let channel = network.layers()[0].output_channels()[0];
/// assert!(!cost.would_empty(channel));
/// cost.remove(channel);
/// assert_eq!((cost.macs(), cost.parameters()), (4 * 7 + 7 * 3, (4 + 1) * 7 + (7 + 1) * 3));
/// # Ok::<(), burn_sfp_graph::GraphError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RunningCost<'a> {
    network: &'a Network,
    removed: BTreeSet<ChannelId>,
    /// The different lists of channels along axes of tensors that cost something.
    axes: Vec<Axis>,
    /// For each axis of a tensor its index in `axes`, where channels run along it.
    tensors: HashMap<TensorId, Vec<Option<usize>>>,
    /// Axis and index of every place where an atom, or a product with it, stands.
    places: HashMap<ChannelId, Vec<(usize, usize)>>,
    /// Multiply-adds of each operation for one sample.
    operations: Vec<u64>,
    /// Elements of each parameter.
    parameters: Vec<u64>,
    macs: u64,
    elements: u64,
}

/// One list of channels, along however many axes it runs.
#[derive(Clone, Debug, Default)]
struct Axis {
    gone: Vec<bool>,
    left: usize,
    /// Operations that cost something and read or write a tensor with this axis.
    operations: BTreeSet<usize>,
    /// Trained parameters with this axis.
    trained: BTreeSet<usize>,
    /// Whether it is an axis of a parameter or running statistic.
    of_parameter: bool,
}

impl<'a> RunningCost<'a> {
    /// The cost of the whole network.
    pub fn of(network: &'a Network) -> Self {
        let mut cost = Self {
            network,
            removed: BTreeSet::new(),
            axes: Vec::new(),
            tensors: HashMap::new(),
            places: HashMap::new(),
            operations: vec![0; network.graph.operations.len()],
            parameters: vec![0; network.graph.parameters.len()],
            macs: 0,
            elements: 0,
        };
        let mut known = HashMap::new();
        for (index, parameter) in network.graph.parameters.iter().enumerate() {
            let trained = parameter.is_trained();
            for axis in cost.axes_of(parameter.tensor, &mut known) {
                cost.axes[axis].of_parameter = true;
                if trained {
                    cost.axes[axis].trained.insert(index);
                }
            }
            if trained {
                cost.recount_parameter(index);
            }
        }
        for (index, op) in network.graph.operations[..network.graph.main].iter().enumerate() {
            cost.recount_operation(index);
            if cost.operations[index] == 0 {
                continue;
            }
            for tensor in op.inputs().chain(op.outputs()) {
                for axis in cost.axes_of(tensor.id, &mut known) {
                    cost.axes[axis].operations.insert(index);
                }
            }
        }
        cost
    }

    /// Removes an atom (see [`Flow`](crate::Flow)), and with it every product that it is part of.
    pub fn remove(&mut self, atom: ChannelId) {
        if !self.removed.insert(atom) {
            return;
        }
        let mut shorter = BTreeSet::new();
        for &(axis, index) in self.places.get(&atom).into_iter().flatten() {
            if !std::mem::replace(&mut self.axes[axis].gone[index], true) {
                self.axes[axis].left -= 1;
                shorter.insert(axis);
            }
        }
        let users = |of: fn(&Axis) -> &BTreeSet<usize>| -> BTreeSet<usize> {
            shorter.iter().flat_map(|&axis| of(&self.axes[axis])).copied().collect()
        };
        let (operations, parameters) = (users(|axis| &axis.operations), users(|axis| &axis.trained));
        operations.into_iter().for_each(|operation| self.recount_operation(operation));
        parameters.into_iter().for_each(|parameter| self.recount_parameter(parameter));
    }

    /// Whether some axis of a parameter would lose its last index if the atom were removed. A planner leaves such an atom in the network.
    pub fn would_empty(&self, atom: ChannelId) -> bool {
        let mut losses: HashMap<usize, usize> = HashMap::new();
        for &(axis, index) in self.places.get(&atom).into_iter().flatten() {
            if self.axes[axis].of_parameter && !self.axes[axis].gone[index] {
                *losses.entry(axis).or_default() += 1;
            }
        }
        losses.into_iter().any(|(axis, lost)| lost == self.axes[axis].left)
    }

    /// Multiply-adds of one sample without the channels removed so far.
    pub fn macs(&self) -> u64 {
        self.macs.saturating_sub(self.network.skipped_macs())
    }

    /// Elements of all parameters that are trained (running statistics do not count) without the channels removed so far.
    pub fn parameters(&self) -> u64 {
        self.elements
    }

    /// The atoms removed so far.
    pub fn removed(&self) -> &BTreeSet<ChannelId> {
        &self.removed
    }

    /// The axes of a tensor along which channels run. The same list of channels is one axis, wherever it runs.
    fn axes_of(&mut self, tensor: TensorId, known: &mut HashMap<&'a [ChannelId], usize>) -> Vec<usize> {
        if let Some(axes) = self.tensors.get(&tensor) {
            return axes.iter().flatten().copied().collect();
        }
        let network = self.network;
        let flow = &network.flow;
        let mut all = Vec::new();
        for ids in flow.tensors.get(&tensor).into_iter().flatten() {
            let axis = ids.as_deref().map(|ids| {
                *known.entry(ids).or_insert_with(|| {
                    let axis = self.axes.len();
                    for (index, id) in ids.iter().enumerate() {
                        for &atom in flow.atoms_of(id) {
                            self.places.entry(atom).or_default().push((axis, index));
                        }
                    }
                    self.axes.push(Axis { gone: vec![false; ids.len()], left: ids.len(), ..Axis::default() });
                    axis
                })
            });
            all.push(axis);
        }
        let found = all.iter().flatten().copied().collect();
        self.tensors.insert(tensor, all);
        found
    }

    fn shape(&self, tensor: TensorId, mut shape: Vec<usize>) -> Vec<usize> {
        let axes = self.tensors.get(&tensor).map(Vec::as_slice).unwrap_or_default();
        for (length, axis) in shape.iter_mut().zip(axes) {
            *length = axis.map_or(*length, |axis| self.axes[axis].left);
        }
        shape
    }

    fn recount_operation(&mut self, operation: usize) {
        let shape = |tensor: &TensorIr| self.shape(tensor.id, tensor.shape.iter().copied().collect());
        let described = describe(&self.network.graph.operations[operation]);
        let macs = described.and_then(|described| described.macs(&shape)).unwrap_or_default();
        let now = macs / self.network.graph.batch.max(1) as u64;
        self.macs = self.macs - std::mem::replace(&mut self.operations[operation], now) + now;
    }

    fn recount_parameter(&mut self, parameter: usize) {
        let of = &self.network.graph.parameters[parameter];
        let now = self.shape(of.tensor, of.shape.clone()).iter().product::<usize>() as u64;
        self.elements = self.elements - std::mem::replace(&mut self.parameters[parameter], now) + now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GraphModule;
    use burn::module::Module;
    use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
    use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
    use burn::tensor::activation::{relu, softmax};
    use burn::tensor::{Device, Tensor};
    use proptest::prelude::*;

    /// Residual, grouped and transposed convolutions, a flatten, attention heads and a shared layer.
    #[derive(Module, Debug)]
    struct Mixed {
        stem: Conv2d,
        norm: BatchNorm,
        grouped: Conv2d,
        up: ConvTranspose2d,
        tokens: Linear,
        query: Linear,
        value: Linear,
        out: Linear,
        last: Linear,
        heads: usize,
    }

    impl GraphModule for Mixed {
        type Inputs = Tensor<4>;
        type Outputs = Tensor<2>;
        fn run(&self, x: Tensor<4>) -> Tensor<2> {
            let x = relu(self.norm.forward(self.stem.forward(x)));
            let x = x.clone() + self.grouped.forward(x);
            let [samples, channels, h, w] = self.up.forward(x.clone()).dims();
            let x = self.up.forward(x).reshape([samples, channels, h * w]).swap_dims(1, 2);
            // Twice the same layer.
            let x = self.tokens.forward(relu(self.tokens.forward(x)));
            let split = |x: Tensor<3>| {
                let [samples, tokens, width] = x.dims();
                x.reshape([samples, tokens, self.heads, width / self.heads]).swap_dims(1, 2)
            };
            let (query, value) = (split(self.query.forward(x.clone())), split(self.value.forward(x)));
            let mixed = softmax(query.clone().matmul(query.swap_dims(2, 3)), 3).matmul(value);
            let [samples, heads, tokens, width] = mixed.dims();
            let x = self.out.forward(mixed.swap_dims(1, 2).reshape([samples, tokens, heads * width]));
            let x = relu(x).reshape([samples as i32, -1]);
            self.last.forward(x)
        }
    }

    fn captured(groups: usize, members: usize, up: usize, heads: usize, width: usize, batch: usize) -> Network {
        let device = Device::flex();
        let linear = |from, to| LinearConfig::new(from, to).init(&device);
        let channels = groups * members;
        let model = Mixed {
            stem: Conv2dConfig::new([2, channels], [3, 3]).init(&device),
            norm: BatchNormConfig::new(channels).init(&device),
            grouped: Conv2dConfig::new([channels, channels], [1, 1]).with_groups(groups).init(&device),
            up: ConvTranspose2dConfig::new([channels, up], [2, 2]).init(&device),
            tokens: linear(up, up),
            query: linear(up, heads * width),
            value: linear(up, heads * width),
            out: linear(heads * width, 3),
            last: linear(3 * 9, 4),
            heads,
        };
        Network::capture(&model, &Tensor::zeros([batch, 2, 4, 4], &device)).unwrap()
    }

    fn check(network: &Network, cost: &RunningCost<'_>) -> Result<(), TestCaseError> {
        let closed = network.flow.closed(cost.removed());
        prop_assert_eq!(cost.macs(), network.macs_without(&closed));
        let trained = |path: &str| !(path.ends_with("running_mean") || path.ends_with("running_var"));
        let parameters = network.parameters().iter().enumerate().filter(|(_, parameter)| trained(&parameter.path));
        let elements: u64 = parameters.map(|(index, _)| network.parameter_size_without(index, &closed)).sum();
        prop_assert_eq!(cost.parameters(), elements);
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn every_step_is_counted_as_the_whole_network_would_be(
            (groups, members, up) in (1_usize..4, 1_usize..4, 2_usize..5),
            (heads, width, batch) in (1_usize..4, 1_usize..4, 1_usize..4),
            order in proptest::collection::vec(0_usize..1000, 12),
        ) {
            let network = captured(groups, members, up, heads, width, batch);
            let mut cost = RunningCost::of(&network);
            check(&network, &cost)?;
            let channels = network.layers().iter().flat_map(|layer| layer.output_channels());
            let atoms: BTreeSet<ChannelId> = channels.flat_map(|&channel| network.flow().atoms(channel)).collect();
            let atoms: Vec<ChannelId> = atoms.into_iter().collect();
            for at in order {
                let atom = atoms[at % atoms.len()];
                let without: BTreeSet<ChannelId> = cost.removed().iter().copied().chain([atom]).collect();
                let closed = network.flow.closed(&without);
                let empty = |parameter: usize| {
                    let left = |channels: &[ChannelId]| channels.iter().filter(|id| !closed.contains(id)).count();
                    network.flow.parameter(parameter).iter().any(|axis| left(&axis.channels) == 0)
                };
                let empties = (0..network.parameters().len()).any(empty);
                prop_assert_eq!(cost.would_empty(atom), empties);
                if !empties {
                    cost.remove(atom);
                    check(&network, &cost)?;
                }
            }
        }
    }
}
