//! How long a forward pass takes.

use std::time::{Duration, Instant};

use burn::tensor::Device;
use burn_sfp::prelude::SfpModule;

/// Median wall-clock time of a forward pass, over `repeats` of them after two for warming up.
///
/// Every pass ends with the output read back to the host, so that no device can answer before it is done.
///
/// # Errors
/// A device that does not synchronise.
pub fn median_latency<M: SfpModule>(
    model: &M,
    input: &M::Input,
    device: &Device,
    repeats: usize,
) -> Result<Duration, String> {
    let mut times = Vec::with_capacity(repeats);
    for pass in 0..repeats.max(1) + 2 {
        let input = input.clone();
        device.sync().map_err(|error| error.to_string())?;
        let start = Instant::now();
        let logits = model.logits(input);
        device.sync().map_err(|error| error.to_string())?;
        std::hint::black_box(logits.into_data());
        if pass >= 2 {
            times.push(start.elapsed());
        }
    }
    times.sort();
    Ok(times[times.len() / 2])
}
