//! Runs the captured operations on a device, batch after batch, and hands out the taps.
//!
//! Who runs the operations is hidden behind [`Execute`]: today Burn's own interpreter on flex, ndarray and the
//! CubeCL runtimes; a remote device would be one more implementation.

// burn-ndarray is deprecated in 0.22 and supported here as long as it exists.
#![allow(deprecated)]

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::backend::ir::{BackendIr, HandleKind, IrVisitorMut, OperationIr, TensorId, TensorIr, TensorStatus};
use burn::backend::{BackendTensor, DispatchDevice, DispatchKindConversion, Shape};
use burn::tensor::{Bool, Device, DispatchTensor, Int, Tensor, TensorData};
use burn_router::TensorInterpreter;

use super::{Network, Tap, op};
use crate::error::panic_message;
use crate::{InputMapper, ModuleInput, SfpError};

/// What a replay needs of whoever runs the operations.
trait Execute {
    fn load(&mut self, id: TensorId, data: TensorData);
    fn put(&mut self, id: TensorId, tensor: DispatchTensor) -> Result<(), String>;
    fn run(&mut self, op: OperationIr);
    /// A float tensor, its axes permuted and then reshaped.
    fn get(&mut self, tensor: &TensorIr, permute: Option<&[usize]>, shape: &[usize]) -> Result<DispatchTensor, String>;
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
}

fn interpreter(device: &Device) -> Result<Box<dyn Execute>, SfpError> {
    match device.as_dispatch() {
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(device) => Ok(Box::new(TensorInterpreter::<burn_flex::Flex>::new(*device))),
        #[cfg(feature = "ndarray")]
        DispatchDevice::NdArray(device) => Ok(Box::new(TensorInterpreter::<burn_ndarray::NdArray>::new(*device))),
        #[cfg(feature = "wgpu")]
        DispatchDevice::Cube(device) => Ok(Box::new(TensorInterpreter::<burn::backend::Cube>::new(device.clone()))),
        other => Err(SfpError::UnsupportedDevice { device: format!("{other:?}") }),
    }
}

/// A captured network, loaded on a device.
pub struct Replay {
    execute: Box<dyn Execute>,
    operations: Vec<OperationIr>,
    inputs: Vec<TensorId>,
    input_shapes: Vec<Vec<usize>>,
    output: TensorIr,
    /// For each operation the tensors among the tapped ones that it makes.
    taps: HashMap<TensorId, usize>,
    tap_list: Vec<TensorIr>,
    views: Vec<(Option<Vec<usize>>, [usize; 3])>,
}

