//! Hands chunks of batches to whichever device is free and takes what it makes of them in the data's order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use super::chunk::{Chunk, Chunks};
use super::devices::DevicePool;
use super::queue::Queue;
use super::serve::{Outcome, Serving, Threads};
use super::work::{ChunkError, ChunkWork};
use crate::error::DeviceFailure;
use crate::{BatchIter, Progress, SfpError, SfpModule};

/// The devices of a pool that have not failed yet, and what became of the others.
#[derive(Debug)]
pub struct Members {
    pool: DevicePool,
    alive: Vec<usize>,
    failures: Vec<DeviceFailure>,
}

impl Members {
    /// All devices.
    pub fn new(pool: &DevicePool) -> Self {
        Self { pool: pool.clone(), alive: (0..pool.devices().len()).collect(), failures: Vec::new() }
    }

    /// Those that are not left out, by their places in the pool.
    pub(super) fn alive(&self) -> &[usize] {
        &self.alive
    }

    /// Leaves a device out from here on.
    pub(super) fn leave_out(&mut self, device: usize, message: String, out_of_memory: bool) {
        let name = format!("{:?}", self.pool.devices()[device]);
        tracing::warn!(device = %name, "{message}: the device is left out, its batches go to another one");
        self.failures.push(DeviceFailure { device: name, message, out_of_memory });
        self.alive.retain(|&alive| alive != device);
    }

    /// The error of a pool without devices that work.
    pub(super) fn lost(&mut self, samples: u64) -> SfpError {
        let out_of_memory = !self.failures.is_empty() && self.failures.iter().all(|failure| failure.out_of_memory);
        SfpError::Devices { failures: std::mem::take(&mut self.failures), samples, out_of_memory }
    }
}

/// What has been merged, of a pass that goes on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Merged {
    /// Chunks, the first of the pass.
    pub chunks: usize,
    /// Their samples.
    pub samples: u64,
}

/// Passes over `batches`, of which those in `done` are skipped, merging what `work` makes of the others in their order. Returns whether
/// the pass was cancelled, after which what was merged is that of the first chunks.
///
/// # Errors
/// The first error of the data, in its order; [`SfpError::Devices`] where no device is left.
pub fn in_chunks<M, W>(
    members: &mut Members,
    model: &M,
    batches: BatchIter<'_, M::Inputs>,
    done: Merged,
    work: W,
    mut merge: impl FnMut(W::Part) -> Result<(), W::Error>,
    progress: &dyn Progress,
) -> Result<bool, W::Error>
where
    M: SfpModule,
    W: ChunkWork<M>,
{
    let mut chunks = Chunks::new(batches, members.pool.batches());
    chunks.skip(done.chunks)?;
    let (queue, work) = (Arc::new(Queue::new(done.chunks)), Arc::new(work));
    let mut threads = Threads::new(queue.clone(), members.pool.longest());
    let (sender, outcomes) = channel();
    for index in members.alive.clone() {
        let device = members.pool.devices()[index].clone();
        let serving = Serving { model: model.clone(), index, device, queue: queue.clone(), outcomes: sender.clone() };
        if let Err(error) = threads.start(serving, work.clone()) {
            members.leave_out(index, error.to_string(), false);
        }
    }
    drop(sender);
    let feed = Feed {
        members,
        queue: &queue,
        outcomes,
        chunks,
        kept: BTreeMap::new(),
        fault: None,
        in_flight: 0,
        merged: done,
        is_cancelled: false,
    };
    feed.run(&mut merge, progress)
}

/// The side of the pass that reads chunks and merges what comes out of them.
struct Feed<'a, I, P, E> {
    members: &'a mut Members,
    queue: &'a Queue<Chunk<I>>,
    outcomes: Receiver<Outcome<I, P, E>>,
    chunks: Chunks<'a, I>,
    /// Chunks that were handed out, where a device may be left out without handing its own back.
    kept: BTreeMap<usize, Chunk<I>>,
    /// The first error of the data, and the chunk that it is in.
    fault: Option<(usize, E)>,
    /// Chunks that were handed out and whose outcome is not known.
    in_flight: usize,
    merged: Merged,
    is_cancelled: bool,
}

