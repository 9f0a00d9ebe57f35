//! Whether a recorded pass computes what the model computes in training, on one batch.
//!
//! A recorded pass shows what a module computes, not what it hides: a tensor cut off from its gradients, a branch on whether there are
//! gradients. So logits, gradients and running statistics of one step are compared before training.

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor};
use burn_sfp_core::labels::{check_range, label_tensor};
use burn_sfp_core::{SfpError, SfpModule};
use burn_sfp_graph::is_statistic;
use burn_sfp_nn::walk::{ParamPath, ParamVisitor, visit_params};

use super::loss::cross_entropy;
use super::train::whole;
use crate::PruneError;

/// Seed of the random numbers of both ways, where there are some.
const SEED: u64 = 0x5f;

/// Compares one step on a batch by the model itself with one by `logits`, and returns the number of classes. `model` is in training mode, and
/// stays as it is; `is_random` says that the pass draws random numbers.
pub(super) fn same_step<M: SfpModule>(
    model: &M,
    is_random: bool,
    (input, labels): (&M::Inputs, &[usize]),
    device: &Device,
    logits: impl FnOnce(&M) -> Result<Tensor<2>, PruneError>,
) -> Result<usize, PruneError> {
    // Copies share running statistics.
    let copy = || model.valid().train();
    let seed = || {
        if is_random {
            device.seed(SEED)
        }
    };
    let (plain, split) = (copy(), copy());
    seed();
    let expected = whole(&plain, input, 0, device)?;
    seed();
    let found = logits(&split)?;
    let samples = labels.len();
    let [rows, classes] = expected.dims();
    if rows != samples {
        return Err(SfpError::LogitsShape { found: vec![rows, classes], samples }.into());
    }
    check_range(0, labels, classes)?;
    let most = if matches!(expected.dtype(), DType::F16 | DType::BF16) { 5e-2 } else { 2e-3 };
    let [expected, found] =
        [(expected, &plain), (found, &split)].map(|(logits, model)| Step::of(logits, labels, model, device));
    expected.compare(&found, most)?;
    Ok(classes)
}

pub(super) fn differs(what: impl Into<String>) -> PruneError {
    PruneError::NotByRecordedPass { what: what.into() }
}

/// What one step shows of a model.
struct Step {
    logits: Vec<f64>,
    /// By path: gradients, and running statistics after the forward pass.
    gradients: BTreeMap<String, Vec<f64>>,
    statistics: BTreeMap<String, Vec<f64>>,
}

impl Step {
    fn of<M: Module>(logits: Tensor<2>, labels: &[usize], model: &M, device: &Device) -> Self {
        let values = numbers(logits.clone());
        let loss = cross_entropy(logits, label_tensor(labels, device), 0.0);
        let gradients = match loss.is_tracked() {
            true => GradientsParams::from_grads(loss.backward(), model),
            false => GradientsParams::new(),
        };
        let mut read = Read {
            gradients: &gradients,
            step: Self { logits: values, gradients: BTreeMap::new(), statistics: BTreeMap::new() },
        };
        // Statistics are settled by `valid`.
        visit_params(model, &mut read);
        let mut settled = ReadStatistics(BTreeMap::new());
        visit_params(&model.valid(), &mut settled);
        Self { statistics: settled.0, ..read.step }
    }

    fn compare(&self, found: &Self, most: f64) -> Result<(), PruneError> {
        if self.logits.iter().any(|value| !value.is_finite()) {
            // Training says what is wrong.
            return Ok(());
        }
        if apart(&self.logits, &found.logits) > most {
            return Err(differs("the logits of a batch are others"));
        }
        let largest = self.gradients.values().flatten().fold(0.0_f64, |most, value| most.max(value.abs()));
        for (path, gradient) in &self.gradients {
            let none = Vec::new();
            let other = found.gradients.get(path).unwrap_or(&none);
            let size = norm(gradient).max(1e-4 * largest * (gradient.len() as f64).sqrt());
            let off: f64 = gradient.iter().zip(other).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
            if other.len() != gradient.len() || off > 25.0 * most * size {
                return Err(differs(format!("the gradient of `{path}` is another one")));
            }
        }
        if let Some(path) = found.gradients.keys().find(|path| !self.gradients.contains_key(*path)) {
            return Err(differs(format!("`{path}` has a gradient that it does not have in the whole model")));
        }
        for (path, values) in &self.statistics {
            if found.statistics.get(path).is_none_or(|other| apart(values, other) > most) {
                return Err(differs(format!("the running statistic `{path}` is another one")));
            }
        }
        Ok(())
    }
}

pub(super) fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.without_autodiff().into_data().iter::<f64>().collect()
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// The largest difference, over the largest value.
pub(super) fn apart(a: &[f64], b: &[f64]) -> f64 {
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    let size = a.iter().fold(1e-3_f64, |most, value| most.max(value.abs()));
    a.iter().zip(b).fold(0.0_f64, |most, (a, b)| most.max((a - b).abs())) / size
}

struct Read<'a> {
    gradients: &'a GradientsParams,
    step: Step,
}

impl ParamVisitor for Read<'_> {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            self.step.gradients.insert(path.join(), numbers(gradient));
        }
    }
}

struct ReadStatistics(BTreeMap<String, Vec<f64>>);

impl ParamVisitor for ReadStatistics {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
        let path = path.join();
        if is_statistic(&path) {
            self.0.insert(path, numbers(param.base()));
        }
    }
}
