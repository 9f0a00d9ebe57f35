//! [`StepReplay`]: runs the captured operations on many batches together, so that parameters can be replaced on the way by what all
//! batches show.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use burn::backend::ir::{IrVisitorMut, OperationIr, TensorId, TensorIr, TensorStatus};
use burn::tensor::{Device, Tensor, TensorData};

use crate::network::Network;
use crate::replay::{Dispatched, Execute, Step, guard, loaded};
use crate::steps::StepTensor;
use crate::{GraphError, ModuleInput};

/// Bits of a tensor's id that the capture uses; the number of the batch stands above them.
const ID_BITS: u32 = 40;

/// A captured network that runs on many batches of the captured size together: all batches have passed an operation before any of them
/// passes one that is asked for later.
///
/// At any point the tensors that later operations read are in memory, of all batches. What is computed from parameters alone is
/// computed once.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::{GraphModule, Network, StepReplay};
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
/// let steps = network.steps();
/// let mut replay = StepReplay::new(&network, &device)?;
/// for value in [1.0, 2.0] {
///     replay.load(Tensor::<2>::full([2, 4], value, &device), 0)?;
/// }
/// replay.run_until(steps[1].operation)?;
/// let hidden = replay.read(0, &steps[1].input)?;
/// assert_eq!(hidden.dims(), [2, 8, 1]);
///
/// replay.set(network.layers()[1].weight(), TensorData::zeros::<f32, _>([8, 3]))?;
/// replay.run_until(steps[1].operation + 1)?;
/// assert_eq!(replay.read(1, &steps[1].output)?.abs().sum().into_scalar::<f32>(), 0.0);
/// # Ok::<(), burn_sfp_graph::GraphError>(())
/// ```
pub struct StepReplay {
    execute: Box<dyn Execute>,
    operations: Vec<OperationIr>,
    /// The tensors that each batch has of its own: those computed from an input.
    own: HashSet<TensorId>,
    inputs: Vec<TensorId>,
    input_shapes: Vec<Vec<usize>>,
    /// The tensors of the parameters, as they were captured.
    parameters: Vec<TensorIr>,
    batches: usize,
    /// Operations that have run, on all batches.
    done: usize,
}

impl fmt::Debug for StepReplay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (operations, batches, done) = (self.operations.len(), self.batches, self.done);
        let mut shown = f.debug_struct("StepReplay");
        shown.field("operations", &operations).field("batches", &batches).field("done", &done).finish_non_exhaustive()
    }
}

impl StepReplay {
    /// Loads the network's parameters and constants on the device.
    ///
    /// # Errors
    /// [`GraphError::UnsupportedDevice`] where this build has no interpreter for the device, [`GraphError::Replay`] where the device
    /// does not take a value.
    pub fn new(network: &Network, device: &Device) -> Result<Self, GraphError> {
        let execute = loaded(&network.graph, device)?;
        let known: HashMap<TensorId, &TensorIr> = network
            .graph
            .operations
            .iter()
            .flat_map(|operation| operation.inputs().map(|input| (input.id, input)))
            .collect();
        let parameters = network.parameters().iter().map(|parameter| {
            let unread =
                || TensorIr::uninit(parameter.tensor, parameter.shape.clone().into(), burn::tensor::DType::F32);
            known.get(&parameter.tensor).map_or_else(unread, |&read| read.clone())
        });
        Ok(Self {
            execute,
            operations: network.graph.operations.clone(),
            own: network.following_inputs().clone(),
            inputs: network.graph.inputs.clone(),
            input_shapes: network.input_shapes.clone(),
            parameters: parameters.collect(),
            batches: 0,
            done: 0,
        })
    }

    /// Number of batches.
    pub fn batches(&self) -> usize {
        self.batches
    }

    /// Adds a batch of the captured shape, and runs the operations before `until` on it. All batches take the same `until`, before
    /// anything else is run.
    ///
    /// # Errors
    /// [`GraphError::InputShape`]; [`GraphError::Replay`] where an operation fails on the device.
    pub fn load<I: ModuleInput>(&mut self, input: I, until: usize) -> Result<(), GraphError> {
        if input.shapes() != self.input_shapes {
            return Err(GraphError::InputShape { found: input.shapes(), expected: self.input_shapes.clone() });
        }
        let mut tensors = Dispatched(Vec::new());
        let _ = input.map_tensors(&mut tensors);
        let batch = self.batches;
        let execute = &mut self.execute;
        for (id, tensor) in self.inputs.iter().zip(tensors.0) {
            guard(Step::Input, || execute.put(of_batch(*id, batch), tensor))?;
        }
        self.batches += 1;
        let until = until.min(self.operations.len());
        self.run_fixed(self.done..until)?;
        self.done = self.done.max(until);
        self.run_own(batch, 0..until)
    }

    /// Runs all operations before `until` that have not run yet, on all batches.
    ///
    /// # Errors
    /// [`GraphError::Replay`] where an operation fails on the device.
    pub fn run_until(&mut self, until: usize) -> Result<(), GraphError> {
        let range = self.done..until.min(self.operations.len());
        self.run_fixed(range.clone())?;
        for batch in 0..self.batches {
            self.run_own(batch, range.clone())?;
        }
        self.done = self.done.max(range.end);
        Ok(())
    }

