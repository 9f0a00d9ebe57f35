//! [`Network`]: a module's forward pass as plain data, assembled from the parts that this crate describes.

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use burn::backend::ir::TensorId;
use burn::tensor::{Device, TensorData};
use burn_sfp_nn::Removable;

use crate::GraphError;
use crate::blocks::Block;
use crate::channels::flow::Flow;
use crate::channels::follow::follow;
use crate::channels::pins::Pin;
use crate::fingerprint::Fingerprint;
use crate::graph::{Graph, Parameter, ParameterShape};
use crate::layers::behind::nearest;
use crate::layers::find::find_layers;
use crate::layers::heads::{Heads, find_heads};
use crate::layers::index::LayerIndex;
use crate::layers::layer::Layer;
use crate::op::name::name;
use crate::plain_field::PlainField;

/// A module's forward pass as plain data: its operations and parameters, its layers, and how channels run through them.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// # use burn_sfp_graph::Network;
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> {
/// #         self.b.forward(burn::tensor::activation::relu(self.a.forward(x)))
/// #     }
/// # }
/// let device = Device::flex();
/// let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 3).init(&device) };
/// let network = Network::capture(&mlp, &Tensor::zeros([2, 4], &device))?;
/// let layers = network.layers();
/// assert_eq!((layers[0].path.as_str(), layers[0].filters, layers[0].macs), ("a", 8, 32));
/// assert_eq!(network.consumers(&layers[0])[0].path, "b");
/// # Ok::<(), burn_sfp_graph::GraphError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Network {
    pub(crate) graph: Graph,
    pub(crate) flow: Flow,
    pub(crate) layers: Vec<Layer>,
    pub(crate) heads: Vec<Heads>,
    /// The layer whose output a tensor is.
    pub(crate) layer_of: HashMap<TensorId, usize>,
    pub(crate) index: LayerIndex,
    /// Heads by path.
    heads_by_path: HashMap<String, usize>,
    parameters_by_path: HashMap<String, usize>,
    /// What is computed from an input of the network; found when it is first asked for.
    following: OnceLock<HashSet<TensorId>>,
    pub(crate) input_shapes: Vec<Vec<usize>>,
    pub(crate) output_shapes: Vec<Vec<usize>>,
    /// Multiply-adds of the batch that sparse layers leave out of the captured operations.
    pub(crate) skipped: u64,
    /// The model's device, without autodiff.
    pub(crate) device: Device,
    /// Plain fields that the module gives no access to.
    pub(crate) fixed: Vec<PlainField>,
    /// Computed when it is asked for.
    pub(crate) fingerprint: OnceLock<Fingerprint>,
    /// The parts that the module can leave out.
    pub(crate) removable: Vec<Removable>,
    /// Which of them are residual blocks; found when they are first asked for.
    pub(crate) blocks: OnceLock<Vec<Block>>,
}

impl Network {
    /// Follows the channels of a recorded graph and finds its layers and heads.
    pub(crate) fn assemble(
        graph: Graph,
        input_shapes: Vec<Vec<usize>>,
        output_shapes: Vec<Vec<usize>>,
        skipped: u64,
        device: Device,
    ) -> Self {
        let mut flow = follow(&graph);
        let (mut layers, layer_of) = find_layers(&graph, &flow);
        for layer in &layers {
            flow.pin_indivisible(&layer.output_channels);
        }
        flow.pin_products();
        let reasons = why_not(&graph, &flow, &layers);
        for (layer, reason) in layers.iter_mut().zip(reasons) {
            layer.not_prunable = reason;
        }
        let heads = find_heads(&graph, &flow, &layers, &layer_of);
        let fingerprint = OnceLock::new();
        let index = LayerIndex::of(&layers, &layer_of);
        let heads_by_path = (heads.iter().enumerate().rev()).map(|(at, heads)| (heads.path.clone(), at)).collect();
        let by_path = graph.parameters.iter().enumerate().rev().map(|(at, parameter)| (parameter.path.clone(), at));
        let parameters_by_path = by_path.collect();
        Self {
            graph,
            flow,
            layers,
            heads,
            layer_of,
            index,
            heads_by_path,
            parameters_by_path,
            following: OnceLock::new(),
            input_shapes,
            output_shapes,
            skipped,
            device,
            fixed: Vec::new(),
            fingerprint,
            removable: Vec::new(),
            blocks: OnceLock::new(),
        }
    }

