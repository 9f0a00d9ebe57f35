//! The operations against Burn's own, with gradients.

// burn-ndarray is deprecated in 0.22 and supported here as long as it exists.
#![allow(deprecated)]

use burn::tensor::module::{batch_norm_train, conv2d as burn_conv2d};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Device, Tensor, TensorData};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::bodies::{Body, Task, runs};

fn uniform<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn devices() -> [Device; 2] {
    [Device::flex(), Device::ndarray()]
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Asserts that tensors are equal to rounding, relative to the largest element.
fn assert_near<const D: usize>(found: Tensor<D>, expected: Tensor<D>, what: &str) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let (found, expected) = (values(found), values(expected));
    let largest = expected.iter().fold(1.0_f32, |most, value| most.max(value.abs()));
    for (place, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!((found - expected).abs() <= 3e-5 * largest, "{what}, {place}: {found} {expected}");
    }
}

/// A tensor that learns where the bit is set, and is a constant with autodiff otherwise.
fn leaf<const D: usize>(tensor: &Tensor<D>, learns: bool) -> Tensor<D> {
    let tensor = tensor.clone().autodiff();
    if learns { tensor.require_grad() } else { tensor }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn convolutions(
        (samples, inputs, outputs) in (1_usize..4, 1_usize..20, 1_usize..20), [height, width] in [3_usize..12, 3..12],
        kernel in [1_usize..4, 1..4], stride in [1_usize..3, 1..3], dilation in [1_usize..3, 1..3],
        padding in [[0_usize..3, 0..3], [0_usize..3, 0..3]], with_bias: bool, learning in 1_u8..8, on in 0_usize..2, seed: u64,
    ) {
        let geometry = ConvGeometry { stride, padding, dilation, groups: 1 };
        prop_assume!(geometry.output_size([height, width], kernel).is_ok());
        let device = &devices()[on];
        let x = uniform([samples, inputs, height, width], seed, device);
        let weight = uniform([outputs, inputs, kernel[0], kernel[1]], seed ^ 1, device);
        let bias = uniform([outputs], seed ^ 2, device);
        let options = ConvOptions::new_with_padding(stride, padding.map(|[before, after]| (before, after)), dilation, 1);
        let leaves = || (leaf(&x, learning & 1 > 0), leaf(&weight, learning & 2 > 0), leaf(&bias, learning & 4 > 0));

        let (ours, burns) = (leaves(), leaves());
        let found = conv2d(&ours.0, &ours.1, with_bias.then_some(&ours.2), &geometry).unwrap();
        let expected = burn_conv2d(burns.0.clone(), burns.1.clone(), with_bias.then(|| burns.2.clone()), options);
        let factors = uniform(found.dims(), seed ^ 3, device).autodiff();
        assert_near(found.clone(), expected.clone(), "result");
        let plain = conv2d(&x, &weight, with_bias.then_some(&bias), &geometry).unwrap();
        prop_assert_eq!(values(plain), values(found.clone()));
        if learning & 3 > 0 || with_bias {
            let found = (found * factors.clone()).sum().backward();
            let expected = (expected * factors).sum().backward();
            for (what, found, expected) in [
                ("x", ours.0.grad(&found), burns.0.grad(&expected)), ("weight", ours.1.grad(&found), burns.1.grad(&expected)),
            ] {
                prop_assert_eq!(found.is_some(), expected.is_some(), "{}", what);
                if let (Some(found), Some(expected)) = (found, expected) {
                    assert_near(found, expected, what);
                }
            }
            if let (Some(found), Some(expected)) = (ours.2.grad(&found), burns.2.grad(&expected)) {
                assert_near(found, expected, "bias");
            }
        }
    }

    #[test]
    fn normalisations(
        shape in [2_usize..5, 1..6, 1..20], relu: bool, learning in 1_u8..8, on in 0_usize..2, seed: u64,
    ) {
        let device = &devices()[on];
        let x = uniform(shape, seed, device);
        let (gamma, beta) = (uniform([shape[1]], seed ^ 1, device), uniform([shape[1]], seed ^ 2, device));
        let leaves = || (leaf(&x, learning & 1 > 0), leaf(&gamma, learning & 2 > 0), leaf(&beta, learning & 4 > 0));
        let (ours, burns) = (leaves(), leaves());
        let found = batch_norm(&ours.0, &ours.1, &ours.2, 0.1, relu).unwrap();
        let done = batch_norm_train(burns.0.clone(), burns.1.clone(), burns.2.clone(), 0.1);
        let (mean, variance) = (done.mean, done.variance);
        let expected = if relu { burn::tensor::activation::relu(done.output) } else { done.output };
        assert_near(found.mean, mean.without_autodiff(), "mean");
        assert_near(found.variance, variance.without_autodiff(), "variance");
        assert_near(found.output.clone(), expected.clone(), "result");
        let factors = uniform(shape, seed ^ 3, device).autodiff();
        let (found, expected) = ((found.output * factors.clone()).sum().backward(), (expected * factors).sum().backward());
        if let (Some(found), Some(expected)) = (ours.0.grad(&found), burns.0.grad(&expected)) {
            assert_near(found, expected, "x");
        }
        for (what, ours, burns) in [("gamma", &ours.1, &burns.1), ("beta", &ours.2, &burns.2)] {
            prop_assert_eq!(ours.grad(&found).is_some(), burns.grad(&expected).is_some());
            if let (Some(found), Some(expected)) = (ours.grad(&found), burns.grad(&expected)) {
                assert_near(found, expected, what);
            }
        }
    }
}

