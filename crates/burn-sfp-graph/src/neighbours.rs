//! Which layers feed which: found on demand, because in a residual tower every layer reads all before it.

use std::collections::{HashSet, VecDeque};

use burn::backend::ir::{OperationIr, TensorId, TensorIr};

use crate::channels::ids::ChannelId;
use crate::layers::behind::layers_behind;
use crate::layers::layer::Layer;
use crate::network::Network;
use crate::op::name::name;

impl Network {
    /// The layers whose output a layer reads without another layer in between, in the order in which they run.
    pub fn producers(&self, layer: &Layer) -> Vec<&Layer> {
        let found = layers_behind(&self.graph, &self.layer_of, layer.inputs_of_calls.clone());
        found.into_iter().map(|index| &self.layers[index]).collect()
    }

    /// The layers that read a layer's output without another layer in between, in the order in which they run.
    pub fn consumers(&self, layer: &Layer) -> Vec<&Layer> {
        self.layers
            .iter()
            .filter(|other| self.producers(other).iter().any(|producer| producer.path == layer.path))
            .collect()
    }

    /// Path of the nearest layer (or bare parameter) whose output an operation works on, `None` where there is none.
    pub fn layer_before(&self, operation: usize) -> Option<&str> {
        let parameters = self.graph.parameter_index();
        let mut seen = HashSet::new();
        let mut open: VecDeque<_> = self.graph.operations.get(operation)?.inputs().map(|input| input.id).collect();
        let mut bare = None;
        while let Some(tensor) = open.pop_front() {
            if !seen.insert(tensor) {
                continue;
            }
            if let Some(&layer) = self.layer_of.get(&tensor) {
                return Some(&self.layers[layer].path);
            }
            if let Some(&parameter) = parameters.get(&tensor) {
                bare.get_or_insert(self.graph.parameters[parameter].path.as_str());
            } else if let Some(producer) = self.graph.made_by(tensor) {
                open.extend(producer.inputs().map(|input| input.id));
            }
        }
        bare
    }

    /// The operations, by position and name, in which a channel that several layers produce comes together: at least two of their operands
    /// carry it and are computed from the input.
    pub fn meetings(&self, channel: ChannelId) -> Vec<String> {
        let mut computed: HashSet<TensorId> = self.graph.inputs.iter().copied().collect();
        for op in &self.graph.operations {
            if op.inputs().any(|input| computed.contains(&input.id)) {
                computed.extend(op.outputs().map(|output| output.id));
            }
        }
        let carries = |tensor: &TensorIr| {
            computed.contains(&tensor.id)
                && self.flow.tensors.get(&tensor.id).is_some_and(|axes| {
                    axes.iter().flatten().flatten().any(|id| self.flow.atoms_of(id).contains(&channel))
                })
        };
        let meets = |op: &&OperationIr| op.inputs().filter(|input| carries(input)).count() > 1;
        let all = self.graph.operations.iter().enumerate();
        all.filter(|(_, op)| meets(op)).map(|(index, op)| format!("operation {index} ({})", name(op))).collect()
    }
}
