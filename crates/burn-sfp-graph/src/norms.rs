//! Batch normalisations, and the layers that could take them in.

use std::collections::HashSet;

use burn::backend::ir::{BaseOperationIr as B, BatchNormOpIr, NumericOperationIr as N, OperationIr, TensorId};

use crate::layers::layer::Layer;
use crate::network::Network;
use crate::op::describe;
use crate::op::normalization::batch_norm;

/// A batch normalisation with running statistics, as the captured network runs it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct BatchNormalization {
    /// Module path, for example `blocks.3.norm`.
    pub path: String,
    /// Index of its gamma in [`Network::parameters`].
    pub gamma: usize,
    /// Index of its beta.
    pub beta: usize,
    /// Index of its running mean.
    pub mean: usize,
    /// Index of its running variance.
    pub variance: usize,
    /// Added to the variance.
    pub epsilon: f64,
    /// Index in [`Network::layers`] of the convolution or linear layer that it could be folded into: it normalises that layer's filters,
    /// nothing else reads them, and weight, bias and statistics are used nowhere else. Otherwise the reason why there is none.
    pub layer: Result<usize, String>,
}

impl Network {
    /// The batch normalisations, in the order in which they run. Ones whose state is computed from other parameters are left
    /// out.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
    /// # use burn_sfp_graph::GraphModule;
    /// # use burn_sfp_graph::Network;
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
    /// let norm = &network.batch_norms()[0];
    /// assert_eq!(norm.path, "norm");
    /// assert_eq!(norm.layer.as_ref().map(|&layer| network.layers()[layer].path.as_str()), Ok("a"));
    /// # Ok::<(), burn_sfp_graph::GraphError>(())
    /// ```
    pub fn batch_norms(&self) -> Vec<BatchNormalization> {
        let mut seen = HashSet::new();
        let found = self.graph.operations.iter().filter_map(|op| {
            let op = batch_norm(op)?;
            let parameter = |tensor: TensorId| self.graph.parameter(tensor);
            let gamma = parameter(op.gamma.id).filter(|gamma| seen.insert(*gamma))?;
            let path = &self.graph.parameters[gamma].path;
            Some(BatchNormalization {
                path: path.strip_suffix(".gamma").unwrap_or(path).to_string(),
                gamma,
                beta: parameter(op.beta.id)?,
                mean: parameter(op.mean.id)?,
                variance: parameter(op.variance.id)?,
                epsilon: op.epsilon.elem::<f64>(),
                layer: self.layer_of_norm(op),
            })
        });
        found.collect()
    }

    fn layer_of_norm(&self, norm: &BatchNormOpIr) -> Result<usize, String> {
        let state = [&norm.gamma, &norm.beta, &norm.mean, &norm.variance];
        if state.iter().any(|tensor| self.only_consumer(tensor.id).is_none()) {
            return Err("it runs more than once, or its state is read elsewhere too".into());
        }
        let Some(&index) = self.layer_of.get(&norm.x.id) else {
            return Err("what it normalises is not the output of a convolution or linear layer".into());
        };
        let layer = &self.layers[index];
        let path = &layer.path;
        if layer.kind.is_linear() && (layer.kind.reads_indices() || norm.x.shape.num_dims() != 2) {
            return Err(format!("it does not normalise the nodes of layer `{path}`, which run along another axis"));
        }
        if layer.is_shared() {
            return Err(format!("layer `{path}` runs more than once"));
        }
        if !self.alone(layer, norm.x.id) {
            return Err(format!("the output of layer `{path}` is read elsewhere too"));
        }
        let operation = layer.operations[0];
        if !self.serves_only(layer.weight, operation, masked) {
            return Err(format!("the weight of layer `{path}` is computed, or read elsewhere too"));
        }
        let sum = self.graph.producer(norm.x.id).unwrap_or(operation);
        let bias_is_its_own = match layer.bias {
            Some(bias) => self.serves_only(bias, sum, reshaped),
            None => !adds_bias(&self.graph.operations[operation]),
        };
        if bias_is_its_own {
            Ok(index)
        } else {
            Err(format!("the bias of layer `{path}` is computed, or read elsewhere too"))
        }
    }

    /// The operation that reads a tensor, where no other operation reads it and it is no output of the network.
    fn only_consumer(&self, tensor: TensorId) -> Option<usize> {
        match self.graph.consumers(tensor) {
            &[only] if !self.graph.outputs.contains(&tensor) => Some(only),
            _ => None,
        }
    }

    /// Whether only one operation reads the layer's output, and everything between it and the layer.
    fn alone(&self, layer: &Layer, output: TensorId) -> bool {
        let made = |operation: usize| self.graph.operations[operation].outputs().next().map(|tensor| tensor.id);
        let mut at = layer.operations.first().and_then(|&operation| made(operation));
        while let Some(tensor) = at {
            match self.only_consumer(tensor) {
                Some(_) if tensor == output => return true,
                consumer => at = consumer.and_then(made),
            }
        }
        false
    }

    /// Whether a parameter is read by one operation alone, with nothing on the way there but operations of this kind.
    fn serves_only(&self, parameter: usize, consumer: usize, on_the_way: fn(&OperationIr, TensorId) -> bool) -> bool {
        let mut at = self.graph.parameters[parameter].tensor;
        loop {
            let Some(only) = self.only_consumer(at) else { return false };
            let op = &self.graph.operations[only];
            match op.outputs().next() {
                _ if only == consumer => return true,
                Some(next) if on_the_way(op, at) => at = next.id,
                _ => return false,
            }
        }
    }
}

/// Whether an operation itself adds a bias, be it a parameter or not.
fn adds_bias(op: &OperationIr) -> bool {
    describe(op).and_then(|described| described.layer()).is_some_and(|call| call.bias.is_some())
}

/// A product, element by element, with something else that keeps the shape: a connection mask.
pub(crate) fn masked(op: &OperationIr, tensor: TensorId) -> bool {
    let OperationIr::NumericFloat(_, N::Mul(op)) = op else { return false };
    let (own, other) = if op.lhs.id == tensor { (&op.lhs, &op.rhs) } else { (&op.rhs, &op.lhs) };
    own.id != other.id && own.shape == op.out.shape
}

/// A bias gets leading axes.
fn reshaped(op: &OperationIr, _tensor: TensorId) -> bool {
    matches!(op, OperationIr::BaseFloat(B::Reshape(_)))
}
