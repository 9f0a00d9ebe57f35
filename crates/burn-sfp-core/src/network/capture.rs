//! Records one forward pass of a module, without running it, and joins operations and parameters by module path.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::backend::ir::{OperationIr, TensorId};
use burn::module::{ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};
use burn_capture::CaptureBackend;

use super::index::Index;
use super::{Flow, Heads, Layer, layer};
use crate::error::panic_message;
use crate::sparse::tally;
use crate::{GraphModule, InputMapper, ModuleInput, SfpError, backend};

/// A parameter (or running statistic) of the module, as the capture saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Path inside the module, for example `convs.3.weight`.
    pub path: String,
    /// Type of the struct that holds it, for example `Conv2d`.
    pub container: String,
    /// Types of the structs around it, the outermost first.
    pub holders: Vec<String>,
    /// Its shape.
    pub shape: Vec<usize>,
    pub(crate) tensor: TensorId,
}

/// A module's forward pass as plain data.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_core::{SfpModule, network::Network};
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl SfpModule for Mlp {
/// #     type Input = Tensor<2>;
/// #     fn logits(&self, x: Tensor<2>) -> Tensor<2> {
/// #         self.b.forward(burn::tensor::activation::relu(self.a.forward(x)))
/// #     }
/// # }
/// let device = Device::flex();
/// let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 3).init(&device) };
/// let network = Network::capture(&mlp, &Tensor::zeros([2, 4], &device))?;
/// let layers = network.layers();
/// assert_eq!((layers[0].path.as_str(), layers[0].filters, layers[0].macs), ("a", 8, 32));
/// assert_eq!(network.consumers(&layers[0])[0].path, "b");
/// # Ok::<(), burn_sfp_core::SfpError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Network {
    pub(crate) operations: Vec<OperationIr>,
    pub(crate) values: BTreeMap<TensorId, TensorData>,
    pub(crate) inputs: Vec<TensorId>,
    pub(crate) outputs: Vec<TensorId>,
    pub(crate) output_shapes: Vec<Vec<usize>>,
    pub(crate) input_shapes: Vec<Vec<usize>>,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) batch: usize,
    /// Multiply-adds of the batch that sparse layers leave out of the captured operations.
    pub(crate) skipped: u64,
    pub(crate) device: Device,
    pub(crate) layers: Vec<Layer>,
    pub(crate) heads: Vec<Heads>,
    pub(crate) flow: Flow,
    pub(crate) index: Index,
}

impl Network {
    /// Captures `model.run(input)`, of a classifier its `logits`. The input's values are not used, only its shapes.
    ///
    /// # Errors
    /// [`SfpError::Forward`] where the forward pass panics on this input, [`SfpError::NoLayers`] where no parameterised
    /// layer is used.
    pub fn capture<M: GraphModule>(model: &M, input: &M::Inputs) -> Result<Self, SfpError> {
        let network = Self::record(model, input)?;
        if network.layers.is_empty() {
            return Err(SfpError::NoLayers);
        }
        Ok(network)
    }

    /// [`capture`](Network::capture) of whatever there is.
    pub(super) fn record<M: GraphModule>(model: &M, input: &M::Inputs) -> Result<Self, SfpError> {
        let shapes = input.shapes();
        let batch = input.samples();
        let device = capture_device();
        let mut joined: Option<(Vec<Parameter>, Vec<Vec<usize>>)> = None;
        // Parameters and the panic's message, where the forward pass panics half-way.
        let mut panicked: Option<(Vec<Parameter>, String)> = None;
        let mut skipped = 0;
        let recorded = catch_unwind(AssertUnwindSafe(|| {
            // `valid` copies running statistics; a plain clone would share them and move the original's.
            let copy = model.valid();
            copy.visit(&mut Initialize);
            device.capture_scope(|scope| {
                let copy = copy.map(&mut Hand(&device)).to_device(&device);
                let input = input.clone().to_device(&device);
                let mut ids = InputIds::default();
                let input = input.map_tensors(&mut ids);
                let mut names = Names::default();
                copy.visit(&mut names);
                let outputs = match catch_unwind(AssertUnwindSafe(|| tally::skipped(|| copy.run(input)))) {
                    Ok((outputs, macs)) => {
                        skipped = macs;
                        outputs
                    }
                    Err(payload) => {
                        panicked = Some((names.parameters, panic_message(payload)));
                        return scope.complete(ids.0, []);
                    }
                };
                let shapes = outputs.shapes();
                let mut made = InputIds::default();
                let _outputs = outputs.map_tensors(&mut made);
                joined = Some((names.parameters, shapes));
                // The tensors still alive belong to the scope: nothing may run on them once it is closed.
                scope.complete(ids.0, once(made.0))
            })
        }));
        if let Some((parameters, message)) = panicked {
            let operations = recorded.ok().and_then(Result::ok).map(|graph| graph.graph.operations);
            let after = last_layer(&parameters, &operations.unwrap_or_default());
            return Err(SfpError::Forward { shape: shapes.first().cloned().unwrap_or_default(), after, message });
        }
        let graph = match recorded {
            Ok(Ok(graph)) => graph,
            Ok(Err(error)) => return Err(SfpError::Capture(error.to_string())),
            Err(payload) => {
                return Err(SfpError::Forward {
                    shape: shapes.first().cloned().unwrap_or_default(),
                    after: None,
                    message: panic_message(payload),
                });
            }
        };
        let Some((mut parameters, output_shapes)) = joined else {
            return Err(SfpError::Capture("the forward pass returned nothing".into()));
        };
        parameters.retain(|parameter| graph.values.contains_key(&parameter.tensor));
        if graph.graph.outputs.is_empty() {
            return Err(SfpError::Capture("the forward pass returns no tensor".into()));
        }
        let mut network = Network {
            operations: graph
                .graph
                .operations
                .into_iter()
                .filter(|op| !matches!(op, OperationIr::Init(_) | OperationIr::Drop(_)))
                .collect(),
            values: graph.values,
            inputs: graph.graph.inputs,
            outputs: graph.graph.outputs,
            output_shapes,
            input_shapes: shapes,
            parameters,
            batch,
            skipped,
            device: model.devices().into_iter().next().unwrap_or_default().without_autodiff(),
            layers: Vec::new(),
            heads: Vec::new(),
            flow: Flow::default(),
            index: Index::default(),
        };
        for input in &network.inputs {
            network.values.remove(input);
        }
        layer::describe(&mut network);
        Ok(network)
    }

