//! How long work tells how far it is.

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
    /// A stage begins; `total` steps where that is known.
    fn start(&self, _stage: &str, _total: Option<usize>) {}
    /// So many more steps (samples in a sweep, layers afterwards) are done.
    fn advance(&self, _steps: usize) {}
    /// The stage is over.
    fn finish(&self) {}
}

/// No progress is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {}
