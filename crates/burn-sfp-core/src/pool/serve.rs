//! The thread of a device, which takes chunks and sends back what comes out of them.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use burn::tensor::Device;
use burn_sfp_graph::{GraphError, attempt};

use super::chunk::Chunk;
use super::queue::Queue;
use super::work::{ChunkError, ChunkWork};
use crate::checks::panicked;
use crate::{SfpError, SfpModule};

/// What became of a chunk.
pub(super) enum Outcome<I, P, E> {
    Done { device: usize, chunk: usize, samples: usize, part: P },
    Failed { device: usize, chunk: Chunk<I>, error: E },
}

/// The threads of the devices, which end with this.
pub(super) struct Threads<I> {
    queue: Arc<Queue<Chunk<I>>>,
    started: Vec<(usize, JoinHandle<()>)>,
    limit: Option<Duration>,
}

impl<I> Threads<I> {
    /// None yet; of those that are started, one that takes longer than `limit` over its end is left behind.
    pub fn new(queue: Arc<Queue<Chunk<I>>>, limit: Option<Duration>) -> Self {
        Self { queue, started: Vec::new(), limit }
    }

    /// Starts the thread of a device.
    pub fn start<M, W>(&mut self, serving: Serving<M, W::Part, W::Error>, work: Arc<W>) -> io::Result<()>
    where
        I: Send + 'static,
        M: SfpModule<Inputs = I>,
        W: ChunkWork<M>,
    {
        let index = serving.index;
        let thread = thread::Builder::new().name("device".into()).spawn(move || serving.run(&*work))?;
        self.started.push((index, thread));
        Ok(())
    }
}

impl<I> Drop for Threads<I> {
    fn drop(&mut self) {
        self.queue.close();
        let since = Instant::now();
        for (device, thread) in self.started.drain(..) {
            let is_waited_for = |limit| since.elapsed() < limit && !self.queue.is_left_out(device);
            while self.limit.is_some_and(is_waited_for) && !thread.is_finished() {
                thread::sleep(Duration::from_millis(1));
            }
            if self.limit.is_none() || thread.is_finished() {
                // It has caught its panics itself.
                let _ = thread.join();
            }
        }
    }
}

/// The thread of a device.
pub(super) struct Serving<M: SfpModule, P, E> {
    pub model: M,
    pub index: usize,
    pub device: Device,
    pub queue: Arc<Queue<Chunk<M::Inputs>>>,
    pub outcomes: Sender<Outcome<M::Inputs, P, E>>,
}

impl<M: SfpModule, P, E> Serving<M, P, E> {
    /// Works on chunks until there are none, or until one fails.
    fn run<W: ChunkWork<M, Part = P, Error = E>>(&self, work: &W)
    where
        E: ChunkError,
    {
        let mut state = None;
        while let Some(chunk) = self.queue.take(self.index) {
            let done = attempt(|| {
                let state = match &mut state {
                    Some(state) => state,
                    None => state.insert(work.start(&self.model, &self.device)?),
                };
                for (index, batch) in chunk.batches() {
                    let done = attempt(|| work.run(state, index, batch));
                    done.unwrap_or_else(|message| Err(panicked(index, message).into()))?;
                }
                // What is merged later stays where it is until then.
                self.queue.wait_for_turn(self.index, chunk.index);
                work.take(state)
            });
            let done = done.unwrap_or_else(|message| {
                let error = GraphError::Replay { operation: None, name: "a chunk of batches".into(), message };
                Err(SfpError::from(error).into())
            });
            let (outcome, is_over) = match done {
                Ok(part) => {
                    let (chunk, samples) = (chunk.index, chunk.samples());
                    (Outcome::Done { device: self.index, chunk, samples, part }, false)
                }
                Err(error) => (Outcome::Failed { device: self.index, chunk, error }, true),
            };
            // Where nobody listens any more, there is nothing left to do either.
            if self.outcomes.send(outcome).is_err() || is_over {
                break;
            }
        }
        // What is on a device that is gone may not be given back without a panic.
        let _ = attempt(|| drop(state));
    }
}
