//! The analysis against its definition in double precision, and what it promises: merging, determinism, sources, inputs.

mod common;

use burn::data::dataloader::DataLoaderBuilder;
use burn::data::dataloader::batcher::Batcher;
use burn::data::dataset::InMemDataset;
use burn::module::Module;
#[cfg(feature = "wgpu")]
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use burn_sfp_core::{
    Analysis, AnalyzeConfig, Batch, GradientConfig, Grid, LoaderCalibration, Readout, ReadoutInfo, SfpError,
    TensorCalibration, analyze,
};
use burn_sfp_graph::{GraphError, GraphModule, InputMapper, ModuleInput};
use common::definition::{STRENGTH, compare, performance, ridge, rows};
#[cfg(feature = "wgpu")]
use common::gpu;
use common::{CLASSES, Cnn, SIDE, calibration, fill, images, json, numbers};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Both layers of the network, with the classifier and with ridge as readout; `near` is the slack of the device.
fn agrees_with_the_definition(device: &Device, near: f64) {
    let mut compared = 0;
    for seed in 0..4 {
        let model = Cnn::new(seed, device);
        let (x, labels) = images(40, 1.5, 100 + seed, device);
        let config = AnalyzeConfig::new().with_readout(Readout::Ridge { strength: STRENGTH }).with_grid(Grid::Full);
        let analysis = analyze(&model, &TensorCalibration::new(x.clone(), labels.clone(), 16), &config).unwrap();
        let (first, second, logits) = model.valid().outputs(x);
        let (first, second) = (rows(first), rows(second));
        let hits = rows(logits).iter().zip(&labels).filter(|(row, l)| row.iter().all(|v| *v <= row[**l])).count();
        assert_eq!(analysis.top1, hits as f64 / 40.0);
        let classifier = rows(model.fc.weight.val());
        for (layer, x, readout) in [(0, &first, ridge(&first, &labels)), (1, &second, classifier)] {
            let layer = &analysis.layers[layer];
            assert_eq!(x[0].len(), layer.filters * layer.positions);
            assert_eq!(matches!(layer.readout, ReadoutInfo::Classifier { .. }), layer.path == "second");
            compared += compare(layer, x, &labels, &readout, near, &format!("{device:?}, seed {seed}"));
        }
    }
    assert!(compared > 40, "only {compared} of 56 filters are clear of the threshold");
}

#[test]
#[allow(deprecated)]
fn clusters_are_those_of_the_definition() {
    agrees_with_the_definition(&Device::flex(), 1e-4);
    agrees_with_the_definition(&Device::ndarray(), 1e-4);
}

#[test]
fn matrices_are_those_of_the_definition() {
    let device = Device::flex();
    let model = Cnn::new(2, &device);
    let (x, labels) = images(40, 1.5, 102, &device);
    let config = AnalyzeConfig::new().with_readout(Readout::Ridge { strength: STRENGTH }).with_grid(Grid::Full);
    let data = TensorCalibration::new(x.clone(), labels.clone(), 16);
    let analysis = analyze(&model, &data, &config.clone().with_state(true)).unwrap();
    let (first, second, _) = model.valid().outputs(x);
    let (first, second) = (rows(first), rows(second));
    // The ridge readout is solved for in double precision and kept in single precision.
    for (path, x, readout, rounding) in
        [("first", &first, ridge(&first, &labels), 1e-5), ("second", &second, rows(model.fc.weight.val()), 1e-9)]
    {
        let layer = analysis.layer(path).unwrap();
        for (filter, found) in layer.performance.iter().enumerate() {
            let expected = performance(x, &labels, &readout, filter, layer.positions);
            let matrix = analysis.performance_matrix(path, filter).unwrap();
            let max = expected.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
            let scale = expected.iter().flatten().map(|value| value.abs()).fold(0.0, f64::max);
            let boolean = analysis.boolean_matrix(path, filter).unwrap();
            for ((i, j), value) in matrix.indexed_iter() {
                assert!(
                    (value - expected[i][j]).abs() <= rounding * scale,
                    "{path} {filter}: {value} {}",
                    expected[i][j]
                );
                let distance = expected[i][j] / max - 0.3;
                if max > 0.0 && distance.abs() > 1e-4 {
                    assert_eq!(boolean[[i, j]], distance > 0.0, "{path} {filter}");
                }
            }
            if found.near == 0 {
                let recognized: Vec<usize> = (0..CLASSES).filter(|&label| boolean[[label, label]]).collect();
                assert_eq!(recognized, found.labels(), "{path} {filter}");
            }
        }
        let error = analysis.performance_matrix(path, layer.filters).unwrap_err();
        assert!(matches!(error, SfpError::Kernel { path: at, .. } if at == path));
    }
    assert!(matches!(
        analysis.performance_matrix("third", 0),
        Err(SfpError::Graph(GraphError::UnknownLayer { available, .. })) if available == ["first", "second"]
    ));
    let plain = analyze(&model, &data, &config).unwrap();
    assert!(matches!(plain.boolean_matrix("first", 0), Err(SfpError::NoState { path }) if path == "first"));
}

