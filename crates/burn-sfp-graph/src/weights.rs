//! The values of layers' weights, computed where the forward pass computes them.

use std::borrow::Cow;

use burn::tensor::TensorData;

use crate::GraphError;
use crate::layers::layer::Layer;
use crate::network::Network;
use crate::replay::evaluate;

impl Network {
    /// The values of a layer's weight as it is applied, row-major: those of a parameter, or what the forward pass computes from several.
    ///
    /// ```
    /// # use burn::module::{Module, Param};
    /// # use burn::prelude::*;
    /// # use burn_sfp_graph::{GraphModule, Network};
    /// /// A linear layer whose weight is the product of two thin matrices.
    /// #[derive(Module, Debug)]
    /// struct Thin { a: Param<Tensor<2>>, b: Param<Tensor<2>> }
    ///
    /// impl GraphModule for Thin {
    ///     type Inputs = Tensor<2>;
    ///     type Outputs = Tensor<2>;
    ///     fn run(&self, x: Tensor<2>) -> Tensor<2> { x.matmul(self.a.val().matmul(self.b.val())) }
    /// }
    /// # let device = Device::flex();
    /// let thin = Thin {
    ///     a: Param::from_tensor(Tensor::from_floats([[1.0], [2.0]], &device)),
    ///     b: Param::from_tensor(Tensor::from_floats([[3.0, 4.0, 5.0]], &device)),
    /// };
    /// let network = Network::capture(&thin, &Tensor::zeros([1, 2], &device))?;
    /// let layer = &network.layers()[0];
    /// assert_eq!((layer.path.as_str(), layer.inputs, layer.filters, layer.parameters), ("{a,b}", 2, 3, 5));
    /// let weight = network.weight_data(layer)?.into_owned().try_into_vec::<f32>().unwrap();
    /// assert_eq!(weight, [3.0, 4.0, 5.0, 6.0, 8.0, 10.0]);
    /// # Ok::<(), burn_sfp_graph::GraphError>(())
    /// ```
    ///
    /// # Errors
    /// [`GraphError::UnsupportedDevice`] and [`GraphError::Replay`] where a computed weight does not come out on the model's device.
    pub fn weight_data(&self, layer: &Layer) -> Result<Cow<'_, TensorData>, GraphError> {
        if layer.is_stored()
            && let Some(data) = self.parameter_data_at(layer.weight())
        {
            return Ok(Cow::Borrowed(data));
        }
        match self.graph.producer(layer.applied.id) {
            Some(last) => evaluate(&self.graph, last, &layer.applied, &self.device).map(Cow::Owned),
            None => {
                let data = self.graph.values.get(&layer.applied.id);
                let missing = || GraphError::Capture(format!("the weight of layer `{}` has no values", layer.path));
                data.map(Cow::Borrowed).ok_or_else(missing)
            }
        }
    }
}