    /// Returns a tensor of a batch, `[rows, channels, positions]`. It has to be computed, and still to be read by an operation that has not
    /// run.
    ///
    /// # Errors
    /// [`GraphError::Replay`] where there is no such tensor.
    pub fn read(&mut self, batch: usize, tensor: &StepTensor) -> Result<Tensor<3>, GraphError> {
        let mut at = tensor.tensor.clone();
        at.status = TensorStatus::ReadOnly;
        if self.own.contains(&at.id) {
            at.id = of_batch(at.id, batch);
        }
        let (execute, shape) = (&mut self.execute, &tensor.shape);
        guard(Step::Output, || execute.get(&at, None, shape)).map(Tensor::from_dispatch)
    }

    /// Replaces the value of a parameter, given by its index in [`Network::parameters`], for all operations that have not run. What was
    /// computed from parameters alone is computed again.
    ///
    /// # Errors
    /// [`GraphError::Replay`] where the device does not take the value, or its shape is another one.
    pub fn set(&mut self, parameter: usize, data: TensorData) -> Result<(), GraphError> {
        let Some(known) = self.parameters.get(parameter) else { return Ok(()) };
        let (id, data) = (known.id, data.convert_dtype(known.dtype));
        let fits = data.shape() == &known.shape;
        let execute = &mut self.execute;
        guard(Step::Values, || {
            if !fits {
                return Err("the value of a parameter has another shape".to_string());
            }
            execute.load(id, data);
            Ok(())
        })?;
        let mut changed = HashSet::from([id]);
        for index in 0..self.done {
            let operation = &self.operations[index];
            if self.is_fixed(operation) && operation.inputs().any(|input| changed.contains(&input.id)) {
                changed.extend(operation.outputs().map(|output| output.id));
                self.run(index, None)?;
            }
        }
        Ok(())
    }

    fn is_fixed(&self, operation: &OperationIr) -> bool {
        !operation.inputs().any(|input| self.own.contains(&input.id))
    }

    /// Runs what is computed from parameters and constants alone.
    fn run_fixed(&mut self, range: std::ops::Range<usize>) -> Result<(), GraphError> {
        for index in range {
            if self.is_fixed(&self.operations[index]) {
                self.run(index, None)?;
            }
        }
        Ok(())
    }

    /// Runs what is computed from the input of a batch.
    fn run_own(&mut self, batch: usize, range: std::ops::Range<usize>) -> Result<(), GraphError> {
        for index in range {
            if !self.is_fixed(&self.operations[index]) {
                self.run(index, Some(batch))?;
            }
        }
        Ok(())
    }

    fn run(&mut self, index: usize, batch: Option<usize>) -> Result<(), GraphError> {
        let operation = &self.operations[index];
        let mut placed = operation.clone();
        placed.visit_mut(&mut Place { own: &self.own, batch });
        let execute = &mut self.execute;
        guard(Step::Operation(index, operation), || {
            execute.run(placed);
            Ok(())
        })
    }
}

/// The id of a batch's own tensor.
fn of_batch(id: TensorId, batch: usize) -> TensorId {
    TensorId::new(id.value() + ((batch as u64 + 1) << ID_BITS))
}

/// Gives an operation the tensors of a batch, and keeps what batches share.
struct Place<'a> {
    own: &'a HashSet<TensorId>,
    batch: Option<usize>,
}

impl IrVisitorMut for Place<'_> {
    fn visit_tensor_mut(&mut self, tensor: &mut TensorIr) {
        match self.batch.filter(|_| self.own.contains(&tensor.id)) {
            Some(batch) => tensor.id = of_batch(tensor.id, batch),
            None if tensor.status == TensorStatus::ReadWrite => tensor.status = TensorStatus::ReadOnly,
            None => {}
        }
    }
}

impl Network {
    /// Bytes of one batch that are in memory while a [`StepReplay`] stands between two operations, from the operation `from` on at
    /// the most.
    pub fn standing_bytes(&self, from: usize) -> u64 {
        let operations = &self.graph.operations;
        // Bytes that come and go before each operation.
        let mut change: BTreeMap<usize, i128> = BTreeMap::new();
        let mut seen = HashSet::new();
        let made = operations.iter().enumerate().flat_map(|(at, op)| op.outputs().map(move |out| (at + 1, out)));
        let given = operations.iter().flat_map(|op| op.inputs()).filter(|input| self.graph.inputs.contains(&input.id));
        for (start, tensor) in given.map(|input| (0, input)).chain(made) {
            if !self.following_inputs().contains(&tensor.id) || !seen.insert(tensor.id) {
                continue;
            }
            let bytes = tensor.shape.iter().product::<usize>() as i128 * tensor.dtype.size() as i128;
            let end = self.graph.consumers(tensor.id).last().map_or(operations.len(), |&last| last + 1);
            *change.entry(start).or_default() += bytes;
            *change.entry(end.max(start)).or_default() -= bytes;
        }
        let (mut now, mut most, mut before) = (0, 0, 0);
        for (at, bytes) in change {
            now += bytes;
            if at <= from {
                before = now;
            } else {
                most = most.max(now);
            }
        }
        most.max(before).try_into().unwrap_or(0)
    }
}