#[test]
fn with_gradient_checkpointing() {
    use burn::tensor::GradientCheckpointingStrategy;
    let device = Device::flex();
    let (x, weight) = (uniform([2, 3, 6, 6], 1, &device), uniform([4, 3, 3, 3], 2, &device));
    let (gamma, beta) = (uniform([4], 3, &device), uniform([4], 4, &device));
    let run = |strategy: Option<GradientCheckpointingStrategy>| {
        let leaf = |weight: &Tensor<4>| {
            let leaf = weight.clone().autodiff();
            match strategy {
                Some(strategy) => leaf.with_gradient_checkpointing_strategy(strategy),
                None => leaf,
            }
            .require_grad()
        };
        let weight = leaf(&weight);
        let y = conv2d(&x, &weight, None, &ConvGeometry::default()).unwrap();
        let done = batch_norm(&y.reshape([2, 4, 16]), &gamma, &beta, 1e-5, true).unwrap();
        values(weight.grad(&done.output.powi_scalar(2).sum().backward()).unwrap())
    };
    assert_eq!(run(Some(GradientCheckpointingStrategy::Balanced)), run(None));
}

#[test]
fn what_is_left_to_burn() {
    let device = Device::flex();
    let (x, weight) = (uniform([1, 4, 5, 5], 1, &device), uniform([4, 2, 3, 3], 2, &device));
    let plain = ConvGeometry::default();
    assert!(conv2d(&x, &weight, None, &ConvGeometry { groups: 2, ..plain }).is_none());
    assert!(conv2d(&x, &weight, None, &plain).is_none(), "channels that do not fit");
    let (x, weight) = (x.cast(DType::F64), uniform([4, 4, 3, 3], 2, &device).cast(DType::F64));
    assert!(conv2d(&x, &weight, None, &plain).is_none());
    let (x, gamma) = (uniform([2, 3, 4], 1, &device).cast(DType::F64), Tensor::ones([3], (&device, DType::F64)));
    assert!(batch_norm(&x, &gamma, &gamma, 1e-5, false).is_none());
}

#[test]
fn runs_are_counted() {
    let device = Device::flex();
    let before = [Task::DenseForward, Task::DenseGradInput, Task::DenseGradWeight].map(|task| runs(task, Body::Host));
    let x = uniform([1, 2, 5, 5], 1, &device).autodiff().require_grad();
    let weight = uniform([3, 2, 3, 3], 2, &device).autodiff().require_grad();
    conv2d(&x, &weight, None, &ConvGeometry::default()).unwrap().sum().backward();
    let after = [Task::DenseForward, Task::DenseGradInput, Task::DenseGradWeight].map(|task| runs(task, Body::Host));
    assert!(before.iter().zip(after).all(|(before, after)| after > *before));
}
