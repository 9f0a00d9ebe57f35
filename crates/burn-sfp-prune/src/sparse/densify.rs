//! [`densify`]: from a sparse model to a dense one.

use std::collections::BTreeMap;

use burn_sfp_graph::GraphModule;
use burn_sfp_nn::sparse::with_formats;

use crate::PruneError;
use crate::rewrite::on_copy;

/// Returns the same model with all its layers dense: removed connections are zeros. The model itself is not changed.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::LinearConfig;
/// # use burn_sfp_nn::SparseLinear;
/// # use burn_sfp_graph::GraphModule;
/// # use burn_sfp_prune::{MagnitudeConnections, Planner, SparseConfig, SparseFormat, densify, sparsify};
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: SparseLinear, b: SparseLinear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> {
/// #         self.b.forward(burn::tensor::activation::relu(self.a.forward(x)))
/// #     }
/// # }
/// # let device = Device::flex();
/// # let mlp = Mlp {
/// #     a: LinearConfig::new(4, 8).init(&device).into(),
/// #     b: LinearConfig::new(8, 2).init(&device).into(),
/// # };
/// # let x = Tensor::<2>::ones([2, 4], &device);
/// let masked = Planner::new().prune(&mlp, &x, &MagnitudeConnections::l1())?.model;
/// let sparse = sparsify(&masked, &x, &SparseConfig::new().with_format(SparseFormat::Kernels))?.model;
/// let dense = densify(&sparse)?;
/// assert_eq!(dense.a.weight.dims(), masked.a.weight.dims());
/// # Ok::<(), burn_sfp_prune::PruneError>(())
/// ```
///
/// # Errors
/// [`NnError::Layer`](burn_sfp_nn::NnError::Layer) if a layer was loaded from a record that does not hold together.
pub fn densify<M: GraphModule>(model: &M) -> Result<M, PruneError> {
    on_copy(model, |copy| Ok(with_formats(copy, &BTreeMap::new())?))
}
