//! Logits by the recorded forward pass, batch by batch.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use burn::tensor::{Device, Tensor};
use burn_sfp_core::SfpModule;
use burn_sfp_graph::{FrozenPart, GraphError, LearningPart, ModuleInput, TrainingGraph, attempt, lacks_memory};

use super::freeze::Activity;
use super::same_step::same_step;
use crate::PruneError;

/// The shapes of a batch's tensors.
type Shapes = Vec<Vec<usize>>;

/// The forward pass of a model in training, recorded once for each shape of a batch.
pub(super) struct RecordedPass {
    device: Device,
    recordings: RefCell<HashMap<Shapes, Recording>>,
}

struct Recording {
    frozen: FrozenPart,
    learning: LearningPart,
    /// Whether the part that learns draws random numbers.
    is_random: bool,
}

impl RecordedPass {
    /// `device` is the one that the model's parameters are on.
    pub fn new(device: &Device) -> Self {
        Self { device: device.clone().without_autodiff(), recordings: RefCell::default() }
    }

    /// Compares one step on a batch with one by the model's own pass. `model` is in training mode, and stays as it is.
    pub fn check<M: SfpModule>(&self, model: &M, input: &M::Inputs) -> Result<(), PruneError> {
        let input = input.clone().to_device(&self.device);
        let is_random = self.with(model, &input, |part| Ok(part.is_random))?;
        // Any loss will do.
        let labels = vec![0; input.samples()];
        let training = self.device.clone().autodiff();
        same_step(model, is_random, (&input, &labels), &training, |model| self.logits(model, &input, 0)).map(|_| ())
    }

    /// The logits of a batch, with gradients for what learns. Running statistics move on.
    pub fn logits<M: SfpModule>(&self, model: &M, input: &M::Inputs, batch: usize) -> Result<Tensor<2>, PruneError> {
        let input = input.clone().to_device(&self.device);
        self.with(model, &input, |part| settled(batch, || part.learning.run(model, part.frozen.run(input.clone())?)))
    }

    /// Calls `work` with the pass of batches of this shape, which is recorded if need be.
    fn with<M: SfpModule, R>(
        &self,
        model: &M,
        input: &M::Inputs,
        work: impl FnOnce(&mut Recording) -> Result<R, PruneError>,
    ) -> Result<R, PruneError> {
        let mut recordings = self.recordings.borrow_mut();
        let recording = match recordings.entry(input.shapes()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let graph = record(model, input)?;
                let (frozen, learning) = (graph.frozen_part(&self.device)?, graph.learning_part(&self.device)?);
                place.insert(Recording { frozen, learning, is_random: graph.is_random() })
            }
        };
        work(recording)
    }
}

/// Records the forward pass of a model in training, cut where its own parameters begin to learn.
pub(super) fn record<M: SfpModule>(model: &M, input: &M::Inputs) -> Result<TrainingGraph, PruneError> {
    let learning = Activity::of(model).learning().into_iter().map(str::to_string).collect();
    Ok(TrainingGraph::capture(model, input, M::logits, &learning)?)
}

/// The result of a part of the recorded pass; a panic of the device is an error.
pub(super) fn settled<R>(batch: usize, run: impl FnOnce() -> Result<R, GraphError>) -> Result<R, PruneError> {
    match attempt(run) {
        Ok(found) => Ok(found?),
        Err(message) if lacks_memory(&message) => Err(burn_sfp_core::checks::panicked(batch, message).into()),
        Err(message) => {
            Err(GraphError::Replay { operation: None, name: "the part that learns".into(), message }.into())
        }
    }
}
