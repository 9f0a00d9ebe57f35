//! The faster way of each layer, by measuring.

use std::collections::HashMap;
use std::fmt;
use std::time::Instant;

use burn::backend::ir::{OperationIr, TensorId, TensorIr};
use burn_sfp_ndarray::{WinogradConv2d, WinogradTile};
use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use serde::{Deserialize, Serialize};

use super::InferenceConfig;
use super::fuse::{Fused, fused};
use super::packed::{Kept, Kernel, PackedLayer};
use super::program::{Constants, Program, run_sparse, tensors_of};
use super::sparse_of;
use crate::GraphError;
use crate::capture::SparseAt;
use crate::latency::{Latency, LatencyConfig};
use crate::network::Network;
use crate::op::description::dims;
use crate::op::name::name;
use crate::replay::{KeepAll, Step, guard, load_zeros};

/// Fewest channels and filters with which transformed weights are tried.
const CHANNELS: usize = 8;
/// Fewest tiles in a batch with which transformed weights are tried.
const TILES: usize = 8;

/// How a layer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Way {
    /// By Burn's own operations.
    Burn,
    /// By one kernel on packed weights.
    Packed,
    /// By one kernel with fewer products on transformed weights (Lavin and Gray 2015, arXiv 1509.09308).
    Winograd,
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
    /// Seconds by the sparse kernel, where the layer is sparse and they were measured.
    #[serde(default)]
    pub sparse: Option<f64>,
    /// Seconds by one kernel on packed weights, where they were measured.
    pub packed: Option<f64>,
    /// Seconds on transformed weights, where they were measured: of the faster one of two sizes of tiles.
    #[serde(default)]
    pub winograd: Option<f64>,
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
        table.load_preset(ASCII_MARKDOWN).set_header([
            "layer",
            "takes in",
            "runs by",
            "Burn, µs",
            "sparse, µs",
            "packed, µs",
            "Winograd, µs",
        ]);
        let micros = |seconds: Option<f64>| seconds.map_or_else(String::new, |seconds| format!("{:.1}", 1e6 * seconds));
        for layer in &self.layers {
            let way = match layer.way {
                Way::Burn => "Burn",
                Way::Packed => "packed",
                Way::Winograd => "Winograd",
                Way::Sparse => "sparse",
            };
            let takes_in = layer.takes_in.join(", ");
            let seconds = [layer.burn, layer.sparse, layer.packed, layer.winograd].map(micros);
            table.add_row([layer.layer.clone(), takes_in, way.into()].into_iter().chain(seconds));
        }
        for column in table.column_iter_mut().skip(3) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        write!(f, "{table}")
    }
}

/// The program of a forward pass in which each layer runs the faster way.
pub(super) fn program(network: &Network, sparse: &[SparseAt], config: &InferenceConfig) -> Result<Program, GraphError> {
    let following = network.following_inputs();
    let is_constant = |tensor: TensorId| !following.contains(&tensor);
    // Sparse layers record the dense convolution of a device without sparse kernels.
    let layers = fused(&network.graph, &is_constant);
    let calls: Vec<Option<&SparseAt>> = layers.iter().map(|layer| sparse_call(network, sparse, layer.layer)).collect();
    let mut constants = Constants::new(network, sparse)?;
    let kernels = all_kernels(network, &layers, &calls, &mut constants, config.winograd);
    let seconds = measure(network, &layers, &kernels, &mut constants, &config.latency)?;
    let mut choices: Vec<(usize, LayerChoice)> = Vec::new();
    let mut chosen = Vec::new();
    for (((layer, call), seconds), kernels) in layers.iter().zip(&calls).zip(seconds).zip(kernels) {
        let fastest = |of: &dyn Fn(Kernel) -> bool| {
            let seconds = kernels.iter().zip(&seconds.kernels).filter(|(layer, _)| of(layer.kernel));
            seconds.filter_map(|(_, seconds)| *seconds).min_by(f64::total_cmp)
        };
        let by_sparse = fastest(&|kernel| kernel == Kernel::Sparse);
        let (packed, winograd) =
            (fastest(&|kernel| kernel == Kernel::Packed), fastest(&|kernel| matches!(kernel, Kernel::Winograd(_))));
        let best = (kernels.into_iter().zip(&seconds.kernels))
            .filter_map(|(layer, seconds)| Some((layer, (*seconds)?)))
            .min_by(|(_, a), (_, b)| a.total_cmp(b))
            .filter(|(_, best)| seconds.own.is_some_and(|own| *best < own))
            .map(|(layer, _)| layer);
        let way = match best.as_ref().map(|layer| layer.kernel) {
            None if call.is_some() => Way::Sparse,
            None => Way::Burn,
            Some(Kernel::Sparse) => Way::Sparse,
            Some(Kernel::Packed) => Way::Packed,
            Some(Kernel::Winograd(_)) => Way::Winograd,
        };
        let takes_in = layer.takes_in().into_iter().map(String::from).collect();
        let (layer, at, burn, sparse) = match call {
            None => (path(network, layer.layer), layer.layer, seconds.own, None),
            // Its own way is the sparse kernel with Burn's operations behind it.
            Some(call) => {
                let sparse = by_sparse.into_iter().chain(seconds.own).min_by(f64::total_cmp);
                (sparse_path(network, call), layer.layer, None, sparse)
            }
        };
        choices.push((at, LayerChoice { layer, takes_in, way, burn, sparse, packed, winograd }));
        chosen.push(best);
    }
    for call in sparse.iter().filter(|call| !calls.iter().flatten().any(|other| other.out == call.out)) {
        let at = network.graph.producer(call.out).unwrap_or_default();
        let (layer, takes_in, way) = (sparse_path(network, call), Vec::new(), Way::Sparse);
        choices
            .push((at, LayerChoice { layer, takes_in, way, burn: None, sparse: None, packed: None, winograd: None }));
    }
    choices.sort_by_key(|(at, _)| *at);
    let choices = LayerChoices { layers: choices.into_iter().map(|(_, choice)| choice).collect() };
    constants.program(&layers, chosen, choices)
}

