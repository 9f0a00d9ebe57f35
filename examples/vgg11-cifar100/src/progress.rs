//! Progress bars.

use std::cell::RefCell;
use std::time::Duration;

use burn_sfp::core::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// A bar for each stage with a known number of steps, a spinner for the others.
#[derive(Debug, Default)]
pub struct Bars(RefCell<Option<ProgressBar>>);

impl Progress for Bars {
    fn start(&self, stage: &str, total: Option<usize>) {
        self.finish();
        let (bar, template) = match total {
            Some(total) => (ProgressBar::new(total as u64), "{msg:12} {wide_bar} {pos}/{len} {eta}"),
            None => (ProgressBar::new_spinner(), "{msg:12} {spinner} {pos} {elapsed}"),
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = bar.with_style(style).with_message(stage.to_string());
        bar.enable_steady_tick(Duration::from_millis(200));
        *self.0.borrow_mut() = Some(bar);
    }

    fn advance(&self, steps: usize) {
        if let Some(bar) = &*self.0.borrow() {
            bar.inc(steps as u64);
        }
    }

    fn finish(&self) {
        if let Some(bar) = self.0.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }
}
