//! [`Program`]: the steps of a forward pass on one shape of input.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Instant;

use burn::backend::ir::{
    IrVisitorMut, MaxPool2dOpIr, ModuleOperationIr as M, OperationIr, TensorId, TensorIr, TensorStatus,
};
use burn::tensor::{DType, DispatchTensor, Tensor, TensorData};
use burn_sfp_ndarray::{ConvGeometry, max_pool2d};
use burn_sfp_nn::sparse::SparseCall;
use burn_sfp_nn::tensor::on_host;

use super::choices::LayerChoices;
use super::fuse::Fused;
use super::packed::{PackedLayer, tensor_of};
use super::sparse_of;

use crate::GraphError;
use crate::capture::SparseAt;
use crate::network::Network;
use crate::op::description::dims;
use crate::op::name::name;
use crate::replay::{Execute, KeepAll, Step, guard, loaded};

/// The steps of a forward pass, with everything loaded that they read.
pub(super) struct Program {
    pub input_shapes: Vec<Vec<usize>>,
    pub choices: LayerChoices,
    execute: Box<dyn Execute>,
    steps: Vec<Run>,
    inputs: Vec<TensorId>,
    outputs: Vec<TensorIr>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shapes, steps) = (&self.input_shapes, self.steps.len());
        f.debug_struct("Program").field("input_shapes", shapes).field("steps", &steps).finish_non_exhaustive()
    }
}

/// A step, with the position of its last operation.
struct Run {
    at: usize,
    what: What,
}

enum What {
    /// An operation of Burn's.
    Plain(Box<OperationIr>),
    /// A layer on packed weights.
    Packed(Box<PackedLayer>),
    /// A maximum pooling on the host.
    Pool(Box<MaxPool2dOpIr>),
    /// A sparse convolution: its input, its kernels, its output.
    Sparse(SparseCall, Box<[TensorIr; 3]>),
}

impl What {
    /// The layer, or the operation.
    fn name(&self) -> String {
        match self {
            Self::Plain(op) => name(op),
            Self::Packed(layer) => layer.name.clone(),
            Self::Pool(_) => "MaxPool2d".to_string(),
            Self::Sparse(..) => "sparse convolution".to_string(),
        }
    }

    fn inputs(&self) -> Vec<&TensorIr> {
        match self {
            Self::Plain(op) => op.inputs().collect(),
            Self::Packed(layer) => std::iter::once(&layer.x).chain(&layer.residual).collect(),
            Self::Pool(op) => vec![&op.x],
            Self::Sparse(_, tensors) => tensors[..2].iter().collect(),
        }
    }

    fn outputs(&self) -> Vec<&TensorIr> {
        match self {
            Self::Plain(op) => op.outputs().collect(),
            Self::Packed(layer) => vec![&layer.out],
            Self::Pool(op) => vec![&op.out],
            Self::Sparse(_, tensors) => vec![&tensors[2]],
        }
    }

    fn visit(&mut self, visitor: &mut Statuses<'_>) {
        match self {
            Self::Plain(op) => op.visit_mut(visitor),
            Self::Packed(layer) => {
                let shared = layer.residual.as_ref().is_some_and(|residual| residual.id == layer.x.id);
                visitor.visit_tensor_mut(&mut layer.x);
                if let Some(residual) = &mut layer.residual {
                    visitor.visit_tensor_mut(residual);
                    if shared {
                        // Read first, and then once more.
                        residual.status = TensorStatus::ReadOnly;
                    }
                }
            }
            Self::Pool(op) => visitor.visit_tensor_mut(&mut op.x),
            Self::Sparse(_, tensors) => tensors[..2].iter_mut().for_each(|tensor| visitor.visit_tensor_mut(tensor)),
        }
    }
}

/// What depends on parameters alone, computed.
pub(super) struct Constants<'a> {
    network: &'a Network,
    pub sparse: &'a [SparseAt],
    /// Whether the device's tensors are in the memory of the host.
    pub on_host: bool,
    pub execute: Box<dyn Execute>,
}

impl<'a> Constants<'a> {
    /// Loads all values and runs what reads nothing else.
    pub fn new(network: &'a Network, sparse: &'a [SparseAt]) -> Result<Self, GraphError> {
        let device = &network.device;
        let mut execute = loaded(&network.graph, device)?;
        let following = network.following_inputs();
        for (index, operation) in network.graph.operations.iter().enumerate() {
            if operation.outputs().any(|output| following.contains(&output.id)) {
                continue;
            }
            let mut own = operation.clone();
            own.visit_mut(&mut KeepAll);
            guard(Step::Operation(index, operation), || {
                execute.run(own);
                Ok(())
            })?;
        }
        let probe = Tensor::<1>::zeros([1], (device, DType::F32));
        let on_host = on_host(&probe, |_| ()).is_some();
        Ok(Self { network, sparse, on_host, execute })
    }