#[test]
#[cfg(feature = "wgpu")]
fn clusters_are_those_of_the_definition_on_wgpu() {
    let Some(device) = gpu() else { return };
    // Sums and Gram matrix are single precision there.
    agrees_with_the_definition(&device, 5e-3);
}

/// One layer whose maps of a whole batch (168 MB) are more than many devices bind at once: 128 MiB is what they have to offer.
#[cfg(feature = "wgpu")]
#[derive(Module, Debug)]
struct Wide {
    conv: Conv2d,
    fc: Linear,
}

#[cfg(feature = "wgpu")]
impl GraphModule for Wide {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<4>) -> Tensor<2> {
        self.fc.forward(relu(self.conv.forward(x)).mean_dim(3).mean_dim(2).flatten::<2>(1, 3))
    }
}

#[test]
#[cfg(feature = "wgpu")]
fn a_batch_that_is_too_large_is_analysed_in_parts() {
    let Some(device) = gpu() else { return };
    let (samples, filters, side) = (256, 40, 64);
    let flex = Device::flex();
    let model = Wide {
        conv: Conv2dConfig::new([1, filters], [1, 1]).init(&flex),
        fc: LinearConfig::new(filters, 2).init(&flex),
    };
    // Fixed weights: how well single precision solves the normal equations depends on them.
    let model = fill(model, 5, &flex);
    let pixels = (0..samples * side * side).map(|k| (k * 7919 % 1009) as f32 / 1009.0 + (k / (side * side) % 2) as f32);
    let images = Tensor::<4>::from_data(TensorData::new(pixels.collect(), [samples, 1, side, side]), &flex);
    let labels: Vec<usize> = (0..samples).map(|k| k % 2).collect();
    let config = AnalyzeConfig::new().with_grid(Grid::AtMost(2));
    let analyse = |model: &Wide, images: Tensor<4>| {
        analyze(model, &TensorCalibration::new(images, labels.clone(), samples), &config).unwrap()
    };
    let ours = analyse(&model, images.clone());
    let theirs = analyse(&model.valid().fork(&device), images.to_device(&device));
    assert_eq!(theirs.samples, samples as u64);
    for (a, b) in ours.layers[0].performance.iter().zip(&theirs.layers[0].performance) {
        // The normal equations of 160 features are in single precision there.
        assert!((a.max - b.max).abs() < 1e-2 * a.max.abs().max(1e-3), "{} {}", a.max, b.max);
    }
}

fn share(range: std::ops::Range<usize>, device: &Device) -> TensorCalibration<Tensor<4>> {
    let (x, labels) = images(40, 1.0, 1, device);
    TensorCalibration::new(x.slice_samples(range.start, range.end), labels[range].to_vec(), 10)
}

fn same_findings(a: &Analysis, b: &Analysis) {
    assert_eq!((&a.counts, a.samples), (&b.counts, b.samples));
    assert!((a.top1 - b.top1).abs() < 1e-12);
    for (a, b) in a.layers.iter().zip(&b.layers) {
        assert_eq!((&a.path, a.samples), (&b.path, b.samples));
        for (a, b) in a.performance.iter().zip(&b.performance) {
            assert_eq!((&a.clusters, a.noise, a.column_noise), (&b.clusters, b.noise, b.column_noise));
            assert!((a.max - b.max).abs() < 1e-6 * a.max.abs());
        }
    }
    assert_eq!(a.input_means.keys().collect::<Vec<_>>(), b.input_means.keys().collect::<Vec<_>>());
    for (a, b) in a.input_means.values().flatten().zip(b.input_means.values().flatten()) {
        assert!((a - b).abs() <= 1e-6 * a.abs());
    }
}

