//! [`Crew`]: the devices of a pool, each of which keeps something of its own from one job to the next.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use burn::tensor::Device;
use burn_sfp_graph::{GraphError, attempt};

use super::devices::DevicePool;
use super::dispatch::Members;
use super::work::ChunkError;
use crate::SfpError;

/// What a device does with what it keeps.
type Job<S, T, E> = Box<dyn FnOnce(&mut S) -> Result<T, E> + Send>;

/// Devices that carry out one job at a time each, in threads of their own. What a device keeps is made before its first job and stays
/// with its thread.
pub struct Crew<S, T, E> {
    members: Members,
    /// Where the jobs of those go that are not left out.
    jobs: Vec<Option<Sender<Job<S, T, E>>>>,
    /// Since when each of them has been at its job.
    busy: Vec<Option<Instant>>,
    threads: Vec<JoinHandle<()>>,
    outcomes: Receiver<(usize, Result<T, E>)>,
    limit: Option<Duration>,
}

/// How a job ended.
pub enum JobOutcome<T> {
    /// The device is free again.
    Done(usize, T),
    /// The device is left out from here on, and what it kept is lost.
    Lost(usize),
}

impl<S: 'static, T: Send + 'static, E: ChunkError> Crew<S, T, E> {
    /// Starts a thread for each device; what `starter` returns for it makes there what the device keeps.
    pub fn new<F>(pool: &DevicePool, mut starter: impl FnMut(&Device) -> F) -> Self
    where
        F: FnOnce() -> Result<S, E> + Send + 'static,
    {
        let (sender, outcomes) = channel();
        let count = pool.devices().len();
        let (jobs, busy) = ((0..count).map(|_| None).collect(), vec![None; count]);
        let (members, limit) = (Members::new(pool), pool.longest());
        let mut crew = Self { members, jobs, busy, threads: Vec::with_capacity(count), outcomes, limit };
        for (index, device) in pool.devices().iter().enumerate() {
            let (jobs, todo) = channel();
            let (start, outcomes) = (starter(device), sender.clone());
            let work = move || serve(index, &todo, &outcomes, start);
            match thread::Builder::new().name("device".into()).spawn(work) {
                Ok(thread) => {
                    crew.threads.push(thread);
                    crew.jobs[index] = Some(jobs);
                }
                Err(error) => crew.members.leave_out(index, error.to_string(), false),
            }
        }
        crew
    }

    /// The devices that are not left out, by their places in the pool.
    pub fn alive(&self) -> &[usize] {
        self.members.alive()
    }

    /// Those of them that have no job.
    pub fn free(&self) -> impl Iterator<Item = usize> + '_ {
        self.alive().iter().copied().filter(|&device| self.busy[device].is_none())
    }

    /// Gives a device a job, after the one that it may have.
    pub fn give(&mut self, device: usize, job: impl FnOnce(&mut S) -> Result<T, E> + Send + 'static) {
        if let Some(jobs) = &self.jobs[device] {
            // Where its thread is gone, its last outcome says so, or that of no device.
            let _ = jobs.send(Box::new(job));
            self.busy[device] = Some(Instant::now());
        }
    }

    /// Waits for a job to end; `None` if nobody has one.
    ///
    /// # Errors
    /// An error of the data; [`SfpError::Devices`] where no device is left.
    pub fn wait(&mut self) -> Result<Option<JobOutcome<T>>, E> {
        loop {
            if self.alive().is_empty() {
                return Err(self.members.lost(0).into());
            }
            let Some(since) = self.busy.iter().flatten().min().copied() else { return Ok(None) };
            let received = match self.limit {
                None => self.outcomes.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(limit) => self.outcomes.recv_timeout(limit.saturating_sub(since.elapsed())),
            };
            match received {
                // What is handed in by one that was left out does not count.
                Ok((device, _)) if !self.alive().contains(&device) => {}
                Ok((device, Ok(found))) => {
                    self.busy[device] = None;
                    return Ok(Some(JobOutcome::Done(device, found)));
                }
                Ok((_, Err(error))) if error.is_of_data() => return Err(error),
                Ok((device, Err(error))) => {
                    return self.leave_out(device, error.to_string(), error.lacks_memory());
                }
                Err(RecvTimeoutError::Timeout) => {
                    let limit = self.limit.unwrap_or_default();
                    let is_late = |device: &usize| self.busy[*device].is_some_and(|since| since.elapsed() >= limit);
                    if let Some(device) = (0..self.busy.len()).find(is_late) {
                        let message = format!("a job has taken longer than {limit:?}, the pool's time limit");
                        return self.leave_out(device, message, false);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.members.lost(0).into()),
            }
        }
    }

    fn leave_out(&mut self, device: usize, message: String, lacks_memory: bool) -> Result<Option<JobOutcome<T>>, E> {
        self.members.leave_out(device, message, lacks_memory);
        (self.jobs[device], self.busy[device]) = (None, None);
        match self.alive().is_empty() {
            true => Err(self.members.lost(0).into()),
            false => Ok(Some(JobOutcome::Lost(device))),
        }
    }
}

