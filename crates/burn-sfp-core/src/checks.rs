//! What batches and passes have to hold, whatever the pass is for: the sums, a readout's epochs, an accuracy, training.

use burn_sfp_graph::{GraphError, ModuleInput, attempt, lacks_memory};

pub use crate::parts::{MayLackMemory, Parts, in_smaller_batches};
pub use crate::pool::{ChunkError, ChunkWork, Crew, JobOutcome, Members, Merged, in_chunks};
use crate::{Batch, Calibration, Progress, SfpError};

/// Checks that a batch holds samples, one label for each, and as many of them in every input.
///
/// # Errors
/// [`SfpError::EmptyBatch`], [`SfpError::LabelCount`], [`SfpError::BatchShape`].
pub fn check_batch<I: ModuleInput>(index: usize, batch: &Batch<I>) -> Result<(), SfpError> {
    let samples = batch.input.samples();
    if samples == 0 && batch.labels.is_empty() {
        return Err(SfpError::EmptyBatch { batch: index });
    }
    if samples != batch.labels.len() {
        return Err(SfpError::LabelCount { batch: index, inputs: samples, labels: batch.labels.len() });
    }
    match batch.input.shapes().into_iter().find(|shape| shape.first() != Some(&samples)) {
        None => Ok(()),
        Some(found) => {
            let mut expected = found.clone();
            expected.iter_mut().take(1).for_each(|length| *length = samples);
            Err(SfpError::BatchShape { batch: index, found, expected })
        }
    }
}

/// Checks that the inputs of a batch have the shapes of an earlier batch's, the samples apart.
///
/// # Errors
/// [`SfpError::BatchShape`] with the first shape that differs.
pub fn check_shapes<I: ModuleInput>(index: usize, input: &I, expected: &[Vec<usize>]) -> Result<(), SfpError> {
    let found = input.shapes();
    let fits = |a: &Vec<usize>, b: &Vec<usize>| a.len() == b.len() && a.get(1..) == b.get(1..);
    let differing = (0..found.len().max(expected.len())).find(|&k| match (found.get(k), expected.get(k)) {
        (Some(found), Some(expected)) => !fits(found, expected),
        _ => true,
    });
    match differing {
        None => Ok(()),
        Some(k) => {
            let of = |shapes: &[Vec<usize>]| shapes.get(k).cloned().unwrap_or_default();
            Err(SfpError::BatchShape { batch: index, found: of(&found), expected: of(expected) })
        }
    }
}

/// Counts the samples of each label, pass by pass.
#[derive(Clone, Debug, Default)]
pub(crate) struct PassCounts {
    first: Vec<u64>,
    current: Vec<u64>,
    passes: usize,
}

impl PassCounts {
    /// For labels below `classes`.
    pub fn new(classes: usize) -> Self {
        Self { first: vec![0; classes], current: vec![0; classes], passes: 0 }
    }

    /// Adds the labels of a batch, which were checked.
    pub fn add(&mut self, labels: &[usize]) {
        labels.iter().for_each(|&label| self.current[label] += 1);
    }

    /// Adds so many samples of each label.
    pub fn add_counts(&mut self, counts: &[u64]) {
        self.current.iter_mut().zip(counts).for_each(|(all, more)| *all += more);
    }

    /// Samples of each label in the current pass.
    pub fn of_current_pass(&self) -> &[u64] {
        &self.current
    }

    /// Takes the counts of the current pass, after which they begin at zero again.
    pub fn take_current(&mut self) -> Vec<u64> {
        std::mem::replace(&mut self.current, vec![0; self.first.len()])
    }

    /// Ends a pass. Every pass has to hold what the first one held.
    pub fn end_pass(&mut self) -> Result<(), SfpError> {
        let current = self.take_current();
        self.passes += 1;
        if self.passes == 1 {
            self.first = current;
            return Ok(());
        }
        let differs = (0..current.len()).find(|&label| current[label] != self.first[label]);
        differs.map_or(Ok(()), |label| {
            let (found, expected) = (current[label], self.first[label]);
            Err(SfpError::PassDiffers { pass: self.passes, label, found, expected })
        })
    }

    /// Ends a pass before its end. The first pass counts as far as it went.
    pub fn stop(&mut self) {
        let current = self.take_current();
        if self.passes == 0 {
            self.first = current;
        }
        self.passes += 1;
    }

    /// Samples of each label in the first pass.
    pub fn of_first_pass(&self) -> &[u64] {
        &self.first
    }
}

