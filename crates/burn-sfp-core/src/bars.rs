//! [`Bars`]: progress bars in a terminal.

use std::borrow::Cow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::Progress;

/// Progress bars on the standard error stream, one at a time: a stage replaces the one before it. A stage whose number of steps is not
/// known gets a spinner. Where the stream is no terminal nothing is shown.
///
/// ```
/// use burn_sfp_core::{Bars, Progress};
///
/// let bars = Bars::new("pruning");
/// bars.start("sweep", Some(100));
/// bars.advance(100);
/// bars.finish();
/// // From a handler of Ctrl-C, for example:
/// bars.cancel();
/// assert!(bars.is_cancelled());
/// ```
#[derive(Debug, Default)]
pub struct Bars {
    prefix: Option<Cow<'static, str>>,
    bar: Mutex<Option<ProgressBar>>,
    cancelled: AtomicBool,
}

impl Bars {
    /// Creates bars whose stages are announced with a prefix; those of `default()` have none.
    pub fn new(prefix: impl Into<Cow<'static, str>>) -> Self {
        Self { prefix: Some(prefix.into()), bar: Mutex::default(), cancelled: AtomicBool::default() }
    }

    /// Makes the work that reports to these bars stop after its current batch.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    fn replace(&self, bar: Option<ProgressBar>) {
        let mut shown = self.bar.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(bar) = std::mem::replace(&mut *shown, bar) {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Bars {
    fn start(&self, stage: &str, total: Option<usize>) {
        let (bar, template) = match total {
            Some(total) => (ProgressBar::new(total as u64), "{msg:28} {wide_bar} {pos}/{len} {eta:>4}"),
            None => (ProgressBar::new_spinner(), "{msg:28} {spinner} {elapsed}"),
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let message = match &self.prefix {
            Some(prefix) => format!("{prefix}: {stage}"),
            None => stage.to_string(),
        };
        let bar = bar.with_style(style).with_message(message);
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(250));
        }
        self.replace(Some(bar));
    }

    fn advance(&self, steps: usize) {
        if let Some(bar) = &*self.bar.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            bar.inc(steps as u64);
        }
    }

    fn finish(&self) {
        self.replace(None);
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.finish();
    }
}
