//! The faster way of each layer, by measuring.

use std::collections::HashMap;
use std::time::Instant;

use burn::backend::ir::{OperationIr, TensorId, TensorIr};
use burn_sfp_ndarray::{Storage, WinogradConv2d, WinogradTile};

use super::InferenceConfig;
use super::choices::{LayerChoice, LayerChoices, Measured};
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

/// The program of a forward pass in which each layer runs the faster way, or the way that was found before.
pub(super) fn program(network: &Network, sparse: &[SparseAt], config: &InferenceConfig) -> Result<Program, GraphError> {
    let following = network.following_inputs();
    let is_constant = |tensor: TensorId| !following.contains(&tensor);
    // Sparse layers record the dense convolution of a device without sparse kernels.
    let layers = fused(&network.graph, &is_constant);
    let calls: Vec<Option<&SparseAt>> = layers.iter().map(|layer| sparse_call(network, sparse, layer.layer)).collect();
    let entries = entries(network, sparse, &layers, &calls);
    let mut constants = Constants::new(network, sparse)?;
    let known = config.choices.iter().find(|known| known.fits(network, &entries));
    let (made, chosen) = match known {
        Some(known) => again(network, &layers, &calls, &entries, known, &mut constants),
        None => fastest(network, &layers, &calls, &entries, config, &mut constants)?,
    };
    constants.program(&layers, chosen, LayerChoices { input_shapes: network.input_shapes.clone(), layers: made })
}

/// What a row of the choices is of.
pub(super) struct Entry {
    /// Position of the layer's own operation.
    at: usize,
    /// Which of the layers that can run as one kernel it is; the others are sparse convolutions that run by themselves.
    layer: Option<usize>,
    pub name: String,
    pub takes_in: Vec<String>,
}

/// The rows, in the order in which their layers run.
fn entries(network: &Network, sparse: &[SparseAt], layers: &[Fused], calls: &[Option<&SparseAt>]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for (index, (layer, call)) in layers.iter().zip(calls).enumerate() {
        let name = call.map_or_else(|| path(network, layer.layer), |call| sparse_path(network, call));
        let takes_in = layer.takes_in().into_iter().map(String::from).collect();
        entries.push(Entry { at: layer.layer, layer: Some(index), name, takes_in });
    }
    for call in sparse.iter().filter(|call| !calls.iter().flatten().any(|other| other.out == call.out)) {
        let at = network.graph.producer(call.out).unwrap_or_default();
        entries.push(Entry { at, layer: None, name: sparse_path(network, call), takes_in: Vec::new() });
    }
    entries.sort_by_key(|entry| entry.at);
    entries
}

/// The choices by measuring, and the kernel of each layer that runs as one.
#[allow(clippy::type_complexity)]
fn fastest(
    network: &Network,
    layers: &[Fused],
    calls: &[Option<&SparseAt>],
    entries: &[Entry],
    config: &InferenceConfig,
    constants: &mut Constants<'_>,
) -> Result<(Vec<LayerChoice>, Vec<Option<PackedLayer>>), GraphError> {
    let candidates = |layer: &Fused, call: Option<&SparseAt>| {
        let mut kernels = vec![Kernel::Packed(Storage::Single)];
        kernels.extend(config.bfloat16.then_some(Kernel::Packed(Storage::BFloat16)));
        kernels.extend(call.map(|_| Kernel::Sparse));
        let tiles = [WinogradTile::Four, WinogradTile::Two].into_iter();
        kernels.extend(tiles.filter(|tile| config.winograd && worth(layer, *tile)).map(Kernel::Winograd));
        kernels
    };
    let kernels = |index: usize| candidates(&layers[index], calls[index]);
    let kernels = with_weights(network, layers, calls, constants, kernels);
    let seconds = measure(network, layers, &kernels, constants, &config.latency)?;
    let mut chosen: Vec<Option<PackedLayer>> = Vec::new();
    let mut of_layers = Vec::new();
    for ((call, seconds), kernels) in calls.iter().zip(seconds).zip(kernels) {
        let fastest = |of: &dyn Fn(Kernel) -> bool| {
            let seconds = kernels.iter().zip(&seconds.kernels).filter(|(layer, _)| of(layer.kernel));
            seconds.filter_map(|(_, seconds)| *seconds).min_by(f64::total_cmp)
        };
        let by_sparse = fastest(&|kernel| kernel == Kernel::Sparse);
        let packed = fastest(&|kernel| matches!(kernel, Kernel::Packed(_)));
        let winograd = fastest(&|kernel| matches!(kernel, Kernel::Winograd(_)));
        let best = (kernels.into_iter().zip(&seconds.kernels))
            .filter_map(|(layer, seconds)| Some((layer, (*seconds)?)))
            .min_by(|(_, a), (_, b)| a.total_cmp(b))
            .filter(|(_, best)| seconds.own.is_some_and(|own| *best < own))
            .map(|(layer, _)| layer);
        // A sparse layer's own way is the sparse kernel with Burn's operations behind it.
        let (burn, sparse) = match call {
            None => (seconds.own, None),
            Some(_) => (None, by_sparse.into_iter().chain(seconds.own).min_by(f64::total_cmp)),
        };
        of_layers.push(Measured { burn, sparse, packed, winograd });
        chosen.push(best);
    }
    let made = entries.iter().map(|entry| {
        let (measured, kernel, is_sparse) = match entry.layer {
            Some(layer) => (of_layers[layer], kernel_of(&chosen, layer), calls[layer].is_some()),
            None => (Measured::default(), None, true),
        };
        LayerChoice::new(entry, kernel, is_sparse, measured)
    });
    Ok((made.collect(), chosen))
}