    /// The layers with weights (convolutions, linear layers, embeddings), in the order in which they run.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The layer at a module path.
    pub fn layer(&self, path: &str) -> Option<&Layer> {
        self.index.at(path).map(|at| &self.layers[at])
    }

    /// Parameters and running statistics, in the module's order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.graph.parameters
    }

    /// The parameters and running statistics that no operation reads: of layers that the captured forward passes do not run.
    pub fn unreached(&self) -> Vec<&Parameter> {
        self.parameters().iter().filter(|parameter| self.graph.consumers(parameter.tensor).is_empty()).collect()
    }

    /// How channels run through the network: which indices carry the same channel, and which must stay.
    pub fn flow(&self) -> &Flow {
        &self.flow
    }

    /// Number of classes: the columns of the logits. 0 where the first output is not `[samples, classes]`.
    pub fn classes(&self) -> usize {
        match self.output_shapes.first().map(Vec::as_slice) {
            Some(&[samples, classes]) if samples == self.graph.batch => classes,
            _ => 0,
        }
    }

    /// Shapes of the outputs, the captured batch size first.
    pub fn output_shapes(&self) -> &[Vec<usize>] {
        &self.output_shapes
    }

    /// Samples in the captured batch.
    pub fn batch(&self) -> usize {
        self.graph.batch
    }

    /// Shapes of the inputs, the captured batch size first.
    pub fn input_shapes(&self) -> &[Vec<usize>] {
        &self.input_shapes
    }

    /// The captured value of a parameter, row-major.
    pub fn parameter_data(&self, path: &str) -> Option<&TensorData> {
        self.parameter_data_at(*self.parameters_by_path.get(path)?)
    }

    /// The captured value of a parameter by its index in [`parameters`](Network::parameters), row-major.
    pub fn parameter_data_at(&self, parameter: usize) -> Option<&TensorData> {
        self.graph.values.get(&self.graph.parameters.get(parameter)?.tensor)
    }

    /// Which values the captured parameters have.
    pub fn fingerprint(&self) -> &Fingerprint {
        self.fingerprint.get_or_init(|| {
            let mut fingerprint = Fingerprint::default();
            for parameter in self.parameters() {
                if let Some(data) = self.graph.values.get(&parameter.tensor) {
                    fingerprint.add(parameter.path.clone(), data);
                }
            }
            fingerprint
        })
    }

    /// Checks that a capture of another batch size runs the same operations.
    ///
    /// # Errors
    /// [`GraphError::GraphChanges`] with the first operation that differs.
    pub fn same_operations(&self, other: &Network) -> Result<(), GraphError> {
        // By the size of the batch Burn folds the leading axes of linear layers into rows, and swaps axes around products of
        // vectors: these may differ.
        let names = |network: &Network| {
            let names = network.graph.operations.iter().map(name);
            names.filter(|name| name != "Reshape" && name != "SwapDims").collect::<Vec<_>>()
        };
        let (ours, theirs) = (names(self), names(other));
        let differ = (0..ours.len().max(theirs.len())).find(|&k| ours.get(k) != theirs.get(k));
        match differ {
            None => Ok(()),
            Some(operation) => {
                let at = |names: &[String]| names.get(operation).cloned().unwrap_or_else(|| "nothing".into());
                Err(GraphError::GraphChanges {
                    found: other.graph.batch,
                    expected: self.graph.batch,
                    operation,
                    what: format!("{} instead of {}", at(&theirs), at(&ours)),
                })
            }
        }
    }

    /// The inputs of the network and all that is computed from them.
    pub(crate) fn following_inputs(&self) -> &HashSet<TensorId> {
        self.following.get_or_init(|| {
            let mut following: HashSet<TensorId> = self.graph.inputs.iter().copied().collect();
            for op in &self.graph.operations {
                if op.inputs().any(|input| following.contains(&input.id)) {
                    following.extend(op.outputs().map(|output| output.id));
                }
            }
            following
        })
    }

    /// Whether some operation of the network computes the tensor: inputs, parameters and constants are not computed.
    pub fn is_computed(&self, tensor: TensorId) -> bool {
        self.graph.producer(tensor).is_some()
    }

    /// Shape of the output of a layer's first call, samples first. That of a linear layer may have its leading axes folded into rows.
    ///
    /// ```
    /// # use burn::nn::conv::{ConvTranspose1d, ConvTranspose1dConfig};
    /// # use burn::prelude::*;
    /// # use burn_sfp_graph::{GraphModule, Network};
    /// # #[derive(Module, Debug)]
    /// # struct Net { up: ConvTranspose1d }
    /// # impl GraphModule for Net {
    /// #     type Inputs = Tensor<3>;
    /// #     type Outputs = Tensor<3>;
    /// #     fn run(&self, x: Tensor<3>) -> Tensor<3> { self.up.forward(x) }
    /// # }
    /// # let device = Device::flex();
    /// # let net = Net { up: ConvTranspose1dConfig::new([2, 3], 4).with_stride(2).init(&device) };
    /// let network = Network::capture(&net, &Tensor::zeros([1, 2, 5], &device))?;
    /// assert_eq!(network.output_shape(&network.layers()[0]), [1, 3, 12]);
    /// # Ok::<(), burn_sfp_graph::GraphError>(())
    /// ```
    pub fn output_shape(&self, layer: &Layer) -> Vec<usize> {
        let first = layer.operations.first().and_then(|&operation| self.graph.operations.get(operation));
        let made = first.and_then(|operation| operation.outputs().next());
        made.map(|output| output.shape.iter().copied().collect()).unwrap_or_default()
    }

    /// Paths and shapes of all parameters, which tell one model from another.
    pub fn model_shapes(&self) -> Vec<ParameterShape> {
        let shape =
            |parameter: &Parameter| ParameterShape { path: parameter.path.clone(), shape: parameter.shape.clone() };
        self.parameters().iter().map(shape).collect()
    }

    /// The heads of all attentions, in the order in which they run.
    pub fn heads(&self) -> &[Heads] {
        &self.heads
    }

    /// The heads at a path; see [`Heads::path`].
    pub fn heads_at(&self, path: &str) -> Option<&Heads> {
        self.heads_by_path.get(path).map(|&at| &self.heads[at])
    }
}

/// For each layer why none of its filters may be removed, where none may: the nearest reason, counted in operations from the layer.
fn why_not(graph: &Graph, flow: &Flow, layers: &[Layer]) -> Vec<Option<String>> {
    let mut reasons: Vec<Option<String>> = layers.iter().map(|layer| flow.why_not(&layer.output_channels)).collect();
    // Layers of a stream have the same pins, and are looked for from these together.
    let mut asking: HashMap<&[Pin], Vec<(usize, usize)>> = HashMap::new();
    for (index, layer) in layers.iter().enumerate().filter(|(index, _)| reasons[*index].is_some()) {
        let pins = layer.output_channels.first().map(|&channel| flow.pins.of(channel)).unwrap_or_default();
        if let (2.., Some(&operation)) = (pins.len(), layer.operations.first()) {
            asking.entry(pins).or_default().push((index, operation));
        }
    }
    for (pins, layers) in asking {
        let nearest = nearest(graph, pins, layers.iter().map(|(_, operation)| *operation));
        for (layer, operation) in layers {
            if let Some(pin) = nearest.get(&operation) {
                reasons[layer] = Some(flow.pins.reason(pin).to_string());
            }
        }
    }
    reasons
}
