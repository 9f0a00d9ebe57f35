//! [`Network::outline`]: the captured operations reduced to what a person draws.

use std::collections::HashMap;

use burn::backend::ir::TensorId;

use crate::network::Network;
use crate::op::name::name;

/// What a node of an [outline](Network::outline) stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutlineKind {
    /// An input of the network, by its position.
    Input(usize),
    /// A call of a layer, by the layer's position in [`Network::layers`].
    Layer(usize),
    /// An operation in which several branches come together, by its name, for example `Add`.
    Join(String),
    /// An output of the network, by its position.
    Output(usize),
}

/// A node of an [outline](Network::outline).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutlineNode {
    /// What it stands for.
    pub kind: OutlineKind,
    /// Positions of the nodes that it reads, ascending; all of them come before it.
    pub reads: Vec<usize>,
}

impl Network {
    /// Returns the forward pass as a small graph, in the order in which it runs: inputs, calls of layers, operations in which branches
    /// come together, outputs. Everything in between (activations, normalisations, reshapes) is part of an edge.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::{GraphModule, Network, OutlineKind};
    /// #[derive(Module, Debug)]
    /// struct Block { a: Linear, b: Linear }
    ///
    /// impl GraphModule for Block {
    ///     type Inputs = Tensor<2>;
    ///     type Outputs = Tensor<2>;
    ///     fn run(&self, x: Tensor<2>) -> Tensor<2> {
    ///         x.clone() + self.b.forward(burn::tensor::activation::relu(self.a.forward(x)))
    ///     }
    /// }
    /// # let device = Device::flex();
    /// # let block = Block { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 4).init(&device) };
    /// let outline = Network::capture(&block, &Tensor::zeros([2, 4], &device))?.outline();
    /// let add = &outline[3];
    /// assert_eq!((&add.kind, add.reads.as_slice()), (&OutlineKind::Join("Add".into()), [0, 2].as_slice()));
    /// # Ok::<(), burn_sfp_graph::GraphError>(())
    /// ```
    pub fn outline(&self) -> Vec<OutlineNode> {
        let calls: HashMap<usize, usize> = (self.layers.iter().enumerate())
            .flat_map(|(layer, of)| of.operations.iter().map(move |&operation| (operation, layer)))
            .collect();
        let mut nodes = Vec::new();
        // The node that each computed tensor comes from.
        let mut from: HashMap<TensorId, usize> = HashMap::new();
        for (position, input) in self.graph.inputs.iter().enumerate() {
            from.insert(*input, nodes.len());
            nodes.push(OutlineNode { kind: OutlineKind::Input(position), reads: Vec::new() });
        }
        for (position, operation) in self.graph.operations.iter().enumerate() {
            let mut reads: Vec<usize> = operation.inputs().filter_map(|input| from.get(&input.id).copied()).collect();
            reads.sort_unstable();
            reads.dedup();
            let kind = match (calls.get(&position), reads.as_slice()) {
                (Some(&layer), _) => OutlineKind::Layer(layer),
                (None, []) => continue,
                (None, &[only]) => {
                    from.extend(operation.outputs().map(|output| (output.id, only)));
                    continue;
                }
                (None, _) => OutlineKind::Join(name(operation)),
            };
            from.extend(operation.outputs().map(|output| (output.id, nodes.len())));
            nodes.push(OutlineNode { kind, reads });
        }
        for (position, output) in self.graph.outputs.iter().enumerate() {
            let reads = from.get(output).copied().into_iter().collect();
            nodes.push(OutlineNode { kind: OutlineKind::Output(position), reads });
        }
        nodes
    }
}
