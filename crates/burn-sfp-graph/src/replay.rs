//! [`Replay`]: runs the captured operations on a device, batch after batch, and hands out the tapped tensors.
//!
//! What runs the operations is hidden behind [`Execute`]: Burn's own interpreter on flex, ndarray, the
//! CubeCL runtimes and remote devices, to which it sends the operations.

// burn-ndarray is deprecated in 0.22 and supported here as long as it exists.
#![allow(deprecated)]

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::time::Instant;

use burn::backend::ir::{BackendIr, HandleKind, IrVisitorMut, OperationIr, TensorId, TensorIr, TensorStatus};
use burn::backend::{BackendTensor, DispatchDevice, DispatchKindConversion, Shape};
use burn::tensor::{Bool, Device, DispatchTensor, Int, Tensor, TensorData};
use burn_router::TensorInterpreter;

use crate::graph::Graph;
use crate::input::map_every_kind;
use crate::layers::layer::OutputTap;
use crate::network::Network;
use crate::op::description::dims;
use crate::op::name::name;
use crate::panics::attempt;
use crate::{GraphError, ModuleInput};

/// Runs operations on tensors that are known by their ids.
pub(crate) trait Execute: Send {
    fn load(&mut self, id: TensorId, data: TensorData);
    fn put(&mut self, id: TensorId, tensor: DispatchTensor) -> Result<(), String>;
    fn run(&mut self, op: OperationIr);
    /// Returns a float tensor, its axes permuted and then reshaped.
    fn get(&mut self, tensor: &TensorIr, permute: Option<&[usize]>, shape: &[usize]) -> Result<DispatchTensor, String>;
    /// Returns a tensor of any kind.
    fn take(&mut self, tensor: &TensorIr) -> Result<DispatchTensor, String>;
    /// Returns the value of a tensor of any kind.
    fn read(&mut self, tensor: &TensorIr) -> Result<TensorData, String>;
}

impl<B> Execute for TensorInterpreter<B>
where
    B: BackendIr,
    DispatchTensor: DispatchKindConversion<B>,
{
    fn load(&mut self, id: TensorId, data: TensorData) {
        self.register_tensor_data_id(id, data);
    }

    fn put(&mut self, id: TensorId, tensor: DispatchTensor) -> Result<(), String> {
        let tensor = <DispatchTensor as DispatchKindConversion<B>>::try_into_backend(tensor)
            .map_err(|error| format!("the input lives on another backend than the model: {error}"))?;
        let kind = match tensor {
            BackendTensor::Float(tensor) => HandleKind::Float(tensor),
            BackendTensor::Int(tensor) => HandleKind::Int(tensor),
            BackendTensor::Bool(tensor) => HandleKind::Bool(tensor),
            _ => return Err("the input is neither a float, an integer nor a boolean tensor".into()),
        };
        self.register_tensor_to_device(id, kind);
        Ok(())
    }

    fn run(&mut self, op: OperationIr) {
        self.register_op(op);
    }

    fn get(&mut self, tensor: &TensorIr, permute: Option<&[usize]>, shape: &[usize]) -> Result<DispatchTensor, String> {
        let HandleKind::Float(mut value) = self.get_tensor(tensor) else {
            return Err("the tensor is not a float tensor".into());
        };
        if let Some(axes) = permute {
            value = B::float_permute(value, axes);
        }
        value = B::float_reshape(value, Shape::from(shape.to_vec()));
        Ok(<DispatchTensor as DispatchKindConversion<B>>::from_backend(BackendTensor::Float(value)))
    }

    fn take(&mut self, tensor: &TensorIr) -> Result<DispatchTensor, String> {
        let value = match self.get_tensor(tensor) {
            HandleKind::Float(value) => BackendTensor::Float(value),
            HandleKind::Int(value) => BackendTensor::Int(value),
            HandleKind::Bool(value) => BackendTensor::Bool(value),
            _ => return Err("the tensor is neither a float, an integer nor a boolean tensor".into()),
        };
        Ok(<DispatchTensor as DispatchKindConversion<B>>::from_backend(value))
    }

    fn read(&mut self, tensor: &TensorIr) -> Result<TensorData, String> {
        let dispatch = <DispatchTensor as DispatchKindConversion<B>>::from_backend;
        let flat = Shape::from(vec![tensor.shape.iter().product::<usize>()]);
        let data = match self.get_tensor(tensor) {
            HandleKind::Float(value) => {
                Tensor::<1>::from_dispatch(dispatch(BackendTensor::Float(B::float_reshape(value, flat))))
                    .try_into_data()
            }
            HandleKind::Int(value) => {
                Tensor::<1, Int>::from_dispatch(dispatch(BackendTensor::Int(B::int_reshape(value, flat))))
                    .try_into_data()
            }
            HandleKind::Bool(value) => {
                Tensor::<1, Bool>::from_dispatch(dispatch(BackendTensor::Bool(B::bool_reshape(value, flat))))
                    .try_into_data()
            }
            _ => return Err("the tensor is neither a float, an integer nor a boolean tensor".into()),
        };
        let data = data.map_err(|error| error.to_string())?.convert_dtype(tensor.dtype);
        Ok(TensorData::from_bytes(data.into_bytes(), dims(tensor), tensor.dtype))
    }
}

