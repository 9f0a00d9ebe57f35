//! Forward passes for inference compute what the modules compute: on random graphs, with masks, with sparse layers, at other sizes of the batch.

use std::cell::RefCell;
use std::sync::Arc;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{DType, Device, Tensor};
use burn_sfp_graph::latency::LatencyConfig;
use burn_sfp_graph::{GraphError, GraphModule, Inference, InferenceConfig, LayerChoice, LayerChoices, Way};
use burn_sfp_nn::sparse::{KernelPattern, WeightFormat};
use burn_sfp_prune::{Budget, Planner};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

#[path = "common/draw.rs"]
mod draw;
#[allow(dead_code)]
#[path = "common/graph/mod.rs"]
mod graph;
#[allow(dead_code)]
#[path = "recover/net.rs"]
mod net;

use draw::{drawn, uniform};
use graph::build::{build, inputs};
use graph::inspect::difference;
use graph::spec::{Spec, specs};
use net::{LastFirst, Net, images};

const GRAPHS: u32 = 300;

/// One run of each way; which one is taken depends on the machine.
fn quick() -> InferenceConfig {
    InferenceConfig::new().latency(LatencyConfig::new().with_warm_up(0).with_runs(1))
}

#[derive(Default, Debug)]
struct Tally {
    graphs: usize,
    packed: usize,
    takes_in: usize,
    sums: usize,
}

fn check(spec: &Spec, tally: &mut Tally) -> Result<(), TestCaseError> {
    let model = build(spec, &Device::flex());
    let x = inputs(spec, 2, spec.seed, &Device::flex());
    let fail = |error: GraphError| TestCaseError::fail(error.to_string());
    let mut fast = Inference::with_config(&model, &x, &quick()).map_err(fail)?;
    // The same inputs, others, another size, and the first size again.
    for (samples, seed) in [(2, spec.seed), (2, !spec.seed), (3, 7), (2, 8)] {
        let x = inputs(spec, samples, seed, &Device::flex());
        let off = difference(fast.run(x.clone()).map_err(fail)?, model.run(x), 1e-3);
        prop_assert!(off < 1e-4, "{} samples: off by {}\n{}", samples, off, fast.choices());
    }
    tally.graphs += 1;
    let count = |of: fn(&LayerChoice) -> bool| fast.choices().layers.iter().filter(|layer| of(layer)).count();
    tally.packed += count(|layer| layer.way == Way::Packed);
    tally.takes_in += count(|layer| !layer.takes_in.is_empty());
    tally.sums += count(|layer| layer.takes_in.iter().any(|part| part == "sum"));
    Ok(())
}

#[test]
fn random_graphs() {
    let config = ProptestConfig { cases: GRAPHS, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[47; 32]));
    let tally = RefCell::new(Tally::default());
    if let Err(error) = runner.run(&specs(), |spec| check(&spec, &mut tally.borrow_mut())) {
        panic!("{error}");
    }
    let tally = tally.into_inner();
    println!("{tally:?}");
    assert!(tally.graphs > 200 && tally.packed > 100 && tally.takes_in > 50, "{tally:?}");
}

/// A residual block with a projection, whose input is read once more behind it.
#[derive(Module, Debug)]
struct Block {
    first: Conv2d,
    first_norm: BatchNorm,
    second: Conv2d,
    second_norm: BatchNorm,
    projection: Conv2d,
    shared: Conv2d,
    pool: MaxPool2d,
    fc: Linear,
}

impl Block {
    fn new(device: &Device) -> Self {
        let conv = |from, to, kernel: usize| {
            let pad = kernel / 2;
            let padding = PaddingConfig2d::Explicit(pad, pad, pad, pad);
            Conv2dConfig::new([from, to], [kernel; 2]).with_padding(padding).with_bias(false).init(device)
        };
        let norm = |width| {
            let mut norm = BatchNormConfig::new(width).init(device);
            norm.gamma = norm.gamma.map(|gamma| uniform(gamma.dims(), 0.5, 1.5, device));
            norm.beta = norm.beta.map(|beta| uniform(beta.dims(), -0.5, 0.5, device));
            norm
        };
        drawn(Self {
            first: conv(4, 8, 3),
            first_norm: norm(8),
            second: conv(8, 6, 3),
            second_norm: norm(6),
            projection: conv(4, 6, 1),
            shared: conv(6, 6, 3),
            pool: MaxPool2dConfig::new([3, 3])
                .with_strides([2, 2])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(),
            fc: LinearConfig::new(6, 3).init(device),
        })
    }
}

