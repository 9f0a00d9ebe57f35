//! [`LayerIndex`]: layers by path and by the tensors that they read and make.

use std::collections::HashMap;

use burn::backend::ir::TensorId;

use super::layer::Layer;

/// Layers by path and by the tensors that they read and make: found without a search through all layers.
#[derive(Clone, Debug, Default)]
pub(crate) struct LayerIndex {
    by_path: HashMap<String, usize>,
    /// The layers that read a tensor.
    readers: HashMap<TensorId, Vec<usize>>,
    /// The outputs of all calls of each layer.
    outputs: Vec<Vec<TensorId>>,
}

impl LayerIndex {
    /// Indexes layers; `layer_of` names the layer whose output a tensor is.
    pub fn of(layers: &[Layer], layer_of: &HashMap<TensorId, usize>) -> Self {
        let mut index = Self { outputs: vec![Vec::new(); layers.len()], ..Self::default() };
        for (at, layer) in layers.iter().enumerate() {
            index.by_path.entry(layer.path.clone()).or_insert(at);
            for input in &layer.inputs_of_calls {
                let readers = index.readers.entry(*input).or_default();
                if readers.last() != Some(&at) {
                    readers.push(at);
                }
            }
        }
        for (&tensor, &layer) in layer_of {
            index.outputs[layer].push(tensor);
        }
        index
    }

    /// The first layer at a module path.
    pub fn at(&self, path: &str) -> Option<usize> {
        self.by_path.get(path).copied()
    }

    /// The layers that read a tensor as their input.
    pub fn readers(&self, tensor: TensorId) -> &[usize] {
        self.readers.get(&tensor).map(Vec::as_slice).unwrap_or_default()
    }

    /// The tensors that a layer makes, one a call.
    pub fn outputs(&self, layer: usize) -> &[TensorId] {
        self.outputs.get(layer).map(Vec::as_slice).unwrap_or_default()
    }
}
