//! Multiply-adds that sparse layers leave out, reported by the layers themselves.
//!
//! A captured forward pass records what a device without sparse kernels runs: the dense convolution over a weight with zeros where
//! nothing is connected. The layer reports here how much of that its sparse kernels leave out.

use std::cell::Cell;

thread_local! {
    static SKIPPED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Runs `work` and returns its result, and how many multiply-adds of dense convolutions the sparse layers in it leave out.
///
/// Only layers that run by Burn's own operations are counted, as in a capture; a layer that runs on a sparse kernel has nothing to
/// subtract from.
///
/// ```
/// use burn_sfp_nn::sparse::skipped_macs;
///
/// assert_eq!(skipped_macs(|| "no sparse layer"), ("no sparse layer", 0));
/// ```
pub fn skipped_macs<R>(work: impl FnOnce() -> R) -> (R, u64) {
    let before = SKIPPED.replace(Some(0));
    let result = work();
    (result, SKIPPED.replace(before).unwrap_or_default())
}

/// Adds to the multiply-adds left out, inside of [`skipped_macs`].
pub(super) fn add_skipped_macs(macs: u64) {
    SKIPPED.with(|skipped| {
        if let Some(sum) = skipped.get() {
            skipped.set(Some(sum + macs));
        }
    });
}