impl GraphModule for Block {
    type Inputs = Tensor<4>;
    type Outputs = (Tensor<2>, Tensor<4>);
    fn run(&self, x: Tensor<4>) -> Self::Outputs {
        let y = self.first_norm.forward(self.first.forward(x.clone())).clamp(0.0, 0.5);
        let y = relu(self.second_norm.forward(self.second.forward(y)) + self.projection.forward(x));
        // The input of a layer as what is added to its output, and a layer that runs twice.
        let y = y.clone() + self.shared.forward(y);
        let y = relu(self.shared.forward(y.clone())) + y;
        let y = self.pool.forward(y);
        (relu(self.fc.forward(y.clone().mean_dims(&[2, 3]).flatten(1, 3))), y)
    }
}

fn far<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> f32 {
    (a - b).abs().max().into_scalar::<f32>()
}

#[test]
fn what_layers_take_in() {
    let device = Device::flex();
    let block = Block::new(&device);
    let x = uniform([2, 4, 9, 7], -1.0, 1.0, &device);
    let mut fast = Inference::new(&block, &x).unwrap();
    let takes_in = |choices: &[LayerChoice]| -> Vec<(String, Vec<String>)> {
        choices.iter().map(|choice| (choice.layer.clone(), choice.takes_in.clone())).collect()
    };
    let expected = [
        ("first", &["batch norm", "relu", "upper bound"][..]),
        ("second", &["batch norm"]),
        ("projection", &["sum", "relu"]),
        ("shared", &["sum"]),
        ("shared", &["relu"]),
        ("fc", &["relu"]),
    ];
    let expected: Vec<(String, Vec<String>)> = expected
        .into_iter()
        .map(|(layer, parts)| (layer.to_string(), parts.iter().map(|part| part.to_string()).collect()))
        .collect();
    assert_eq!(takes_in(&fast.choices().layers), expected);
    assert!(fast.choices().layers.iter().all(|choice| choice.burn.is_some() && choice.packed.is_some()));
    for side in [7, 5] {
        let x = uniform([3, 4, 9, side], -1.0, 1.0, &device);
        let ((logits, maps), (expected, expected_maps)) = (fast.run(x.clone()).unwrap(), block.run(x));
        assert!(far(logits, expected) < 1e-5 && far(maps, expected_maps) < 1e-5);
    }
    // The pooling is a step of its own.
    let steps: Vec<String> = fast.profile(x.clone()).unwrap().into_iter().map(|(step, _)| step).collect();
    assert!(steps.iter().any(|step| step == "MaxPool2d"), "{steps:?}");
    let table = fast.choices().to_string();
    assert!(table.contains("projection") && table.contains("sum, relu"), "{table}");
    // The bits do not depend on the number of threads.
    let run = |threads: usize, fast: &mut Inference<Block>| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let x = x.clone();
        pool.install(|| fast.run(x).unwrap().1.into_data())
    };
    let (one, three) = (run(1, &mut fast), run(3, &mut fast));
    assert_eq!(one, three);
}

#[test]
fn masks_and_sparse_layers() {
    let model = Net::new(1);
    let made = Planner::new()
        .budget(Budget::PerLayer(0.3))
        .prune(&model, &images(2, 1), &LastFirst { masked: &["dilated", "hidden"] })
        .unwrap();
    let mut fast = made.for_inference(&images(4, 2)).unwrap();
    let off = far(fast.run(images(4, 3)).unwrap(), made.model.run(images(4, 3)));
    assert!(off < 1e-4, "{off}");

    let net = SparseNet::new();
    let x = uniform([2, 8, 6, 6], -1.0, 1.0, &Device::flex());
    let pattern = KernelPattern::from_fn(16, 8, |output, input| (output + input).is_multiple_of(7));
    let format = WeightFormat::Kernels(Arc::new(pattern));
    let sparse = SparseNet { conv: net.conv.clone().with_format(Some(format)).unwrap(), ..net };
    let mut fast = Inference::new(&sparse, &x).unwrap();
    let conv = fast.choices().layers.iter().find(|choice| choice.layer == "conv").unwrap();
    // A sparse layer adds its bias by an operation of its own.
    assert_eq!(conv.takes_in, ["relu"]);
    // The fastest of all, whichever it is here.
    assert!(conv.burn.is_none() && conv.sparse.is_some() && conv.packed.is_some(), "{conv:?}");
    assert!(matches!(conv.way, Way::Sparse | Way::Packed | Way::Winograd), "{conv:?}");
    assert!(far(fast.run(x.clone()).unwrap(), sparse.run(x)) < 1e-5);
}