    /// The convolutions and linear layers, in the order in which they run.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The layer at a module path.
    pub fn layer(&self, path: &str) -> Option<&Layer> {
        self.layers.iter().find(|layer| layer.path == path)
    }

    /// Parameters and running statistics, in the module's order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Which indices carry the same channel, and which must stay.
    pub fn flow(&self) -> &Flow {
        &self.flow
    }

    /// Number of classes: columns of the logits; 0 where the first output is not `[samples, classes]`.
    pub fn classes(&self) -> usize {
        match self.output_shapes.first().map(Vec::as_slice) {
            Some(&[samples, classes]) if samples == self.batch => classes,
            _ => 0,
        }
    }

    /// Shapes of the outputs, the captured batch size first.
    pub fn output_shapes(&self) -> &[Vec<usize>] {
        &self.output_shapes
    }

    /// Samples in the captured batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Shapes of the inputs, the captured batch size first.
    pub fn input_shapes(&self) -> &[Vec<usize>] {
        &self.input_shapes
    }

    /// The captured value of a parameter, row-major.
    pub fn parameter_data(&self, path: &str) -> Option<&TensorData> {
        let parameter = self.parameters.iter().find(|parameter| parameter.path == path)?;
        self.values.get(&parameter.tensor)
    }

    /// The captured value of a parameter by its index in [`parameters`](Network::parameters), row-major.
    pub fn parameter_data_at(&self, parameter: usize) -> Option<&TensorData> {
        self.values.get(&self.parameters.get(parameter)?.tensor)
    }

    /// Checks that a capture of another batch size runs the same operations.
    pub(crate) fn same_operations(&self, other: &Network) -> Result<(), SfpError> {
        // By the size of the batch Burn folds the leading axes of linear layers into rows, and swaps axes around products of
        // vectors: these may differ.
        let names = |network: &Network| {
            let names = network.operations.iter().map(super::op::name);
            names.filter(|name| name != "Reshape" && name != "SwapDims").collect::<Vec<_>>()
        };
        let (ours, theirs) = (names(self), names(other));
        let differ = (0..ours.len().max(theirs.len())).find(|&k| ours.get(k) != theirs.get(k));
        match differ {
            None => Ok(()),
            Some(operation) => {
                let at = |names: &[String]| names.get(operation).cloned().unwrap_or_else(|| "nothing".into());
                Err(SfpError::GraphChanges {
                    found: other.batch,
                    expected: self.batch,
                    operation,
                    what: format!("{} instead of {}", at(&theirs), at(&ours)),
                })
            }
        }
    }

    pub(crate) fn parameter_index(&self) -> HashMap<TensorId, usize> {
        self.parameters.iter().enumerate().map(|(k, parameter)| (parameter.tensor, k)).collect()
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
            dtype => Tensor::from_data(backend::shared_data(tensor), (self.0, dtype)),
        })
    }
}

#[derive(Default)]
struct InputIds(Vec<TensorId>);

impl InputMapper for InputIds {
    fn float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
        self.0.extend(id_of(&tensor));
        tensor
    }
    fn int<const D: usize>(&mut self, tensor: Tensor<D, Int>) -> Tensor<D, Int> {
        self.0.extend(tensor.clone().try_into_primitive::<CaptureBackend>().ok().map(|t| t.id()));
        tensor
    }
    fn bool<const D: usize>(&mut self, tensor: Tensor<D, Bool>) -> Tensor<D, Bool> {
        self.0.extend(tensor.clone().try_into_primitive::<CaptureBackend>().ok().map(|t| t.id()));
        tensor
    }
}

#[derive(Default)]
struct Names {
    path: Vec<String>,
    containers: Vec<String>,
    parameters: Vec<Parameter>,
}

impl Names {
    fn push(&mut self, tensor: Option<TensorId>, shape: Vec<usize>) {
        // The innermost entry is the field itself; its holder is the nearest struct above it.
        let holders: Vec<String> = self
            .containers
            .iter()
            .filter_map(|name| name.strip_prefix("Struct:").or_else(|| name.strip_prefix("Enum:")))
            .map(str::to_string)
            .collect();
        let container = holders.last().cloned().unwrap_or_default();
        if let Some(tensor) = tensor {
            self.parameters.push(Parameter { path: self.path.join("."), container, holders, shape, tensor });
        }
    }
}

impl ModuleVisitor for Names {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.push(name.to_string());
        self.containers.push(container.to_string());
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
        self.containers.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.base();
        self.push(id_of(&value), value.dims().to_vec());
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
        assert_eq!((network.outputs.len(), network.output_shapes.len()), (1, 2));
    }
}
