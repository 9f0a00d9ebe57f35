//! The faster way of each layer, by measuring.

use std::collections::HashMap;
use std::fmt;
use std::time::Instant;

use burn::backend::ir::{OperationIr, TensorId, TensorIr};
use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use serde::{Deserialize, Serialize};

use super::fuse::{Fused, fused};
use super::packed::PackedLayer;
use super::program::{Constants, Program};
use super::sparse_of;
use crate::GraphError;
use crate::capture::SparseAt;
use crate::latency::{Latency, LatencyConfig};
use crate::network::Network;
use crate::op::name::name;
use crate::replay::{KeepAll, Step, guard, load_zeros};

/// How a layer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Way {
    /// By Burn's own operations.
    Burn,
    /// By one kernel on packed weights.
    Packed,
    /// By the sparse kernels.
    Sparse,
}

/// How a layer runs, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LayerChoice {
    /// Module path, or the name of the operation where the layer is none of the module's.
    pub layer: String,
    /// What it takes in: `batch norm`, `sum`, `relu`.
    pub takes_in: Vec<String>,
    /// How it runs.
    pub way: Way,
    /// Seconds by Burn's operations, where they were measured.
    pub burn: Option<f64>,
    /// Seconds by one kernel on packed weights, where they were measured.
    pub packed: Option<f64>,
}

/// How the layers of a forward pass run. It prints as a table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LayerChoices {
    /// In the order in which they run.
    pub layers: Vec<LayerChoice>,
}

impl fmt::Display for LayerChoices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_preset(ASCII_MARKDOWN).set_header(["layer", "takes in", "runs by", "Burn, µs", "packed, µs"]);
        let micros = |seconds: Option<f64>| seconds.map_or_else(String::new, |seconds| format!("{:.1}", 1e6 * seconds));
        for layer in &self.layers {
            let way = match layer.way {
                Way::Burn => "Burn",
                Way::Packed => "packed",
                Way::Sparse => "sparse",
            };
            let takes_in = layer.takes_in.join(", ");
            table.add_row([layer.layer.clone(), takes_in, way.into(), micros(layer.burn), micros(layer.packed)]);
        }
        for column in table.column_iter_mut().skip(3) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        write!(f, "{table}")
    }
}

/// The program of a forward pass in which each layer runs the faster way.
pub(super) fn program(network: &Network, sparse: &[SparseAt], config: &LatencyConfig) -> Result<Program, GraphError> {
    let following = network.following_inputs();
    let is_constant = |tensor: TensorId| !following.contains(&tensor);
    // Sparse layers record the dense convolution of a device without sparse kernels.
    let mut layers = fused(&network.graph, &is_constant);
    layers.retain(|layer| !layer.operations.iter().any(|&at| makes_sparse(network, sparse, at)));
    let mut constants = Constants::new(network, sparse)?;
    let packed = all_packed(network, &layers, &mut constants);
    let seconds = measure(network, &layers, &packed, &mut constants, config)?;
    let mut choices: Vec<(usize, LayerChoice)> = Vec::new();
    let mut chosen = Vec::new();
    for ((layer, seconds), packed) in layers.iter().zip(seconds).zip(packed) {
        let way = match seconds {
            Some([burn, packed]) if packed < burn => Way::Packed,
            _ => Way::Burn,
        };
        choices.push((
            layer.layer,
            LayerChoice {
                layer: path(network, layer.layer),
                takes_in: layer.takes_in().into_iter().map(String::from).collect(),
                way,
                burn: seconds.map(|seconds| seconds[0]),
                packed: seconds.map(|seconds| seconds[1]),
            },
        ));
        chosen.push(packed.filter(|_| way == Way::Packed));
    }
    for call in sparse {
        let at = network.graph.producer(call.out).unwrap_or_default();
        let (layer, takes_in) = (sparse_path(network, call), Vec::new());
        choices.push((at, LayerChoice { layer, takes_in, way: Way::Sparse, burn: None, packed: None }));
    }
    choices.sort_by_key(|(at, _)| *at);
    let choices = LayerChoices { layers: choices.into_iter().map(|(_, choice)| choice).collect() };
    constants.program(&layers, chosen, choices)
}

fn makes_sparse(network: &Network, sparse: &[SparseAt], at: usize) -> bool {
    network.graph.operations[at].outputs().any(|output| sparse_of(sparse, output.id).is_some())
}

/// Path of the layer that an operation is, or the operation's name.
fn path(network: &Network, at: usize) -> String {
    let layer = network.layers.iter().find(|layer| layer.operations.contains(&at));
    layer.map_or_else(|| name(&network.graph.operations[at]), |layer| layer.path.clone())
}

