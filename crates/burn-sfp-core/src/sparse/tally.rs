//! Multiply-adds of sparse layers, told by the layers themselves.
//!
//! A capture sees what a device without sparse kernels would run: the dense convolution over a weight that was put together from
//! the kernels that stay. What the layer runs instead it says here.

use std::cell::Cell;

thread_local! {
    static SKIPPED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Runs `work` and returns how many multiply-adds its sparse layers leave out of the dense ones.
pub(crate) fn skipped<R>(work: impl FnOnce() -> R) -> (R, u64) {
    let before = SKIPPED.replace(Some(0));
    let done = work();
    (done, SKIPPED.replace(before).unwrap_or_default())
}

/// A sparse layer leaves out this many of its dense multiply-adds.
pub(crate) fn skip(macs: u64) {
    SKIPPED.with(|skipped| {
        if let Some(sum) = skipped.get() {
            skipped.set(Some(sum + macs));
        }
    });
}
