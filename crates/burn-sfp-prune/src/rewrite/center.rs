//! Means taken out of the parameters that write to a stream, and the plain fields that say so.
//!
//! A layer normalisation subtracts the mean over its channels, so that nothing changes if everything that is added to what it reads
//! comes without one: `W - mean_c(W)` along the axis of the channels (Ashkboos et al., "SliceGPT: Compress Large Language Models by
//! Deleting Rows and Columns", 2024, arXiv 2401.15024, section 3.2).

use std::collections::HashMap;

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn_sfp_graph::GraphModule;
use burn_sfp_nn::FieldEdit;
use burn_sfp_nn::walk::{ParamMapper, ParamPath, map_params};

use super::fields::set_fields;
use crate::{PruneError, PrunePlan};

/// Returns the model without the means that the plan takes out.
pub(super) fn center<M: Module>(plan: &PrunePlan, model: M) -> M {
    let axes: HashMap<&str, usize> = plan.centered.iter().map(|center| (center.path.as_str(), center.axis)).collect();
    if axes.is_empty() { model } else { map_params(model, &mut Center { axes }) }
}

/// Sets to the plan's values those plain fields that say that a mean was taken out.
pub(super) fn mark_centered<M: GraphModule>(plan: &PrunePlan, model: &mut M) -> Result<(), PruneError> {
    let edits: Vec<FieldEdit> = plan.fields.iter().filter(|edit| edit.field == "centered").cloned().collect();
    if edits.is_empty() { Ok(()) } else { set_fields(model, &[], &edits) }
}

struct Center<'a> {
    /// The axis of the channels, by the path of the parameter.
    axes: HashMap<&'a str, usize>,
}

impl ParamMapper for Center<'_> {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.axes.get(path.join().as_str()) {
            Some(&axis) => param.map(|tensor| {
                let mean = tensor.clone().mean_dim(axis);
                tensor - mean
            }),
            None => param,
        }
    }
}
