//! The check of a model and a plan, before anything is changed.

use std::collections::{HashMap, HashSet};

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn_sfp_nn::walk::{ParamPath, ParamVisitor, visit_params};

use crate::mask::masks_of;
use crate::{PruneError, PrunePlan};

/// Shapes that the plan expects, by the path of the parameter.
type Expected<'a> = HashMap<&'a str, &'a [usize]>;

/// Refuses a model that is not the plan's, a plan that contradicts itself, and a weight to be masked that has a mask already.
pub(super) fn check<M: Module>(plan: &PrunePlan, model: &M) -> Result<(), PruneError> {
    check_model(plan, model)?;
    let expected: Expected<'_> = plan.model.iter().map(|p| (p.path.as_str(), p.shape.as_slice())).collect();
    check_cuts(plan, &expected)?;
    let masked = masks_of(model);
    if let Some(mask) = plan.masks.iter().find(|mask| masked.contains_key(&mask.parameter)) {
        return Err(PruneError::AlreadyMasked { path: mask.parameter.clone() });
    }
    if let Some(center) = plan.centered.iter().find(|center| masked.contains_key(&center.path)) {
        return Err(PruneError::AlreadyMasked { path: center.path.clone() });
    }
    check_centered(plan, &expected)?;
    check_masks(plan, &expected)
}

fn check_centered(plan: &PrunePlan, expected: &Expected<'_>) -> Result<(), PruneError> {
    let mut seen = HashSet::new();
    for center in &plan.centered {
        let fits = expected.get(center.path.as_str()).is_some_and(|shape| center.axis < shape.len());
        if !fits || !seen.insert(center.path.as_str()) {
            let what = format!("it takes the mean along axis {} out of `{}`", center.axis, center.path);
            return Err(PruneError::InvalidPlan(format!("{what}, which has no such axis or is there twice")));
        }
    }
    Ok(())
}

fn check_model<M: Module>(plan: &PrunePlan, model: &M) -> Result<(), PruneError> {
    let found = shapes_of(model);
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

fn check_cuts(plan: &PrunePlan, expected: &Expected<'_>) -> Result<(), PruneError> {
    let invalid = |what: String| Err(PruneError::InvalidPlan(what));
    let mut seen = HashSet::new();
    for cut in &plan.cuts {
        if !seen.insert(cut.path.as_str()) {
            return invalid(format!("it cuts `{}` twice", cut.path));
        }
        let Some(shape) = expected.get(cut.path.as_str()) else {
            return invalid(format!("it cuts `{}`, which its model does not have", cut.path));
        };
        for (k, axis) in cut.axes.iter().enumerate() {
            let twice = cut.axes[..k].iter().any(|other| other.axis == axis.axis);
            let ascending = axis.keep.windows(2).all(|pair| pair[0] < pair[1]);
            let inside =
                shape.get(axis.axis) == Some(&axis.length) && axis.keep.last().is_some_and(|last| *last < axis.length);
            if !ascending || !inside || twice {
                return invalid(format!(
                    "its cut of axis {} of `{}` is out of range, not in ascending order or there twice",
                    axis.axis, cut.path
                ));
            }
        }
    }
    Ok(())
}

fn check_masks(plan: &PrunePlan, expected: &Expected<'_>) -> Result<(), PruneError> {
    for mask in &plan.masks {
        let fits = expected.get(mask.parameter.as_str()).is_some_and(|shape| {
            mask.output_axis < 2
                && shape.len() >= 2
                && shape[mask.output_axis] == mask.keep.len()
                && shape[1 - mask.output_axis] == mask.inputs
        });
        let ascending = mask.keep.iter().all(|row| {
            row.windows(2).all(|pair| pair[0] < pair[1]) && row.last().is_none_or(|last| (*last as usize) < mask.inputs)
        });
        if !fits || !ascending {
            return Err(PruneError::InvalidPlan(format!("its mask of `{}` does not fit the weight", mask.parameter)));
        }
    }
    Ok(())
}

/// Returns the shape of each float parameter by its path.
fn shapes_of<M: Module>(model: &M) -> HashMap<String, Vec<usize>> {
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
