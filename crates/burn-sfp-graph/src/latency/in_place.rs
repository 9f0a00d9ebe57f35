//! How long the layers of a network take where they stand: behind each other, with the caches as a forward pass leaves them.

use super::measure::{Latency, LatencyConfig};
use crate::GraphError;
use crate::network::Network;
use crate::replay::Replay;

/// Seconds of each layer of a network in forward passes that run operation by operation, all calls together.
pub(super) fn layer_seconds(network: &Network, config: &LatencyConfig) -> Result<Vec<f64>, GraphError> {
    let device = network.device.clone().without_autodiff();
    let mut replay = Replay::new(network, &device, &[])?;
    // Seconds of each layer, run by run.
    let mut runs: Vec<Vec<f64>> = vec![Vec::new(); network.layers.len()];
    for run in 0..config.warm_up + config.runs.max(1) {
        let operations = replay.time_zeros(network, &device)?;
        if run < config.warm_up {
            continue;
        }
        for (layer, runs) in network.layers.iter().zip(&mut runs) {
            let own = layer.operations.iter().filter(|&&operation| operation < network.graph.main);
            runs.push(own.filter_map(|&operation| operations.get(operation)).sum());
        }
    }
    Ok(runs.into_iter().map(|runs| Latency::of(runs).median).collect())
}