/// The sparse convolution in the place of an operation.
fn sparse_call<'a>(network: &Network, sparse: &'a [SparseAt], at: usize) -> Option<&'a SparseAt> {
    network.graph.operations[at].outputs().find_map(|output| sparse_of(sparse, output.id))
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

/// All kernels that each layer has on this device, with their weights.
fn all_kernels(
    network: &Network,
    layers: &[Fused],
    calls: &[Option<&SparseAt>],
    constants: &mut Constants<'_>,
    winograd: bool,
) -> Vec<Vec<PackedLayer>> {
    if !constants.on_host {
        return layers.iter().map(|_| Vec::new()).collect();
    }
    let mut all = |(layer, call): (&Fused, &Option<&SparseAt>)| {
        let kept = call.and_then(|call| tensors_of(network, call));
        let kept = kept.map(|(call, [_, values, _])| Kept { pattern: call.pattern().clone(), values });
        let mut kernels = vec![Kernel::Packed];
        kernels.extend(kept.as_ref().map(|_| Kernel::Sparse));
        let tiles = [WinogradTile::Four, WinogradTile::Two].into_iter().filter(|tile| winograd && worth(layer, *tile));
        kernels.extend(tiles.map(Kernel::Winograd));
        let name = call.map_or_else(|| path(network, layer.layer), |call| sparse_path(network, call));
        let constant = &mut |tensor: &TensorIr| constants.read(tensor);
        let ready = |kernel| PackedLayer::new(name.clone(), layer, kernel, kept.as_ref(), &network.device, constant);
        kernels.into_iter().filter_map(ready).collect()
    };
    layers.iter().zip(calls).map(&mut all).collect()
}

/// Whether transformed weights may be faster: with fewer tiles in a batch reading them, up to four times as many as the weights, takes longer than the
/// products that they save.
fn worth(layer: &Fused, tile: WinogradTile) -> bool {
    let Some(geometry) = layer.geometry() else { return false };
    let (kernel, out) = (dims(&layer.weight), dims(&layer.out));
    let ([filters, inputs, height, width], [samples, _, rows, columns]) = (&kernel[..], &out[..]) else { return false };
    let tiles = samples * rows.div_ceil(tile.outputs()) * columns.div_ceil(tile.outputs());
    WinogradConv2d::supports([*height, *width], &geometry) && *filters.min(inputs) >= CHANNELS && tiles >= TILES
}

/// Shortest seconds of a layer.
#[derive(Clone, Debug, Default)]
struct Seconds {
    /// By Burn's operations, those of a sparse convolution by its sparse kernel.
    own: Option<f64>,
    /// Of each of its kernels.
    kernels: Vec<Option<f64>>,
}

/// Runs the forward pass on zeros, each layer in every way in turn.
fn measure(
    network: &Network,
    layers: &[Fused],
    kernels: &[Vec<PackedLayer>],
    constants: &mut Constants<'_>,
    config: &LatencyConfig,
) -> Result<Vec<Seconds>, GraphError> {
    let shortest = |runs: &Vec<f64>| (!runs.is_empty()).then(|| Latency::of(runs.clone()).min);
    if kernels.iter().all(Vec::is_empty) {
        return Ok(vec![Seconds::default(); layers.len()]);
    }
    let mut by_own: Vec<Vec<f64>> = vec![Vec::new(); layers.len()];
    let mut by_kernel: Vec<Vec<Vec<f64>>> = kernels.iter().map(|kernels| vec![Vec::new(); kernels.len()]).collect();
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
            let sparse = sparse_call(network, constants.sparse, at).and_then(|call| tensors_of(network, call));
            let started = Instant::now();
            guard(Step::Operation(at, operation), || {
                match &sparse {
                    Some((call, tensors)) => run_sparse(execute, call, tensors)?,
                    None => execute.run(kept),
                }
                network.device.sync().map_err(|error| error.to_string())
            })?;
            let seconds = started.elapsed().as_secs_f64();
            if let Some(&place) = of_layer.get(&at) {
                let (layer, own) = (&layers[place], &mut by_own[place]);
                match own.last_mut().filter(|_| layer.layer != at) {
                    Some(sum) => *sum += seconds,
                    None => own.push(seconds),
                }
                if layer.operations.last() == Some(&at) {
                    for (kernel, seconds) in kernels[place].iter().zip(&mut by_kernel[place]) {
                        let started = Instant::now();
                        guard(Step::Layer(at, "packed layer"), || kernel.run(execute, true))?;
                        seconds.push(started.elapsed().as_secs_f64());
                    }
                }
            }
            for tensor in ends.get(&at).into_iter().flatten() {
                execute.run(OperationIr::Drop(tensor.clone()));
            }
        }
        if run < config.warm_up {
            by_own.iter_mut().chain(by_kernel.iter_mut().flatten()).for_each(Vec::clear);
        }
    }
    let all = by_own.iter().zip(&by_kernel);
    Ok(all.map(|(own, by)| Seconds { own: shortest(own), kernels: by.iter().map(shortest).collect() }).collect())
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
