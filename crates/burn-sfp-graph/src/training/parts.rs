//! [`FrozenPart`] and [`LearningPart`]: the two parts of a recorded pass, on a device.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use burn::backend::ir::{TensorId, TensorIr};
use burn::backend::ops::{BoolTensorOps, FloatTensorOps, IntTensorOps};
use burn::backend::{Dispatch, DispatchTensor, Shape};
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use burn_sfp_nn::walk::{ParamMapper, ParamPath, ParamVisitor, map_params, visit_params};

use super::cut::needed;
use super::execute::{Engine, Values, without_gradient};
use super::node::Node;
use super::outputs::{FrozenOutputs, FrozenTensor};
use super::recorded::Recorded;
use crate::op::description::dims;
use crate::replay::{Dispatched, Step, guard};
use crate::{GraphError, ModuleInput};

/// Nodes on a device, with what is computed once.
struct Part {
    recorded: Arc<Recorded>,
    engine: Engine,
    nodes: Vec<usize>,
    /// Parameters and constants that the nodes read, and what is computed from them alone.
    constants: Values,
}

impl Part {
    /// Loads what the nodes read of values, except for the parameters `without`, and computes what is fixed.
    fn new(
        recorded: &Arc<Recorded>,
        nodes: &[usize],
        without: &HashSet<TensorId>,
        device: &Device,
    ) -> Result<Self, GraphError> {
        let mut engine = Engine::new(device)?;
        let read: Vec<TensorId> = recorded.read_by(nodes).collect();
        let fixed: HashSet<usize> = recorded.cut.fixed.iter().copied().collect();
        let own: HashSet<usize> = nodes.iter().copied().collect();
        let before: Vec<usize> = needed(&recorded.nodes, &read).into_iter().filter(|at| fixed.contains(at)).collect();
        let mut constants = Values::new();
        for id in recorded.read_by(&before).chain(read.iter().copied()) {
            let of_module = without.contains(&id) && !recorded.read_by(&before).any(|fixed| fixed == id);
            if let (false, false, Some(value)) =
                (of_module, constants.contains_key(&id), recorded.graph.values.get(&id))
            {
                constants.insert(id, engine.load(value.clone())?);
            }
        }
        let keep: HashSet<TensorId> = read.into_iter().collect();
        let computed = before.iter().filter(|at| !own.contains(at)).map(|&at| &recorded.nodes[at]);
        engine.run(&recorded.graph, computed, &mut constants, &keep)?;
        constants.retain(|id, _| keep.contains(id) && !without.contains(id));
        Ok(Self { recorded: recorded.clone(), engine, nodes: nodes.to_vec(), constants })
    }

    /// Runs the nodes on some values, and returns those that are wanted.
    fn run(&mut self, given: Values, wanted: &[TensorId]) -> Result<Values, GraphError> {
        let mut values = self.constants.clone();
        values.extend(given);
        let keep = wanted.iter().copied().collect();
        let recorded = self.recorded.clone();
        let nodes: Vec<&Node> = self.nodes.iter().map(|&at| &recorded.nodes[at]).collect();
        self.engine.run(&recorded.graph, nodes.into_iter(), &mut values, &keep)?;
        values.retain(|id, _| keep.contains(id));
        Ok(values)
    }
}

/// The part of a pass that depends on nothing that learns, on a device. See [`TrainingGraph`](super::TrainingGraph).
pub struct FrozenPart(Part);

impl fmt::Debug for FrozenPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrozenPart").field("operations", &self.0.nodes.len()).finish_non_exhaustive()
    }
}

impl FrozenPart {
    pub(super) fn new(recorded: &Arc<Recorded>, device: &Device) -> Result<Self, GraphError> {
        Part::new(recorded, &recorded.cut.frozen, &HashSet::new(), device).map(Self)
    }

    /// Runs a batch of the recorded size, and returns what the part that learns reads.
    ///
    /// # Errors
    /// [`GraphError::InputShape`] where the batch has other shapes, [`GraphError::Replay`] where an operation fails on the device.
    pub fn run<I: ModuleInput>(&mut self, input: I) -> Result<FrozenOutputs, GraphError> {
        let recorded = self.0.recorded.clone();
        if input.shapes() != recorded.input_shapes {
            return Err(GraphError::InputShape { found: input.shapes(), expected: recorded.input_shapes.clone() });
        }
        let mut tensors = Dispatched(Vec::new());
        let _ = input.map_tensors(&mut tensors);
        let given = recorded.graph.inputs.iter().copied().zip(tensors.0).collect();
        let between: Vec<TensorId> = recorded.cut.between.iter().map(|tensor| tensor.id).collect();
        let mut values = self.0.run(given, &between)?;
        let flat = recorded.cut.between.iter().map(|tensor| {
            let value = values.remove(&tensor.id);
            guard(Step::Output, || flat(value.ok_or("it was not computed")?, tensor))
        });
        flat.collect::<Result<_, _>>().map(FrozenOutputs)
    }
}