#[test]
fn merged_shares_are_the_analysis_of_all() {
    let device = Device::flex();
    let model = Cnn::new(1, &device);
    let config = AnalyzeConfig::new().with_state(true);
    let run = |range, config: &AnalyzeConfig| analyze(&model, &share(range, &device), config).unwrap();
    let (all, first, second) = (run(0..40, &config), run(0..20, &config), run(20..40, &config));
    let merged = first.merge(&second).unwrap();
    same_findings(&merged, &all);
    // Three shares, in another order.
    let parts = run(30..40, &config).merge(&run(0..10, &config)).unwrap().merge(&run(10..30, &config)).unwrap();
    same_findings(&parts, &all);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("first.json");
    first.save_with_state(&path).unwrap();
    let loaded = Analysis::load(&path).unwrap();
    assert!(loaded.has_state());
    assert_eq!(json(loaded.clone()), json(first.clone()));
    assert_eq!(json(loaded.merge(&second).unwrap()), json(merged));
}

#[test]
fn shares_with_given_readouts_merge_and_gradient_readouts_do_not() {
    let device = Device::flex();
    let model = Cnn::new(1, &device);
    let gradient = Readout::Gradient(GradientConfig { epochs: 2, ..GradientConfig::default() });
    for fitted in [gradient, Readout::default()] {
        let config = AnalyzeConfig::new().with_state(true).with_accuracy(true);
        let run = |range, readout: &Readout| {
            analyze(&model, &share(range, &device), &config.clone().with_readout(readout.clone())).unwrap()
        };
        let first = run(0..20, &fitted);
        let given = Readout::Given(Box::new(first.clone()));
        let (second, all) = (run(20..40, &given), run(0..40, &given));
        same_findings(&run(0..20, &given).merge(&second).unwrap(), &all);
        // The first share need not be analysed again.
        let merged = first.merge(&second).unwrap();
        same_findings(&merged, &all);
        assert!(merged.layers[0].readout.accuracy().is_some());
        if let Readout::Gradient(_) = fitted {
            let message = first.merge(&run(20..40, &fitted)).unwrap_err().to_string();
            assert!(message.contains("`first`") && message.contains("Readout::Given"), "{message}");
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let device = Device::flex();
    // Wide enough that the kernels split their work.
    let model = Cnn::with_filters(1, 40, &device);
    let gradient = Readout::Gradient(GradientConfig { epochs: 3, ..GradientConfig::default() });
    for readout in [Readout::default(), gradient] {
        let run =
            || analyze(&model, &calibration(53, 16, &device), &AnalyzeConfig::new().with_readout(readout.clone()));
        let results: Vec<String> = [1, 2, 4, 4]
            .map(|threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                json(pool.install(run).unwrap())
            })
            .to_vec();
        assert!(results.iter().all(|result| *result == results[0]));
    }
}

#[test]
fn gradient_readouts_learn_and_follow_their_seed() {
    let device = Device::flex();
    let model = Cnn::new(1, &device);
    let (x, labels) = images(100, 0.5, 1, &device);
    let data = TensorCalibration::new(x, labels, 20);
    let run = |epochs, seed| {
        let gradient = GradientConfig { epochs, learning_rate: 0.001, ..GradientConfig::default() };
        let config = AnalyzeConfig::new().with_seed(seed).with_readout(Readout::Gradient(gradient));
        analyze(&model, &data, &config).unwrap()
    };
    let accuracy = |analysis: &Analysis| analysis.layer("first").unwrap().readout.accuracy().unwrap();
    let (short, long, other) = (run(1, 0), run(15, 0), run(15, 1));
    assert_eq!(json(run(15, 0)), json(long.clone()));
    assert_ne!(json(other.clone()), json(long.clone()));
    assert!(accuracy(&long) > accuracy(&short), "{} {}", accuracy(&long), accuracy(&short));
    assert!((accuracy(&long) - accuracy(&other)).abs() < 0.1);
    assert!(accuracy(&long) > 0.9, "{}", accuracy(&long));
}

#[derive(Clone, Debug)]
struct Image(Vec<f32>, usize);

struct Stack;

impl Batcher<Image, Vec<Image>> for Stack {
    fn batch(&self, items: Vec<Image>, _: &Device) -> Vec<Image> {
        items
    }
}

#[test]
fn a_data_loader_gives_the_same_analysis() {
    let device = Device::flex();
    let model = Cnn::new(1, &device);
    let (x, labels) = images(23, 1.0, 1, &device);
    let values: Vec<f32> = x.clone().into_data().iter::<f32>().collect();
    let items =
        values.chunks(2 * SIDE * SIDE).zip(&labels).map(|(image, label)| Image(image.to_vec(), *label)).collect();
    let loader = DataLoaderBuilder::new(Stack).batch_size(8).build(InMemDataset::new(items));
    let from_loader = LoaderCalibration::new(loader, |items: Vec<Image>| {
        let values: Vec<f32> = items.iter().flat_map(|item| item.0.clone()).collect();
        let input = Tensor::<4>::from_data(TensorData::new(values, [items.len(), 2, SIDE, SIDE]), &Device::flex());
        Batch { input, labels: items.iter().map(|item| item.1).collect() }
    });
    let config = AnalyzeConfig::new().with_accuracy(true);
    let expected = analyze(&model, &TensorCalibration::new(x, labels, 8), &config).unwrap();
    assert_eq!(json(analyze(&model, &from_loader, &config).unwrap()), json(expected));
}

/// Two inputs, joined after a layer each.
#[derive(Module, Debug)]
struct Two {
    left: Linear,
    right: Linear,
    fc: Linear,
}

impl Two {
    fn new(device: &Device) -> Self {
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        fill(Self { left: linear(4, 6), right: linear(3, 6), fc: linear(6, CLASSES) }, 5, device)
    }

    fn forward(&self, left: Tensor<2>, right: Tensor<2>) -> Tensor<2> {
        self.fc.forward(relu(self.left.forward(left)) + relu(self.right.forward(right)))
    }
}

#[derive(Module, Debug)]
struct OfTuple {
    two: Two,
}

#[derive(Module, Debug)]
struct OfStruct {
    two: Two,
}

#[derive(Clone)]
struct Pair {
    left: Tensor<2>,
    right: Tensor<2>,
}

impl ModuleInput for Pair {
    fn map_tensors<M: InputMapper>(self, mapper: &mut M) -> Self {
        Self { left: self.left.map_tensors(mapper), right: self.right.map_tensors(mapper) }
    }
}

impl GraphModule for OfTuple {
    type Inputs = (Tensor<2>, Tensor<2>);
    type Outputs = Tensor<2>;
    fn run(&self, (left, right): Self::Inputs) -> Tensor<2> {
        self.two.forward(left, right)
    }
}

impl GraphModule for OfStruct {
    type Inputs = Pair;
    type Outputs = Tensor<2>;
    fn run(&self, input: Pair) -> Tensor<2> {
        self.two.forward(input.left, input.right)
    }
}

#[test]
fn tuples_and_structs_are_inputs() {
    let device = Device::flex();
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let left: Tensor<2> = numbers([23, 4], -1.0, 1.0, &mut rng, &device);
    let right: Tensor<2> = numbers([23, 3], -1.0, 1.0, &mut rng, &device);
    let labels: Vec<usize> = (0..23).map(|k| k % CLASSES).collect();
    let config = AnalyzeConfig::new();
    let tuple = TensorCalibration::new((left.clone(), right.clone()), labels.clone(), 8);
    let pair = TensorCalibration::new(Pair { left, right }, labels, 8);
    let a = analyze(&OfTuple { two: Two::new(&device) }, &tuple, &config).unwrap();
    let b = analyze(&OfStruct { two: Two::new(&device) }, &pair, &config).unwrap();
    let paths: Vec<&str> = a.layers.iter().map(|layer| layer.path.rsplit('.').next().unwrap()).collect();
    assert_eq!(paths, ["left", "right"]);
    assert_eq!(json(a), json(b));
}
