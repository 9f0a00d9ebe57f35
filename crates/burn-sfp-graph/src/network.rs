//! [`Network`]: a module's forward pass as plain data, assembled from the parts that this crate describes.

use std::collections::HashMap;

use burn::backend::ir::TensorId;
use burn::tensor::{Device, TensorData};

use crate::GraphError;
use crate::channels::flow::Flow;
use crate::channels::follow::follow;
use crate::graph::{Graph, Parameter, ParameterShape};
use crate::layers::behind::distances;
use crate::layers::find::find_layers;
use crate::layers::heads::{Heads, find_heads};
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
    pub(crate) input_shapes: Vec<Vec<usize>>,
    pub(crate) output_shapes: Vec<Vec<usize>>,
    /// Multiply-adds of the batch that sparse layers leave out of the captured operations.
    pub(crate) skipped: u64,
    /// The model's device, without autodiff.
    pub(crate) device: Device,
    /// Plain fields that the module gives no access to.
    pub(crate) fixed: Vec<PlainField>,
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
        for layer in &mut layers {
            layer.not_prunable = why_not(&graph, &flow, layer);
        }
        let heads = find_heads(&graph, &flow, &layers, &layer_of);
        Self { graph, flow, layers, heads, layer_of, input_shapes, output_shapes, skipped, device, fixed: Vec::new() }
    }

    /// The layers with weights (convolutions, linear layers, embeddings), in the order in which they run.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The layer at a module path.
    pub fn layer(&self, path: &str) -> Option<&Layer> {
        self.layers.iter().find(|layer| layer.path == path)
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
        let parameter = self.graph.parameters.iter().find(|parameter| parameter.path == path)?;
        self.graph.values.get(&parameter.tensor)
    }

    /// The captured value of a parameter by its index in [`parameters`](Network::parameters), row-major.
    pub fn parameter_data_at(&self, parameter: usize) -> Option<&TensorData> {
        self.graph.values.get(&self.graph.parameters.get(parameter)?.tensor)
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

    /// Whether some operation of the network computes the tensor: inputs, parameters and constants are not computed.
    pub fn is_computed(&self, tensor: TensorId) -> bool {
        self.graph.producer(tensor).is_some()
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
        self.heads.iter().find(|heads| heads.path == path)
    }
}

/// Why no filter of a layer may be removed, where none may: the nearest reason, counted in operations from the layer.
fn why_not(graph: &Graph, flow: &Flow, layer: &Layer) -> Option<String> {
    let reason = flow.why_not(&layer.output_channels)?;
    let [channel, ..] = layer.output_channels[..] else { return Some(reason) };
    if flow.pins.of(channel).len() < 2 {
        return Some(reason);
    }
    let from = distances(graph, *layer.operations.first()?);
    flow.why_not_near(&layer.output_channels, |operation| from.get(&operation).copied().unwrap_or(usize::MAX - 1))
}
