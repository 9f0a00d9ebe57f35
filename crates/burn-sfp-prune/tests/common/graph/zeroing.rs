//! The test's own idea of what a plan removes, written without the library's rewriting.

use burn::module::Module;
use burn_sfp_prune::PrunePlan;

use super::inspect::edited;

/// A copy of the model with zeros wherever the plan cuts.
pub fn zeroed<M: Module>(model: &M, plan: &PrunePlan) -> M {
    edited(model, |path, shape, values| {
        for axis in plan.cuts.iter().filter(|cut| cut.path == path).flat_map(|cut| &cut.axes) {
            let inner: usize = shape[axis.axis + 1..].iter().product();
            for (k, value) in values.iter_mut().enumerate() {
                if !axis.keep.contains(&(k / inner % shape[axis.axis])) {
                    *value = 0.0;
                }
            }
        }
    })
}