/// A layer of the library's that can be sparse.
#[derive(Module, Debug)]
struct SparseNet {
    conv: burn_sfp_nn::SparseConv2d,
    fc: Linear,
}

impl SparseNet {
    fn new() -> Self {
        let device = Device::flex();
        let conv = burn_sfp_nn::SparseConv2dConfig::new([8, 16], [3, 3]).init(&device);
        drawn(Self { conv, fc: LinearConfig::new(16 * 16, 3).init(&device) })
    }
}

impl GraphModule for SparseNet {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<4>) -> Tensor<2> {
        self.fc.forward(relu(self.conv.forward(x)).flatten(1, 3))
    }
}

#[test]
#[allow(deprecated)] // burn-ndarray is deprecated in 0.22 and supported here as long as it exists.
fn other_devices_and_types_run_by_burn() {
    let block = Block::new(&Device::flex());
    let x = uniform([1, 4, 6, 6], -1.0, 1.0, &Device::flex());
    let device = Device::ndarray();
    let moved = block.valid().to_device(&device);
    let mut fast = Inference::new(&moved, &x.clone().to_device(&device)).unwrap();
    let (logits, _) = fast.run(x.clone().to_device(&device)).unwrap();
    assert!(far(logits.to_device(&Device::flex()), block.run(x.clone()).0) < 1e-5);
    // In double precision no layer has a kernel.
    struct Double;
    impl burn::module::ModuleMapper for Double {
        fn map_float<const D: usize>(
            &mut self,
            param: burn::module::Param<Tensor<D>>,
        ) -> burn::module::Param<Tensor<D>> {
            param.map(|tensor| tensor.cast(DType::F64))
        }
    }
    let double = block.valid().map(&mut Double);
    let mut fast = Inference::new(&double, &x.clone().cast(DType::F64)).unwrap();
    assert!(fast.choices().layers.iter().all(|choice| choice.way == Way::Burn));
    let (logits, _) = fast.run(x.clone().cast(DType::F64)).unwrap();
    assert!(far(logits, double.run(x.cast(DType::F64)).0) < 1e-9);
}

#[test]
fn errors_and_the_original() {
    let block = Block::new(&Device::flex());
    let x = uniform([1, 4, 6, 6], -1.0, 1.0, &Device::flex());
    let before = graph::inspect::bytes(&block);
    let mut fast = Inference::new(&block, &x).unwrap();
    fast.run(x.clone()).unwrap();
    assert_eq!(graph::inspect::bytes(&block), before);
    let wrong = uniform([1, 5, 6, 6], -1.0, 1.0, &Device::flex());
    assert!(Inference::new(&block, &wrong).is_err());
    assert!(fast.run(wrong).is_err());
    // It goes on as before.
    assert!(far(fast.run(x.clone()).unwrap().0, block.run(x).0) < 1e-5);
}

/// Three convolutions: of 3x3, with a stride, of 1x1.
#[derive(Module, Debug)]
struct Filtering {
    plain: Conv2d,
    strided: Conv2d,
    narrow: Conv2d,
}

impl GraphModule for Filtering {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<4>;

    fn run(&self, x: Tensor<4>) -> Tensor<4> {
        let x = relu(self.plain.forward(x.clone()) + x);
        self.narrow.forward(self.strided.forward(x))
    }
}

#[test]
fn transformed_weights_where_they_can_be_and_are_wanted() {
    let device = Device::flex();
    let conv = |from, to, kernel: usize, stride: usize| {
        let padding = PaddingConfig2d::Explicit(kernel / 2, kernel / 2, kernel / 2, kernel / 2);
        Conv2dConfig::new([from, to], [kernel; 2]).with_stride([stride; 2]).with_padding(padding).init(&device)
    };
    let model = drawn(Filtering { plain: conv(64, 64, 3, 1), strided: conv(64, 16, 3, 2), narrow: conv(16, 4, 1, 1) });
    let x = uniform([2, 64, 24, 25], -1.0, 1.0, &device);
    let expected = model.run(x.clone());
    for wanted in [true, false] {
        let mut fast = Inference::with_config(&model, &x, &InferenceConfig::new().winograd(wanted)).unwrap();
        let off = difference(fast.run(x.clone()).unwrap(), expected.clone(), 1e-3);
        assert!(off < 1e-4, "off by {off}\n{}", fast.choices());
        let measured: Vec<bool> = fast.choices().layers.iter().map(|layer| layer.winograd.is_some()).collect();
        assert_eq!(measured, [wanted, false, false]);
        assert!(wanted || fast.choices().layers.iter().all(|layer| layer.way != Way::Winograd));
    }
}