    /// The values of a constant in single precision.
    pub fn read(&mut self, tensor: &TensorIr) -> Option<Vec<f32>> {
        let mut tensor = tensor.clone();
        tensor.status = TensorStatus::ReadOnly;
        let execute = &mut self.execute;
        let data = guard(Step::Values, || execute.read(&tensor)).ok()?;
        data.try_into_vec::<f32>().ok()
    }

    /// An operation that no layer takes in.
    fn plain(&self, operation: &OperationIr) -> What {
        match operation {
            OperationIr::Module(M::MaxPool2d(op)) if self.on_host && is_plain(op) => What::Pool(Box::new(op.clone())),
            _ => What::Plain(Box::new(operation.clone())),
        }
    }

    /// The program in which these layers run packed, and all others by Burn's operations.
    pub fn program(
        self,
        layers: &[Fused],
        mut packed: Vec<Option<PackedLayer>>,
        choices: LayerChoices,
    ) -> Result<Program, GraphError> {
        let graph = &self.network.graph;
        let following = self.network.following_inputs();
        let mut hidden = HashSet::new();
        let mut in_place = HashMap::new();
        for (place, layer) in layers.iter().enumerate() {
            if let (Some(ready), Some((last, others))) = (packed[place].take(), layer.operations.split_last()) {
                hidden.extend(others.iter().copied());
                in_place.insert(*last, ready);
            }
        }
        let mut known: HashMap<TensorId, TensorIr> = HashMap::new();
        for operation in &graph.operations {
            known.extend(operation.inputs().chain(operation.outputs()).map(|tensor| (tensor.id, tensor.clone())));
        }
        let mut steps = Vec::new();
        for (at, operation) in graph.operations.iter().enumerate() {
            let makes = operation.outputs().next().map(|output| output.id);
            if hidden.contains(&at) || !makes.is_some_and(|made| following.contains(&made)) {
                continue;
            }
            let sparse = makes.and_then(|made| sparse_of(self.sparse, made));
            let what = match (in_place.remove(&at), sparse) {
                (Some(layer), _) => What::Packed(Box::new(layer)),
                (None, Some(call)) => match tensors_of(self.network, call) {
                    Some((call, tensors)) => What::Sparse(call.clone(), Box::new(tensors)),
                    None => What::Plain(Box::new(operation.clone())),
                },
                (None, None) => self.plain(operation),
            };
            steps.push(Run { at, what });
        }
        let steps = alive(steps, &graph.outputs, following);
        let outputs: Vec<TensorIr> = graph.outputs.iter().filter_map(|output| known.get(output).cloned()).collect();
        let mut execute = self.execute;
        let read: HashSet<TensorId> =
            steps.iter().flat_map(|step| step.what.inputs()).map(|tensor| tensor.id).collect();
        for (id, tensor) in known.iter().filter(|(id, _)| !following.contains(id)) {
            if !read.contains(id) && !graph.outputs.contains(id) {
                // Nobody reads it any more: packed weights have taken its place.
                let dropped = OperationIr::Drop(tensor.clone());
                guard(Step::Values, || {
                    execute.run(dropped);
                    Ok(())
                })?;
            }
        }
        let (inputs, input_shapes) = (graph.inputs.clone(), self.network.input_shapes.clone());
        Ok(Program { input_shapes, choices, execute, steps, inputs, outputs })
    }
}

/// Whether a pooling is in single precision and no window of it is padding alone, of which devices may think differently.
fn is_plain(op: &MaxPool2dOpIr) -> bool {
    let reaches =
        (0..2).all(|axis| op.padding[axis] == 0 || (op.dilation[axis] == 1 && op.padding[axis] < op.kernel_size[axis]));
    reaches && !op.ceil_mode && op.x.dtype == DType::F32
}

fn as_read(tensor: TensorIr) -> TensorIr {
    TensorIr { status: TensorStatus::ReadOnly, ..tensor }
}

/// The steps that an output depends on, each told which tensors it is the last one to read.
fn alive(steps: Vec<Run>, outputs: &[TensorId], following: &HashSet<TensorId>) -> Vec<Run> {
    let mut needed: HashSet<TensorId> = outputs.iter().copied().collect();
    let mut kept: Vec<Run> = Vec::new();
    for mut step in steps.into_iter().rev() {
        if !step.what.outputs().iter().any(|output| needed.contains(&output.id)) {
            continue;
        }
        let read: Vec<TensorId> = step.what.inputs().iter().map(|input| input.id).collect();
        let once = |id: &TensorId| read.iter().filter(|other| *other == id).count() == 1;
        let is_packed = matches!(step.what, What::Packed(..));
        let last = read.iter().filter(|id| !needed.contains(id) && following.contains(id) && (is_packed || once(id)));
        let last: HashSet<TensorId> = last.copied().collect();
        step.what.visit(&mut Statuses { last: &last });
        needed.extend(read);
        kept.push(step);
    }
    kept.reverse();
    kept
}

