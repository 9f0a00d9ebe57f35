//! Sparse layers equal the masked dense ones, forward and backward, on random shapes and patterns.

#![allow(deprecated)] // burn-ndarray is supported as long as it exists

mod common;

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use burn_sfp_nn::NnError;
use burn_sfp_nn::sparse::{Block, Blocks, KernelPattern, WeightFormat};
use burn_sfp_nn::{SparseConv2d, SparseLinear};
#[cfg(feature = "wgpu")]
use common::gpu;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn random<const D: usize>(shape: [usize; D], rng: &mut ChaCha8Rng, device: &Device) -> Tensor<D> {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Equal within 1e-5 of the largest element, or of 1: the terms are of that size, and a sum of them may cancel.
fn assert_near<const D: usize>(found: Tensor<D>, expected: Tensor<D>, what: &str) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let (found, expected) = (values(found), values(expected));
    let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    for (k, (a, b)) in found.iter().zip(&expected).enumerate() {
        assert!((a - b).abs() <= 1e-5 * largest.max(1.0), "{what}: element {k} is {a}, expected {b}");
    }
}

/// Connections: none, all, or a share of them.
fn connections(outputs: usize, inputs: usize, share: f64, rng: &mut ChaCha8Rng) -> Vec<bool> {
    (0..outputs * inputs).map(|_| share >= 1.0 || rng.random_bool(share.max(0.0))).collect()
}

fn kernels(outputs: usize, inputs: usize, keep: &[bool]) -> WeightFormat {
    WeightFormat::Kernels(Arc::new(KernelPattern::from_fn(outputs, inputs, |o, i| keep[o * inputs + i])))
}

/// Every block of three filters reads what any of them reads.
fn blocks(outputs: usize, inputs: usize, keep: &[bool]) -> WeightFormat {
    let filters: Vec<u32> = (0..outputs as u32).collect();
    let block = |first: usize, step: usize| {
        let outputs: Vec<u32> = filters.iter().copied().skip(first).step_by(step).collect();
        let read = |input: &usize| *input == 0 || outputs.iter().any(|&o| keep[o as usize * inputs + input]);
        let reads: Vec<u32> = (0..inputs).filter(read).map(|input| input as u32).collect();
        let pairs = outputs.iter().flat_map(|&o| reads.iter().map(move |&i| (o, i)));
        let keep = pairs.map(|(o, i)| keep[o as usize * inputs + i as usize]).collect();
        Block { outputs, inputs: reads, keep }
    };
    let step = 3.min(outputs);
    let blocks = (0..step).map(|first| block(first, step)).collect();
    WeightFormat::Blocks(Arc::new(Blocks { outputs, inputs, blocks }))
}

/// A tensor over the first two axes of a weight.
fn mask<const D: usize>(keep: &[bool], shape: [usize; D], device: &Device) -> Tensor<D> {
    let kept: Vec<f32> = keep.iter().map(|&keep| f32::from(u8::from(keep))).collect();
    Tensor::from_data(TensorData::new(kept, shape), device)
}

/// Output and gradients of input, weight (in the sparse layer's own shape) and bias.
type Found = (Tensor<4>, Tensor<4>, Tensor<1>);

fn step(
    forward: impl Fn(Tensor<4>) -> Tensor<4>,
    bias: &Param<Tensor<1>>,
    x: &Tensor<4>,
    seed: u64,
) -> (Found, burn::tensor::Gradients) {
    let x = x.clone().autodiff().require_grad();
    let y = forward(x.clone());
    let plain = y.clone().without_autodiff();
    let weights = random(y.dims(), &mut ChaCha8Rng::seed_from_u64(seed), &plain.device());
    let gradients = (y * weights.autodiff()).sum().backward();
    let of_x = x.grad(&gradients).expect("the input has a gradient");
    let of_bias = bias.val().grad(&gradients).expect("the bias has a gradient");
    ((plain, of_x, of_bias), gradients)
}

#[derive(Debug, Clone)]
struct Case {
    samples: usize,
    side: [usize; 2],
    groups: usize,
    channels: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    padding: [usize; 4],
    share: f64,
    seed: u64,
}

