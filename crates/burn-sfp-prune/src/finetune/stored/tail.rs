//! The part of a model that learns, for batches of any size.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use burn::tensor::{Bool, Device, Int, Tensor};
use burn_sfp_core::SfpModule;
use burn_sfp_graph::{FrozenOutput, FrozenOutputs, GraphError, InputMapper, LearningPart, ModuleInput, TrainingGraph};

use super::super::recorded::settled;
use crate::PruneError;

/// Computes logits from the stored outputs of the frozen part.
pub(in super::super) struct Tail<M: SfpModule> {
    /// An input, of which only the shapes count.
    example: M::Inputs,
    /// The parameters that learn.
    learning: BTreeSet<String>,
    outputs: Vec<FrozenOutput>,
    device: Device,
    /// By the number of samples.
    parts: RefCell<HashMap<usize, LearningPart>>,
}

impl<M: SfpModule> Tail<M> {
    /// A tail that reads what `graph` hands over, recorded on an input like `example`.
    pub fn new(graph: &TrainingGraph, example: M::Inputs, learning: BTreeSet<String>, device: Device) -> Self {
        Self { example, learning, outputs: graph.outputs().to_vec(), device, parts: RefCell::default() }
    }

    /// The logits of a batch, with gradients for what learns. Running statistics move on.
    pub fn logits(&self, model: &M, stored: &FrozenOutputs, batch: usize) -> Result<Tensor<2>, PruneError> {
        let samples = stored.samples();
        let mut parts = self.parts.borrow_mut();
        let part = match parts.entry(samples) {
            std::collections::hash_map::Entry::Occupied(part) => part.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => place.insert(self.part(model, samples)?),
        };
        settled(batch, || part.run(model, stored.clone()))
    }

    fn part(&self, model: &M, samples: usize) -> Result<LearningPart, PruneError> {
        let input = self.example.clone().map_tensors(&mut Resize(samples));
        let graph = TrainingGraph::capture(model, &input, M::logits, &self.learning)?;
        if graph.outputs() != self.outputs {
            let what = format!("the frozen part hands over {:?} instead of {:?}", graph.outputs(), self.outputs);
            let (found, expected) = (samples, self.example.samples());
            return Err(GraphError::GraphChanges { found, expected, operation: 0, what }.into());
        }
        Ok(graph.learning_part(&self.device)?)
    }
}

/// Gives every tensor this many samples, repeated where there are fewer.
struct Resize(usize);

impl Resize {
    fn times(&self, samples: usize) -> usize {
        self.0.div_ceil(samples.max(1))
    }
}

impl InputMapper for Resize {
    fn float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
        let times = self.times(tensor.dims()[0]);
        tensor.repeat_dim(0, times).slice_dim(0, 0..self.0)
    }
    fn int<const D: usize>(&mut self, tensor: Tensor<D, Int>) -> Tensor<D, Int> {
        let times = self.times(tensor.dims()[0]);
        tensor.repeat_dim(0, times).slice_dim(0, 0..self.0)
    }
    fn bool<const D: usize>(&mut self, tensor: Tensor<D, Bool>) -> Tensor<D, Bool> {
        let times = self.times(tensor.dims()[0]);
        tensor.repeat_dim(0, times).slice_dim(0, 0..self.0)
    }
}
