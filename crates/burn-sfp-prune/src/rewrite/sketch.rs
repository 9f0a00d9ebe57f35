//! The smaller module without values, to see whether it would run.

use std::collections::HashMap;

use burn::module::Param;
use burn::tensor::Tensor;
use burn_sfp_graph::GraphModule;
use burn_sfp_nn::tensor::shared_zeros;
use burn_sfp_nn::walk::{ParamMapper, ParamPath, map_params};
use burn_sfp_nn::{FieldEdit, Removable};

use super::fields::{leave_out, set_fields};
use crate::PruneError;
use crate::plan::ParameterCut;

/// Returns the module with the planned shapes and plain fields, and without some parts. Parameters that shrink are zero.
pub(crate) fn sketch<M: GraphModule>(
    model: &M,
    cuts: &[ParameterCut],
    fields: &[FieldEdit],
    blocks: &[Removable],
) -> Result<M, PruneError> {
    let by_path = cuts.iter().map(|cut| (cut.path.as_str(), cut)).collect();
    let mut smaller = map_params(model.valid(), &mut Shapes(by_path));
    set_fields(&mut smaller, cuts, fields)?;
    leave_out(&mut smaller, blocks)?;
    Ok(smaller)
}

struct Shapes<'a>(HashMap<&'a str, &'a ParameterCut>);

impl ParamMapper for Shapes<'_> {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(cut) = self.0.get(path.join().as_str()) else { return param };
        param.map(|tensor| {
            let mut shape = tensor.dims();
            cut.shorten(&mut shape);
            shared_zeros(shape, tensor.dtype(), &tensor.device())
        })
    }
}
