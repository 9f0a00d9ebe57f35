//! Records one forward pass of a module, without running it, and joins operations and parameters by module path.

use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::backend::ir::{OperationIr, TensorId};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};
use burn_capture::CaptureBackend;
use burn_sfp_nn::sparse::skipped_macs;
use burn_sfp_nn::tensor::shared_data;
use burn_sfp_nn::walk::{ParamPath, ParamVisitor, visit_params};
use burn_sfp_nn::{NnLayer, recognize};

use crate::error::panic_message;
use crate::graph::{Graph, Parameter};
use crate::input::map_every_kind;
use crate::network::Network;
use crate::{GraphError, GraphModule, ModuleInput};

impl Network {
    /// Captures `model.run(input)`. The input's values are not used, only its shapes.
    ///
    /// # Errors
    /// [`GraphError::Forward`] where the forward pass panics on this input, [`GraphError::NoLayers`] where no parameterised
    /// layer is used.
    pub fn capture<M: GraphModule>(model: &M, input: &M::Inputs) -> Result<Self, GraphError> {
        Self::capture_with(model, input, M::run)
    }

    /// [`capture`](Network::capture) of another forward pass of the same module, for example the logits alone.
    ///
    /// # Errors
    /// As [`capture`](Network::capture).
    pub fn capture_with<M: Module, I: ModuleInput, O: ModuleInput>(
        model: &M,
        input: &I,
        forward: impl Fn(&M, I) -> O,
    ) -> Result<Self, GraphError> {
        let network = Self::record(model, input, forward)?;
        if network.layers.is_empty() {
            return Err(GraphError::NoLayers);
        }
        Ok(network)
    }

    /// [`capture_with`](Network::capture_with) of a module that may have no layer.
    pub(crate) fn record<M: Module, I: ModuleInput, O: ModuleInput>(
        model: &M,
        input: &I,
        forward: impl Fn(&M, I) -> O,
    ) -> Result<Self, GraphError> {
        let shapes = input.shapes();
        let mut pass = Pass::default();
        let recorded = catch_unwind(AssertUnwindSafe(|| pass.run(model, input, forward)));
        let failed =
            |after, message| GraphError::Forward { shape: shapes.first().cloned().unwrap_or_default(), after, message };
        if let Some(message) = pass.panicked {
            let operations = recorded.ok().and_then(Result::ok).map(|recorded| recorded.operations).unwrap_or_default();
            return Err(failed(last_layer(&pass.parameters, &operations), message));
        }
        let recorded =
            recorded.map_err(|payload| failed(None, panic_message(payload)))?.map_err(GraphError::Capture)?;
        let Some(output_shapes) = pass.output_shapes else {
            return Err(GraphError::Capture("the forward pass returned nothing".into()));
        };
        if recorded.outputs.is_empty() {
            return Err(GraphError::Capture("the forward pass returns no tensor".into()));
        }
        let Recorded { operations, mut values, inputs, outputs } = recorded;
        let mut parameters = pass.parameters;
        parameters.retain(|parameter| values.contains_key(&parameter.tensor));
        for input in &inputs {
            values.remove(input);
        }
        let runs = |op: &OperationIr| !matches!(op, OperationIr::Init(_) | OperationIr::Drop(_));
        let operations = operations.into_iter().filter(runs).collect();
        let graph =
            Graph { operations, values, inputs, outputs, parameters, batch: input.samples(), ..Graph::default() };
        let device = model.devices().into_iter().next().unwrap_or_default().without_autodiff();
        Ok(Self::assemble(graph.connected(), shapes, output_shapes, pass.skipped, device))
    }
}

/// What Burn recorded.
struct Recorded {
    operations: Vec<OperationIr>,
    values: BTreeMap<TensorId, TensorData>,
    inputs: Vec<TensorId>,
    outputs: Vec<TensorId>,
}

/// What is seen of a forward pass while Burn records it.
#[derive(Default)]
struct Pass {
    parameters: Vec<Parameter>,
    output_shapes: Option<Vec<Vec<usize>>>,
    /// Multiply-adds that sparse layers leave out.
    skipped: u64,
    /// The panic's message, where the forward pass panics half-way.
    panicked: Option<String>,
}

