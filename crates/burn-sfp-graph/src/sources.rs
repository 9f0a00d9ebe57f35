//! [`Sources`]: which layers' filters the inputs of a layer are, and whether that is all there is to them.

use std::collections::HashSet;

use burn::backend::ir::TensorId;

use crate::channels::ids::ChannelId;
use crate::layers::layer::Layer;
use crate::network::Network;
use crate::op::describe;

/// The layers that the inputs of a layer come from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Sources<'a> {
    /// The producers whose filters are the layer's inputs, in the order in which they run. A producer that only weighs the inputs (the
    /// layers of queries and keys for the layer behind an attention) is not among them.
    pub layers: Vec<&'a Layer>,
    /// Whether every input comes from these layers alone. `false` where an input of the network is part of it, or something whose channels
    /// run along another axis: the residual stream that is added where a mixer mixes tokens.
    pub complete: bool,
}

impl Network {
    /// Of the [`producers`](Network::producers) those whose filters the layer's inputs are, channel by channel.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::GraphModule;
    /// # use burn_sfp_graph::Network;
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
    /// let sources = network.sources(&network.layers()[1]);
    /// assert!(sources.complete && sources.layers[0].path == "a");
    /// assert!(!network.sources(&network.layers()[0]).complete);
    /// # Ok::<(), burn_sfp_graph::GraphError>(())
    /// ```
    pub fn sources(&self, layer: &Layer) -> Sources<'_> {
        let channels: HashSet<ChannelId> = layer.input_channels.iter().copied().flatten().collect();
        let layers: Vec<&Layer> = self
            .producers(layer)
            .into_iter()
            .filter(|producer| producer.output_channels.iter().any(|channel| channels.contains(channel)))
            .collect();
        let made: HashSet<ChannelId> = layers.iter().flat_map(|producer| &producer.output_channels).copied().collect();
        let all_made =
            layer.input_channels.iter().all(|channel| channel.is_some_and(|channel| made.contains(&channel)));
        let complete = all_made && !layer.inputs_of_calls.iter().any(|&input| self.meets_foreign(input, &channels));
        Sources { layers, complete }
    }

    /// Whether a tensor is computed from an input of the network.
    fn follows_input(&self, tensor: TensorId) -> bool {
        let mut open = vec![tensor];
        let mut seen = HashSet::new();
        while let Some(tensor) = open.pop() {
            if self.graph.inputs.contains(&tensor) {
                return true;
            }
            if let (true, Some(producer)) = (seen.insert(tensor), self.graph.made_by(tensor)) {
                open.extend(producer.inputs().map(|input| input.id));
            }
        }
        false
    }

    /// Whether, on the way back to the layers that produce these channels, something computed is added or multiplied in that runs
    /// along the channels' axis without carrying them.
    fn meets_foreign(&self, input: TensorId, channels: &HashSet<ChannelId>) -> bool {
        let atoms: HashSet<ChannelId> =
            channels.iter().flat_map(|channel| self.flow.atoms_of(channel)).copied().collect();
        let axis_of = |tensor: TensorId| {
            let axes = self.flow.tensors.get(&tensor)?;
            axes.iter().position(|ids| {
                let carried = |id: &ChannelId| self.flow.atoms_of(id).iter().any(|atom| atoms.contains(atom));
                ids.as_ref().is_some_and(|ids| ids.iter().any(carried))
            })
        };
        let mut open = vec![input];
        let mut seen = HashSet::new();
        while let Some(tensor) = open.pop() {
            if !seen.insert(tensor) || self.layer_of.contains_key(&tensor) {
                continue;
            }
            let Some(operation) = self.graph.made_by(tensor) else { continue };
            let described = describe(operation);
            let elementwise = described.as_ref().and_then(|described| described.elementwise());
            if let (Some((operands, out)), Some(axis)) = (elementwise, axis_of(tensor)) {
                let foreign = |other: TensorId| axis_of(other).is_none() && self.follows_input(other);
                if operands.iter().any(|other| {
                    let own = (axis + other.shape.num_dims()).checked_sub(out.shape.num_dims());
                    own.is_some_and(|own| other.shape[own] == out.shape[axis]) && foreign(other.id)
                }) {
                    return true;
                }
            }
            open.extend(operation.inputs().map(|input| input.id).filter(|&input| axis_of(input).is_some()));
        }
        false
    }
}
