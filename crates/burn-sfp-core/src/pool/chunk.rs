//! [`Chunk`]: consecutive batches, and how a pass is cut into them.

use std::iter::Fuse;

use super::queue::Placed;
use crate::{Batch, BatchIter, SfpError};

/// Consecutive batches of a pass.
#[derive(Clone, Debug)]
pub(super) struct Chunk<I> {
    /// Position of the chunk in its pass, from 0.
    pub(super) index: usize,
    /// Position of its first batch in the pass, from 0.
    first: usize,
    batches: Vec<Batch<I>>,
}

impl<I> Chunk<I> {
    /// Samples of all batches.
    pub(super) fn samples(&self) -> usize {
        self.batches.iter().map(|batch| batch.labels.len()).sum()
    }

    /// Its batches, with their positions in the pass.
    pub(super) fn batches(&self) -> impl Iterator<Item = (usize, &Batch<I>)> {
        (self.first..).zip(&self.batches)
    }
}

impl<I> Placed for Chunk<I> {
    fn place(&self) -> usize {
        self.index
    }
}

/// The chunks of a pass, as they are read.
pub(super) struct Chunks<'a, I> {
    batches: Fuse<BatchIter<'a, I>>,
    size: usize,
    /// Batches read.
    read: usize,
    /// Index of the next chunk.
    pub next: usize,
}

impl<'a, I> Chunks<'a, I> {
    /// Of `size` batches each.
    pub fn new(batches: BatchIter<'a, I>, size: usize) -> Self {
        Self { batches: batches.fuse(), size, read: 0, next: 0 }
    }

    /// Leaves the first chunks out.
    pub fn skip(&mut self, chunks: usize) -> Result<(), SfpError> {
        let read = chunks.saturating_mul(self.size);
        for (batch, skipped) in self.batches.by_ref().take(read).enumerate() {
            skipped.map_err(|source| SfpError::Data { batch, source })?;
        }
        (self.read, self.next) = (read, chunks);
        Ok(())
    }

    /// Reads the next chunk. An error of the data comes with what was read before it.
    pub fn next(&mut self) -> (Option<Chunk<I>>, Option<SfpError>) {
        let (first, mut batches, mut fault) = (self.read, Vec::with_capacity(self.size.min(64)), None);
        while batches.len() < self.size {
            match self.batches.next() {
                Some(Ok(batch)) => batches.push(batch),
                Some(Err(source)) => {
                    fault = Some(SfpError::Data { batch: first + batches.len(), source });
                    break;
                }
                None => break,
            }
        }
        if batches.is_empty() {
            return (None, fault);
        }
        let chunk = Chunk { index: self.next, first, batches };
        (self.read, self.next) = (first + chunk.batches.len(), self.next + 1);
        (Some(chunk), fault)
    }
}