fn case() -> impl Strategy<Value = Case> {
    let pair = |range: std::ops::Range<usize>| [range.clone(), range];
    (
        (1_usize..20, pair(5..9), 1_usize..4, pair(1..6)),
        (pair(1..4), pair(1..3), pair(1..3), [0_usize..3, 0..3, 0..3, 0..3]),
        prop_oneof![Just(0.0), Just(1.0), Just(0.1), Just(0.5)],
        any::<u64>(),
    )
        .prop_map(|((samples, side, groups, channels), (kernel, stride, dilation, padding), share, seed)| Case {
            samples,
            side,
            groups,
            channels: channels.map(|channels| channels * groups),
            kernel,
            stride,
            dilation,
            padding,
            share,
            seed,
        })
}

fn check_conv(case: &Case, device: &Device) {
    let mut rng = ChaCha8Rng::seed_from_u64(case.seed);
    let [top, left, bottom, right] = case.padding;
    let config = Conv2dConfig::new(case.channels, case.kernel)
        .with_stride(case.stride)
        .with_dilation(case.dilation)
        .with_groups(case.groups)
        .with_padding(PaddingConfig2d::Explicit(top, left, bottom, right));
    let (outputs, inputs) = (case.channels[1], case.channels[0] / case.groups);
    let keep = connections(outputs, inputs, case.share, &mut rng);
    let x = random([case.samples, case.channels[0], case.side[0], case.side[1]], &mut rng, device);
    let mut conv: Conv2d = config.init(device);
    let weight = random([outputs, inputs, case.kernel[0], case.kernel[1]], &mut rng, device);
    let masked = weight.clone() * mask(&keep, [outputs, inputs, 1, 1], device);
    conv.weight = Param::from_tensor(masked);
    conv.bias = Some(Param::from_tensor(random([outputs], &mut rng, device)));

    let layer = SparseConv2d::from(conv.clone());
    assert_eq!(values(layer.forward(x.clone())), values(conv.forward(x.clone())), "dense is Burn's");
    let mut formats = vec![kernels(outputs, inputs, &keep)];
    if case.groups == 1 {
        formats.push(blocks(outputs, inputs, &keep));
    }
    if case.groups == 1 && !keep.contains(&false) {
        formats.push(WeightFormat::packed(outputs, inputs).unwrap());
    }
    let trained = conv.clone().train();
    let bias = trained.bias.clone().expect("made with one");
    let ((expected, of_x, of_bias), gradients) = step(|x| trained.forward(x), &bias, &x, case.seed);
    let of_weight = trained.weight.val().grad(&gradients).expect("the weight has a gradient");
    for format in formats {
        let sparse = layer.clone().with_format(Some(format.clone())).expect("the format fits");
        assert_near(sparse.forward(x.clone()), expected.clone(), "forward");
        let back = Conv2d::from(sparse.clone());
        assert_eq!(values(back.weight.val()), values(conv.weight.val()), "dense again");

        let sparse = sparse.train();
        let bias = sparse.bias.clone().expect("made with one");
        let ((y, x_gradient, bias_gradient), gradients) = step(|x| sparse.forward(x), &bias, &x, case.seed);
        assert_near(y, expected.clone(), "forward in training");
        assert_near(x_gradient, of_x.clone(), "gradient of the input");
        assert_near(bias_gradient, of_bias.clone(), "gradient of the bias");
        let found = sparse.weight.val().grad(&gradients).expect("the weight has a gradient");
        // The masked dense layer's gradient, in the rows of the format.
        let mut dense = layer.clone();
        dense.weight = Param::from_tensor(of_weight.clone());
        let rows = dense.with_format(Some(format)).expect("the format fits").weight.val();
        assert_near(found, rows, "gradient of the weight");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn convolutions_equal_the_masked_dense_one(case in case()) {
        let reach = |axis: usize| (case.kernel[axis] - 1) * case.dilation[axis] + 1;
        prop_assume!(reach(0) <= case.side[0] && reach(1) <= case.side[1]);
        check_conv(&case, &Device::flex());
        if case.seed % 4 == 0 {
            check_conv(&case, &Device::ndarray());
        }
    }

    #[test]
    #[cfg(feature = "wgpu")]
    fn convolutions_on_the_gpu_equal_the_masked_dense_one(case in case()) {
        let reach = |axis: usize| (case.kernel[axis] - 1) * case.dilation[axis] + 1;
        prop_assume!(reach(0) <= case.side[0] && reach(1) <= case.side[1]);
        // Without kernels only Burn's operations run. Fused, those of 0.22.1 write a sum that is read once more in place: see docs/backends.md.
        let mut rng = ChaCha8Rng::seed_from_u64(case.seed);
        let keep = connections(case.channels[1], case.channels[0] / case.groups, case.share, &mut rng);
        prop_assume!(!burn_sfp_nn::tensor::fuses() || keep.contains(&true));
        // Every geometry is a kernel to compile: a few of the cases.
        if let Some(device) = gpu() && case.seed % 5 == 0 {
            check_conv(&case, &device);
        }
    }

    #[test]
    fn linear_layers_equal_the_masked_dense_one(
        samples in 1_usize..40, tokens in 1_usize..4, inputs in 1_usize..40, outputs in 1_usize..40,
        share in prop_oneof![Just(0.0), Just(1.0), Just(0.1), Just(0.5)], seed: u64,
    ) {
        let device = Device::flex();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let keep = connections(outputs, inputs, share, &mut rng);
        let mut layer: Linear = LinearConfig::new(inputs, outputs).init(&device);
        let kept = mask(&keep, [outputs, inputs], &device).transpose();
        layer.weight = Param::from_tensor(random([inputs, outputs], &mut rng, &device) * kept);
        let x = random([samples, tokens, inputs], &mut rng, &device);
        let expected = layer.forward(x.clone());
        let trained = layer.clone().train();
        let gradient = |y: Tensor<3>, weight: &Param<Tensor<2>>| {
            let gradients = (y.clone() * y).sum().backward();
            weight.val().grad(&gradients).expect("the weight has a gradient")
        };
        let of_weight = gradient(trained.forward(x.clone()), &trained.weight);
        for format in [kernels(outputs, inputs, &keep), blocks(outputs, inputs, &keep)] {
            let sparse = SparseLinear::from(layer.clone()).with_format(Some(format.clone())).unwrap();
            assert_near(sparse.forward(x.clone()), expected.clone(), "forward");
            prop_assert_eq!(values(Linear::from(sparse.clone()).weight.val()), values(layer.weight.val()));
            let sparse = sparse.train();
            let found = gradient(sparse.forward(x.clone()), &sparse.weight);
            let mut dense = SparseLinear::from(layer.clone());
            dense.weight = Param::from_tensor(of_weight.clone());
            assert_near(found, dense.with_format(Some(format)).unwrap().weight.val(), "gradient of the weight");
        }
    }

    #[test]
    fn fused_is_one_after_another(norm: bool, relus: bool, bias: bool, seed: u64) {
        let device = Device::flex();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let keep = connections(6, 4, 0.5, &mut rng);
        let conv = Conv2dConfig::new([4, 6], [3, 3]).with_bias(bias).init(&device);
        let conv = SparseConv2d::from(conv);
        let mut layer = BatchNormConfig::new(6).init(&device);
        layer.gamma = Param::from_tensor(random([6], &mut rng, &device));
        layer.beta = Param::from_tensor(random([6], &mut rng, &device));
        layer.running_mean.update(random([6], &mut rng, &device));
        layer.running_var.update(random([6], &mut rng, &device) + 1.5);
        let layer = layer.valid();
        let x = random([3, 4, 7, 7], &mut rng, &device);
        for format in [kernels(6, 4, &keep), blocks(6, 4, &keep)] {
            let sparse = conv.clone().with_format(Some(format)).unwrap();
            let fused = sparse.forward_fused(x.clone(), norm.then_some(&layer), relus);
            let plain = sparse.forward(x.clone());
            let plain = if norm { layer.forward(plain) } else { plain };
            assert_near(fused, if relus { relu(plain) } else { plain }, "fused");
        }
    }
}

/// Layers wide enough for every way in which the packed kernels run.
#[test]
fn packed_weights_follow_the_layers_weight() {
    for device in [Device::flex(), Device::ndarray()] {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let (outputs, inputs) = (72, 80);
        let keep = connections(outputs, inputs, 0.5, &mut rng);
        let config = Conv2dConfig::new([inputs, outputs], [3, 3]).with_padding(PaddingConfig2d::Same);
        let conv = SparseConv2d::from(config.init(&device));
        for format in [WeightFormat::packed(outputs, inputs).unwrap(), blocks(outputs, inputs, &keep)] {
            let mut sparse = conv.clone().with_format(Some(format)).unwrap();
            for (samples, side) in [(9, 8), (1, 3), (9, 8)] {
                let x = random([samples, inputs, side, side], &mut rng, &device);
                let check = |sparse: &SparseConv2d| {
                    let found = sparse.forward(x.clone());
                    assert_near(found.clone(), Conv2d::from(sparse.clone()).forward(x.clone()), "convolution");
                    assert_eq!(values(sparse.clone().forward(x.clone())), values(found), "from kept weights");
                };
                check(&sparse);
                // Another tensor. What is packed holds the memory of the one before, so that nothing is written there.
                sparse.weight = sparse.weight.map(|weight| weight * 2.0);
                check(&sparse);
                let other = SparseConv2d::from(config.init(&device));
                let format = sparse.sparsity.format().unwrap().cloned();
                sparse.weight = other.with_format(format).unwrap().weight;
                check(&sparse);
            }
        }
        let mut linear = SparseLinear::from(LinearConfig::new(inputs, outputs).init(&device))
            .with_format(Some(WeightFormat::packed(outputs, inputs).unwrap()))
            .unwrap();
        for samples in [1, 50] {
            let x = random([samples, inputs], &mut rng, &device);
            linear.weight = linear.weight.map(|weight| weight * 2.0 + 0.5); // all of it is connected
            assert_near(linear.forward(x.clone()), Linear::from(linear.clone()).forward(x), "product");
        }
    }
}

#[test]
fn records_hold_the_format_and_dense_records_are_burns() {
    let device = Device::flex();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let new = || Conv2dConfig::new([3, 5], [3, 3]).init(&device);
    let x = random([2, 3, 6, 6], &mut rng, &device);
    let burns: Conv2d = new();
    // Burn's record into ours, and back.
    let ours = SparseConv2d::from(new()).load_record(burns.clone().into_record());
    assert_eq!(values(ours.forward(x.clone())), values(burns.forward(x.clone())));
    let back: Conv2d = new().load_record(ours.clone().into_record());
    assert_eq!(values(back.forward(x.clone())), values(burns.forward(x.clone())));

    let keep = connections(5, 3, 0.5, &mut rng);
    for format in [kernels(5, 3, &keep), blocks(5, 3, &keep)] {
        let sparse = ours.clone().with_format(Some(format.clone())).unwrap();
        let expected = values(sparse.forward(x.clone()));
        let loaded = SparseConv2d::from(new()).with_format(Some(format.clone())).unwrap();
        assert_ne!(values(loaded.forward(x.clone())), expected);
        let loaded = loaded.load_record(sparse.clone().into_record());
        assert_eq!(values(loaded.forward(x.clone())), expected);
        assert_eq!(loaded.sparsity.format(), Ok(Some(&format)));
        // Into training and out again, to a device and back.
        assert_eq!(values(sparse.clone().train().valid().forward(x.clone())), expected);
        assert_eq!(values(sparse.fork(&device).forward(x.clone())), expected);
    }
}

#[test]
fn another_pattern_in_the_record_wins() {
    let device = Device::flex();
    let layer = |input: usize| {
        let format = WeightFormat::Kernels(Arc::new(KernelPattern::from_fn(2, 2, |_, i| i == input)));
        let layer: SparseLinear = LinearConfig::new(2, 2).with_bias(false).init(&device).into();
        layer.with_format(Some(format)).unwrap()
    };
    let x = Tensor::<2>::from_floats([[1.0, 0.0]], &device);
    let loaded = layer(1).load_record(layer(0).into_record());
    assert!(values(loaded.forward(x)).iter().all(|&y| y != 0.0));
}

#[test]
fn errors() {
    let device = Device::flex();
    let linear: SparseLinear = LinearConfig::new(2, 3).init(&device).into();
    let wrong = WeightFormat::Kernels(Arc::new(KernelPattern::from_fn(2, 2, |_, _| true)));
    let error = linear.clone().with_format(Some(wrong)).unwrap_err();
    assert!(
        matches!(&error, NnError::FormatMismatch { format: [2, 2], .. }) && error.to_string().contains("2 filters"),
        "{error}"
    );
    let grouped: SparseConv2d = Conv2dConfig::new([2, 2], [1, 1]).with_groups(2).init(&device).into();
    let block = |o: u32| Block { outputs: vec![o], inputs: vec![0], keep: vec![true] };
    let one = WeightFormat::Blocks(Arc::new(Blocks { outputs: 2, inputs: 1, blocks: vec![block(0), block(1)] }));
    assert!(grouped.with_format(Some(one)).unwrap_err().to_string().contains("groups"));
    // A weight that is not the format's.
    let right = WeightFormat::Kernels(Arc::new(KernelPattern::from_fn(3, 2, |_, i| i == 0)));
    let mut broken = linear.with_format(Some(right)).unwrap();
    assert!(broken.check().is_ok());
    broken.weight = Param::from_tensor(Tensor::zeros([5, 1], &device));
    assert!(broken.check().unwrap_err().to_string().contains("format of 3 kernels"));
}
