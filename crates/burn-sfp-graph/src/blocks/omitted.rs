//! [`Omitted`]: some blocks of a network together.

use std::collections::{BTreeSet, HashMap, HashSet};

use burn::backend::ir::TensorId;
use burn_sfp_nn::Removable;

use super::find::Block;
use crate::GraphError;
use crate::network::Network;

/// Blocks that a network is without: which operations and parameters go, and what stands in the place of their results.
#[derive(Clone, Debug, Default)]
pub struct Omitted {
    parts: Vec<Removable>,
    operations: BTreeSet<usize>,
    parameters: BTreeSet<usize>,
    stands_for: HashMap<TensorId, TensorId>,
    branches: HashSet<TensorId>,
    layers: BTreeSet<usize>,
}

impl Network {
    /// The blocks at these module paths, to be left out.
    ///
    /// # Errors
    /// [`GraphError::UnknownBlock`] where there is none that can be left out.
    pub fn omit<'p>(&self, paths: impl IntoIterator<Item = &'p str>) -> Result<Omitted, GraphError> {
        let mut omitted = Omitted::default();
        for path in paths {
            let found = self.blocks().iter().find(|block| block.path() == path && block.not_removable.is_none());
            let Some(block) = found else {
                let free = self.blocks().iter().filter(|block| block.not_removable.is_none());
                let available = free.map(|block| block.path().to_string()).collect();
                return Err(GraphError::UnknownBlock { path: path.to_string(), available });
            };
            omitted.add(block);
        }
        Ok(omitted)
    }
}

impl Omitted {
    /// Adds a block.
    pub fn add(&mut self, block: &Block) {
        self.parts.push(block.part.clone());
        self.operations.extend(&block.operations);
        self.parameters.extend(&block.parameters);
        self.stands_for.extend(&block.stands_for);
        self.branches.extend(&block.branches);
        self.layers.extend(&block.layers);
    }

    /// The parts of the module.
    pub fn parts(&self) -> &[Removable] {
        &self.parts
    }

    /// Whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether a parameter, by its index, goes with a block.
    pub fn has_parameter(&self, parameter: usize) -> bool {
        self.parameters.contains(&parameter)
    }

    /// Whether a layer, by its index, goes with a block.
    pub fn has_layer(&self, layer: usize) -> bool {
        self.layers.contains(&layer)
    }

    /// Whether an operation, by its position, goes with a block.
    pub fn has_operation(&self, operation: usize) -> bool {
        self.operations.contains(&operation)
    }

    /// Indices of the parameters that go.
    pub(crate) fn parameters(&self) -> &BTreeSet<usize> {
        &self.parameters
    }

    /// Whether a tensor is what a block adds to its stream.
    pub(crate) fn is_branch(&self, tensor: TensorId) -> bool {
        self.branches.contains(&tensor)
    }

    /// The tensor in the place of one that a block computes.
    pub(crate) fn stand_in(&self, tensor: TensorId) -> TensorId {
        let mut at = tensor;
        while let Some(&before) = self.stands_for.get(&at) {
            at = before;
        }
        at
    }
}
