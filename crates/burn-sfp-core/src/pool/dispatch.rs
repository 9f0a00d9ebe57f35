//! Hands chunks of batches to whichever device is free and takes what it makes of them in the data's order.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::iter::Fuse;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use burn::tensor::Device;
use burn_sfp_graph::{GraphError, attempt};

use super::devices::DevicePool;
use super::queue::{Placed, Queue};
use crate::error::DeviceFailure;
use crate::parts::MayLackMemory;
use crate::{Batch, BatchIter, Progress, SfpError, SfpModule};

impl<I> Placed for Chunk<I> {
    fn place(&self) -> usize {
        self.index
    }
}

/// An error of a chunk.
pub trait ChunkError: From<SfpError> + MayLackMemory + Display + Send {
    /// Whether the chunk would fail on another device, too.
    fn is_of_data(&self) -> bool;
}

impl ChunkError for SfpError {
    fn is_of_data(&self) -> bool {
        match self {
            Self::Batch { .. } | Self::Device { .. } | Self::Layer(_) => false,
            Self::Graph(error) => matches!(error, GraphError::GraphChanges { .. }),
            _ => true,
        }
    }
}

/// Consecutive batches of a pass.
#[derive(Debug)]
pub struct Chunk<I> {
    /// Position of the chunk in its pass, from 0.
    index: usize,
    /// Position of its first batch in the pass, from 0.
    first: usize,
    batches: Vec<Batch<I>>,
}

impl<I> Chunk<I> {
    /// Its batches, with their positions in the pass.
    pub fn batches(&self) -> impl Iterator<Item = (usize, &Batch<I>)> {
        (self.first..).zip(&self.batches)
    }
}

/// What a device does with chunks.
pub trait ChunkWork<M: SfpModule>: Sync {
    /// What a device keeps between chunks.
    type State<'m>
    where
        M: 'm;
    /// What comes out of a chunk, whatever chunks the device had before it.
    type Part: Send;
    /// What can go wrong.
    type Error: ChunkError;

    /// Gets a device ready.
    ///
    /// # Errors
    /// Those of the work.
    fn start<'m>(&'m self, model: &'m M, device: &Device) -> Result<Self::State<'m>, Self::Error>;

    /// Works on a chunk; what comes out of it stays on the device.
    ///
    /// # Errors
    /// Those of the work.
    fn run(&self, state: &mut Self::State<'_>, chunk: &Chunk<M::Inputs>) -> Result<(), Self::Error>;

    /// Takes what came out of the chunk.
    ///
    /// # Errors
    /// Those of the work.
    fn take(&self, state: &mut Self::State<'_>) -> Result<Self::Part, Self::Error>;
}

/// The devices of a pool that have not failed yet, and what became of the others.
#[derive(Debug)]
pub struct Members<'a> {
    pool: &'a DevicePool,
    alive: Vec<usize>,
    failures: Vec<DeviceFailure>,
}

impl<'a> Members<'a> {
    /// All devices.
    pub fn new(pool: &'a DevicePool) -> Self {
        Self { pool, alive: (0..pool.devices().len()).collect(), failures: Vec::new() }
    }

    /// Leaves a device out from here on.
    fn leave_out(&mut self, device: usize, message: String, out_of_memory: bool) {
        let name = format!("{:?}", self.pool.devices()[device]);
        tracing::warn!(device = %name, "{message}: the device is left out, its batches go to another one");
        self.failures.push(DeviceFailure { device: name, message, out_of_memory });
        self.alive.retain(|&alive| alive != device);
    }

