//! Whether a model is the one that a plan made, and the masks that the plan wants enforced on it.

use burn::module::Module;

use crate::mask::{KeepMask, KeepMasks, masks_of};
use crate::rewrite::{in_format, made_by, masks_of_smaller};
use crate::{PruneError, PrunePlan};

/// Checks that a model has the shapes that the plan leaves, and returns the plan's masks for the weights on which nothing holds the
/// removed connections at zero yet: those without a mask of their own and without a sparse format.
///
/// # Errors
/// [`PruneError::InvalidPlan`]; [`PruneError::ModelMismatch`] where the plan made another model, or the model's own mask keeps what the
/// plan removes.
pub(super) fn masks_to_enforce<M: Module>(plan: &PrunePlan, model: &M) -> Result<KeepMasks, PruneError> {
    let formats = made_by(plan, model)?;
    let own = masks_of(model);
    let mut masks = masks_of_smaller(plan);
    for (path, mask) in &masks {
        if let Some(own) = own.get(path).filter(|own| !own.keeps_no_more_than(mask)) {
            let what = format!("the mask of `{path}` keeps {} connections, some of which the plan removes", own.kept());
            return Err(PruneError::ModelMismatch { what });
        }
    }
    masks.retain(|path, _| !own.contains_key(path) && !in_format(&formats, path));
    Ok(masks)
}

impl KeepMask {
    fn keeps_no_more_than(&self, other: &Self) -> bool {
        self.shape == other.shape && self.keep.iter().zip(&other.keep).all(|(own, other)| !own || *other)
    }

    fn kept(&self) -> usize {
        self.keep.iter().filter(|keep| **keep).count()
    }
}
