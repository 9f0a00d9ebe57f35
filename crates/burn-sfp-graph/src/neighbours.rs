//! Which layers feed which: found on demand, because in a residual tower every layer reads all before it.

use std::collections::{BTreeSet, HashSet, VecDeque};

use burn::backend::ir::TensorIr;

use crate::channels::ids::ChannelId;
use crate::layers::behind::layers_behind;
use crate::layers::layer::Layer;
use crate::network::Network;

impl Network {
    /// The layers whose output a layer reads without another layer in between, in the order in which they run.
    pub fn producers(&self, layer: &Layer) -> Vec<&Layer> {
        let found = layers_behind(&self.graph, &self.layer_of, layer.inputs_of_calls.clone());
        found.into_iter().map(|index| &self.layers[index]).collect()
    }

    /// The layers that read a layer's output without another layer in between, in the order in which they run.
    pub fn consumers(&self, layer: &Layer) -> Vec<&Layer> {
        let Some(own) = self.index.at(&layer.path) else { return Vec::new() };
        let mut open = self.index.outputs(own).to_vec();
        let (mut seen, mut found) = (HashSet::new(), BTreeSet::<usize>::new());
        while let Some(tensor) = open.pop() {
            if !seen.insert(tensor) {
                continue;
            }
            found.extend(self.index.readers(tensor));
            for op in self.graph.read_by(tensor) {
                open.extend(op.outputs().map(|output| output.id).filter(|output| !self.layer_of.contains_key(output)));
            }
        }
        found.into_iter().map(|index| &self.layers[index]).collect()
    }

    /// Path of the nearest layer (or bare parameter) whose output an operation works on, `None` where there is none.
    pub fn layer_before(&self, operation: usize) -> Option<&str> {
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
            if let Some(parameter) = self.graph.parameter(tensor) {
                bare.get_or_insert(self.graph.parameters[parameter].path.as_str());
            } else if let Some(producer) = self.graph.made_by(tensor) {
                open.extend(producer.inputs().map(|input| input.id));
            }
        }
        bare
    }

    /// The channels (atoms) along the axes of a tensor.
    pub(crate) fn atoms_along(&self, tensor: &TensorIr) -> BTreeSet<ChannelId> {
        let axes = self.flow.tensors.get(&tensor.id).into_iter().flatten().flatten().flatten();
        axes.flat_map(|id| self.flow.atoms_of(id)).copied().collect()
    }
}