impl<I: Clone, P, E: ChunkError> Feed<'_, I, P, E> {
    fn run(mut self, merge: &mut impl FnMut(P) -> Result<(), E>, progress: &dyn Progress) -> Result<bool, E> {
        let mut ready = BTreeMap::new();
        let mut is_read = false;
        loop {
            // One for each device, and one that waits.
            while !is_read && self.in_flight <= self.members.alive.len() {
                is_read = !self.hand_out();
            }
            if self.in_flight == 0 {
                break;
            }
            let outcome = match self.next_outcome() {
                Ok(outcome) => outcome,
                Err(RecvTimeoutError::Timeout) => {
                    self.leave_late_ones_out()?;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    // No thread is left that could take what is waiting.
                    if self.fault.is_none() && !self.is_cancelled {
                        return Err(self.members.lost(self.merged.samples).into());
                    }
                    break;
                }
            };
            match outcome {
                // Another one has its chunk by now.
                Outcome::Done { device, .. } | Outcome::Failed { device, .. }
                    if !self.members.alive.contains(&device) => {}
                Outcome::Done { chunk, samples, part, .. } => {
                    self.in_flight -= 1;
                    self.kept.remove(&chunk);
                    ready.insert(chunk, (samples, part));
                }
                Outcome::Failed { chunk, error, .. } if error.is_of_data() => {
                    self.in_flight -= 1;
                    self.found_fault(chunk.index, error);
                    is_read = true;
                }
                Outcome::Failed { device, chunk, error } => {
                    self.members.leave_out(device, error.to_string(), error.lacks_memory());
                    self.hand_on(chunk)?;
                }
            }
            while let Some((samples, part)) = ready.remove(&self.merged.chunks).filter(|_| !self.is_cancelled) {
                merge(part)?;
                self.merged.chunks += 1;
                self.merged.samples += samples as u64;
                progress.advance(samples);
                if progress.is_cancelled() {
                    (self.is_cancelled, is_read) = (true, true);
                    self.in_flight -= self.queue.drain().len();
                }
            }
            // What will not be merged is handed in at once.
            let is_over = self.is_cancelled || self.fault.is_some();
            self.queue.turn(if is_over { usize::MAX } else { self.merged.chunks });
        }
        match self.fault {
            Some((_, error)) if !self.is_cancelled => Err(error),
            _ => Ok(self.is_cancelled),
        }
    }

    /// Waits for an outcome, where there is a limit no longer than until a device may be late.
    fn next_outcome(&self) -> Result<Outcome<I, P, E>, RecvTimeoutError> {
        match self.members.pool.longest() {
            None => self.outcomes.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(limit) => {
                let soonest = self.queue.overdue(limit).1;
                self.outcomes.recv_timeout(soonest.saturating_add(Duration::from_millis(1)))
            }
        }
    }

    /// Leaves out who takes longer than the limit.
    fn leave_late_ones_out(&mut self) -> Result<(), E> {
        let Some(limit) = self.members.pool.longest() else { return Ok(()) };
        for (device, chunk) in self.queue.overdue(limit).0 {
            self.queue.leave_out(device);
            let message = format!("a chunk of batches has taken longer than {limit:?}, the pool's time limit");
            self.members.leave_out(device, message, false);
            if let Some(chunk) = self.kept.get(&chunk).cloned() {
                self.hand_on(chunk)?;
            }
        }
        Ok(())
    }

    /// Reads a chunk and hands it out; false once there are no more.
    fn hand_out(&mut self) -> bool {
        let (chunk, fault) = self.chunks.next();
        let is_last = chunk.is_none() || fault.is_some();
        if let Some(chunk) = chunk {
            if self.members.pool.longest().is_some() {
                self.kept.insert(chunk.index, chunk.clone());
            }
            self.queue.push(chunk);
            self.in_flight += 1;
        }
        if let Some(error) = fault {
            self.found_fault(self.chunks.next, error.into());
        }
        !is_last
    }

    /// Keeps the first error of the data. Only chunks before it are still of interest.
    fn found_fault(&mut self, chunk: usize, error: E) {
        if self.fault.as_ref().is_none_or(|(first, _)| chunk < *first) {
            self.fault = Some((chunk, error));
        }
        let first = self.fault.as_ref().map_or(chunk, |(first, _)| *first);
        for waiting in self.queue.drain() {
            if waiting.index < first {
                self.queue.push(waiting);
            } else {
                self.in_flight -= 1;
            }
        }
    }

    /// Hands the chunk of a device that was left out on to another one.
    fn hand_on(&mut self, chunk: Chunk<I>) -> Result<(), E> {
        if self.is_cancelled || self.fault.as_ref().is_some_and(|(first, _)| *first <= chunk.index) {
            self.in_flight -= 1;
        } else if self.members.alive.is_empty() {
            return Err(self.members.lost(self.merged.samples).into());
        } else {
            self.queue.push(chunk);
        }
        Ok(())
    }
}
