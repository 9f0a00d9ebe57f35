//! The faster way of each layer, by measuring.

use std::collections::HashMap;
use std::time::Instant;

use burn::backend::ir::{OperationIr, TensorId, TensorIr};
use burn_sfp_ndarray::{ConvShapes, Storage, WinogradConv2d, WinogradTile};

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
    let layers = Layers::new(network, sparse);
    let entries = layers.entries(sparse);
    let mut constants = Constants::new(network, sparse)?;
    let known = config.choices.iter().find(|known| known.fits(network, &entries));
    let (chosen, seconds) = match known {
        Some(known) => layers.again(&entries, known, &mut constants),
        None if config.measured => layers.fastest(config, &mut constants)?,
        None => layers.by_shapes(config, &mut constants),
    };
    let choice = |entry: &Entry| match entry.layer {
        Some(layer) => {
            let kernel = chosen[layer].as_ref().map(|layer| layer.kernel);
            LayerChoice::new(entry, kernel, layers.calls[layer].is_some(), seconds[layer])
        }
        None => LayerChoice::new(entry, None, true, Measured::default()),
    };
    let choices =
        LayerChoices { input_shapes: network.input_shapes.clone(), layers: entries.iter().map(choice).collect() };
    constants.program(&layers.fused, chosen, choices)
}

/// Of each layer the kernel that it runs as, if it is one, and its seconds.
type Chosen = (Vec<Option<PackedLayer>>, Vec<Measured>);

/// The layers that can run as one kernel, in order.
struct Layers<'a> {
    network: &'a Network,
    fused: Vec<Fused>,
    /// Of each layer the sparse convolution that it is, if it is one.
    calls: Vec<Option<&'a SparseAt>>,
    names: Vec<String>,
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

impl<'a> Layers<'a> {
    fn new(network: &'a Network, sparse: &'a [SparseAt]) -> Self {
        let following = network.following_inputs();
        let is_constant = |tensor: TensorId| !following.contains(&tensor);
        // Sparse layers record the dense convolution of a device without sparse kernels.
        let fused = fused(&network.graph, &is_constant);
        let calls: Vec<_> = fused.iter().map(|layer| sparse_call(network, sparse, layer.layer)).collect();
        let name = |(layer, call): (&Fused, &Option<&SparseAt>)| {
            call.map_or_else(|| path(network, layer.layer), |call| sparse_path(network, call))
        };
        let names = fused.iter().zip(&calls).map(name).collect();
        Self { network, fused, calls, names }
    }

    /// The rows of the choices, in the order in which their layers run.
    fn entries(&self, sparse: &[SparseAt]) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        for (index, (layer, name)) in self.fused.iter().zip(&self.names).enumerate() {
            let takes_in = layer.takes_in().into_iter().map(String::from).collect();
            entries.push(Entry { at: layer.layer, layer: Some(index), name: name.clone(), takes_in });
        }
        for call in sparse.iter().filter(|call| !self.calls.iter().flatten().any(|other| other.out == call.out)) {
            let at = self.network.graph.producer(call.out).unwrap_or_default();
            entries.push(Entry { at, layer: None, name: sparse_path(self.network, call), takes_in: Vec::new() });
        }
        entries.sort_by_key(|entry| entry.at);
        entries
    }

    /// The fastest kernels, by measuring.
    fn fastest(&self, config: &InferenceConfig, constants: &mut Constants<'_>) -> Result<Chosen, GraphError> {
        let candidates = |index: usize| {
            let mut kernels = vec![Kernel::Packed(Storage::Single)];
            kernels.extend(config.bfloat16.then_some(Kernel::Packed(Storage::BFloat16)));
            kernels.extend(self.calls[index].map(|_| Kernel::Sparse));
            let tiles = [WinogradTile::Four, WinogradTile::Two].into_iter();
            let tiles = tiles.filter(|tile| config.winograd && worth(&self.fused[index], *tile));
            kernels.extend(tiles.map(Kernel::Winograd));
            kernels
        };
        let kernels = self.with_weights(constants, candidates);
        let seconds = measure(self.network, &self.fused, &kernels, constants, &config.latency)?;
        let best = |((call, seconds), kernels): ((&Option<&SparseAt>, Seconds), Vec<PackedLayer>)| {
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
            (best, Measured { burn, sparse, packed, winograd })
        };
        Ok(self.calls.iter().zip(seconds).zip(kernels).map(best).unzip())
    }

    /// The kernels that follow from the shapes.
    fn by_shapes(&self, config: &InferenceConfig, constants: &mut Constants<'_>) -> Chosen {
        let kernel = |index: usize| match &self.calls[index] {
            Some(_) => Some(Kernel::Sparse),
            None => by_shapes(&self.fused[index], config.winograd),
        };
        let ready = self.with_weights(constants, |index| kernel(index).into_iter().collect());
        let seconds = vec![Measured::default(); self.fused.len()];
        (ready.into_iter().map(|mut kernels| kernels.pop()).collect(), seconds)
    }

    /// The kernels of another time once more.
    fn again(&self, entries: &[Entry], known: &LayerChoices, constants: &mut Constants<'_>) -> Chosen {
        let mut kernels = vec![None; self.fused.len()];
        let mut seconds = vec![Measured::default(); self.fused.len()];
        for (entry, choice) in entries.iter().zip(&known.layers) {
            if let Some(layer) = entry.layer {
                (kernels[layer], seconds[layer]) = (choice.kernel(), choice.measured());
            }
        }
        let ready = self.with_weights(constants, |index| kernels[index].into_iter().collect());
        (ready.into_iter().map(|mut kernels| kernels.pop()).collect(), seconds)
    }

    /// Of each layer the kernels that `wanted` names and that there are on this device, with their weights.
    fn with_weights(
        &self,
        constants: &mut Constants<'_>,
        wanted: impl Fn(usize) -> Vec<Kernel>,
    ) -> Vec<Vec<PackedLayer>> {
        let Self { network, fused, calls, names } = self;
        if !constants.on_host {
            return fused.iter().map(|_| Vec::new()).collect();
        }
        let mut ready = |index: usize| {
            let kept = calls[index].and_then(|call| tensors_of(network, call));
            let kept = kept.map(|(call, [_, values, _])| Kept { pattern: call.pattern().clone(), values });
            let constant = &mut |tensor: &TensorIr| constants.read(tensor);
            let ready = |kernel| {
                let name = names[index].clone();
                PackedLayer::new(name, &fused[index], kernel, kept.as_ref(), &network.device, constant)
            };
            wanted(index).into_iter().filter_map(ready).collect()
        };
        (0..fused.len()).map(&mut ready).collect()
    }
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

/// The kernel of a dense layer by its shapes; `None` of a convolution in groups of several filters, which Burn may compute faster.
fn by_shapes(layer: &Fused, winograd: bool) -> Option<Kernel> {
    let packed = Kernel::Packed(Storage::Single);
    let Some(geometry) = layer.geometry() else { return Some(packed) };
    let (kernel, out) = (dims(&layer.weight), dims(&layer.out));
    let ([outputs, inputs, height, width], [samples, _, rows, columns]) = (&kernel[..], &out[..]) else { return None };
    let (kernel, size) = ([*height, *width], [*rows, *columns]);
    let shapes = ConvShapes { kernel, inputs: *inputs, outputs: *outputs, size, samples: *samples };
    let tile = shapes.tile(&geometry).filter(|_| winograd);
    let is_depthwise = *inputs == 1 && geometry.groups == *outputs;
    (geometry.groups == 1 || is_depthwise).then_some(tile.map_or(packed, Kernel::Winograd))
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
