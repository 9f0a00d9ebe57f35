//! Whether the frozen part and the part that learns together compute what the model computes in training, on one batch, and whether a
//! frozen layer mixes samples.

use burn::tensor::{Bool, Device, Int, Tensor};
use burn_sfp_core::SfpModule;
use burn_sfp_graph::{FrozenOutputs, FrozenPart, FrozenTensor, InputMapper, ModuleInput, TrainingGraph};

use super::super::same_step::{apart, differs, numbers, same_step};
use super::tail::Tail;
use crate::PruneError;

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
    same_step(model, graph.is_random(), (input, labels), device, |model| tail.logits(model, &stored, 0))
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
