//! Progress bars.

use std::borrow::Cow;
use std::time::Duration;

use burn_sfp::prelude::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// One bar at a time: a stage replaces the one before it.
#[derive(Debug)]
pub struct Bars {
    bar: ProgressBar,
    prefix: Cow<'static, str>,
}

impl Bars {
    /// Bars whose stages are announced with a prefix.
    pub fn new(prefix: impl Into<Cow<'static, str>>) -> Self {
        let style = ProgressStyle::with_template("{msg:40} {wide_bar} {pos}/{len} {eta:>4}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::no_length().with_style(style);
        bar.enable_steady_tick(Duration::from_millis(250));
        Self { bar, prefix: prefix.into() }
    }
}

impl Progress for Bars {
    fn start(&self, stage: &str, total: Option<usize>) {
        self.bar.reset();
        match total {
            Some(total) => self.bar.set_length(total as u64),
            None => self.bar.unset_length(),
        }
        self.bar.set_message(format!("{}: {stage}", self.prefix));
    }

    fn advance(&self, steps: usize) {
        self.bar.inc(steps as u64);
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
