//! Which operation makes and which read each tensor.

use std::collections::HashMap;

use burn::backend::ir::{OperationIr, TensorId};

/// The graph's edges.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    pub makers: HashMap<TensorId, usize>,
    pub readers: HashMap<TensorId, Vec<usize>>,
    /// The layer whose output a tensor is.
    pub layers: HashMap<TensorId, usize>,
}

impl Index {
    pub fn of(operations: &[OperationIr]) -> Self {
        let mut index = Self::default();
        for (k, op) in operations.iter().enumerate() {
            for input in op.inputs() {
                let readers = index.readers.entry(input.id).or_default();
                if readers.last() != Some(&k) {
                    readers.push(k);
                }
            }
            for output in op.outputs() {
                index.makers.insert(output.id, k);
            }
        }
        index
    }

    /// The operations that read a tensor.
    pub fn readers(&self, tensor: TensorId) -> &[usize] {
        self.readers.get(&tensor).map(Vec::as_slice).unwrap_or_default()
    }
}
