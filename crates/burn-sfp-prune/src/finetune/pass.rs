//! The checks of the batches of a pass, and of its length.

use burn_sfp_core::Batch;
use burn_sfp_core::checks::{check_batch, check_shapes};
use burn_sfp_graph::ModuleInput;

use super::rate::Position;
use super::source::Example;
use crate::PruneError;

/// A pass over the training data, and what the first batch of all was like.
pub(super) struct Pass {
    samples: usize,
    /// Samples of this pass so far.
    pub seen: usize,
    shapes: Option<Vec<Vec<usize>>>,
}

impl Pass {
    /// Passes that hold so many samples each.
    pub fn new(samples: usize) -> Self {
        Self { samples, seen: 0, shapes: None }
    }

    /// Starts a pass, of which `seen` samples were seen before.
    pub fn start(&mut self, seen: usize) {
        self.seen = seen;
    }

    /// Whether training ends inside this pass, after a share of it.
    pub fn ends_early(&self, position: Position, total: f64) -> bool {
        position.samples as f64 >= total && self.seen < self.samples
    }

    /// Checks the next batch of the pass and counts its samples.
    pub fn check<I: ModuleInput>(&mut self, position: Position, example: &Example<I>) -> Result<(), PruneError> {
        let Example { input, labels, .. } = example;
        check_batch(position.batch, &Batch { input: input.clone(), labels: labels.clone() })?;
        match &self.shapes {
            Some(expected) => check_shapes(position.batch, input, expected)?,
            None => self.shapes = Some(input.shapes()),
        }
        self.seen += labels.len();
        if self.seen > self.samples { Err(self.wrong_length(position)) } else { Ok(()) }
    }

    /// Ends a pass, which holds as many samples as it should unless training ended inside of it.
    pub fn end(&self, position: Position, total: f64) -> Result<(), PruneError> {
        if self.seen == self.samples || self.ends_early(position, total) {
            return Ok(());
        }
        Err(self.wrong_length(position))
    }

    fn wrong_length(&self, position: Position) -> PruneError {
        PruneError::PassLength { epoch: position.epoch, found: self.seen, expected: self.samples }
    }
}
