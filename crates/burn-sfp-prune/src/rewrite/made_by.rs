//! Whether a model is the one that a plan made.

use std::collections::{BTreeMap, HashMap};

use burn::module::Module;
use burn_sfp_nn::sparse::{WeightFormat, formats};

use super::check::shapes_of;
use crate::mask::masked_weight;
use crate::plan::ParameterCut;
use crate::{PruneError, PrunePlan};

/// Checks that a model has the shapes that a plan leaves, and returns the formats of its sparse layers. It may have been trained,
/// materialised, folded and made sparse since.
///
/// # Errors
/// [`PruneError::InvalidPlan`], and [`PruneError::ModelMismatch`] with the first difference.
pub(crate) fn made_by<M: Module>(plan: &PrunePlan, model: &M) -> Result<BTreeMap<String, WeightFormat>, PruneError> {
    plan.check()?;
    let formats = formats(model)?;
    let cuts: HashMap<&str, &ParameterCut> = plan.cuts.iter().map(|cut| (cut.path.as_str(), cut)).collect();
    let found = shapes_of(model);
    for parameter in &plan.model {
        let Some(after) = plan.path_after(&parameter.path) else { continue };
        let path = after.as_str();
        // A mask may have been folded in, a batch normalisation too, and a sparse weight holds what is left of it.
        let folded = found.get(path).is_some_and(|shape| shape[..] == [0]);
        if masked_weight(path).is_some() || in_format(&formats, path) || folded {
            continue;
        }
        let mut expected = parameter.shape.clone();
        if let Some(cut) = cuts.get(parameter.path.as_str()) {
            cut.shorten(&mut expected);
        }
        let what = match found.get(path) {
            Some(shape) if *shape == expected => continue,
            Some(shape) if *shape == parameter.shape => format!(
                "parameter `{path}` has the shape {shape:?} from before pruning, the plan leaves {expected:?} (take what \
                 `PrunePlan::apply` returns)"
            ),
            Some(shape) => format!("parameter `{path}` has shape {shape:?}, the plan leaves {expected:?}"),
            None => format!("it has no parameter `{path}`"),
        };
        return Err(PruneError::ModelMismatch { what });
    }
    Ok(formats)
}

/// Whether a parameter is the weight of a layer that has one of these formats.
pub(crate) fn in_format(formats: &BTreeMap<String, WeightFormat>, path: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(layer, name)| name == "weight" && formats.contains_key(layer))
}
