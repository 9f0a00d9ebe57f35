//! Why channels stay and where they are tied, in words: for plans and summaries.

use std::collections::{BTreeMap, BTreeSet};

use burn::backend::ir::OperationIr;

use crate::channels::ids::ChannelId;
use crate::network::Network;
use crate::op::name::name;

impl Network {
    /// The recorded operations, in the order in which they run.
    #[doc(hidden)]
    pub fn operations(&self) -> &[OperationIr] {
        &self.graph.operations
    }

    /// Name of an operation, for example `Conv2d`.
    #[doc(hidden)]
    pub fn operation_name(&self, operation: usize) -> Option<String> {
        self.graph.operations.get(operation).map(name)
    }

    /// Path of the layer whose parameter an operation reads, `None` where it reads none, or a bare one.
    #[doc(hidden)]
    pub fn layer_of(&self, operation: usize) -> Option<&str> {
        let mut inputs = self.graph.operations.get(operation)?.inputs();
        let parameter = inputs.find_map(|input| self.graph.parameter(input.id))?;
        Some(self.graph.parameters[parameter].module()).filter(|path| !path.is_empty())
    }

    /// Returns why a channel (atom, see [`Flow`](crate::Flow)) must stay, with the operation that says so; `None` if it may be removed.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::{GraphModule, Network};
    /// #[derive(Module, Debug)]
    /// struct Net { a: Linear, b: Linear }
    ///
    /// impl GraphModule for Net {
    ///     type Inputs = Tensor<2>;
    ///     type Outputs = Tensor<2>;
    ///     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.b.forward(self.a.forward(x)) }
    /// }
    /// # let device = Device::flex();
    /// # let net = Net { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 3).init(&device) };
    /// let network = Network::capture(&net, &Tensor::zeros([2, 4], &device))?;
    /// let why = network.why_pinned(network.layers()[1].output_channels()[0]);
    /// assert!(why.is_some_and(|why| why.starts_with("it is an output of the network")));
    /// # Ok::<(), burn_sfp_graph::GraphError>(())
    /// ```
    pub fn why_pinned(&self, atom: ChannelId) -> Option<String> {
        let pin = self.flow.pins.of(atom).first()?;
        let reason = self.flow.pins.reason(pin);
        let operation = pin.place.and_then(|place| Some((place, self.graph.operations.get(place)?)));
        Some(match operation {
            Some((place, operation)) => format!("{reason} (operation {place}: {})", name(operation)),
            None => reason.to_string(),
        })
    }

    /// Returns the operations, by position and name, that tie filters of one layer to each other, so that the channel (atom) holds
    /// several of them: a split at a common divisor, for example, or heads.
    pub fn tied_at(&self, atom: ChannelId) -> Vec<String> {
        let describe = |&place: &usize| Some(described(place, self.graph.operations.get(place)?));
        self.flow.ties.of(atom).iter().filter_map(describe).collect()
    }

    /// Returns the operations, by position and name, in which channels that several layers produce come together: at least two of their
    /// operands carry the channel and are computed from the input. All channels are found in one pass over the operations.
    pub fn meetings(&self, channels: &BTreeSet<ChannelId>) -> BTreeMap<ChannelId, Vec<String>> {
        let mut found: BTreeMap<ChannelId, Vec<String>> = BTreeMap::new();
        if channels.is_empty() {
            return found;
        }
        let computed = self.following_inputs();
        for (index, operation) in self.graph.operations.iter().enumerate() {
            let mut once = BTreeSet::new();
            let mut twice = BTreeSet::new();
            for input in operation.inputs().filter(|input| computed.contains(&input.id)) {
                for &channel in self.atoms_along(input).intersection(channels) {
                    if !once.insert(channel) {
                        twice.insert(channel);
                    }
                }
            }
            for channel in twice {
                found.entry(channel).or_default().push(described(index, operation));
            }
        }
        found
    }
}

fn described(place: usize, operation: &OperationIr) -> String {
    format!("operation {place} ({})", name(operation))
}
