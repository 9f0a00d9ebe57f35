//! [`ReadAhead`]: batches that are read in a thread of their own.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle};

use burn_sfp_graph::panic_message;

use crate::{Batch, BatchIter, Calibration, DataError};

/// Calibration data whose next batches are read and decoded in a thread, while the model works on those before: same batches, same order.
///
/// Memory: as many batches as are read ahead, and one more.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_sfp_core::{Batch, Calibration, FnCalibration, ReadAhead};
///
/// // Stands for files that are opened and decoded.
/// let files = FnCalibration::new(|| {
///     (0..3).map(|k| Ok(Batch { input: Tensor::<2>::zeros([1, 4], &Device::flex()), labels: vec![k] }))
/// });
/// let data = ReadAhead::new(files, 2);
/// let labels: Vec<usize> = data.batches().flat_map(|batch| batch.unwrap().labels).collect();
/// assert_eq!(labels, [0, 1, 2]);
/// ```
///
/// # Errors
/// An error of the data comes in its place. A panic of the data is an error, too, and ends the pass, as does a thread that cannot be started.
pub struct ReadAhead<C> {
    data: Arc<C>,
    batches: usize,
}

impl<C> ReadAhead<C> {
    /// Reads up to so many batches ahead, at least one.
    pub fn new(data: C, batches: usize) -> Self {
        Self { data: Arc::new(data), batches: batches.max(1) }
    }
}

impl<C> Clone for ReadAhead<C> {
    fn clone(&self) -> Self {
        Self { data: self.data.clone(), batches: self.batches }
    }
}

impl<C> fmt::Debug for ReadAhead<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadAhead").field("batches", &self.batches).finish_non_exhaustive()
    }
}

impl<I, C> Calibration<I> for ReadAhead<C>
where
    I: Send + 'static,
    C: Calibration<I> + Send + Sync + 'static,
{
    fn batches(&self) -> BatchIter<'_, I> {
        let (sender, receiver) = sync_channel(self.batches);
        let data = self.data.clone();
        let read = move || {
            // Where nobody takes them any more, the thread ends.
            let _ = data.batches().try_for_each(|batch| sender.send(batch));
        };
        match Builder::new().name("calibration".into()).spawn(read) {
            Ok(thread) => Box::new(Ahead { receiver, thread: Some(thread) }),
            Err(error) => Box::new(std::iter::once(Err(error.into()))),
        }
    }

    fn samples(&self) -> Option<usize> {
        self.data.samples()
    }
}

/// The batches of a pass, from the thread that reads them.
struct Ahead<I> {
    receiver: Receiver<Result<Batch<I>, DataError>>,
    thread: Option<JoinHandle<()>>,
}

impl<I> Iterator for Ahead<I> {
    type Item = Result<Batch<I>, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.receiver.recv() {
            Ok(batch) => Some(batch),
            // The thread has ended: at the end of the data, or by a panic.
            Err(_) => {
                let panic = self.thread.take()?.join().err()?;
                Some(Err(format!("the data panicked while they were read: {}", panic_message(panic)).into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use burn::tensor::{Device, Tensor};

    use super::*;
    use crate::{FnCalibration, TensorCalibration};

    fn batch(label: usize) -> Batch<Tensor<1>> {
        Batch { input: Tensor::zeros([1], &Device::flex()), labels: vec![label] }
    }

    /// Waits for another thread.
    fn until(is_done: impl Fn() -> bool) {
        let started = Instant::now();
        while !is_done() {
            assert!(started.elapsed() < Duration::from_secs(60), "another thread does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn every_pass_has_all_batches_in_order() {
        let data = TensorCalibration::new(Tensor::<2>::zeros([11, 3], &Device::flex()), (0..11).collect(), 4);
        let ahead = ReadAhead::new(data.clone(), 0);
        let labels = |data: &dyn Calibration<Tensor<2>>| -> Vec<Vec<usize>> {
            data.batches().map(|batch| batch.unwrap().labels).collect()
        };
        assert_eq!(labels(&ahead), labels(&data));
        assert_eq!(labels(&ahead.clone()), labels(&data));
        assert_eq!(ahead.samples(), Some(11));
    }

    #[test]
    fn no_more_than_asked_for_is_read_ahead() {
        let read = Arc::new(AtomicUsize::new(0));
        let counter = read.clone();
        let data = FnCalibration::new(move || {
            let counter = counter.clone();
            (0..100).map(move |k| {
                counter.fetch_add(1, Ordering::SeqCst);
                Ok(batch(k))
            })
        });
        let ahead = ReadAhead::new(data, 3);
        let mut batches = ahead.batches();
        batches.next();
        // Three that wait, one that has no place yet, and the one that was taken.
        until(|| read.load(Ordering::SeqCst) == 5);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(read.load(Ordering::SeqCst), 5);
        drop(batches);
        until(|| Arc::strong_count(&ahead.data) == 1);
    }

    #[test]
    fn errors_and_panics_are_errors_in_their_place() {
        let data = FnCalibration::new(|| {
            (0..4).map(|k| match k {
                1 => Err("not a picture".into()),
                3 => panic!("no disk"),
                k => Ok(batch(k)),
            })
        });
        let found: Vec<_> = ReadAhead::new(data, 8).batches().map(|b| b.map(|b| b.labels[0])).collect();
        assert_eq!(found.len(), 4);
        assert_eq!((found[0].as_ref().ok(), found[2].as_ref().ok()), (Some(&0), Some(&2)));
        assert_eq!(found[1].as_ref().unwrap_err().to_string(), "not a picture");
        assert!(found[3].as_ref().unwrap_err().to_string().contains("no disk"));
    }
}