    /// The error of a pool without devices that work.
    fn lost(&mut self, samples: u64) -> SfpError {
        let out_of_memory = !self.failures.is_empty() && self.failures.iter().all(|failure| failure.out_of_memory);
        SfpError::Devices { failures: std::mem::take(&mut self.failures), samples, out_of_memory }
    }
}

/// What became of a chunk.
enum Outcome<I, P, E> {
    Done { chunk: usize, samples: usize, part: P },
    Failed { device: usize, chunk: Chunk<I>, error: E },
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
    members: &mut Members<'_>,
    model: &M,
    batches: BatchIter<'_, M::Inputs>,
    done: Merged,
    work: &W,
    mut merge: impl FnMut(W::Part) -> Result<(), W::Error>,
    progress: &dyn Progress,
) -> Result<bool, W::Error>
where
    M: SfpModule,
    W: ChunkWork<M>,
{
    let mut chunks = Chunks { batches: batches.fuse(), size: members.pool.batches(), read: 0, next: 0 };
    chunks.skip(done.chunks)?;
    let queue = Queue::new(done.chunks);
    thread::scope(|scope| {
        let _closing = queue.closing();
        let (sender, outcomes) = channel();
        for device in members.alive.clone() {
            let (model, sender, queue, pool) = (model.clone(), sender.clone(), &queue, members.pool);
            let serve = move || serve(&model, device, pool, queue, &sender, work);
            if let Err(error) = thread::Builder::new().name("device".into()).spawn_scoped(scope, serve) {
                members.leave_out(device, error.to_string(), false);
            }
        }
        drop(sender);
        let feed = Feed {
            members,
            queue: &queue,
            outcomes,
            chunks,
            fault: None,
            in_flight: 0,
            merged: done,
            is_cancelled: false,
        };
        feed.run(&mut merge, progress)
    })
}

/// Works on chunks until there are none, or until one fails.
fn serve<M: SfpModule, W: ChunkWork<M>>(
    model: &M,
    index: usize,
    pool: &DevicePool,
    queue: &Queue<Chunk<M::Inputs>>,
    outcomes: &Sender<Outcome<M::Inputs, W::Part, W::Error>>,
    work: &W,
) {
    let mut state = None;
    while let Some(chunk) = queue.take() {
        let device = &pool.devices()[index];
        let done = attempt(|| {
            let state = match &mut state {
                Some(state) => state,
                None => state.insert(work.start(model, device)?),
            };
            work.run(state, &chunk)?;
            // What is merged later stays where it is until then.
            queue.wait_for_turn(chunk.index);
            work.take(state)
        });
        let done = done.unwrap_or_else(|message| {
            let error = GraphError::Replay { operation: None, name: "a chunk of batches".into(), message };
            Err(SfpError::from(error).into())
        });
        let samples = chunk.batches.iter().map(|batch| batch.labels.len()).sum();
        let (outcome, is_over) = match done {
            Ok(part) => (Outcome::Done { chunk: chunk.index, samples, part }, false),
            Err(error) => (Outcome::Failed { device: index, chunk, error }, true),
        };
        // Where nobody listens any more, there is nothing left to do either.
        if outcomes.send(outcome).is_err() || is_over {
            break;
        }
    }
    // What is on a device that is gone may not be given back without a panic.
    let _ = attempt(|| drop(state));
}

/// The chunks of a pass, as they are read.
struct Chunks<'a, I> {
    batches: Fuse<BatchIter<'a, I>>,
    size: usize,
    /// Batches read.
    read: usize,
    /// Index of the next chunk.
    next: usize,
}

impl<I> Chunks<'_, I> {
    /// Leaves the first chunks out.
    fn skip(&mut self, chunks: usize) -> Result<(), SfpError> {
        let read = chunks.saturating_mul(self.size);
        for (batch, skipped) in self.batches.by_ref().take(read).enumerate() {
            skipped.map_err(|source| SfpError::Data { batch, source })?;
        }
        (self.read, self.next) = (read, chunks);
        Ok(())
    }

    /// Reads the next chunk. An error of the data comes with what was read before it.
    fn next(&mut self) -> (Option<Chunk<I>>, Option<SfpError>) {
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

/// The side of the pass that reads chunks and merges what comes out of them.
struct Feed<'a, 'm, I, P, E> {
    members: &'a mut Members<'m>,
    queue: &'a Queue<Chunk<I>>,
    outcomes: Receiver<Outcome<I, P, E>>,
    chunks: Chunks<'a, I>,
    /// The first error of the data, and the chunk that it is in.
    fault: Option<(usize, E)>,
    /// Chunks that were handed out and whose outcome is not known.
    in_flight: usize,
    merged: Merged,
    is_cancelled: bool,
}

impl<I, P, E: ChunkError> Feed<'_, '_, I, P, E> {
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
            let Ok(outcome) = self.outcomes.recv() else {
                // No thread is left that could take what is waiting.
                if self.fault.is_none() && !self.is_cancelled {
                    return Err(self.members.lost(self.merged.samples).into());
                }
                break;
            };
            match outcome {
                Outcome::Done { chunk, samples, part } => {
                    self.in_flight -= 1;
                    ready.insert(chunk, (samples, part));
                }
                Outcome::Failed { chunk, error, .. } if error.is_of_data() => {
                    self.in_flight -= 1;
                    self.found_fault(chunk.index, error);
                    is_read = true;
                }
                Outcome::Failed { device, chunk, error } => self.hand_on(device, chunk, &error)?,
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

    /// Reads a chunk and hands it out; false once there are no more.
    fn hand_out(&mut self) -> bool {
        let (chunk, fault) = self.chunks.next();
        let is_last = chunk.is_none() || fault.is_some();
        if let Some(chunk) = chunk {
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

    /// Hands the chunk of a device that failed on to another one.
    fn hand_on(&mut self, device: usize, chunk: Chunk<I>, error: &E) -> Result<(), E> {
        self.members.leave_out(device, error.to_string(), error.lacks_memory());
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
