//! Progress reporting for long-running work.

/// Receives the progress of a long stage, for example to draw a bar.
///
/// ```
/// use burn_sfp_core::Progress;
///
/// struct Print;
/// impl Progress for Print {
///     fn start(&self, stage: &str, total: Option<usize>) { println!("{stage}: {total:?} steps") }
///     fn advance(&self, steps: usize) { println!("+{steps}") }
/// }
/// ```
pub trait Progress {
    /// Called when a stage begins, with its number of steps where that is known.
    fn start(&self, _stage: &str, _total: Option<usize>) {}
    /// Called when further steps are done; a step is a sample of a pass over the data, or a layer.
    fn advance(&self, _steps: usize) {}
    /// Called when the stage is over.
    fn finish(&self) {}
}

/// A [`Progress`] that shows nothing.
///
/// ```
/// use burn_sfp_core::{NoProgress, Progress};
///
/// let progress: &dyn Progress = &NoProgress;
/// progress.start("sweep", Some(1000));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {}
