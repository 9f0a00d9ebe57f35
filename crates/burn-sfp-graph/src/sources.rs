//! [`Sources`]: which layers' filters the inputs of a layer are, and whether that is all there is to them.

use std::collections::{BTreeSet, HashMap, HashSet};

use burn::backend::ir::{OperationIr, TensorId};

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
    /// Of the [`producers`](Network::producers) those whose filters the layer's inputs are, channel by channel. For all layers of a deep
    /// network, [`gather`](Network::gather) is the faster way: in a residual tower every layer has all before it as producers.
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
        let mut foreign = Foreign::new(self);
        let complete = all_made && !layer.inputs_of_calls.iter().any(|&input| foreign.meets(input, &channels));
        Sources { layers, complete }
    }
}

/// Finds where something meets the inputs of layers that their producers do not make. Asked for many layers, it looks at each tensor of a
/// stream once.
pub(crate) struct Foreign<'n> {
    network: &'n Network,
    /// For each list of atoms, the tensors that carry them: whether something foreign meets them on the way there.
    met: HashMap<Vec<ChannelId>, HashMap<TensorId, bool>>,
}

impl<'n> Foreign<'n> {
    pub fn new(network: &'n Network) -> Self {
        Self { network, met: HashMap::new() }
    }

    /// Whether, on the way back to the layers that produce these channels, something computed is added or multiplied in that runs
    /// along the channels' axis without carrying them.
    pub fn meets(&mut self, input: TensorId, channels: &HashSet<ChannelId>) -> bool {
        let Self { network, met } = self;
        let atoms = channels.iter().flat_map(|channel| network.flow.atoms_of(channel)).copied();
        let atoms: BTreeSet<ChannelId> = atoms.collect();
        let met = met.entry(atoms.iter().copied().collect()).or_default();
        let along = Along { network, atoms: &atoms };
        let mut open = vec![(input, false)];
        while let Some((tensor, is_behind_known)) = open.pop() {
            if met.contains_key(&tensor) {
                continue;
            }
            let operation = network.graph.made_by(tensor).filter(|_| !network.layer_of.contains_key(&tensor));
            let Some(operation) = operation else {
                met.insert(tensor, false);
                continue;
            };
            let carrying = || operation.inputs().map(|input| input.id).filter(|&input| along.axis_of(input).is_some());
            if is_behind_known {
                let behind = carrying().any(|input| met.get(&input).copied().unwrap_or_default());
                met.insert(tensor, behind);
            } else if along.meets_in(operation, tensor) {
                met.insert(tensor, true);
            } else {
                open.push((tensor, true));
                open.extend(carrying().map(|input| (input, false)));
            }
        }
        met.get(&input).copied().unwrap_or_default()
    }
}

/// The axis along which some atoms run.
struct Along<'a> {
    network: &'a Network,
    atoms: &'a BTreeSet<ChannelId>,
}

impl Along<'_> {
    fn axis_of(&self, tensor: TensorId) -> Option<usize> {
        let flow = &self.network.flow;
        let carried = |id: &ChannelId| flow.atoms_of(id).iter().any(|atom| self.atoms.contains(atom));
        flow.tensors.get(&tensor)?.iter().position(|ids| ids.as_ref().is_some_and(|ids| ids.iter().any(carried)))
    }

    /// Whether an element-wise operation that makes a tensor brings in something computed that runs along the atoms' axis without
    /// carrying them.
    fn meets_in(&self, operation: &OperationIr, made: TensorId) -> bool {
        let described = describe(operation);
        let Some((operands, out)) = described.as_ref().and_then(|described| described.elementwise()) else {
            return false;
        };
        let Some(axis) = self.axis_of(made) else { return false };
        let foreign =
            |other: TensorId| self.axis_of(other).is_none() && self.network.following_inputs().contains(&other);
        operands.iter().any(|other| {
            let own = (axis + other.shape.num_dims()).checked_sub(out.shape.num_dims());
            own.is_some_and(|own| other.shape[own] == out.shape[axis]) && foreign(other.id)
        })
    }
}