impl Pass {
    /// Records the forward pass on the capture device. The error is what Burn refused it with.
    fn run<M: Module, I: ModuleInput, O: ModuleInput>(
        &mut self,
        model: &M,
        input: &I,
        forward: impl Fn(&M, I) -> O,
    ) -> Result<Recorded, String> {
        // `valid` copies running statistics; a plain clone would share them and move the original's.
        let copy = model.valid();
        copy.visit(&mut Initialize);
        let device = capture_device();
        let captured = device.capture_scope(|scope| {
            let copy = copy.map(&mut Hand(&device)).to_device(&device);
            let input = input.clone().to_device(&device);
            let mut ids = InputIds::default();
            let input = input.map_tensors(&mut ids);
            let mut names = Names { layers: recognize(&copy), parameters: Vec::new() };
            visit_params(&copy, &mut names);
            self.parameters = names.parameters;
            match catch_unwind(AssertUnwindSafe(|| skipped_macs(|| forward(&copy, input)))) {
                Ok((outputs, macs)) => {
                    self.skipped = macs;
                    self.output_shapes = Some(outputs.shapes());
                    let mut made = InputIds::default();
                    let _outputs = outputs.map_tensors(&mut made);
                    // The tensors still alive belong to the scope: nothing may run on them once it is closed.
                    scope.complete(ids.0, once(made.0))
                }
                Err(payload) => {
                    self.panicked = Some(panic_message(payload));
                    scope.complete(ids.0, [])
                }
            }
        });
        let captured = captured.map_err(|error| error.to_string())?;
        let graph = captured.graph;
        Ok(Recorded {
            operations: graph.operations,
            values: captured.values,
            inputs: graph.inputs,
            outputs: graph.outputs,
        })
    }
}

/// Path of the layer (or bare parameter) that the last operation to read a parameter belongs to.
fn last_layer(parameters: &[Parameter], operations: &[OperationIr]) -> Option<String> {
    let read = |op: &OperationIr| op.inputs().find_map(|input| parameters.iter().find(|p| p.tensor == input.id));
    let path = &operations.iter().rev().filter(|op| !matches!(op, OperationIr::Drop(_))).find_map(read)?.path;
    Some(path.rsplit_once('.').map_or(path.as_str(), |(layer, _)| layer).to_string())
}

/// The device of this thread that records. Burn numbers capture devices with 16 bits and never gives a number back; one can
/// record again and again, but only one graph at a time.
fn capture_device() -> Device {
    thread_local! {
        static DEVICE: Device = Device::capture();
    }
    DEVICE.with(Clone::clone)
}

/// The ids without repetitions: a module may return the same tensor twice, a graph may not.
fn once(ids: Vec<TensorId>) -> Vec<TensorId> {
    let mut seen = HashSet::new();
    ids.into_iter().filter(|id| seen.insert(*id)).collect()
}

fn id_of<const D: usize>(tensor: &Tensor<D>) -> Option<TensorId> {
    tensor.clone().try_into_primitive::<CaptureBackend>().ok().map(|primitive| primitive.id())
}

/// Initialises lazy parameters where they are: on the capture device they would become random operations.
struct Initialize;

impl ModuleVisitor for Initialize {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let _ = param.val();
    }
    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        let _ = param.val();
    }
    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        let _ = param.val();
    }
}

/// Hands float parameters to the capture device without copying what lies in host memory; the rest follows by itself.
struct Hand<'a>(&'a Device);

impl ModuleMapper for Hand<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| match tensor.dtype() {
            DType::QFloat(_) => tensor,
            dtype => Tensor::from_data(shared_data(tensor), (self.0, dtype)),
        })
    }
}

#[derive(Default)]
struct InputIds(Vec<TensorId>);

map_every_kind!(InputIds, self, tensor, {
    self.0.extend(tensor.clone().try_into_primitive::<CaptureBackend>().ok().map(|primitive| primitive.id()));
    tensor
});

/// Collects the parameters; `layers` are those of burn-sfp's types, by path.
struct Names {
    layers: BTreeMap<String, NnLayer>,
    parameters: Vec<Parameter>,
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::Module;
    use burn::nn::{Linear, LinearConfig};

    #[derive(Module, Debug)]
    struct Twice {
        layer: Linear,
    }

    impl GraphModule for Twice {
        type Inputs = Tensor<2>;
        type Outputs = (Tensor<2>, Tensor<2>);
        fn run(&self, x: Tensor<2>) -> Self::Outputs {
            let x = self.layer.forward(x);
            (x.clone(), x)
        }
    }

    #[test]
    fn a_tensor_may_be_returned_twice() {
        let device = Device::flex();
        let model = Twice { layer: LinearConfig::new(3, 2).init(&device) };
        let network = Network::capture(&model, &Tensor::zeros([1, 3], &device)).unwrap();
        assert_eq!((network.graph.outputs.len(), network.output_shapes.len()), (1, 2));
    }
}