impl<S, T, E> Drop for Crew<S, T, E> {
    fn drop(&mut self) {
        self.jobs.clear();
        for thread in self.threads.drain(..) {
            // One that may hang is left behind; it owns what it works with.
            if self.limit.is_none() || thread.is_finished() {
                // It has caught its panics itself.
                let _ = thread.join();
            }
        }
    }
}

/// The thread of a device: carries out jobs until there are no more, or until one fails.
fn serve<S, T, E: ChunkError>(
    index: usize,
    jobs: &Receiver<Job<S, T, E>>,
    outcomes: &Sender<(usize, Result<T, E>)>,
    start: impl FnOnce() -> Result<S, E>,
) {
    let (mut state, mut start) = (None, Some(start));
    while let Ok(job) = jobs.recv() {
        let done = attempt(|| {
            if let Some(start) = start.take() {
                state = Some(start()?);
            }
            // Where it could not start, it has no job after that.
            state.as_mut().map_or_else(|| Err(SfpError::NoSamples.into()), job)
        });
        let done = done.unwrap_or_else(|message| {
            let error = GraphError::Replay { operation: None, name: "the job of a device".into(), message };
            Err(SfpError::from(error).into())
        });
        let is_over = done.is_err();
        // Where nobody listens any more, there is nothing left to do either.
        if outcomes.send((index, done)).is_err() || is_over {
            break;
        }
    }
    // What is on a device that is gone may not be given back without a panic.
    let _ = attempt(|| drop(state));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crew(devices: usize, limit: Option<Duration>) -> Crew<Vec<usize>, usize, SfpError> {
        let pool = DevicePool::new((0..devices).map(|_| Device::flex()));
        let pool = match limit {
            Some(limit) => pool.time_limit(limit),
            None => pool,
        };
        Crew::new(&pool, |_| || Ok(vec![]))
    }

    fn keep(crew: &mut Crew<Vec<usize>, usize, SfpError>, device: usize, value: usize) {
        crew.give(device, move |kept| {
            kept.push(value);
            Ok(kept.iter().sum())
        });
    }

    #[test]
    fn each_device_keeps_its_own() {
        let mut crew = crew(2, None);
        assert!(crew.wait().unwrap().is_none(), "nobody has a job");
        for (round, expected) in [(1, [1, 10]), (2, [3, 30])] {
            keep(&mut crew, 0, round);
            keep(&mut crew, 1, 10 * round);
            assert_eq!(crew.free().count(), 0);
            let mut found = [0; 2];
            while let Some(outcome) = crew.wait().unwrap() {
                let JobOutcome::Done(device, sum) = outcome else { panic!("a device is lost") };
                found[device] = sum;
            }
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn devices_that_fail_are_left_out_until_none_is_left() {
        let mut crew = crew(2, None);
        crew.give(0, |_| panic!("the connection is gone"));
        assert!(matches!(crew.wait().unwrap(), Some(JobOutcome::Lost(0))));
        assert_eq!(crew.alive(), [1]);
        keep(&mut crew, 0, 1);
        assert!(crew.wait().unwrap().is_none(), "it takes no more jobs");
        crew.give(1, |_| panic!("out of memory"));
        let Err(error) = crew.wait() else { panic!("no device is left") };
        assert!(matches!(&error, SfpError::Devices { failures, .. } if failures.len() == 2), "{error}");
        assert!(crew.wait().is_err());
    }

    #[test]
    fn errors_of_the_data_end_the_work() {
        let mut crew = crew(2, None);
        crew.give(1, |_| Err(SfpError::NoSamples));
        assert!(matches!(crew.wait(), Err(SfpError::NoSamples)));
    }

    #[test]
    fn who_takes_too_long_is_left_out() {
        let mut crew = crew(2, Some(Duration::from_millis(200)));
        let (release, held) = channel::<()>();
        crew.give(0, move |_| {
            let _ = held.recv();
            Ok(7)
        });
        assert!(matches!(crew.wait().unwrap(), Some(JobOutcome::Lost(0))));
        drop(release);
        keep(&mut crew, 1, 5);
        // What the late one hands in meanwhile does not count.
        assert!(matches!(crew.wait().unwrap(), Some(JobOutcome::Done(1, 5))));
    }
}
