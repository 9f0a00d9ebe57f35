//! [`RunningCost`]: what a network costs while channels are removed one by one.

use std::collections::BTreeSet;

use burn::backend::ir::{TensorId, TensorIr};

use super::shapes::RunningShapes;
use crate::blocks::Block;
use crate::channels::ids::ChannelId;
use crate::network::Network;
use crate::op::describe;

/// Multiply-adds, parameters and bytes of a network while channels are removed, and put back, one by one.
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
/// cost.remove(channel);
/// assert_eq!((cost.macs(), cost.parameters()), (4 * 7 + 7 * 3, (4 + 1) * 7 + (7 + 1) * 3));
/// cost.restore(channel);
/// assert_eq!((cost.macs(), cost.bytes()), (4 * 8 + 8 * 3, 4 * 67));
/// # Ok::<(), burn_sfp_graph::GraphError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RunningCost<'a> {
    network: &'a Network,
    shapes: RunningShapes<'a>,
    /// What stands on each axis.
    users: Vec<Users>,
    /// Multiply-adds of each operation for one sample.
    operations: Vec<u64>,
    /// Elements of each parameter and running statistic.
    parameters: Vec<u64>,
    /// Operations, and parameters, of blocks that are left out.
    gone: (BTreeSet<usize>, BTreeSet<usize>),
    macs: u64,
    elements: u64,
    bytes: u64,
}

/// What stands on an axis.
#[derive(Clone, Debug, Default)]
struct Users {
    /// Operations that cost something and read or write a tensor with this axis.
    operations: BTreeSet<usize>,
    /// Parameters and running statistics with this axis.
    parameters: BTreeSet<usize>,
}

impl<'a> RunningCost<'a> {
    /// The cost of the whole network.
    pub fn of(network: &'a Network) -> Self {
        let mut cost = Self {
            network,
            shapes: RunningShapes::new(&network.flow),
            users: Vec::new(),
            operations: vec![0; network.graph.operations.len()],
            parameters: vec![0; network.graph.parameters.len()],
            gone: Default::default(),
            macs: 0,
            elements: 0,
            bytes: 0,
        };
        for (index, parameter) in network.graph.parameters.iter().enumerate() {
            for axis in cost.axes_of(parameter.tensor) {
                cost.users[axis].parameters.insert(index);
            }
            cost.recount_parameter(index);
        }
        for (index, op) in network.graph.operations[..network.graph.main].iter().enumerate() {
            cost.recount_operation(index);
            if cost.operations[index] == 0 {
                continue;
            }
            for tensor in op.inputs().chain(op.outputs()) {
                for axis in cost.axes_of(tensor.id) {
                    cost.users[axis].operations.insert(index);
                }
            }
        }
        cost
    }

    /// Removes an atom (see [`Flow`](crate::Flow)), and with it every product that it is part of.
    pub fn remove(&mut self, atom: ChannelId) {
        let shorter = self.shapes.shorten(atom);
        self.recount(&shorter);
    }

    /// Puts a removed atom back: the cost is as if it had never been removed.
    pub fn restore(&mut self, atom: ChannelId) {
        let longer = self.shapes.lengthen(atom);
        self.recount(&longer);
    }

    /// Leaves a block out.
    pub fn leave_out(&mut self, block: &Block) {
        self.gone.0.extend(&block.operations);
        self.gone.1.extend(&block.parameters);
        self.recount_block(block);
    }

    /// Puts a block back.
    pub fn put_back(&mut self, block: &Block) {
        self.gone.0.retain(|operation| !block.operations.contains(operation));
        self.gone.1.retain(|parameter| !block.parameters.contains(parameter));
        self.recount_block(block);
    }

    fn recount_block(&mut self, block: &Block) {
        let main = block.operations.iter().filter(|&&operation| operation < self.network.graph.main);
        main.for_each(|&operation| self.recount_operation(operation));
        block.parameters.iter().for_each(|&parameter| self.recount_parameter(parameter));
    }

    /// Multiply-adds of one sample without the channels removed so far.
    pub fn macs(&self) -> u64 {
        self.macs.saturating_sub(self.network.skipped_macs())
    }

    /// Elements of all parameters that are trained (running statistics do not count) without the channels removed so far.
    pub fn parameters(&self) -> u64 {
        self.elements
    }

    /// Bytes of all parameters and running statistics, in their types, without the channels removed so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The atoms removed so far.
    pub fn removed(&self) -> &BTreeSet<ChannelId> {
        self.shapes.removed()
    }

    fn axes_of(&mut self, tensor: TensorId) -> Vec<usize> {
        let axes = self.shapes.axes_of(tensor);
        self.users.resize(self.shapes.len(), Users::default());
        axes
    }

    fn recount(&mut self, axes: &BTreeSet<usize>) {
        let users = |of: fn(&Users) -> &BTreeSet<usize>| -> BTreeSet<usize> {
            axes.iter().flat_map(|&axis| of(&self.users[axis])).copied().collect()
        };
        let (operations, parameters) = (users(|axis| &axis.operations), users(|axis| &axis.parameters));
        operations.into_iter().for_each(|operation| self.recount_operation(operation));
        parameters.into_iter().for_each(|parameter| self.recount_parameter(parameter));
    }

    fn recount_operation(&mut self, operation: usize) {
        let shape = |tensor: &TensorIr| self.shapes.shape(tensor.id, tensor.shape.iter().copied().collect());
        let described = describe(&self.network.graph.operations[operation]);
        let macs = described.and_then(|described| described.macs(&shape)).unwrap_or_default();
        let macs = if self.gone.0.contains(&operation) { 0 } else { macs };
        let now = macs / self.network.graph.batch.max(1) as u64;
        self.macs = self.macs - std::mem::replace(&mut self.operations[operation], now) + now;
    }

    fn recount_parameter(&mut self, parameter: usize) {
        let of = &self.network.graph.parameters[parameter];
        let left = self.shapes.shape(of.tensor, of.shape.clone()).iter().product::<usize>() as u64;
        let now = if self.gone.1.contains(&parameter) { 0 } else { left };
        let before = std::mem::replace(&mut self.parameters[parameter], now);
        let size = self.network.graph.values.get(&of.tensor).map_or(4, |data| data.dtype().size()) as u64;
        self.bytes = self.bytes - before * size + now * size;
        if of.is_trained() {
            self.elements = self.elements - before + now;
        }
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
        let all = (0..network.parameters().len()).map(|index| network.parameter_size_without(index, &closed));
        prop_assert_eq!(cost.bytes(), 4 * all.sum::<u64>());
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
            let mut shapes = RunningShapes::of_parameters(&network);
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
                prop_assert_eq!(shapes.would_empty(atom), empties);
                if !empties {
                    cost.remove(atom);
                    shapes.remove(atom);
                    check(&network, &cost)?;
                }
                // Every third atom comes back.
                if at % 3 == 0 {
                    cost.restore(atom);
                    shapes.restore(atom);
                    check(&network, &cost)?;
                }
            }
        }
    }
}