/// The choices of another time once more, and the kernel of each layer that runs as one.
fn again(
    network: &Network,
    layers: &[Fused],
    calls: &[Option<&SparseAt>],
    entries: &[Entry],
    known: &LayerChoices,
    constants: &mut Constants<'_>,
) -> (Vec<LayerChoice>, Vec<Option<PackedLayer>>) {
    let mut kernels = vec![None; layers.len()];
    for (entry, choice) in entries.iter().zip(&known.layers) {
        if let Some(layer) = entry.layer {
            kernels[layer] = choice.kernel();
        }
    }
    let ready = with_weights(network, layers, calls, constants, |index| kernels[index].into_iter().collect());
    let chosen: Vec<Option<PackedLayer>> = ready.into_iter().map(|mut kernels| kernels.pop()).collect();
    let made = entries.iter().zip(&known.layers).map(|(entry, choice)| {
        let measured =
            Measured { burn: choice.burn, sparse: choice.sparse, packed: choice.packed, winograd: choice.winograd };
        let (kernel, is_sparse) = match entry.layer {
            Some(layer) => (kernel_of(&chosen, layer), calls[layer].is_some()),
            None => (None, true),
        };
        LayerChoice::new(entry, kernel, is_sparse, measured)
    });
    (made.collect(), chosen)
}

fn kernel_of(chosen: &[Option<PackedLayer>], layer: usize) -> Option<Kernel> {
    chosen[layer].as_ref().map(|layer| layer.kernel)
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

/// Of each layer the kernels that `wanted` names and that there are on this device, with their weights.
fn with_weights(
    network: &Network,
    layers: &[Fused],
    calls: &[Option<&SparseAt>],
    constants: &mut Constants<'_>,
    wanted: impl Fn(usize) -> Vec<Kernel>,
) -> Vec<Vec<PackedLayer>> {
    if !constants.on_host {
        return layers.iter().map(|_| Vec::new()).collect();
    }
    let mut ready = |(index, (layer, call)): (usize, (&Fused, &Option<&SparseAt>))| {
        let kept = call.and_then(|call| tensors_of(network, call));
        let kept = kept.map(|(call, [_, values, _])| Kept { pattern: call.pattern().clone(), values });
        let name = call.map_or_else(|| path(network, layer.layer), |call| sparse_path(network, call));
        let constant = &mut |tensor: &TensorIr| constants.read(tensor);
        let ready = |kernel| PackedLayer::new(name.clone(), layer, kernel, kept.as_ref(), &network.device, constant);
        wanted(index).into_iter().filter_map(ready).collect()
    };
    layers.iter().zip(calls).enumerate().map(&mut ready).collect()
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
