//! Multiply-adds and parameters of a captured network, as it is and without some channels.
//!
//! The multiply-adds of an operation are in its description (`op/<family>.rs`). A network's are the sum over its operations, each divided by
//! the samples of the captured batch and rounded down, less what sparse layers leave out. Element-wise operations, normalisations, poolings
//! and reshapes count none, as is usual.

use std::collections::BTreeSet;

use burn::backend::ir::TensorIr;

use crate::blocks::Omitted;
use crate::channels::ids::ChannelId;
use crate::layers::layer::Layer;
use crate::network::Network;
use crate::op::describe;
use crate::op::name::name;

/// An operation whose multiply-adds are not known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UncountedOperation {
    /// Name of the operation, for example `Custom`.
    pub name: String,
    /// Path of the nearest layer (or bare parameter) whose output it works on, where there is one.
    pub after: Option<String>,
}

impl Network {
    /// Multiply-adds of one sample: convolutions, linear layers and products of computed tensors (attention). Operations whose cost is not
    /// known ([`uncounted`](Network::uncounted)) are left out.
    pub fn macs(&self) -> u64 {
        self.macs_without(&BTreeSet::new())
    }

    /// [`macs`](Network::macs) without some channels (closed, see [`Flow::closed`](crate::Flow::closed)).
    pub fn macs_without(&self, removed: &BTreeSet<ChannelId>) -> u64 {
        self.all_macs_without(removed, &Omitted::default()).0
    }

    /// [`macs_without`](Network::macs_without) some channels (closed) and some blocks, and the multiply-adds of each layer.
    pub fn all_macs_without(&self, removed: &BTreeSet<ChannelId>, omitted: &Omitted) -> (u64, Vec<u64>) {
        let of = |op: usize| if omitted.has_operation(op) { 0 } else { self.macs_of(op, removed) };
        let of: Vec<u64> = (0..self.graph.operations.len()).map(of).collect();
        let layers = self.layers.iter().map(|layer| layer.operations.iter().map(|&op| of[op]).sum());
        (of.iter().sum::<u64>().saturating_sub(self.skipped_macs()), layers.collect())
    }

    /// Multiply-adds of a layer for one sample without some channels (closed), all calls together.
    pub fn layer_macs_without(&self, layer: &Layer, removed: &BTreeSet<ChannelId>) -> u64 {
        layer.operations.iter().map(|&op| self.macs_of(op, removed)).sum()
    }

    /// Number of elements of a parameter without some channels (closed).
    pub fn parameter_size_without(&self, parameter: usize, removed: &BTreeSet<ChannelId>) -> u64 {
        let mut shape = self.graph.parameters[parameter].shape.clone();
        for axis in self.flow.parameter(parameter) {
            shape[axis.axis] = axis.channels.iter().filter(|channel| !removed.contains(channel)).count();
        }
        shape.iter().product::<usize>() as u64
    }

    /// The operations whose multiply-adds are not known, so that [`macs`](Network::macs) leaves them out, in the order in which they run.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::{GraphModule, Network};
    /// # #[derive(Module, Debug)]
    /// # struct Mlp { a: Linear, b: Linear }
    /// # impl GraphModule for Mlp {
    /// #     type Inputs = Tensor<2>;
    /// #     type Outputs = Tensor<2>;
    /// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.b.forward(self.a.forward(x)) }
    /// # }
    /// # let device = Device::flex();
    /// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 3).init(&device) };
    /// let network = Network::capture(&mlp, &Tensor::zeros([2, 4], &device))?;
    /// for operation in network.uncounted() {
    ///     println!("{} after {:?} is not counted", operation.name, operation.after);
    /// }
    /// # assert!(network.uncounted().is_empty());
    /// # Ok::<(), burn_sfp_graph::GraphError>(())
    /// ```
    pub fn uncounted(&self) -> Vec<UncountedOperation> {
        let mut uncounted = Vec::new();
        for (index, op) in self.graph.operations[..self.graph.main].iter().enumerate() {
            let shape = |tensor: &TensorIr| tensor.shape.iter().copied().collect();
            if describe(op).and_then(|described| described.macs(&shape)).is_none() {
                let after = self.layer_before(index).map(str::to_string);
                uncounted.push(UncountedOperation { name: name(op), after });
            }
        }
        uncounted
    }

    /// Multiply-adds of a sample that sparse layers leave out.
    pub(crate) fn skipped_macs(&self) -> u64 {
        self.skipped / self.graph.batch.max(1) as u64
    }

    /// Multiply-adds of one operation for one sample.
    fn macs_of(&self, operation: usize, removed: &BTreeSet<ChannelId>) -> u64 {
        if operation >= self.graph.main {
            return 0;
        }
        let left = self.flow.left(removed);
        let described = describe(&self.graph.operations[operation]);
        let macs = described.and_then(|described| described.macs(&|tensor| left.shape(tensor)));
        macs.unwrap_or_default() / self.graph.batch.max(1) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cost, GraphModule};
    use burn::module::Module;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::{Device, Tensor};

    /// The product of integers is not described.
    #[derive(Module, Debug)]
    struct Integers {
        a: Linear,
    }

    impl GraphModule for Integers {
        type Inputs = Tensor<2>;
        type Outputs = Tensor<2>;
        fn run(&self, x: Tensor<2>) -> Tensor<2> {
            let x = self.a.forward(x).int();
            x.clone().matmul(x.transpose()).float()
        }
    }

    #[test]
    fn what_is_not_counted_is_named() {
        let device = Device::flex();
        let model = Integers { a: LinearConfig::new(4, 3).init(&device) };
        let input = Tensor::zeros([2, 4], &device);
        let network = Network::capture(&model, &input).unwrap();
        assert_eq!(network.macs(), 4 * 3);
        assert_eq!(network.uncounted(), [UncountedOperation { name: "Matmul".into(), after: Some("a".into()) }]);
        assert_eq!(Cost::of(&model, &input).unwrap().uncounted, 1);
    }
}