/// Says of each tensor that is read whether it is read for the last time.
struct Statuses<'a> {
    last: &'a HashSet<TensorId>,
}

impl IrVisitorMut for Statuses<'_> {
    fn visit_tensor_mut(&mut self, tensor: &mut TensorIr) {
        if tensor.status != TensorStatus::NotInit {
            let is_last = self.last.contains(&tensor.id);
            tensor.status = if is_last { TensorStatus::ReadWrite } else { TensorStatus::ReadOnly };
        }
    }
}

impl Program {
    /// Runs on the tensors of an input.
    pub fn run(&mut self, inputs: Vec<DispatchTensor>) -> Result<Vec<DispatchTensor>, GraphError> {
        self.load(inputs)?;
        for index in 0..self.steps.len() {
            self.step(index)?;
        }
        self.outputs.iter().map(|output| take(self.execute.as_mut(), output)).collect()
    }

    /// Runs on the tensors of an input and returns the seconds of each step, from a synchronised device to the next.
    pub fn profile(
        &mut self,
        inputs: Vec<DispatchTensor>,
        synchronise: &dyn Fn() -> Result<(), GraphError>,
    ) -> Result<Vec<(String, f64)>, GraphError> {
        self.load(inputs)?;
        let mut seconds = Vec::with_capacity(self.steps.len());
        for index in 0..self.steps.len() {
            synchronise()?;
            let started = Instant::now();
            self.step(index)?;
            synchronise()?;
            seconds.push((self.steps[index].what.name(), started.elapsed().as_secs_f64()));
        }
        Ok(seconds)
    }

    /// Puts the tensors of an input in their places.
    fn load(&mut self, inputs: Vec<DispatchTensor>) -> Result<(), GraphError> {
        let execute = &mut self.execute;
        (self.inputs.iter().zip(inputs)).try_for_each(|(id, tensor)| guard(Step::Input, || execute.put(*id, tensor)))
    }

    /// Runs a step.
    fn step(&mut self, index: usize) -> Result<(), GraphError> {
        let (execute, Run { at, what }) = (self.execute.as_mut(), &self.steps[index]);
        match what {
            What::Plain(operation) => guard(Step::Operation(*at, operation), || {
                execute.run((**operation).clone());
                Ok(())
            }),
            What::Packed(layer) => guard(Step::Layer(*at, "packed layer"), || layer.run(execute, false)),
            What::Pool(op) => guard(Step::Layer(*at, "maximum pooling"), || pool(execute, op)),
            What::Sparse(call, tensors) => {
                guard(Step::Layer(*at, "sparse convolution"), || run_sparse(execute, call, tensors))
            }
        }
    }
}

/// The tensors of a sparse convolution: its input, its kernels, its output.
pub(super) fn tensors_of<'a>(network: &Network, call: &'a SparseAt) -> Option<(&'a SparseCall, [TensorIr; 3])> {
    let all = || network.graph.operations.iter().flat_map(|operation| operation.inputs().chain(operation.outputs()));
    let find = |id: TensorId| all().find(|tensor| tensor.id == id).cloned().map(as_read);
    Some((&call.call, [find(call.x)?, find(call.values)?, find(call.out)?]))
}

/// Runs a sparse convolution as its layer does.
pub(super) fn run_sparse(
    execute: &mut dyn Execute,
    call: &SparseCall,
    [x, values, out]: &[TensorIr; 3],
) -> Result<(), String> {
    let x = Tensor::<4>::from_dispatch(execute.get(x, None, &dims(x))?);
    let values = Tensor::<3>::from_dispatch(execute.get(values, None, &dims(values))?);
    execute.put(out.id, call.run(x, values).into_dispatch())
}

/// A maximum pooling on the memory of the host.
fn pool(execute: &mut dyn Execute, op: &MaxPool2dOpIr) -> Result<(), String> {
    let shape: [usize; 4] = dims(&op.x).try_into().map_err(|_| "the input of a pooling has another rank")?;
    let x = Tensor::<4>::from_dispatch(execute.get(&op.x, None, &shape)?);
    let padding = op.padding.map(|padding| [padding; 2]);
    let geometry = ConvGeometry { stride: op.stride, padding, dilation: op.dilation, groups: 1 };
    let pooled = on_host(&x, |x| max_pool2d(x, op.kernel_size, &geometry));
    let pooled = pooled.ok_or("the input of a pooling is not in the memory of the host")?;
    let values = pooled.map_err(|error| error.to_string())?.into_raw_vec_and_offset().0;
    execute.put(op.out.id, tensor_of(TensorData::new(values, dims(&op.out)), &x.device(), 4))
}

/// An output, which stays where it is: another one may be the same tensor.
fn take(execute: &mut dyn Execute, output: &TensorIr) -> Result<DispatchTensor, GraphError> {
    let mut output = output.clone();
    output.status = TensorStatus::ReadOnly;
    guard(Step::Output, || execute.take(&output))
}