/// Works on a batch; what Burn panics with becomes [`SfpError::Batch`].
pub(crate) fn on_batch<T>(index: usize, work: impl FnOnce() -> Result<T, SfpError>) -> Result<T, SfpError> {
    attempt(work).unwrap_or_else(|message| Err(panicked(index, message)))
}

/// Works on batch after batch. Returns whether `progress` cancelled.
pub(crate) fn each_batch<I: ModuleInput, C: Calibration<I> + ?Sized>(
    data: &C,
    progress: &dyn Progress,
    mut work: impl FnMut(usize, &Batch<I>) -> Result<(), SfpError>,
) -> Result<bool, SfpError> {
    for (index, batch) in data.batches().enumerate() {
        let batch = batch.map_err(|source| SfpError::Data { batch: index, source })?;
        on_batch(index, || work(index, &batch))?;
        progress.advance(batch.labels.len());
        if progress.is_cancelled() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The error of a batch on which Burn panicked with this message.
pub fn panicked(index: usize, message: String) -> SfpError {
    SfpError::Batch { batch: index, out_of_memory: lacks_memory(&message), message }
}

/// Does a part of the analysis that is not about one batch; what Burn panics with becomes [`GraphError::Replay`].
pub(crate) fn on_device<T>(what: &str, work: impl FnOnce() -> Result<T, SfpError>) -> Result<T, SfpError> {
    attempt(work)
        .unwrap_or_else(|message| Err(GraphError::Replay { operation: None, name: what.to_string(), message }.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Tensor};

    fn zeros(samples: usize, width: usize) -> Tensor<2> {
        Tensor::zeros([samples, width], &Device::flex())
    }

    #[test]
    fn batches_that_do_not_hold_together() {
        let batch = |input, labels| check_batch(3, &Batch { input, labels });
        assert!(batch((zeros(2, 4), zeros(2, 1)), vec![0, 1]).is_ok());
        let error = batch((zeros(2, 4), zeros(3, 1)), vec![0, 1]).unwrap_err();
        assert!(
            matches!(error, SfpError::BatchShape { batch: 3, found, expected } if (&found[..], &expected[..]) == (&[3, 1], &[2, 1]))
        );
        assert!(matches!(batch((zeros(0, 4), zeros(0, 1)), vec![]), Err(SfpError::EmptyBatch { batch: 3 })));
        let error = batch((zeros(2, 4), zeros(2, 1)), vec![0]).unwrap_err();
        assert!(matches!(error, SfpError::LabelCount { batch: 3, inputs: 2, labels: 1 }));
    }

    #[test]
    fn shapes_that_change() {
        let expected = vec![vec![5, 4], vec![5, 1]];
        assert!(check_shapes(1, &(zeros(2, 4), zeros(2, 1)), &expected).is_ok());
        for (input, width) in [((zeros(2, 4), zeros(2, 2)), 2), ((zeros(2, 3), zeros(2, 1)), 3)] {
            let error = check_shapes(1, &input, &expected).unwrap_err();
            assert!(matches!(error, SfpError::BatchShape { batch: 1, found, .. } if found == [2, width]));
        }
        assert!(check_shapes(1, &vec![zeros(2, 4)], &expected).is_err());
        assert!(check_shapes(1, &vec![zeros(2, 4), zeros(2, 1), zeros(2, 1)], &expected).is_err());
    }

    #[test]
    fn passes_that_differ() {
        let mut counts = PassCounts::new(3);
        for pass in [vec![0, 1, 1, 2], vec![1, 2, 0, 1]] {
            counts.add(&pass);
            counts.end_pass().unwrap();
        }
        assert_eq!(counts.of_first_pass(), [1, 2, 1]);
        counts.add(&[0, 1, 2]);
        let error = counts.end_pass().unwrap_err();
        assert!(matches!(error, SfpError::PassDiffers { pass: 3, label: 1, found: 1, expected: 2 }));
    }

    #[test]
    fn a_panic_is_an_error_of_the_batch() {
        let error = on_batch(2, || -> Result<(), SfpError> { panic!("out of memory") }).unwrap_err();
        assert!(error.is_out_of_memory() && error.to_string().contains("batch 2"));
        let error = on_batch(2, || -> Result<(), SfpError> { panic!("axis 1") }).unwrap_err();
        assert!(!error.is_out_of_memory() && error.to_string().contains("axis 1"));
    }
}
