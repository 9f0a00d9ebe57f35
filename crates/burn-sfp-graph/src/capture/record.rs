//! Records forward passes on Burn's capture device, and joins operations and parameters by module path.

use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{PoisonError, RwLock};

use burn::backend::ir::{OperationIr, TensorId};
use burn::module::Param;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use burn_capture::{CaptureBackend, CapturedGraph};
use burn_sfp_nn::sparse::skipped_macs;
use burn_sfp_nn::walk::{ParamPath, ParamVisitor, visit_params};
use burn_sfp_nn::{NnLayer, recognize};

use super::device::{initialized, on_device};
use super::devices::Lent;
use super::pass::{Boundary, Pass, id_of};
use super::reads::{Known, Reads};
use crate::error::{one_line, panic_message};
use crate::graph::{Graph, Parameter};
use crate::panics::quietly;
use crate::{GraphError, GraphModule};

/// What was recorded of forward passes, as far as they went.
pub(super) struct Recording {
    pub graph: Graph,
    pub input_shapes: Vec<Vec<usize>>,
    pub output_shapes: Vec<Vec<usize>>,
    /// Multiply-adds of the first pass that sparse layers leave out.
    pub skipped: u64,
    /// The panic's message, where a pass panics half-way.
    pub panicked: Option<String>,
    /// Id of a tensor made right before the first pass: ids after it follow the order of operations.
    pub start: TensorId,
    /// Tensors of the module that are no parameters, in the order in which they came to the capture device.
    pub plain: Vec<TensorId>,
}

/// Records passes of a module, the main one first.
pub(super) fn record<M: GraphModule>(model: &M, passes: &[&dyn Pass<M>]) -> Result<Recording, GraphError> {
    let mut reads = Reads::default();
    loop {
        let mut run = |seen: &mut Seen, known: &[Known], device: &Device| seen.run(model, passes, known, device);
        let input_shapes = passes.iter().flat_map(|pass| pass.input_shapes()).collect();
        let samples = passes.first().map_or(0, |pass| pass.samples());
        let recording = quietly(|| attempt(&mut run, input_shapes, samples, &reads))?;
        if !reads.learn(&|| model.devices().into_iter().next().unwrap_or_default(), &recording)? {
            return Ok(recording);
        }
    }
}

/// Records the passes of a module on the device that it is given.
type Run<'a> = &'a mut dyn FnMut(&mut Seen, &[Known], &Device) -> Result<CapturedGraph, String>;

/// Burn numbers the tensors of all captures in one sequence. A recording that foresees numbers must run alone.
static NUMBERING: RwLock<()> = RwLock::new(());

fn attempt(
    run: Run<'_>,
    input_shapes: Vec<Vec<usize>>,
    samples: usize,
    reads: &Reads,
) -> Result<Recording, GraphError> {
    let (_shared, _alone);
    if reads.alone {
        _alone = NUMBERING.write().unwrap_or_else(PoisonError::into_inner);
    } else {
        _shared = NUMBERING.read().unwrap_or_else(PoisonError::into_inner);
    }
    let known = reads.known();
    let lent = Lent::take()?;
    let mut seen = Seen::default();
    let recorded = catch_unwind(AssertUnwindSafe(|| run(&mut seen, known, lent.device())));
    let failed = |message| {
        let shape = input_shapes.first().cloned().unwrap_or_default();
        GraphError::Forward { shape, after: None, message }
    };
    let captured =
        recorded.map_err(|payload| failed(one_line(&panic_message(payload))))?.map_err(GraphError::Capture)?;
    let disturbed = || GraphError::Capture("another capture ran meanwhile: capture again".into());
    let stands = |(known, &value): (&Known, &TensorId)| known.stands(value, &captured.graph.operations);
    let start = seen.start.filter(|_| known.iter().zip(&seen.values).all(stands)).ok_or_else(disturbed)?;
    let Seen { parameters, others, anchor, boundary, skipped, panicked, ends, .. } = seen;
    let known_ids: HashSet<TensorId> = parameters.iter().map(|parameter| parameter.tensor).chain(others).collect();
    let first = anchor.unwrap_or(start);
    let plain = captured.values.keys().copied().filter(|id| *id < first && !known_ids.contains(id)).collect();
    let graph = graph_of(captured, parameters, known, (start, &ends), samples);
    Ok(Recording { graph, input_shapes, output_shapes: boundary.output_shapes, skipped, panicked, start, plain })
}

/// The recorded graph, without the operations whose values are known.
fn graph_of(
    captured: CapturedGraph,
    mut parameters: Vec<Parameter>,
    known: &[Known],
    (start, ends): (TensorId, &[TensorId]),
    batch: usize,
) -> Graph {
    let CapturedGraph { mut graph, mut values } = captured;
    parameters.retain(|parameter| values.contains_key(&parameter.tensor));
    for input in &graph.inputs {
        values.remove(input);
    }
    let runs = |op: &OperationIr| {
        let computed = known.is_empty() || !op.outputs().all(|output| values.contains_key(&output.id));
        !matches!(op, OperationIr::Init(_) | OperationIr::Drop(_)) && computed
    };
    let made = |op: &OperationIr| match op {
        OperationIr::Init(init) => Some(init.out.id),
        _ => None,
    };
    let place = |operations: &[OperationIr], id: TensorId| operations.iter().position(|op| made(op) == Some(id));
    // What was made before the start belongs to no forward pass.
    if let Some(start) = place(&graph.operations, start) {
        graph.operations.drain(..=start);
    }
    // The main pass ends where its marker was made.
    let end = ends.first().and_then(|end| place(&graph.operations, *end));
    let before = &graph.operations[..end.unwrap_or(graph.operations.len())];
    let main = before.iter().filter(|op| runs(op)).count();
    let operations = graph.operations.into_iter().filter(runs).collect();
    for marker in ends.iter().chain([&start]) {
        values.remove(marker);
    }
    let (inputs, outputs) = (graph.inputs, graph.outputs);
    Graph { operations, values: values.into(), inputs, outputs, parameters, batch, main, ..Graph::default() }
        .connected()
}

