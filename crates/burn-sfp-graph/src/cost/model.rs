//! [`Cost`]: what a model costs as it is.

use serde::{Deserialize, Serialize};

use crate::latency::parameter_bytes;
use crate::{GraphError, GraphModule, Network};

/// Multiply-adds, parameters and bytes of a model as it is. Sparse layers count as they are executed.
///
/// ```
/// use std::sync::Arc;
/// use burn::prelude::*;
/// use burn::nn::LinearConfig;
/// use burn_sfp_graph::Cost;
/// use burn_sfp_nn::SparseLinear;
/// use burn_sfp_nn::sparse::{WeightFormat, KernelPattern};
/// use burn_sfp_graph::GraphModule;
///
/// #[derive(Module, Debug)]
/// struct Classifier { fc: SparseLinear }
///
/// impl GraphModule for Classifier {
///     type Inputs = Tensor<2>;
///     type Outputs = Tensor<2>;
///     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.fc.forward(x) }
/// }
/// let device = Device::flex();
/// let fc: SparseLinear = LinearConfig::new(4, 3).with_bias(false).init(&device).into();
/// let x = Tensor::zeros([2, 4], &device);
/// let dense = Cost::of(&Classifier { fc: fc.clone() }, &x)?;
/// assert_eq!((dense.macs, dense.parameters, dense.bytes, dense.uncounted), (12, 12, 48, 0));
///
/// let form = WeightFormat::Kernels(Arc::new(KernelPattern::from_fn(3, 4, |output, input| output == input)));
/// let sparse = Cost::of(&Classifier { fc: fc.with_format(Some(form))? }, &x)?;
/// assert_eq!((sparse.macs, sparse.parameters), (3, 3));
/// # Ok::<(), burn_sfp_graph::GraphError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Cost {
    /// Multiply-adds of one sample: convolutions, linear layers and products of computed tensors. Products with padding count,
    /// as is usual, whether or not they are executed.
    pub macs: u64,
    /// Elements of float parameters, running statistics included.
    pub parameters: u64,
    /// Bytes of all parameters, the integers of sparse layers included.
    pub bytes: u64,
    /// Number of operations whose multiply-adds are not known and so not part of `macs`; [`Network::uncounted`] names them.
    #[serde(default)]
    pub uncounted: usize,
}

impl Cost {
    /// Counts a model on an example input, whose values are not used.
    ///
    /// # Errors
    /// [`GraphError::Forward`] where the forward pass panics on this input.
    pub fn of<M: GraphModule>(model: &M, input: &M::Inputs) -> Result<Self, GraphError> {
        let network = Network::record(model, input, M::run)?;
        Ok(Self {
            macs: network.macs(),
            parameters: model.num_params() as u64,
            bytes: parameter_bytes(model),
            uncounted: network.uncounted().len(),
        })
    }
}
