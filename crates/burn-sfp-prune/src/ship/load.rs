//! [`load_pruned`]: the pruned model from a freshly built original.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use burn::module::Module;
use burn::tensor::TensorData;
use burn_sfp_core::SfpError;
use burn_sfp_graph::file::begins_with;
use burn_sfp_graph::{FileError, GraphModule, ParameterShape};
use burn_sfp_nn::set_values;

use super::plan_bytes::decode;
use super::{FORMAT, PLAN, burnpack, safetensors};
use crate::mask::{KeepMask, KeepMasks, attach, masked_weight};
use crate::rewrite::{on_copy, shapes_of, sketch};
use crate::{PruneError, PrunePlan, PrunedModule};

/// Makes a pruned model from a file that [`save_pruned`](crate::save_pruned) wrote and a freshly built original: the same
/// architecture with the settings that it had before it was first pruned. Its weights do not matter.
///
/// The prunings are carried out again on the shapes and plain fields of `fresh`, then all values come from the file, with masks, sparse
/// formats and folded normalisations as they were saved. Either the whole model is returned or an error; `fresh` keeps its
/// device, its element types (values are converted) and whether it is in training.
///
/// See [`save_pruned`](crate::save_pruned) for an example.
///
/// # Errors
/// - [`SfpError::File`] if the file is missing, truncated, damaged, foreign or of another version;
/// - [`PruneError::InvalidPlan`] if the plan in it contradicts itself;
/// - [`PruneError::ModelMismatch`] if `fresh` has other parameters or shapes than the original, and
///   [`PruneError::Layer`] with [`NnError::MissingValue`](burn_sfp_nn::NnError::MissingValue) and the like if its parameters are not those
///   of the file;
/// - [`PruneError::NeedsShrink`] if a plain field has to change and the model does not hand itself out for it.
pub fn load_pruned<M: GraphModule>(fresh: M, path: impl AsRef<Path>) -> Result<PrunedModule<M>, PruneError> {
    let path = path.as_ref();
    let _span = tracing::info_span!("load", path = %path.display()).entered();
    let mut values = read(path).map_err(SfpError::from)?;
    let plan = take_plan(path, &mut values).map_err(SfpError::from)?;
    plan.check()?;
    check_fresh(&plan, &fresh)?;
    let masks = masks_in(&values);
    let model = on_copy(&fresh, |mut model| {
        for earlier in &plan.earlier {
            model = sketch(&model, &earlier.cuts, &earlier.fields, &earlier.blocks)?;
        }
        model = sketch(&model, &plan.cuts, &plan.fields, &plan.blocks)?;
        if !masks.is_empty() {
            model = attach(model, &masks);
        }
        Ok(set_values(model, values)?)
    })?;
    Ok(PrunedModule { model, plan })
}

fn read(path: &Path) -> Result<BTreeMap<String, TensorData>, FileError> {
    if begins_with(path, &burnpack::magic())? { burnpack::read(path) } else { safetensors::read(path) }
}

fn take_plan(path: &Path, values: &mut BTreeMap<String, TensorData>) -> Result<PrunePlan, FileError> {
    let invalid = |message: String| FileError::Content { path: path.into(), message };
    let Some(bytes) = values.remove(PLAN) else {
        return Err(invalid(format!("it has no plan, which {} has", FORMAT.what)));
    };
    decode(bytes.as_bytes()).map_err(invalid)
}

/// Checks that a model has the parameters from before the first pruning. Masks are those of the file.
fn check_fresh<M: Module>(plan: &PrunePlan, fresh: &M) -> Result<(), PruneError> {
    let original: &[ParameterShape] = plan.earlier.first().map_or(&plan.model, |first| &first.model);
    let mut found: HashMap<String, Vec<usize>> = shapes_of(fresh);
    for expected in original.iter().filter(|parameter| masked_weight(&parameter.path).is_none()) {
        let what = match found.remove(&expected.path) {
            Some(shape) if shape == expected.shape => continue,
            Some(shape) => format!(
                "parameter `{}` of the model to load into has shape {shape:?}, and that of the saved one had {:?} before it was \
                 pruned (if the model was pruned more than once, say so by `after` when it is pruned again)",
                expected.path, expected.shape
            ),
            None => format!("the model to load into has no parameter `{}`", expected.path),
        };
        return Err(PruneError::ModelMismatch { what });
    }
    Ok(())
}

/// The masks that are among the values. Their own values are set with the others.
fn masks_in(values: &BTreeMap<String, TensorData>) -> KeepMasks {
    let mask = |(path, data): (&String, &TensorData)| {
        let (weight, &[first, second]) = (masked_weight(path)?, &**data.shape()) else { return None };
        Some((weight.to_string(), KeepMask::of_values([first, second], data.clone())))
    };
    values.iter().filter_map(mask).collect()
}
