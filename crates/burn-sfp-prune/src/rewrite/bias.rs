//! Bias corrections: what removed inputs add on average, as values to add to a bias or a running mean (docs/method.md, section 5).

use std::collections::{HashMap, HashSet};

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn_sfp_nn::walk::{ParamPath, ParamVisitor, visit_params};

use crate::plan::{CorrectedBias, CorrectionTarget, Mask, ParameterCut};
use crate::{PruneError, PrunePlan};

/// Returns what to add to each bias or running mean before the cuts, by the path of the parameter.
pub(super) fn additions<M: Module>(
    plan: &PrunePlan,
    corrections: &[CorrectedBias],
    model: &M,
) -> Result<HashMap<String, Vec<f64>>, PruneError> {
    if corrections.is_empty() {
        return Ok(HashMap::new());
    }
    let mut weights = Weights::wanted(corrections);
    visit_params(model, &mut weights);
    additions_by(plan, corrections, &weights)
}

/// [`additions`] from the weights that they need.
fn additions_by(
    plan: &PrunePlan,
    corrections: &[CorrectedBias],
    weights: &Weights<'_>,
) -> Result<HashMap<String, Vec<f64>>, PruneError> {
    let shapes: HashMap<&str, &[usize]> = plan.model.iter().map(|p| (p.path.as_str(), p.shape.as_slice())).collect();
    let masks: HashMap<&str, &Mask> = plan.masks.iter().rev().map(|mask| (mask.layer.as_str(), mask)).collect();
    let cuts: HashMap<&str, &ParameterCut> = plan.cuts.iter().rev().map(|cut| (cut.path.as_str(), cut)).collect();
    let mut additions: HashMap<String, Vec<f64>> = HashMap::new();
    for corrected in corrections {
        let invalid = || {
            let what = format!("its bias correction of layer `{}` does not fit the weight", corrected.layer);
            PruneError::InvalidPlan(what)
        };
        let (shape, weight) = (shapes.get(corrected.weight.as_str()), weights.found.get(&corrected.weight));
        let (Some(shape), Some(weight)) = (shape, weight) else { return Err(invalid()) };
        let mask = masks.get(corrected.layer.as_str()).copied();
        let cut = cuts.get(corrected.weight.as_str()).copied();
        let correction = correction(mask, cut, corrected, (shape, weight)).ok_or_else(invalid)?;
        let (path, sign) = match &corrected.target {
            CorrectionTarget::Bias(path) => (path, 1.0),
            CorrectionTarget::RunningMean(path) => (path, -1.0),
        };
        if shapes.get(path.as_str()) != Some(&[correction.len()].as_slice()) {
            return Err(invalid());
        }
        // Two layers may share a bias.
        let sum = additions.entry(path.clone()).or_insert_with(|| vec![0.0; correction.len()]);
        sum.iter_mut().zip(&correction).for_each(|(sum, value)| *sum += sign * value);
    }
    Ok(additions)
}

/// Returns `delta[b] = sum_a mean[a] * sum_k coverage[k] * W[b, a, k]` over the removed inputs or connections; `None` if the
/// correction does not fit the weight.
fn correction(
    mask: Option<&Mask>,
    cut: Option<&ParameterCut>,
    corrected: &CorrectedBias,
    (shape, weight): (&[usize], &[f64]),
) -> Option<Vec<f64>> {
    let (&first, &second) = (shape.first()?, shape.get(1)?);
    let kernel: usize = shape[2..].iter().product();
    let (outputs, inputs) = if corrected.output_axis == 0 { (first, second) } else { (second, first) };
    if corrected.coverage.len() != kernel || weight.len() != first * second * kernel {
        return None;
    }
    let connections_only = corrected.removed_connections_only;
    let mask = mask.filter(|_| connections_only);
    let kept = cut.and_then(|cut| cut.axes.iter().find(|axis| axis.axis != corrected.output_axis));
    let mut delta = vec![0.0f64; outputs];
    for &(input, mean) in &corrected.inputs {
        if input >= inputs {
            return None;
        }
        let removed = kept.is_some_and(|axis| axis.keep.binary_search(&input).is_err());
        for (output, delta) in delta.iter_mut().enumerate() {
            let stays = connections_only
                && !removed
                && mask.is_none_or(|mask| {
                    mask.keep.get(output).is_some_and(|row| row.binary_search(&(input as u32)).is_ok())
                });
            if stays {
                continue;
            }
            let at = if corrected.output_axis == 0 { output * second + input } else { input * second + output };
            let sum: f64 = weight[at * kernel..(at + 1) * kernel]
                .iter()
                .zip(&corrected.coverage)
                .map(|(weight, share)| weight * f64::from(*share))
                .sum();
            *delta += f64::from(mean) * sum;
        }
    }
    Some(delta)
}

/// Reads the weights whose biases are corrected.
struct Weights<'a> {
    wanted: HashSet<&'a str>,
    found: HashMap<String, Vec<f64>>,
}

impl<'a> Weights<'a> {
    fn wanted(corrections: &'a [CorrectedBias]) -> Self {
        let wanted = corrections.iter().map(|corrected| corrected.weight.as_str()).collect();
        Self { wanted, found: HashMap::new() }
    }
}

impl ParamVisitor for Weights<'_> {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
        let path = path.join();
        if self.wanted.contains(path.as_str())
            && let Ok(values) = param.base().into_data().convert::<f64>().try_into_vec::<f64>()
        {
            self.found.insert(path, values);
        }
    }
}