/// Computes a tensor from the constants of a graph: the result of operation `last`, which must not depend on an input.
pub(crate) fn evaluate(
    graph: &Graph,
    last: usize,
    tensor: &TensorIr,
    device: &Device,
) -> Result<TensorData, GraphError> {
    let mut execute = interpreter(&device.clone().without_autodiff())?;
    let (mut open, mut needed) = (vec![last], BTreeSet::new());
    while let Some(operation) = open.pop() {
        if needed.insert(operation) {
            let inputs = graph.operations[operation].inputs();
            open.extend(inputs.filter_map(|input| graph.producer(input.id)));
        }
    }
    let mut keep = KeepAll;
    for (index, operation) in needed.into_iter().map(|index| (index, &graph.operations[index])) {
        for input in operation.inputs() {
            if let Some(value) = graph.values.get(&input.id) {
                execute.load(input.id, value.clone());
            }
        }
        let mut own = operation.clone();
        own.visit_mut(&mut keep);
        guard(Step::Operation(index, operation), || {
            execute.run(own);
            Ok(())
        })?;
    }
    let mut tensor = tensor.clone();
    tensor.status = TensorStatus::ReadOnly;
    guard(Step::Output, || execute.read(&tensor))
}

/// Lets no operation consume its inputs.
pub(crate) struct KeepAll;

impl IrVisitorMut for KeepAll {
    fn visit_tensor_mut(&mut self, tensor: &mut TensorIr) {
        if tensor.status == TensorStatus::ReadWrite {
            tensor.status = TensorStatus::ReadOnly;
        }
    }
}

pub(crate) fn interpreter(device: &Device) -> Result<Box<dyn Execute>, GraphError> {
    match device.as_dispatch() {
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(device) => Ok(Box::new(TensorInterpreter::<burn_flex::Flex>::new(*device))),
        #[cfg(feature = "ndarray")]
        DispatchDevice::NdArray(device) => Ok(Box::new(TensorInterpreter::<burn_ndarray::NdArray>::new(*device))),
        #[cfg(feature = "wgpu")]
        DispatchDevice::Cube(device) => Ok(Box::new(TensorInterpreter::<burn::backend::Cube>::new(device.clone()))),
        #[cfg(feature = "remote")]
        DispatchDevice::Remote(device) => Ok(Box::new(TensorInterpreter::<burn::backend::Remote>::new(device.clone()))),
        other => Err(GraphError::UnsupportedDevice { device: format!("{other:?}") }),
    }
}

/// What runs operations on a device, with the parameters and constants of a graph loaded.
pub(crate) fn loaded(graph: &Graph, device: &Device) -> Result<Box<dyn Execute>, GraphError> {
    let mut execute = interpreter(&device.clone().without_autodiff())?;
    for (id, data) in graph.values.iter() {
        guard(Step::Values, || {
            execute.load(*id, data.clone());
            Ok(())
        })?;
    }
    Ok(execute)
}

