//! [`PrunePlan::check`]: whether a plan agrees with itself.

use std::collections::{HashMap, HashSet};

use super::blocks::check_blocks;
use super::{CorrectedBias, CorrectionTarget, LayerPlan, PLAN_VERSION, ParameterCut, PrunePlan, check_earlier};
use burn_sfp_graph::ParameterShape;

use crate::PruneError;

/// Shapes of the model's parameters by path.
pub(super) type Shapes<'a> = HashMap<&'a str, &'a [usize]>;

/// What is wrong.
type Found = Result<(), String>;

impl PrunePlan {
    /// Checks that the plan agrees with itself and has not been changed since it was made: cuts, masks and corrections against the shapes
    /// of its model, finite numbers, counts that do not grow, and its checksum.
    ///
    /// What a [`Planner`](crate::Planner) returns passes. [`save`](PrunePlan::save), [`load`](PrunePlan::load),
    /// [`apply`](PrunePlan::apply), [`zeroed`](PrunePlan::zeroed) and [`verify`](PrunePlan::verify) check it, because its fields are
    /// public and every `serde` format can make one.
    ///
    /// ```
    /// # use burn_sfp_prune::PrunePlan;
    /// fn from_elsewhere(text: &str) -> Result<PrunePlan, Box<dyn std::error::Error>> {
    ///     let plan: PrunePlan = serde_json::from_str(text)?;
    ///     plan.check()?;
    ///     Ok(plan)
    /// }
    /// ```
    ///
    /// # Errors
    /// [`PruneError::InvalidPlan`] with the first contradiction.
    pub fn check(&self) -> Result<(), PruneError> {
        self.check_parts()?;
        self.check_seal()
    }

    /// Checks everything but the checksum.
    pub(super) fn check_parts(&self) -> Result<(), PruneError> {
        let check = || {
            if self.version != PLAN_VERSION {
                return Err(format!("it is of version {}, this build knows version {PLAN_VERSION}", self.version));
            }
            let shapes = shapes(self)?;
            check_cut_list(&self.cuts, &shapes)?;
            check_blocks(&self.blocks, &shapes)?;
            check_earlier(self)?;
            check_masks(self, &shapes)?;
            check_centered(self, &shapes)?;
            check_pieces(self, &shapes)?;
            check_layers(self, &shapes)?;
            let weights = self.layers.iter().map(|layer| (layer.path.as_str(), layer.weight.as_str())).collect();
            self.bias_corrections.iter().try_for_each(|corrected| check_correction(corrected, &weights, &shapes))?;
            check_numbers(self, &shapes)
        };
        check().map_err(PruneError::InvalidPlan)
    }
}

fn shapes(plan: &PrunePlan) -> Result<Shapes<'_>, String> {
    let shapes = shapes_of(&plan.model)?;
    match plan.measured_on.paths().find(|path| !shapes.contains_key(path)) {
        None => Ok(shapes),
        Some(path) => Err(format!("it was measured on `{path}`, which its model does not have")),
    }
}

/// The shapes of parameters by their paths, of which none is there twice.
pub(super) fn shapes_of(model: &[ParameterShape]) -> Result<Shapes<'_>, String> {
    let mut shapes = Shapes::new();
    for parameter in model {
        if parameter.shape.iter().try_fold(1_usize, |all, length| all.checked_mul(*length)).is_none() {
            return Err(format!("its parameter `{}` is too large: {:?}", parameter.path, parameter.shape));
        }
        if shapes.insert(parameter.path.as_str(), parameter.shape.as_slice()).is_some() {
            return Err(format!("its model has `{}` twice", parameter.path));
        }
    }
    Ok(shapes)
}

fn ascends<T: PartialOrd>(list: &[T]) -> bool {
    list.windows(2).all(|pair| pair[0] < pair[1])
}

pub(super) fn check_cut_list(cuts: &[ParameterCut], shapes: &Shapes<'_>) -> Found {
    let mut seen = HashSet::new();
    for cut in cuts {
        if !seen.insert(cut.path.as_str()) {
            return Err(format!("it cuts `{}` twice", cut.path));
        }
        let Some(shape) = shapes.get(cut.path.as_str()) else {
            return Err(format!("it cuts `{}`, which its model does not have", cut.path));
        };
        for (k, axis) in cut.axes.iter().enumerate() {
            let twice = cut.axes[..k].iter().any(|other| other.axis == axis.axis);
            let inside =
                shape.get(axis.axis) == Some(&axis.length) && axis.keep.last().is_some_and(|last| *last < axis.length);
            if !ascends(&axis.keep) || !inside || twice {
                return Err(format!(
                    "its cut of axis {} of `{}` is out of range, not in ascending order or there twice",
                    axis.axis, cut.path
                ));
            }
        }
    }
    Ok(())
}

fn check_masks(plan: &PrunePlan, shapes: &Shapes<'_>) -> Found {
    let mut seen = HashSet::new();
    for mask in &plan.masks {
        let fits = shapes.get(mask.parameter.as_str()).is_some_and(|shape| {
            mask.output_axis < 2
                && shape.len() >= 2
                && shape[mask.output_axis] == mask.keep.len()
                && shape[1 - mask.output_axis] == mask.inputs
        });
        let inside = |row: &Vec<u32>| ascends(row) && row.last().is_none_or(|last| (*last as usize) < mask.inputs);
        if !fits || !mask.keep.iter().all(inside) || !seen.insert(mask.parameter.as_str()) {
            return Err(format!("its mask of `{}` does not fit the weight, or is there twice", mask.parameter));
        }
    }
    Ok(())
}

