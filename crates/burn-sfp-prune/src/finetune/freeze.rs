//! Which parameters learn.

use burn::module::ParamGroup;
use burn_sfp_core::SfpModule;

use crate::PrunePlan;

/// Returns a copy of the model for training in which only the parameters that the plan names learn; all of them where `all` is
/// set or the plan names none. The copy shares no running statistics with the model.
pub(super) fn trainable<M: SfpModule>(model: &M, plan: &PrunePlan, all: bool) -> M {
    let copy = model.valid();
    if all || plan.trainable.is_empty() {
        copy.train()
    } else {
        copy.freeze().unfreeze_group(ParamGroup::from_paths(plan.trainable.clone())).train()
    }
}