impl Replay {
    /// Loads the network's parameters and constants on the device; `taps` will be handed out during each run.
    ///
    /// # Errors
    /// [`SfpError::UnsupportedDevice`] where this build has no interpreter for the device.
    pub fn new(network: &Network, device: &Device, taps: &[&Tap]) -> Result<Self, SfpError> {
        let mut execute = interpreter(&device.clone().without_autodiff())?;
        for (id, data) in &network.values {
            execute.load(*id, data.clone());
        }
        let mut keep = KeepValues(network);
        let mut operations = network.operations.clone();
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
        let first = network.outputs.first().and_then(|output| read(output, TensorStatus::ReadOnly));
        let Some(output) = first else {
            return Err(SfpError::Capture("the output is not computed from the input".into()));
        };
        let mut tap_list = Vec::new();
        let mut views = Vec::new();
        let mut index = HashMap::new();
        for (k, tap) in taps.iter().enumerate() {
            let Some(tensor) = read(&tap.tensor, TensorStatus::ReadOnly) else {
                return Err(SfpError::Capture("a tapped tensor is not computed from the input".into()));
            };
            index.insert(tap.tensor, k);
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
            inputs: network.inputs.clone(),
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
    /// [`SfpError::Replay`] where an operation fails on the device, and whatever `tapped` returns.
    pub fn run<I: ModuleInput>(
        &mut self,
        input: I,
        mut tapped: impl FnMut(usize, Tensor<3>) -> Result<(), SfpError>,
    ) -> Result<Tensor<2>, SfpError> {
        if input.shapes() != self.input_shapes {
            return Err(SfpError::BatchShape {
                batch: 0,
                found: input.shapes().into_iter().flatten().collect(),
                expected: self.input_shapes.iter().flatten().copied().collect(),
            });
        }
        let mut tensors = Dispatched(Vec::new());
        let _ = input.map_tensors(&mut tensors);
        let execute = &mut self.execute;
        for (id, tensor) in self.inputs.iter().zip(tensors.0) {
            guard(0, || "input".into(), || execute.put(*id, tensor))?;
        }
        self.step_through(&mut tapped)?;
        let shape: Vec<usize> = self.output.shape.iter().copied().collect();
        let (count, execute, output) = (self.operations.len(), &mut self.execute, &self.output);
        let logits = guard(count, || "output".into(), || execute.get(output, None, &shape))?;
        Ok(Tensor::from_dispatch(logits))
    }

    /// Runs on an input of zeros, for what does not depend on the input.
    pub(crate) fn run_zeros(
        &mut self,
        network: &Network,
        mut tapped: impl FnMut(usize, Tensor<3>) -> Result<(), SfpError>,
    ) -> Result<(), SfpError> {
        for &input in &self.inputs {
            let read = network.operations.iter().flat_map(|op| op.inputs()).find(|tensor| tensor.id == input);
            let Some(read) = read else { continue };
            let shape: Vec<usize> = read.shape.iter().copied().collect();
            let zeros = TensorData::zeros::<f32, _>(shape).convert_dtype(read.dtype);
            let execute = &mut self.execute;
            guard(
                0,
                || "input".into(),
                || {
                    execute.load(input, zeros);
                    Ok(())
                },
            )?;
        }
        self.step_through(&mut tapped)
    }

    fn step_through(
        &mut self,
        tapped: &mut dyn FnMut(usize, Tensor<3>) -> Result<(), SfpError>,
    ) -> Result<(), SfpError> {
        let execute = &mut self.execute;
        for (index, operation) in self.operations.iter().enumerate() {
            let ready = guard(
                index,
                || op::name(operation),
                || {
                    execute.run(operation.clone());
                    let mut ready: Vec<(usize, DispatchTensor)> = Vec::new();
                    for out in operation.outputs() {
                        if let Some(&k) = self.taps.get(&out.id) {
                            let (permute, shape) = &self.views[k];
                            ready.push((k, execute.get(&self.tap_list[k], permute.as_deref(), shape)?));
                        }
                    }
                    Ok(ready)
                },
            )?;
            for (k, tensor) in ready {
                tapped(k, Tensor::from_dispatch(tensor))?;
            }
        }
        Ok(())
    }
}

/// Turns what a backend says, or its panic, into a typed error.
fn guard<T>(
    operation: usize,
    name: impl Fn() -> String,
    work: impl FnOnce() -> Result<T, String>,
) -> Result<T, SfpError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(message)) => Err(SfpError::Replay { operation, name: name(), message }),
        Err(payload) => Err(SfpError::Replay { operation, name: name(), message: panic_message(payload) }),
    }
}

/// Parameters and constants outlive their last reader.
struct KeepValues<'a>(&'a Network);

impl IrVisitorMut for KeepValues<'_> {
    fn visit_tensor_mut(&mut self, tensor: &mut TensorIr) {
        let kept = self.0.values.contains_key(&tensor.id) || self.0.outputs.contains(&tensor.id);
        if kept && tensor.status == TensorStatus::ReadWrite {
            tensor.status = TensorStatus::ReadOnly;
        }
    }
}

struct Dispatched(Vec<DispatchTensor>);

impl InputMapper for Dispatched {
    fn float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
        self.0.push(tensor.clone().without_autodiff().into_dispatch());
        tensor
    }
    fn int<const D: usize>(&mut self, tensor: Tensor<D, Int>) -> Tensor<D, Int> {
        self.0.push(tensor.clone().without_autodiff().into_dispatch());
        tensor
    }
    fn bool<const D: usize>(&mut self, tensor: Tensor<D, Bool>) -> Tensor<D, Bool> {
        self.0.push(tensor.clone().without_autodiff().into_dispatch());
        tensor
    }
}
