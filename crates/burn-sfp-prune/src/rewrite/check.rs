//! The check of a model and a plan, before anything is changed.

use std::collections::HashMap;

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn_sfp_nn::walk::{ParamPath, ParamVisitor, visit_params};

use crate::mask::{KeepMasks, masks_of};
use crate::{PruneError, PrunePlan};

/// Refuses a model that is not the plan's, a plan that contradicts itself, and a weight to be masked that has a mask already.
pub(super) fn check<M: Module>(plan: &PrunePlan, model: &M) -> Result<(), PruneError> {
    check_shapes(plan, &shapes_of(model))?;
    plan.check()?;
    check_masks(plan, &masks_of(model))
}

fn check_masks(plan: &PrunePlan, masked: &KeepMasks) -> Result<(), PruneError> {
    if let Some(mask) = plan.masks.iter().find(|mask| masked.contains_key(&mask.parameter)) {
        return Err(PruneError::AlreadyMasked { path: mask.parameter.clone() });
    }
    if let Some(center) = plan.centered.iter().find(|center| masked.contains_key(&center.path)) {
        return Err(PruneError::AlreadyMasked { path: center.path.clone() });
    }
    Ok(())
}

/// Refuses shapes that are not those of the plan's model.
pub(crate) fn check_shapes(plan: &PrunePlan, found: &HashMap<String, Vec<usize>>) -> Result<(), PruneError> {
    for expected in &plan.model {
        let what = match found.get(&expected.path) {
            Some(shape) if *shape == expected.shape => continue,
            Some(shape) => {
                format!("parameter `{}` has shape {shape:?}, the plan's {:?}", expected.path, expected.shape)
            }
            None => format!("it has no parameter `{}`", expected.path),
        };
        return Err(PruneError::ModelMismatch { what });
    }
    Ok(())
}

/// Returns the shape of each float parameter by its path.
pub(crate) fn shapes_of<M: Module>(model: &M) -> HashMap<String, Vec<usize>> {
    struct Read(HashMap<String, Vec<usize>>);
    impl ParamVisitor for Read {
        fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
            self.0.insert(path.join(), param.lazy_shape().to_vec());
        }
    }
    let mut read = Read(HashMap::new());
    visit_params(model, &mut read);
    read.0
}