fn check_centered(plan: &PrunePlan, shapes: &Shapes<'_>) -> Found {
    let mut seen = HashSet::new();
    for center in &plan.centered {
        let fits = shapes.get(center.path.as_str()).is_some_and(|shape| center.axis < shape.len());
        if !fits || !seen.insert(center.path.as_str()) {
            let what = format!("it takes the mean along axis {} out of `{}`", center.axis, center.path);
            return Err(format!("{what}, which has no such axis or is there twice"));
        }
    }
    Ok(())
}

/// Checks the parts of parameters that are scaled, and the axes that stay as they are in the masked original.
fn check_pieces(plan: &PrunePlan, shapes: &Shapes<'_>) -> Found {
    let axes = plan.cuts.iter().flat_map(|cut| cut.axes.iter().map(|axis| (cut.path.as_str(), axis.axis)));
    let cut: HashSet<(&str, usize)> = axes.collect();
    for scale in &plan.scales {
        let Some(part) = &scale.part else { continue };
        let length = shapes.get(scale.path.as_str()).and_then(|shape| shape.get(part.axis));
        let inside = length.is_some_and(|&length| part.start < part.end && part.end <= length);
        if !inside || cut.contains(&(scale.path.as_str(), part.axis)) {
            let what = format!("it scales {} to {} of axis {} of `{}`", part.start, part.end, part.axis, scale.path);
            return Err(format!("{what}, which are not there"));
        }
    }
    let unknown = |axis: usize, path: &str| shapes.get(path).is_none_or(|shape| axis >= shape.len());
    match plan.unzeroed.iter().find(|unzeroed| unknown(unzeroed.axis, &unzeroed.path)) {
        None => Ok(()),
        Some(one) => Err(format!("it leaves axis {} of `{}` as it is, which has no such axis", one.axis, one.path)),
    }
}

fn check_layers(plan: &PrunePlan, shapes: &Shapes<'_>) -> Found {
    for layer in &plan.layers {
        let LayerPlan { path, weight, bias, .. } = layer;
        if let Some(unknown) = std::iter::once(weight).chain(bias).find(|path| !shapes.contains_key(path.as_str())) {
            return Err(format!("its layer `{path}` has parameter `{unknown}`, which its model does not have"));
        }
        let pairs = [
            (layer.filters_before as u64, layer.filters_after as u64),
            (layer.connections_before, layer.connections_after),
            (layer.parameters_before, layer.parameters_after),
            (layer.macs_before, layer.macs_after),
        ];
        if pairs.iter().any(|(before, after)| after > before) {
            return Err(format!("its layer `{path}` grows"));
        }
    }
    if plan.parameters_after > plan.parameters_before || plan.macs_after > plan.macs_before {
        return Err("its model grows".into());
    }
    Ok(())
}

/// Checks one correction; `weights` are those of the layers, both by their paths.
fn check_correction(corrected: &CorrectedBias, weights: &HashMap<&str, &str>, shapes: &Shapes<'_>) -> Found {
    let wrong = |what: &str| Err(format!("its bias correction of layer `{}` {what}", corrected.layer));
    let known = weights.get(corrected.layer.as_str()) == Some(&corrected.weight.as_str());
    let shape = shapes.get(corrected.weight.as_str()).filter(|shape| shape.len() >= 2 && corrected.output_axis < 2);
    let (true, Some(shape)) = (known, shape) else { return wrong("does not fit the weight") };
    let (outputs, inputs) = (shape[corrected.output_axis], shape[1 - corrected.output_axis]);
    let (CorrectionTarget::Bias(target) | CorrectionTarget::RunningMean(target)) = &corrected.target;
    if shapes.get(target.as_str()) != Some(&[outputs].as_slice()) {
        return wrong("does not fit what it corrects");
    }
    let listed: Vec<usize> = corrected.inputs.iter().map(|(input, _)| *input).collect();
    if !ascends(&listed) || listed.last().is_some_and(|last| *last >= inputs) {
        return wrong("has inputs that are out of range or not in ascending order");
    }
    if corrected.inputs.iter().any(|(_, mean)| !mean.is_finite()) {
        return wrong("has values that are not finite");
    }
    if corrected.coverage.len() != shape[2..].iter().product::<usize>()
        || corrected.coverage.iter().any(|share| !(0.0..=1.0).contains(share))
    {
        return wrong("has shares of the kernel that do not fit the weight, or are not between 0 and 1");
    }
    Ok(())
}

/// Checks the numbers of scales and fields.
fn check_numbers(plan: &PrunePlan, shapes: &Shapes<'_>) -> Found {
    // Factors are powers of ratios of widths, so that single precision holds them and their inverses with ease.
    const LARGEST: f64 = 1e9;
    for scale in &plan.scales {
        let in_range = scale.factor.abs() <= LARGEST && scale.factor.abs() >= 1.0 / LARGEST;
        if !in_range || !shapes.contains_key(scale.path.as_str()) {
            return Err(format!("it multiplies `{}` by {}", scale.path, scale.factor));
        }
    }
    let fields = plan.earlier.iter().flat_map(|earlier| &earlier.fields).chain(&plan.fields);
    match fields.into_iter().find(|edit| !(edit.before.is_finite() && edit.after.is_finite())) {
        None => Ok(()),
        Some(edit) => Err(format!("it sets `{}` of `{}` to {}", edit.field, edit.path, edit.after)),
    }
}
