//! Progress reporting for long-running work, and its cancellation.

/// Receives the progress of a long stage, for example to draw a bar, and may ask for it to stop.
///
/// ```
/// use std::sync::atomic::{AtomicBool, Ordering};
/// use burn_sfp_graph::Progress;
///
/// /// Prints, and stops when a flag is set, by a handler of Ctrl-C for example.
/// struct Print<'a> { stop: &'a AtomicBool }
/// impl Progress for Print<'_> {
///     fn start(&self, stage: &str, total: Option<usize>) { println!("{stage}: {total:?} steps") }
///     fn advance(&self, steps: usize) { println!("+{steps}") }
///     fn is_cancelled(&self) -> bool { self.stop.load(Ordering::Relaxed) }
/// }
/// # let stop = AtomicBool::new(false);
/// # Print { stop: &stop }.start("sweep", None);
/// ```
pub trait Progress {
    /// Called when a stage begins, with its number of steps where that is known.
    fn start(&self, _stage: &str, _total: Option<usize>) {}
    /// Called when further steps are done; a step is a sample of a pass over the data, a layer, or a forward pass.
    fn advance(&self, _steps: usize) {}
    /// Called when the stage is over.
    fn finish(&self) {}
    /// Whether the work should stop; asked after each batch. What is done by then is kept: the function that works says how.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// A [`Progress`] that shows nothing and never cancels.
///
/// ```
/// use burn_sfp_graph::{NoProgress, Progress};
///
/// let progress: &dyn Progress = &NoProgress;
/// progress.start("sweep", Some(1000));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {}