/// A captured network, loaded on a device.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// use burn_sfp_graph::{GraphError, Network, Replay};
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> {
/// #         self.b.forward(burn::tensor::activation::relu(self.a.forward(x)))
/// #     }
/// # }
/// # let device = Device::flex();
/// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 3).init(&device) };
/// let network = Network::capture(&mlp, &Tensor::zeros([2, 4], &device))?;
/// let mut replay = Replay::new(&network, &device, &[&network.layers()[0].tap])?;
/// let mut tapped = Vec::new();
/// let logits = replay.run(Tensor::<2>::ones([2, 4], &device), |_, tensor| {
///     tapped.push(tensor.dims());
///     Ok::<(), GraphError>(())
/// })?;
/// assert_eq!((tapped, logits.dims()), (vec![[2, 8, 1]], [2, 3]));
/// # Ok::<(), GraphError>(())
/// ```
pub struct Replay {
    execute: Box<dyn Execute>,
    operations: Vec<OperationIr>,
    inputs: Vec<TensorId>,
    input_shapes: Vec<Vec<usize>>,
    output: TensorIr,
    /// Indices of the taps of each tapped tensor: several may read it along other axes.
    taps: HashMap<TensorId, Vec<usize>>,
    tap_list: Vec<TensorIr>,
    /// For each tap the order of its axes that puts the filters second, and its shape `[samples, filters, positions]`.
    views: Vec<(Option<Vec<usize>>, [usize; 3])>,
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (operations, taps) = (self.operations.len(), self.tap_list.len());
        f.debug_struct("Replay").field("operations", &operations).field("taps", &taps).finish_non_exhaustive()
    }
}

impl Replay {
    /// Loads the network's parameters and constants on the device; `taps` will be handed out during each run.
    ///
    /// # Errors
    /// [`GraphError::UnsupportedDevice`] where this build has no interpreter for the device, [`GraphError::Replay`] where the device
    /// does not take a value.
    pub fn new(network: &Network, device: &Device, taps: &[&OutputTap]) -> Result<Self, GraphError> {
        let execute = loaded(&network.graph, device)?;
        let mut keep = KeepValues(&network.graph);
        let mut operations = network.graph.operations.clone();
        for op in &mut operations {
            op.visit_mut(&mut keep);
        }
        let mut made: HashMap<TensorId, TensorIr> = HashMap::new();
        for op in &operations {
            for out in op.outputs() {
                made.insert(out.id, out.clone());
            }
        }
        let read = |id: &TensorId, status| {
            made.get(id).cloned().map(|mut tensor| {
                tensor.status = status;
                tensor
            })
        };
        let first = network.graph.outputs.first().and_then(|output| read(output, TensorStatus::ReadOnly));
        let Some(output) = first else {
            return Err(GraphError::Capture("the output is not computed from the input".into()));
        };
        let mut tap_list = Vec::new();
        let mut views = Vec::new();
        let mut index: HashMap<TensorId, Vec<usize>> = HashMap::new();
        for (k, tap) in taps.iter().enumerate() {
            let Some(tensor) = read(&tap.tensor, TensorStatus::ReadOnly) else {
                return Err(GraphError::Capture("a tapped tensor is not computed from the input".into()));
            };
            index.entry(tap.tensor).or_default().push(k);
            let rank = tap.shape.len();
            let filters = tap.shape[tap.filter_axis];
            let permute = (tap.filter_axis != 1 && rank > 2).then(|| {
                let others = (1..rank).filter(|axis| *axis != tap.filter_axis);
                [0, tap.filter_axis].into_iter().chain(others).collect::<Vec<_>>()
            });
            views.push((permute, [tap.shape[0], filters, tap.positions]));
            tap_list.push(tensor);
        }
        Ok(Self {
            execute,
            operations,
            inputs: network.graph.inputs.clone(),
            input_shapes: network.input_shapes.clone(),
            output,
            taps: index,
            tap_list,
            views,
        })
    }

    /// Runs a batch of the captured shape. `tapped` receives each tap as `[samples, filters, positions]` as soon as
    /// it is computed, with its index in the list given to [`new`](Replay::new). Returns the logits.
    ///
    /// # Errors
    /// [`GraphError::Replay`] where an operation fails on the device, and whatever `tapped` returns.
    pub fn run<I: ModuleInput, E: From<GraphError>>(
        &mut self,
        input: I,
        mut tapped: impl FnMut(usize, Tensor<3>) -> Result<(), E>,
    ) -> Result<Tensor<2>, E> {
        if input.shapes() != self.input_shapes {
            return Err(GraphError::InputShape { found: input.shapes(), expected: self.input_shapes.clone() }.into());
        }
        let mut tensors = Dispatched(Vec::new());
        let _ = input.map_tensors(&mut tensors);
        let execute = &mut self.execute;
        for (id, tensor) in self.inputs.iter().zip(tensors.0) {
            guard(Step::Input, || execute.put(*id, tensor))?;
        }
        self.step_through(&mut tapped)?;
        let shape: Vec<usize> = self.output.shape.iter().copied().collect();
        let (execute, output) = (&mut self.execute, &self.output);
        let logits = guard(Step::Output, || execute.get(output, None, &shape))?;
        Ok(Tensor::from_dispatch(logits))
    }

