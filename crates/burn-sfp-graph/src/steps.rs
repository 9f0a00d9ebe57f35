//! [`Step`]: the layers and batch normalisations of a network in the order in which they run, with what each reads and returns.

use std::collections::HashSet;

use burn::backend::ir::{BaseOperationIr as B, OperationIr, TensorId, TensorIr};

use crate::layers::kind::LayerKind;
use crate::layers::layer::Layer;
use crate::network::Network;
use crate::norms::{BatchNormalization, masked};
use crate::op::describe;
use crate::op::description::dims;
use crate::op::normalization::batch_norm;

/// A tensor that a [`StepReplay`](crate::StepReplay) reads, and its shape there: `[rows, channels, positions]`. The channels of a linear
/// layer run along the last axis, so that it has 1 position and all other axes count as rows.
#[derive(Clone, Debug)]
pub struct StepTensor {
    pub(crate) tensor: TensorIr,
    /// Rows, channels, positions.
    pub shape: [usize; 3],
}

impl StepTensor {
    /// Views a tensor whose channels run along axis 1, or along the last axis.
    fn new(tensor: &TensorIr, channels_last: bool) -> Self {
        let shape = dims(tensor);
        let shape = match (channels_last, &shape[..]) {
            (true, [rows @ .., channels]) => [rows.iter().product(), *channels, 1],
            (false, [rows, channels, positions @ ..]) => [*rows, *channels, positions.iter().product()],
            (_, other) => [1, 1, other.iter().product()],
        };
        Self { tensor: tensor.clone(), shape }
    }
}

/// What runs at a [`Step`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StepKind {
    /// The first call of the layer with this index in [`Network::layers`].
    Layer(usize),
    /// The first call of a batch normalisation.
    Norm(BatchNormalization),
}

/// A layer or a batch normalisation, as the network runs it first.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Step {
    /// Module path.
    pub path: String,
    /// What runs.
    pub kind: StepKind,
    /// Position of its operation.
    pub operation: usize,
    /// What the operation reads.
    pub input: StepTensor,
    /// What the operation returns.
    pub output: StepTensor,
    /// Whether the operation adds the layer's bias. Burn's linear layers add it in an operation of its own.
    pub adds_bias: bool,
    /// Why its parameters cannot be replaced for this call alone, where they cannot.
    pub tied: Option<String>,
}

impl Network {
    /// The convolutions, linear layers and batch normalisations of the network in the order in which they run.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
    /// # use burn_sfp_graph::{GraphModule, Network};
    /// # #[derive(Module, Debug)]
    /// # struct Mlp { a: Linear, norm: BatchNorm, b: Linear }
    /// # impl GraphModule for Mlp {
    /// #     type Inputs = Tensor<2>;
    /// #     type Outputs = Tensor<2>;
    /// #     fn run(&self, x: Tensor<2>) -> Tensor<2> {
    /// #         self.b.forward(burn::tensor::activation::relu(self.norm.forward(self.a.forward(x))))
    /// #     }
    /// # }
    /// # let device = Device::flex();
    /// # let mlp = Mlp {
    /// #     a: LinearConfig::new(4, 8).init(&device),
    /// #     norm: BatchNormConfig::new(8).init(&device),
    /// #     b: LinearConfig::new(8, 3).init(&device),
    /// # };
    /// let network = Network::capture(&mlp, &Tensor::zeros([2, 4], &device))?;
    /// let steps = network.steps();
    /// assert_eq!(steps.iter().map(|step| step.path.as_str()).collect::<Vec<_>>(), ["a", "norm", "b"]);
    /// assert_eq!((steps[2].input.shape, steps[2].output.shape), ([2, 8, 1], [2, 3, 1]));
    /// # Ok::<(), burn_sfp_graph::GraphError>(())
    /// ```
    pub fn steps(&self) -> Vec<Step> {
        let layers = self.layers.iter().enumerate().filter_map(|(index, layer)| self.step_of_layer(index, layer));
        let norms = self.batch_norms().into_iter().filter_map(|norm| self.step_of_norm(norm));
        let mut steps: Vec<Step> = layers.chain(norms).collect();
        steps.sort_by_key(|step| step.operation);
        steps
    }