#[test]
fn choices_are_saved_and_used_again() {
    let device = Device::flex();
    let block = Block::new(&device);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("choices.json");
    let x = |samples| uniform([samples, 4, 9, 7], -1.0, 1.0, &device);
    let two = x(2);
    let first = Inference::with_config(&block, &two, &quick()).unwrap();
    first.choices().save(&path).unwrap();
    let saved = LayerChoices::load(&path).unwrap();
    assert_eq!(saved, *first.choices());

    // Every way by choice; none is measured, which seconds that no run can take would show.
    let mut chosen = saved.clone();
    for (layer, way) in chosen.layers.iter_mut().zip([Way::Packed, Way::Burn, Way::Winograd].into_iter().cycle()) {
        (layer.way, layer.fused, layer.tile) = (way, way != Way::Burn, (way == Way::Winograd).then_some(2));
        (layer.burn, layer.packed) = (Some(7e3), Some(8e3));
    }
    let mut again = Inference::with_config(&block, &two, &quick().choices(chosen.clone())).unwrap();
    for (found, wanted) in again.choices().layers.iter().zip(&chosen.layers) {
        // A linear layer or a convolution of 1x1 has no transformed weights.
        let is_square = ["first", "second", "shared"].contains(&wanted.layer.as_str());
        let way = if wanted.way == Way::Winograd && !is_square { found.way } else { wanted.way };
        assert_eq!((found.way, found.burn, found.packed), (way, Some(7e3), Some(8e3)), "{}", wanted.layer);
    }
    let expected = block.run(two.clone());
    let (logits, maps) = again.run(two.clone()).unwrap();
    assert!(far(logits, expected.0) < 1e-5 && far(maps, expected.1) < 1e-5);
    assert_eq!(again.run(two.clone()).unwrap().1.into_data(), again.run(two).unwrap().1.into_data());

    // Another shape, and another model, are measured.
    again.run(x(3)).unwrap();
    assert!(again.choices().layers.iter().all(|layer| layer.burn != Some(7e3)));
    let net = SparseNet::new();
    let other = uniform([2, 8, 6, 6], -1.0, 1.0, &device);
    let fast = Inference::with_config(&net, &other, &quick().choices(chosen)).unwrap();
    assert!(fast.choices().layers.iter().all(|layer| layer.burn != Some(7e3)));

    // Weights in 16 bits, where the choice says so.
    let mut chosen = saved;
    chosen.layers.iter_mut().for_each(|layer| (layer.way, layer.bfloat16) = (Way::Packed, true));
    let x = x(2);
    let mut half = Inference::with_config(&block, &x, &quick().choices(chosen.clone())).unwrap();
    assert!(half.choices().layers.iter().all(|layer| layer.way == Way::Packed && layer.bfloat16));
    assert!(half.choices().to_string().contains("packed, 16 bits"));
    let off = far(half.run(x.clone()).unwrap().1, block.run(x).1);
    assert!(off > 1e-6 && off < 0.03, "{off}");

    std::fs::write(&path, "{}").unwrap();
    assert!(matches!(LayerChoices::load(&path), Err(GraphError::File(_))));
}

#[test]
fn weights_in_16_bits_where_they_may_be() {
    let device = Device::flex();
    let block = Block::new(&device);
    let x = uniform([1, 4, 9, 7], -1.0, 1.0, &device);
    let mut fast = Inference::with_config(&block, &x, &quick().bfloat16(true)).unwrap();
    // Which layers store them so depends on the machine.
    let off = far(fast.run(x.clone()).unwrap().1, block.run(x.clone()).1);
    assert!(off < 0.03, "{off}\n{}", fast.choices());
    let plain = Inference::with_config(&block, &x, &quick()).unwrap();
    assert!(plain.choices().layers.iter().all(|layer| !layer.bfloat16));
}
