//! Whether a model is the one that a plan made, and the masks that the plan wants enforced on it.

use std::collections::HashMap;

use burn::module::{Module, Reparameterization};
use burn_sfp_nn::sparse::formats;

use crate::mask::{ConnectionMask, KeepMask, KeepMasks, masks_of};
use crate::plan::ParameterCut;
use crate::rewrite::{masks_after_cuts, shapes_of};
use crate::{PruneError, PrunePlan};

/// Checks that a model has the shapes that the plan leaves, and returns the plan's masks for the weights on which nothing holds the
/// removed connections at zero yet: those without a mask of their own and without a sparse format.
///
/// # Errors
/// [`PruneError::InvalidPlan`]; [`PruneError::ModelMismatch`] where the plan made another model, or the model's own mask keeps what the
/// plan removes.
pub(super) fn masks_to_enforce<M: Module>(plan: &PrunePlan, model: &M) -> Result<KeepMasks, PruneError> {
    plan.check()?;
    let formats = formats(model)?;
    let in_format =
        |path: &str| path.rsplit_once('.').is_some_and(|(layer, name)| name == "weight" && formats.contains_key(layer));
    check_shapes(plan, model, in_format)?;
    let own = masks_of(model);
    let mut masks = masks_after_cuts(plan);
    for (path, mask) in &masks {
        if let Some(own) = own.get(path).filter(|own| !own.keeps_no_more_than(mask)) {
            let what = format!("the mask of `{path}` keeps {} connections, some of which the plan removes", own.kept());
            return Err(PruneError::ModelMismatch { what });
        }
    }
    masks.retain(|path, _| !own.contains_key(path) && !in_format(path));
    Ok(masks)
}

fn check_shapes<M: Module>(plan: &PrunePlan, model: &M, in_format: impl Fn(&str) -> bool) -> Result<(), PruneError> {
    let cuts: HashMap<&str, &ParameterCut> = plan.cuts.iter().map(|cut| (cut.path.as_str(), cut)).collect();
    let found = shapes_of(model);
    let mask = format!(".{}.mask", ConnectionMask::NAME);
    for parameter in &plan.model {
        let path = parameter.path.as_str();
        // A mask may have been folded in, a batch normalisation too, and a sparse weight holds what is left of it.
        if path.ends_with(&mask) || in_format(path) || found.get(path).is_some_and(|shape| shape[..] == [0]) {
            continue;
        }
        let mut expected = parameter.shape.clone();
        for axis in cuts.get(path).into_iter().flat_map(|cut| &cut.axes) {
            expected[axis.axis] = axis.keep.len();
        }
        let what = match found.get(path) {
            Some(shape) if *shape == expected => continue,
            Some(shape) if *shape == parameter.shape => format!(
                "parameter `{path}` has the shape {shape:?} from before pruning, the plan leaves {expected:?} (train what \
                 `PrunePlan::apply` returns)"
            ),
            Some(shape) => format!("parameter `{path}` has shape {shape:?}, the plan leaves {expected:?}"),
            None => format!("it has no parameter `{path}`"),
        };
        return Err(PruneError::ModelMismatch { what });
    }
    Ok(())
}

impl KeepMask {
    fn keeps_no_more_than(&self, other: &Self) -> bool {
        self.shape == other.shape && self.keep.iter().zip(&other.keep).all(|(own, other)| !own || *other)
    }

    fn kept(&self) -> usize {
        self.keep.iter().filter(|keep| **keep).count()
    }
}