/// Path of the layer that a sparse convolution is of: its kernels are the layer's weight in another shape.
fn sparse_path(network: &Network, call: &SparseAt) -> String {
    let mut tensor = call.values;
    while let Some(made) = network.graph.made_by(tensor).and_then(|operation| operation.inputs().next()) {
        tensor = made.id;
    }
    let parameter = network.graph.parameter(tensor).map(|index| network.graph.parameters[index].module().to_string());
    parameter.unwrap_or_else(|| "a sparse convolution".to_string())
}

/// Packs all layers that have a kernel on this device.
fn all_packed(network: &Network, layers: &[Fused], constants: &mut Constants<'_>) -> Vec<Option<PackedLayer>> {
    if !constants.on_host {
        return layers.iter().map(|_| None).collect();
    }
    let mut pack = |layer: &Fused| {
        PackedLayer::new(path(network, layer.layer), layer, &network.device, &mut |tensor| constants.read(tensor))
    };
    layers.iter().map(&mut pack).collect()
}

/// Runs the forward pass on zeros, each layer both ways in turn. Returns the shortest seconds by Burn's operations and packed.
fn measure(
    network: &Network,
    layers: &[Fused],
    packed: &[Option<PackedLayer>],
    constants: &mut Constants<'_>,
    config: &LatencyConfig,
) -> Result<Vec<Option<[f64; 2]>>, GraphError> {
    if packed.iter().all(Option::is_none) {
        return Ok(vec![None; layers.len()]);
    }
    let mut seconds: Vec<[Vec<f64>; 2]> = layers.iter().map(|_| Default::default()).collect();
    let (following, ends) = (network.following_inputs(), ends(network, layers));
    let of_layer: HashMap<usize, usize> = layers
        .iter()
        .enumerate()
        .flat_map(|(place, layer)| layer.operations.iter().map(move |&at| (at, place)))
        .collect();
    for run in 0..config.warm_up + config.runs.max(1) {
        let execute = constants.execute.as_mut();
        load_zeros(execute, &network.graph)?;
        for (at, operation) in network.graph.operations.iter().enumerate() {
            if !operation.outputs().any(|output| following.contains(&output.id)) {
                continue;
            }
            let mut kept = operation.clone();
            kept.visit_mut(&mut KeepAll);
            let started = Instant::now();
            guard(Step::Operation(at, operation), || {
                execute.run(kept);
                network.device.sync().map_err(|error| error.to_string())
            })?;
            let burn = started.elapsed().as_secs_f64();
            if let Some(&place) = of_layer.get(&at) {
                let (layer, [own, by_kernel]) = (&layers[place], &mut seconds[place]);
                match own.last_mut().filter(|_| layer.layer != at) {
                    Some(sum) => *sum += burn,
                    None => own.push(burn),
                }
                if let (true, Some(kernel)) = (layer.operations.last() == Some(&at), &packed[place]) {
                    let started = Instant::now();
                    guard(Step::Layer(at, "packed layer"), || kernel.run(execute, true))?;
                    by_kernel.push(started.elapsed().as_secs_f64());
                }
            }
            for tensor in ends.get(&at).into_iter().flatten() {
                execute.run(OperationIr::Drop(tensor.clone()));
            }
        }
        if run < config.warm_up {
            seconds.iter_mut().flatten().for_each(Vec::clear);
        }
    }
    let shortest =
        |both: [Vec<f64>; 2]| both.iter().all(|runs| !runs.is_empty()).then(|| both.map(|runs| Latency::of(runs).min));
    Ok(seconds.into_iter().map(shortest).collect())
}

/// The tensors that nobody reads behind each operation, neither one by one nor in layers that take others in.
fn ends(network: &Network, layers: &[Fused]) -> HashMap<usize, Vec<TensorIr>> {
    let graph = &network.graph;
    let mut last: HashMap<TensorId, (usize, TensorIr)> = HashMap::new();
    for (at, operation) in graph.operations.iter().enumerate() {
        for tensor in operation.inputs().chain(operation.outputs()) {
            last.insert(tensor.id, (at, tensor.clone()));
        }
    }
    for layer in layers {
        let end = layer.operations.last().copied().unwrap_or(layer.layer);
        for tensor in std::iter::once(&layer.x).chain(&layer.residual) {
            if let Some((at, _)) = last.get_mut(&tensor.id) {
                *at = end.max(*at);
            }
        }
    }
    let mut ends: HashMap<usize, Vec<TensorIr>> = HashMap::new();
    for (id, (at, tensor)) in last {
        if network.following_inputs().contains(&id) && !graph.outputs.contains(&id) {
            ends.entry(at).or_default().push(tensor);
        }
    }
    ends
}
