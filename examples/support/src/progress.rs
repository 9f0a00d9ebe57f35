//! Progress bars.

use std::borrow::Cow;
use std::cell::RefCell;
use std::time::Duration;

use burn_sfp::prelude::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// One progress bar at a time: a stage replaces the one before it. A stage whose number of steps is not known gets a spinner.
#[derive(Debug, Default)]
pub struct Bars {
    prefix: Option<Cow<'static, str>>,
    bar: RefCell<Option<ProgressBar>>,
}

impl Bars {
    /// Bars whose stages are announced with a prefix; the default has none.
    pub fn new(prefix: impl Into<Cow<'static, str>>) -> Self {
        Self { prefix: Some(prefix.into()), bar: RefCell::default() }
    }
}

impl Progress for Bars {
    fn start(&self, stage: &str, total: Option<usize>) {
        self.finish();
        let (bar, template) = match total {
            Some(total) => (ProgressBar::new(total as u64), "{msg:28} {wide_bar} {pos}/{len} {eta:>4}"),
            None => (ProgressBar::new_spinner(), "{msg:28} {spinner} {pos} {elapsed}"),
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let message = match &self.prefix {
            Some(prefix) => format!("{prefix}: {stage}"),
            None => stage.to_string(),
        };
        let bar = bar.with_style(style).with_message(message);
        bar.enable_steady_tick(Duration::from_millis(250));
        *self.bar.borrow_mut() = Some(bar);
    }

    fn advance(&self, steps: usize) {
        if let Some(bar) = &*self.bar.borrow() {
            bar.inc(steps as u64);
        }
    }

    fn finish(&self) {
        if let Some(bar) = self.bar.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.finish();
    }
}
