//! Whether the frozen part and the part that learns together compute what the model computes in training, on one batch.
//!
//! A recorded pass shows what a module computes, not what it hides: a tensor cut off from its gradients, a branch on whether there are
//! gradients, a frozen layer that mixes samples. So logits, gradients and running statistics of one step are compared before training.

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Bool, DType, Device, Int, Tensor};
use burn_sfp_core::labels::{check_range, label_tensor};
use burn_sfp_core::{SfpError, SfpModule};
use burn_sfp_graph::{FrozenOutputs, FrozenPart, FrozenTensor, InputMapper, ModuleInput, TrainingGraph, is_statistic};
use burn_sfp_nn::walk::{ParamPath, ParamVisitor, visit_params};

use super::super::loss::cross_entropy;
use super::super::train::whole;
use super::tail::Tail;
use crate::PruneError;

/// Seed of the random numbers of both ways, where there are some.
const SEED: u64 = 0x5f;

/// Compares one step both ways on a batch, and returns the number of classes. `model` is in training mode, and stays as it is.
pub(super) fn check<M: SfpModule>(
    model: &M,
    graph: &TrainingGraph,
    frozen: &mut FrozenPart,
    tail: &Tail<M>,
    (input, labels): (&M::Inputs, &[usize]),
    device: &Device,
) -> Result<usize, PruneError> {
    let samples = labels.len();
    let stored = frozen.run(input.clone())?;
    if samples > 1 {
        // Other samples in other places, then no other samples at all.
        let turned = frozen.run(input.clone().map_tensors(&mut Turn))?;
        let alone = frozen.run(input.clone().map_tensors(&mut First))?.slice_samples(0, 1);
        let first = stored.clone().slice_samples(0, 1);
        let difference = distance(&stored.clone().map_tensors(&mut Turn), &turned).max(distance(&first, &alone));
        if difference > tolerance(&stored) {
            return Err(differs("the frozen part computes a sample's outputs from other samples of its batch"));
        }
    }
    // Copies share running statistics.
    let copy = || model.valid().train();
    let seed = || {
        if graph.is_random() {
            device.seed(SEED)
        }
    };
    let (plain, split) = (copy(), copy());
    seed();
    let expected = whole(&plain, input, 0, device)?;
    seed();
    let found = tail.logits(&split, &stored, 0)?;
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

fn differs(what: impl Into<String>) -> PruneError {
    PruneError::NotByStore { what: what.into() }
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

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.without_autodiff().into_data().iter::<f64>().collect()
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// The largest difference, over the largest value.
fn apart(a: &[f64], b: &[f64]) -> f64 {
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

/// Puts the first sample behind the last one.
struct Turn;

/// Puts the first sample in the place of all others.
struct First;

/// Does the same with tensors of every kind.
macro_rules! map_samples {
    ($type:ty, |$tensor:ident, $samples:ident| $body:expr) => {
        impl InputMapper for $type {
            fn float<const D: usize>(&mut self, $tensor: Tensor<D>) -> Tensor<D> {
                let $samples = $tensor.dims()[0];
                $body
            }
            fn int<const D: usize>(&mut self, $tensor: Tensor<D, Int>) -> Tensor<D, Int> {
                let $samples = $tensor.dims()[0];
                $body
            }
            fn bool<const D: usize>(&mut self, $tensor: Tensor<D, Bool>) -> Tensor<D, Bool> {
                let $samples = $tensor.dims()[0];
                $body
            }
        }
    };
}
map_samples!(Turn, |tensor, samples| {
    Tensor::cat(vec![tensor.clone().slice_dim(0, 1..samples), tensor.slice_dim(0, 0..1)], 0)
});
map_samples!(First, |tensor, samples| tensor.slice_dim(0, 0..1).repeat_dim(0, samples));

/// The largest relative difference of a float output; infinite where other outputs differ.
fn distance(a: &FrozenOutputs, b: &FrozenOutputs) -> f64 {
    let pair = |(a, b): (&FrozenTensor, &FrozenTensor)| match (a, b) {
        (FrozenTensor::Float(a), FrozenTensor::Float(b)) => apart(&numbers(a.clone()), &numbers(b.clone())),
        (FrozenTensor::Int(a), FrozenTensor::Int(b)) if a.to_data() == b.to_data() => 0.0,
        (FrozenTensor::Bool(a), FrozenTensor::Bool(b)) if a.to_data() == b.to_data() => 0.0,
        _ => f64::INFINITY,
    };
    // What is not finite differs from itself, and training says so.
    a.0.iter().zip(&b.0).map(pair).filter(|distance| !distance.is_nan()).fold(0.0, f64::max)
}

/// What rounding may do to outputs of this type.
fn tolerance(outputs: &FrozenOutputs) -> f64 {
    let half = |output: &FrozenTensor| matches!(output, FrozenTensor::Float(tensor) if tensor.dtype().size() == 2);
    if outputs.0.iter().any(half) { 5e-2 } else { 1e-3 }
}