    /// Runs on an input of zeros, for what does not depend on the input.
    pub(crate) fn run_zeros(
        &mut self,
        network: &Network,
        mut tapped: impl FnMut(usize, Tensor<3>) -> Result<(), GraphError>,
    ) -> Result<(), GraphError> {
        load_zeros(self.execute.as_mut(), &network.graph)?;
        self.step_through(&mut tapped)
    }

    /// Runs on an input of zeros and returns the seconds of each operation, from a synchronised device to the next.
    pub(crate) fn time_zeros(&mut self, network: &Network, device: &Device) -> Result<Vec<f64>, GraphError> {
        load_zeros(self.execute.as_mut(), &network.graph)?;
        let execute = &mut self.execute;
        let mut seconds = Vec::with_capacity(self.operations.len());
        for (index, operation) in self.operations.iter().enumerate() {
            seconds.push(guard(Step::Operation(index, operation), || {
                let operation = operation.clone();
                let synchronise = || device.sync().map_err(|error| error.to_string());
                synchronise()?;
                let started = Instant::now();
                execute.run(operation);
                synchronise()?;
                Ok(started.elapsed().as_secs_f64())
            })?);
        }
        Ok(seconds)
    }

    fn step_through<E: From<GraphError>>(
        &mut self,
        tapped: &mut dyn FnMut(usize, Tensor<3>) -> Result<(), E>,
    ) -> Result<(), E> {
        let execute = &mut self.execute;
        for (index, operation) in self.operations.iter().enumerate() {
            let ready = guard(Step::Operation(index, operation), || {
                execute.run(operation.clone());
                let mut ready: Vec<(usize, DispatchTensor)> = Vec::new();
                for out in operation.outputs() {
                    for &k in self.taps.get(&out.id).into_iter().flatten() {
                        let (permute, shape) = &self.views[k];
                        ready.push((k, execute.get(&self.tap_list[k], permute.as_deref(), shape)?));
                    }
                }
                Ok(ready)
            })?;
            for (k, tensor) in ready {
                tapped(k, Tensor::from_dispatch(tensor))?;
            }
        }
        Ok(())
    }
}

/// Puts zeros in the places of the inputs.
pub(crate) fn load_zeros(execute: &mut dyn Execute, graph: &Graph) -> Result<(), GraphError> {
    for &input in &graph.inputs {
        let read = graph.operations.iter().flat_map(|op| op.inputs()).find(|tensor| tensor.id == input);
        let Some(read) = read else { continue };
        let shape: Vec<usize> = read.shape.iter().copied().collect();
        let zeros = TensorData::zeros::<f32, _>(shape).convert_dtype(read.dtype);
        guard(Step::Input, || {
            execute.load(input, zeros);
            Ok(())
        })?;
    }
    Ok(())
}

/// What a replay does at the moment, for errors.
pub(crate) enum Step<'a> {
    Values,
    Input,
    Operation(usize, &'a OperationIr),
    /// Several operations as one, with the position of the last.
    Layer(usize, &'static str),
    Output,
}

/// Turns a backend's error, or its panic, into a [`GraphError::Replay`].
pub(crate) fn guard<T>(step: Step<'_>, work: impl FnOnce() -> Result<T, String>) -> Result<T, GraphError> {
    let failed = |message| {
        let (operation, name) = match step {
            Step::Values => (None, "loading the parameters".to_string()),
            Step::Input => (None, "the input".to_string()),
            Step::Operation(index, operation) => (Some(index), name(operation)),
            Step::Layer(index, name) => (Some(index), name.to_string()),
            Step::Output => (None, "the output".to_string()),
        };
        GraphError::Replay { operation, name, message }
    };
    attempt(work).and_then(|done| done).map_err(failed)
}

/// Keeps parameters, constants and outputs beyond their last consumer.
struct KeepValues<'a>(&'a Graph);

impl IrVisitorMut for KeepValues<'_> {
    fn visit_tensor_mut(&mut self, tensor: &mut TensorIr) {
        let kept = self.0.values.contains_key(&tensor.id) || self.0.outputs.contains(&tensor.id);
        if kept && tensor.status == TensorStatus::ReadWrite {
            tensor.status = TensorStatus::ReadOnly;
        }
    }
}

/// The tensors of an input, as a backend takes them.
pub(crate) struct Dispatched(pub Vec<DispatchTensor>);

map_every_kind!(Dispatched, self, tensor, {
    self.0.push(tensor.clone().without_autodiff().into_dispatch());
    tensor
});
