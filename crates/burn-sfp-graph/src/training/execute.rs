//! Runs nodes one after another: operations with gradients on Burn's backends, everything else on the interpreter of the device.

use std::collections::{HashMap, HashSet};

use burn::backend::ir::{IrVisitorMut, ModuleOperationIr, OperationIr, TensorId, TensorIr, TensorStatus};
use burn::backend::ops::{ActivationOps, BoolTensorOps, FloatTensorOps, IntTensorOps, ModuleOps};
use burn::backend::{
    AutodiffBackend, Dispatch, DispatchAutodiffContext, DispatchDevice, DispatchTensor, DispatchTensorKind,
};
use burn::tensor::{Device, Shape, Tensor, TensorData};
use burn_sfp_nn::training::batch_norm;

use super::differentiable;
use super::modules;
use super::node::{Node, Norm, Work};
use crate::GraphError;
use crate::graph::Graph;
use crate::op::description::dims;
use crate::op::name::name;
use crate::replay::{Execute, Step, guard, interpreter};

/// Tensors by their ids.
pub(super) type Values = HashMap<TensorId, DispatchTensor>;

/// Runs nodes on a device.
pub(super) struct Engine {
    device: DispatchDevice,
    plain: Box<dyn Execute>,
}

impl Engine {
    pub fn new(device: &Device) -> Result<Self, GraphError> {
        let device = device.clone().without_autodiff();
        Ok(Self { plain: interpreter(&device)?, device: device.as_dispatch().clone() })
    }

    /// Puts values on the device.
    pub fn load(&self, data: TensorData) -> Result<DispatchTensor, GraphError> {
        let device = &self.device;
        guard(Step::Values, || match data.dtype() {
            dtype if dtype.is_float() => Ok(Dispatch::float_from_data(data, device)),
            dtype if dtype.is_int() || dtype.is_uint() => Ok(Dispatch::int_from_data(data, device)),
            dtype if dtype.is_bool() => Ok(Dispatch::bool_from_data(data, device)),
            dtype => Err(format!("a constant of type {dtype:?} is neither a float, an integer nor a boolean tensor")),
        })
    }

    /// Runs nodes. Tensors that no later one of them reads are dropped, unless they are to be kept.
    pub fn run<'a>(
        &mut self,
        graph: &Graph,
        nodes: impl DoubleEndedIterator<Item = &'a Node>,
        values: &mut Values,
        keep: &HashSet<TensorId>,
    ) -> Result<(), GraphError> {
        let mut ahead: Vec<(&Node, Vec<TensorId>)> = Vec::new();
        let mut seen = keep.clone();
        for node in nodes.rev() {
            let read = node.inputs().iter().chain(node.outputs());
            let last = read.map(|tensor| tensor.id).filter(|id| seen.insert(*id)).collect();
            ahead.push((node, last));
        }
        for (node, last) in ahead.into_iter().rev() {
            let op = &graph.operations[node.operation];
            let made = guard(Step::Operation(node.operation, op), || self.node(op, node, values))?;
            let Some(made) = made else {
                let (operation, name) = (node.operation, name(op));
                return Err(GraphError::NotTrainable { operation, name, after: graph.layer_before(operation) });
            };
            values.extend(made);
            for id in last {
                values.remove(&id);
            }
        }
        Ok(())
    }

    /// Runs a node and returns what it makes, `None` where it has no gradient here.
    fn node(&mut self, op: &OperationIr, node: &Node, values: &Values) -> Result<Option<Made>, String> {
        match &node.work {
            Work::Sparse(of) => {
                let (x, rows) = (get(values, &of.x)?, get(values, &of.values)?);
                let made = of.call.run(Tensor::from_dispatch(x), Tensor::from_dispatch(rows));
                Ok(Some(vec![(of.out.id, made.into_dispatch())]))
            }
            Work::Norm(norm) => {
                let made = normalized(norm, [&norm.x, &norm.gamma, &norm.beta].map(|tensor| get(values, tensor)))?;
                Ok(Some([&norm.out, &norm.mean, &norm.variance].map(|out| out.id).into_iter().zip(made).collect()))
            }
            Work::Recorded => {
                let is_lifted = |tensor: &TensorIr| values.get(&tensor.id).is_some_and(has_gradient);
                let floats = op.outputs().any(|out| out.dtype.is_float());
                if !(floats && op.inputs().any(is_lifted)) {
                    if let OperationIr::Module(ModuleOperationIr::Conv2d(op)) = op
                        && let Some(made) = modules::by_packed_kernels(op, values)?
                    {
                        return Ok(Some(vec![(op.out.id, made)]));
                    }
                    return self.recorded(op, values).map(Some);
                }
                let made = match op {
                    OperationIr::Module(op) => modules::module(op, values)?,
                    OperationIr::Activation(op) => modules::activation(op, values)?,
                    _ => differentiable::run(op, values)?,
                };
                Ok(made.map(|made| vec![made]))
            }
        }
    }

    /// Runs an operation without gradients.
    fn recorded(&mut self, op: &OperationIr, values: &Values) -> Result<Made, String> {
        let mut op = op.clone();
        op.visit_mut(&mut Keep);
        let mut put = HashSet::new();
        for input in op.inputs().filter(|input| put.insert(input.id)) {
            self.plain.put(input.id, without_gradient(get(values, input)?))?;
        }
        let inputs: Vec<TensorIr> = op.inputs().cloned().collect();
        let outputs: Vec<TensorIr> = op.outputs().cloned().collect();
        self.plain.run(op);
        for input in inputs.into_iter().filter(|input| put.remove(&input.id)) {
            self.plain.run(OperationIr::Drop(input));
        }
        let taken = outputs.into_iter().map(|mut out| {
            out.status = TensorStatus::ReadWrite;
            Ok((out.id, self.plain.take(&out)?))
        });
        taken.collect()
    }
}