    /// The tensors that are computed from any of these parameters, given by their indices in [`parameters`](Network::parameters).
    pub(crate) fn following(&self, parameters: &HashSet<usize>) -> HashSet<TensorId> {
        let start = parameters.iter().filter_map(|&parameter| Some(self.parameters().get(parameter)?.tensor));
        let mut following: HashSet<TensorId> = start.collect();
        for op in &self.graph.operations {
            if op.inputs().any(|input| following.contains(&input.id)) {
                following.extend(op.outputs().map(|output| output.id));
            }
        }
        following
    }

    /// For each of these steps whether what it returns depends on any of these parameters, given by their indices in
    /// [`parameters`](Network::parameters).
    pub fn depend_on(&self, steps: &[Step], parameters: &HashSet<usize>) -> Vec<bool> {
        let following = self.following(parameters);
        steps.iter().map(|step| following.contains(&step.output.tensor.id)).collect()
    }

    /// The parameters of layers and batch normalisations, by their indices in [`parameters`](Network::parameters): all but those of layer
    /// normalisations and of what is written out.
    pub fn parameters_of_steps(&self) -> HashSet<usize> {
        let of_norm = |norm: BatchNormalization| [norm.gamma, norm.beta, norm.mean, norm.variance];
        let of_layers = self.layers.iter().flat_map(Layer::parameters_of_all);
        of_layers.chain(self.batch_norms().into_iter().flat_map(of_norm)).collect()
    }

    fn step_of_layer(&self, index: usize, layer: &Layer) -> Option<Step> {
        let &operation = layer.operations.first()?;
        let call = describe(&self.graph.operations[operation])?.layer()?;
        if layer.kind.reads_indices() {
            return None;
        }
        let channels_last = layer.kind.is_linear();
        Some(Step {
            path: layer.path.clone(),
            kind: StepKind::Layer(index),
            operation,
            input: StepTensor::new(call.x, channels_last),
            output: StepTensor::new(call.out, channels_last),
            adds_bias: call.bias.is_some(),
            tied: self.tied_layer(layer, call.kind),
        })
    }

    fn tied_layer(&self, layer: &Layer, kind: LayerKind) -> Option<String> {
        let path = |parameter: usize| &self.parameters()[parameter].path;
        if layer.is_shared() {
            return Some("it runs more than once".into());
        }
        if !layer.is_stored() || layer.kind != kind || layer.weight_parameters().len() != 1 {
            return Some("its weight is computed from its parameters".into());
        }
        let parameters = std::iter::once(layer.weight()).chain(layer.bias());
        let shared = parameters.into_iter().find(|&parameter| !self.serves_one(parameter))?;
        Some(format!("`{}` is read elsewhere too", path(shared)))
    }

    fn step_of_norm(&self, norm: BatchNormalization) -> Option<Step> {
        let tensor = self.parameters().get(norm.mean)?.tensor;
        let &operation = self.graph.consumers(tensor).first()?;
        let op = batch_norm(&self.graph.operations[operation])?;
        let state = [norm.gamma, norm.beta, norm.mean, norm.variance];
        let tied = state.into_iter().find(|&parameter| !self.serves_one(parameter));
        let step = Step {
            path: norm.path.clone(),
            operation,
            input: StepTensor::new(&op.x, false),
            output: StepTensor::new(&op.out, false),
            adds_bias: false,
            tied: tied.map(|_| "it runs more than once, or its state is read elsewhere too".into()),
            kind: StepKind::Norm(norm),
        };
        Some(step)
    }

    /// Whether only one operation reads a parameter, masks over connections and changes of its shape not counted.
    fn serves_one(&self, parameter: usize) -> bool {
        let mut at = self.graph.parameters[parameter].tensor;
        loop {
            let &[only] = self.graph.consumers(at) else { return false };
            let op = &self.graph.operations[only];
            let passes = masked(op, at) || matches!(op, OperationIr::BaseFloat(B::Reshape(_)));
            match op.outputs().next() {
                Some(next) if passes && !self.following_inputs().contains(&next.id) => at = next.id,
                _ => return true,
            }
        }
    }
}
