//! What removed inputs add on average, as numbers to add to a bias or a running mean.

use std::collections::HashMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

use crate::plan::{Fold, FoldTarget};
use crate::{PruneError, PrunePlan};

/// For each bias or running mean, by path, what to add to it (before the cuts).
pub(super) fn additions<M: Module>(plan: &PrunePlan, model: &M) -> Result<HashMap<String, Vec<f32>>, PruneError> {
    let mut weights = Weights { path: Vec::new(), wanted: plan, found: HashMap::new() };
    if !plan.folds.is_empty() {
        model.visit(&mut weights);
    }
    let shapes: HashMap<&str, &Vec<usize>> = plan.model.iter().map(|p| (p.path.as_str(), &p.shape)).collect();
    let mut additions: HashMap<String, Vec<f32>> = HashMap::new();
    for fold in &plan.folds {
        let broken = || PruneError::BrokenPlan(format!("its fold of layer `{}` does not fit the weight", fold.layer));
        let (shape, numbers) = (shapes.get(fold.weight.as_str()), weights.found.get(&fold.weight));
        let (Some(shape), Some(numbers)) = (shape, numbers) else { return Err(broken()) };
        let correction = correction(plan, fold, shape, numbers).ok_or_else(broken)?;
        let (path, sign) = match &fold.target {
            FoldTarget::Bias(path) => (path, 1.0),
            FoldTarget::RunningMean(path) => (path, -1.0),
        };
        if shapes.get(path.as_str()).map(|shape| shape.as_slice()) != Some(&[correction.len()]) {
            return Err(broken());
        }
        additions.insert(path.clone(), correction.iter().map(|value| (sign * value) as f32).collect());
    }
    Ok(additions)
}

/// `delta_b = sum_a mean_a sum_k coverage_k W[b, a, k]` over the removed inputs (or connections).
fn correction(plan: &PrunePlan, fold: &Fold, shape: &[usize], weight: &[f32]) -> Option<Vec<f64>> {
    let (&first, &second) = (shape.first()?, shape.get(1)?);
    let kernel: usize = shape[2..].iter().product();
    let (outputs, inputs) = if fold.output_axis == 0 { (first, second) } else { (second, first) };
    if fold.coverage.len() != kernel || weight.len() != first * second * kernel {
        return None;
    }
    let mask = plan.masks.iter().find(|mask| mask.layer == fold.layer).filter(|_| fold.removed_connections_only);
    let cut = plan.cuts.iter().find(|cut| cut.path == fold.weight);
    let kept = cut.and_then(|cut| cut.axes.iter().find(|axis| axis.axis != fold.output_axis));
    let mut delta = vec![0.0f64; outputs];
    for &(input, mean) in &fold.inputs {
        if input >= inputs {
            return None;
        }
        let removed = kept.is_some_and(|axis| axis.keep.binary_search(&input).is_err());
        for (output, delta) in delta.iter_mut().enumerate() {
            let still_there = fold.removed_connections_only
                && !removed
                && mask.is_none_or(|mask| {
                    mask.keep.get(output).is_some_and(|row| row.binary_search(&(input as u32)).is_ok())
                });
            if still_there {
                continue;
            }
            let at = if fold.output_axis == 0 { output * second + input } else { input * second + output };
            let sum: f64 = weight[at * kernel..(at + 1) * kernel]
                .iter()
                .zip(&fold.coverage)
                .map(|(weight, share)| f64::from(*weight) * f64::from(*share))
                .sum();
            *delta += f64::from(mean) * sum;
        }
    }
    Some(delta)
}

struct Weights<'a> {
    path: Vec<String>,
    wanted: &'a PrunePlan,
    found: HashMap<String, Vec<f32>>,
}

impl ModuleVisitor for Weights<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.join(".");
        if self.wanted.folds.iter().any(|fold| fold.weight == path)
            && let Ok(numbers) = param.base().into_data().convert::<f32>().try_into_vec::<f32>()
        {
            self.found.insert(path, numbers);
        }
    }
}