/// Normalises by the statistics of the batch: the result, mean and variance.
fn normalized(
    norm: &Norm,
    [x, gamma, beta]: [Result<DispatchTensor, String>; 3],
) -> Result<[DispatchTensor; 3], String> {
    let (x, gamma, beta) = (x?, gamma?, beta?);
    let shape = dims(&norm.out);
    let flat = Shape::from(vec![shape[0], shape[1], shape[2..].iter().product()]);
    let by_channel = Tensor::from_dispatch(Dispatch::float_reshape(x.clone(), flat));
    let [of_gamma, of_beta] = [&gamma, &beta].map(|tensor| Tensor::from_dispatch(tensor.clone()));
    if let Some(made) = batch_norm(&by_channel, &of_gamma, &of_beta, norm.epsilon, norm.relu) {
        let output = Dispatch::float_reshape(made.output.into_dispatch(), norm.out.shape.clone());
        return Ok([output, made.mean.into_dispatch(), made.variance.into_dispatch()]);
    }
    let made = Dispatch::batch_norm_train(x, gamma, beta, norm.epsilon);
    let output = if norm.relu { Dispatch::relu(made.output) } else { made.output };
    Ok([output, made.mean, made.variance])
}

/// What an operation makes.
pub(super) type Made = Vec<(TensorId, DispatchTensor)>;

/// The value of a tensor.
pub(super) fn get(values: &Values, tensor: &TensorIr) -> Result<DispatchTensor, String> {
    values.get(&tensor.id).cloned().ok_or_else(|| "one of its inputs was not computed".to_string())
}

fn has_gradient(tensor: &DispatchTensor) -> bool {
    matches!(tensor.kind, DispatchTensorKind::Autodiff(_))
}

/// The tensor without autodiff.
pub(super) fn without_gradient(tensor: DispatchTensor) -> DispatchTensor {
    if has_gradient(&tensor) {
        return Dispatch::inner(tensor);
    }
    DispatchTensor { autodiff: DispatchAutodiffContext::Disabled, ..tensor }
}

/// Lets no operation consume its inputs.
struct Keep;

impl IrVisitorMut for Keep {
    fn visit_tensor_mut(&mut self, tensor: &mut TensorIr) {
        if tensor.status == TensorStatus::ReadWrite {
            tensor.status = TensorStatus::ReadOnly;
        }
    }
}
