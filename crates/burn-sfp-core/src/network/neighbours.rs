//! Which layers feed which: found on demand, because in a residual tower every layer reads all before it.

use std::collections::{BTreeSet, HashSet, VecDeque};

use burn::backend::ir::{OperationIr, TensorId, TensorIr};

use super::{ChannelId, Layer, Network, op};

impl Network {
    /// The layers whose output a layer reads without another layer in between, in the order in which they run.
    pub fn producers(&self, layer: &Layer) -> Vec<&Layer> {
        let found = self.layers_behind(layer.inputs_of_calls.clone());
        found.into_iter().map(|index| &self.layers[index]).collect()
    }

    /// Path of the layer (or of the bare parameter) whose output an operation works on, the nearest one.
    pub fn layer_before(&self, operation: usize) -> Option<&str> {
        let parameters = self.parameter_index();
        let mut seen = HashSet::new();
        let mut open: VecDeque<_> = self.operations.get(operation)?.inputs().map(|input| input.id).collect();
        let mut bare = None;
        while let Some(tensor) = open.pop_front() {
            if !seen.insert(tensor) {
                continue;
            }
            if let Some(&layer) = self.index.layers.get(&tensor) {
                return Some(&self.layers[layer].path);
            }
            if let Some(&parameter) = parameters.get(&tensor) {
                bare.get_or_insert(self.parameters[parameter].path.as_str());
            } else if let Some(&maker) = self.index.makers.get(&tensor) {
                open.extend(self.operations[maker].inputs().map(|input| input.id));
            }
        }
        bare
    }

    /// The layers that read a layer's output without another layer in between, in the order in which they run.
    pub fn consumers(&self, layer: &Layer) -> Vec<&Layer> {
        self.layers
            .iter()
            .filter(|other| self.producers(other).iter().any(|producer| producer.path == layer.path))
            .collect()
    }

    /// Where a channel that several layers make comes together: operations, by position and name, at least two of whose
    /// operands carry it and are computed from the input.
    pub fn meetings(&self, channel: ChannelId) -> Vec<String> {
        let mut computed: HashSet<TensorId> = self.inputs.iter().copied().collect();
        for op in &self.operations {
            if op.inputs().any(|input| computed.contains(&input.id)) {
                computed.extend(op.outputs().map(|output| output.id));
            }
        }
        let carries = |tensor: &TensorIr| {
            computed.contains(&tensor.id)
                && self.flow.tensors.get(&tensor.id).is_some_and(|axes| {
                    axes.iter().flatten().flatten().any(|&label| self.flow.atoms(label).contains(&channel))
                })
        };
        let meets = |op: &&OperationIr| op.inputs().filter(|input| carries(input)).count() > 1;
        let all = self.operations.iter().enumerate();
        all.filter(|(_, op)| meets(op)).map(|(index, op)| format!("operation {index} ({})", op::name(op))).collect()
    }

    /// The layers reached from these tensors against the direction of the data, none behind another.
    pub(super) fn layers_behind(&self, mut open: Vec<TensorId>) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut seen = HashSet::new();
        while let Some(tensor) = open.pop() {
            if !seen.insert(tensor) {
                continue;
            }
            if let Some(&producer) = self.index.layers.get(&tensor) {
                found.insert(producer);
            } else if let Some(&maker) = self.index.makers.get(&tensor) {
                open.extend(self.operations[maker].inputs().map(|input| input.id));
            }
        }
        found
    }
}
