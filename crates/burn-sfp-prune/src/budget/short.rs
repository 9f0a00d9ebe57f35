//! [`short`]: which layers hold a cost that cannot be removed.

use burn_sfp_graph::{Layer, Network, Omitted};

use super::keep::CostUnit;
use super::state::RemovalState;

/// How many layers are named.
const NAMED: usize = 5;

/// Returns the layers that hold the most of what is left, each with its share and why.
pub(super) fn short(state: &RemovalState<'_>, unit: CostUnit) -> Vec<String> {
    let network = state.network();
    let removed = network.flow().closed(state.removed_channels());
    let stays = |id: &u32| !removed.contains(id);
    let kept = |layer: &Layer| layer.output_channels().iter().filter(|id| stays(id)).count();
    let left: Vec<u64> = match unit {
        CostUnit::Macs => network.all_macs_without(&removed, &Omitted::default()).1,
        CostUnit::Parameters | CostUnit::Bytes => {
            let size = |index: usize| network.parameter_size_without(index, &removed);
            network.layers().iter().map(|layer| layer.parameters_of_all().map(size).sum()).collect()
        }
        CostUnit::Activations { .. } => network.layers().iter().map(|layer| elements(layer, kept(layer))).collect(),
    };
    let all: u64 = left.iter().sum();
    let mut order: Vec<usize> = (0..left.len()).filter(|&layer| left[layer] > 0).collect();
    order.sort_by_key(|&layer| (std::cmp::Reverse(left[layer]), layer));
    let name = |&layer: &usize| {
        let share = 100.0 * left[layer] as f64 / all.max(1) as f64;
        let layer = &network.layers()[layer];
        format!("`{}` ({share:.0} % of what is left: {})", layer.path, why(network, layer, kept(layer)))
    };
    order.iter().take(NAMED).map(name).collect()
}

/// Elements of a layer's input for one sample, of which the spatial part is that of its output nearly always.
fn elements(layer: &Layer, filters: usize) -> u64 {
    let spatial: usize = layer.input_shape().iter().skip(2).product();
    (filters * spatial) as u64
}

fn why(network: &Network, layer: &Layer, kept: usize) -> String {
    match &layer.not_prunable {
        Some(reason) => reason.clone(),
        None if kept == layer.filters => {
            let pinned = layer.output_channels().iter().find_map(|&id| network.why_pinned(id));
            pinned.unwrap_or_else(|| format!("it keeps its {kept} filters"))
        }
        None => format!("it keeps {kept} of {} filters", layer.filters),
    }
}