/// A tensor as `[samples, elements]`.
fn flat(value: DispatchTensor, tensor: &TensorIr) -> Result<FrozenTensor, String> {
    let shape = dims(tensor);
    let shape = Shape::from(vec![shape[0], shape[1..].iter().product()]);
    let value = without_gradient(value);
    match tensor.dtype {
        dtype if dtype.is_float() => {
            Ok(FrozenTensor::Float(Tensor::from_dispatch(Dispatch::float_reshape(value, shape))))
        }
        dtype if dtype.is_int() || dtype.is_uint() => {
            Ok(FrozenTensor::Int(Tensor::from_dispatch(Dispatch::int_reshape(value, shape))))
        }
        dtype if dtype.is_bool() => Ok(FrozenTensor::Bool(Tensor::from_dispatch(Dispatch::bool_reshape(value, shape)))),
        dtype => Err(format!("a tensor of type {dtype:?} cannot be handed over")),
    }
}

/// The part of a pass that learns, on a device. See [`TrainingGraph`](super::TrainingGraph).
pub struct LearningPart {
    part: Part,
    /// The parameters that it reads, by path.
    parameters: HashMap<String, TensorId>,
}

impl fmt::Debug for LearningPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LearningPart").field("operations", &self.part.nodes.len()).finish_non_exhaustive()
    }
}

impl LearningPart {
    pub(super) fn new(recorded: &Arc<Recorded>, device: &Device) -> Result<Self, GraphError> {
        let nodes = &recorded.cut.learning;
        let read: HashSet<TensorId> = recorded.read_by(nodes).collect();
        let parameters: HashMap<String, TensorId> = (recorded.graph.parameters.iter())
            .filter(|parameter| read.contains(&parameter.tensor))
            .map(|parameter| (parameter.path.clone(), parameter.tensor))
            .collect();
        let without = parameters.values().copied().collect();
        Ok(Self { part: Part::new(recorded, nodes, &without, device)?, parameters })
    }

    /// Runs on what the frozen part handed over, with the parameters of a module, and returns the logits, with gradients where the
    /// module's parameters have some. The module receives the new running statistics of its batch normalisations.
    ///
    /// # Errors
    /// [`GraphError::NotTrainable`] where an operation has no gradient here, [`GraphError::Replay`] where one fails on the device.
    pub fn run<M: Module>(&mut self, model: &M, stored: FrozenOutputs) -> Result<Tensor<2>, GraphError> {
        let recorded = self.part.recorded.clone();
        let mut read = Read { paths: &self.parameters, values: Values::new() };
        visit_params(model, &mut read);
        let mut given = read.values;
        for (tensor, value) in recorded.cut.between.iter().zip(stored.0) {
            given.insert(tensor.id, guard(Step::Input, || Ok(whole(value, tensor)))?);
        }
        let mut wanted = vec![recorded.logits];
        wanted.extend(recorded.statistics.iter().map(|(_, after)| *after));
        let mut values = self.part.run(given, &wanted)?;
        let Some(logits) = values.remove(&recorded.logits) else {
            return Err(GraphError::Capture("the logits depend on nothing that learns".into()));
        };
        let after = recorded.statistics.iter().filter_map(|(path, after)| Some((path.as_str(), values.remove(after)?)));
        // Copies share running statistics, and mappers write through.
        let _ = map_params(model.clone(), &mut Put(after.collect()));
        guard(Step::Output, || Ok(Tensor::from_dispatch(logits)))
    }
}

/// A tensor in its own shape again.
fn whole(value: FrozenTensor, tensor: &TensorIr) -> DispatchTensor {
    let shape = tensor.shape.clone();
    match value {
        FrozenTensor::Float(value) => Dispatch::float_reshape(value.into_dispatch(), shape),
        FrozenTensor::Int(value) => Dispatch::int_reshape(value.into_dispatch(), shape),
        FrozenTensor::Bool(value) => Dispatch::bool_reshape(value.into_dispatch(), shape),
    }
}

/// Reads parameters by path.
struct Read<'a> {
    paths: &'a HashMap<String, TensorId>,
    values: Values,
}

impl ParamVisitor for Read<'_> {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
        if let Some(&id) = self.paths.get(&path.join()) {
            self.values.insert(id, param.base().into_dispatch());
        }
    }
}

/// Puts running statistics into a module.
struct Put<'a>(HashMap<&'a str, DispatchTensor>);

impl ParamMapper for Put<'_> {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.0.remove(path.join().as_str()) {
            Some(value) => param.map(|before| {
                let value = Tensor::from_dispatch(without_gradient(value));
                if before.is_autodiff() { value.autodiff() } else { value }
            }),
            None => param,
        }
    }
}