/// What is seen of forward passes while Burn records them.
#[derive(Default)]
struct Seen {
    parameters: Vec<Parameter>,
    /// Parameters of integers and booleans.
    others: Vec<TensorId>,
    /// A tensor made once the module is there.
    anchor: Option<TensorId>,
    boundary: Boundary,
    skipped: u64,
    panicked: Option<String>,
    start: Option<TensorId>,
    /// The known values.
    values: Vec<TensorId>,
    /// Markers: a tensor made after each pass.
    ends: Vec<TensorId>,
}

impl Seen {
    /// Records the passes on the capture device. The error is what Burn refused them with.
    fn run<M: GraphModule>(
        &mut self,
        model: &M,
        passes: &[&dyn Pass<M>],
        known: &[Known],
        device: &Device,
    ) -> Result<CapturedGraph, String> {
        let copy = initialized(model);
        let captured = device.capture_scope(|scope| {
            let copy = on_device(model, copy, device);
            let mut names = Names { layers: recognize(&copy), parameters: Vec::new(), others: Vec::new() };
            visit_params(&copy, &mut names);
            self.begin(names, known, device);
            for (index, pass) in passes.iter().enumerate() {
                if !self.pass(index, &mut |boundary| pass.run(&copy, device, boundary), device) {
                    return scope.complete(self.boundary.inputs.clone(), []);
                }
            }
            // The tensors still alive belong to the scope: nothing may run on them once it is closed.
            scope.complete(self.boundary.inputs.clone(), once(&self.boundary.outputs))
        });
        captured.map_err(|error| error.to_string())
    }

    /// Takes the parameters down and puts the known values in place.
    fn begin(&mut self, names: Names, known: &[Known], device: &Device) {
        (self.parameters, self.others) = (names.parameters, names.others);
        let anchor = marker(device);
        self.anchor = id_of(&anchor);
        self.values = known.iter().filter_map(|known| known.put(&anchor)).collect();
        let start = marker(device);
        self.start = id_of(&start);
        known.iter().zip(&self.values).for_each(|(known, value)| known.stand_in(*value, &start));
    }

    /// Runs a pass, and returns whether it came to its end.
    fn pass(&mut self, index: usize, run: &mut dyn FnMut(&mut Boundary), device: &Device) -> bool {
        let boundary = &mut self.boundary;
        match catch_unwind(AssertUnwindSafe(|| skipped_macs(|| run(boundary)))) {
            Ok(((), macs)) if index == 0 => self.skipped = macs,
            Ok(_) => {}
            Err(payload) => {
                self.panicked = Some(one_line(&panic_message(payload)));
                return false;
            }
        }
        self.ends.extend(id_of(&marker(device)));
        true
    }
}

/// A tensor that only marks a place in the recording.
fn marker(device: &Device) -> Tensor<1> {
    Tensor::from_data(TensorData::new(vec![0.0f32], [1]), device)
}

/// The ids without repetitions: a module may return the same tensor twice, a graph may not.
fn once(ids: &[TensorId]) -> Vec<TensorId> {
    let mut seen = HashSet::new();
    ids.iter().copied().filter(|id| seen.insert(*id)).collect()
}

/// Collects the parameters; `layers` are those of burn-sfp's types, by path.
struct Names {
    layers: BTreeMap<String, NnLayer>,
    parameters: Vec<Parameter>,
    others: Vec<TensorId>,
}

impl ParamVisitor for Names {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
        let value = param.base();
        let Some(tensor) = id_of(&value) else { return };
        let holders: Vec<String> = path.holders().map(str::to_string).collect();
        // The innermost entry is the field itself; its holder is the nearest struct above it.
        let container = holders.last().cloned().unwrap_or_default();
        let layer = self.layers.get(&path.split().0).copied();
        let shape = value.dims().to_vec();
        self.parameters.push(Parameter { path: path.join(), container, holders, layer, shape, tensor });
    }
    fn int<const D: usize>(&mut self, _: ParamPath<'_>, param: &Param<Tensor<D, Int>>) {
        let primitive = param.base().try_into_primitive::<CaptureBackend>();
        self.others.extend(primitive.ok().map(|primitive| primitive.id()));
    }
    fn bool<const D: usize>(&mut self, _: ParamPath<'_>, param: &Param<Tensor<D, Bool>>) {
        let primitive = param.base().try_into_primitive::<CaptureBackend>();
        self.others.extend(primitive.ok().map(|primitive| primitive.id()));
    }
}
