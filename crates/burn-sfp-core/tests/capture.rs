//! Capture, taps, neighbours and replay on small networks.

// burn-ndarray is deprecated in 0.22 and supported as long as it exists.
#![allow(deprecated)]

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::{relu, silu};
use burn::tensor::{Device, Distribution, Int, Tensor};
use burn_sfp_core::{Analyze, AnalyzeConfig, SfpModule, TensorCalibration, analyze};
use burn_sfp_graph::{GraphError, GraphModule, Layer, Network, Replay};

#[derive(Module, Debug)]
struct Residual {
    stem: Conv2d,
    norm: BatchNorm,
    inner: Conv2d,
    inner_norm: BatchNorm,
    pool: MaxPool2d,
    fc: Linear,
}

impl Residual {
    fn new(device: &Device) -> Self {
        let conv = |from, to| {
            Conv2dConfig::new([from, to], [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).init(device)
        };
        Self {
            stem: conv(3, 8),
            norm: BatchNormConfig::new(8).init(device),
            inner: conv(8, 8),
            inner_norm: BatchNormConfig::new(8).init(device),
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            fc: LinearConfig::new(8 * 16, 5).init(device),
        }
    }
}

impl GraphModule for Residual {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.norm.forward(self.stem.forward(x)));
        let y = self.inner_norm.forward(self.inner.forward(x.clone()));
        let x = self.pool.forward(relu(x + y));
        self.fc.forward(x.flatten::<2>(1, 3))
    }
}

fn images(samples: usize, device: &Device) -> Tensor<4> {
    device.seed(7);
    Tensor::random([samples, 3, 8, 8], Distribution::Normal(0.0, 1.0), device)
}

#[test]
fn layers_neighbours_and_groups_come_out_right() {
    let device = Device::flex();
    let model = Residual::new(&device);
    let network = Network::capture(&model, &images(2, &device)).unwrap();
    let [stem, inner, fc] = network.layers() else { panic!("{:?}", network.layers()) };
    assert_eq!((stem.path.as_str(), inner.path.as_str(), fc.path.as_str()), ("stem", "inner", "fc"));
    assert_eq!(stem.tap.through, ["BatchNorm", "Relu"]);
    assert_eq!(inner.tap.through, ["BatchNorm"]);
    let paths = |layers: Vec<&Layer>| layers.iter().map(|layer| layer.path.clone()).collect::<Vec<_>>();
    assert_eq!(paths(network.consumers(stem)), ["inner", "fc"]);
    assert_eq!(paths(network.producers(fc)), ["stem", "inner"]);
    assert_eq!(stem.output_channels(), inner.output_channels());
    assert_eq!(fc.input_channels()[17], Some(stem.output_channels()[1]));
    assert_eq!(stem.macs, 8 * 8 * 8 * 27);
    assert!(fc.is_classifier && fc.not_prunable.is_some() && stem.not_prunable.is_none());
}

#[derive(Module, Debug)]
struct Unfollowed {
    first: Conv2d,
    grouped: Conv2d,
    last: Conv2d,
    fc: Linear,
}

impl GraphModule for Unfollowed {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.grouped.forward(relu(self.first.forward(x)));
        let x = silu(self.last.forward(x));
        // No channel is followed through this way of indexing.
        let first: Tensor<2, Int> = Tensor::zeros([x.dims()[0], 1], &x.device());
        let x = x.clone() + x.gather_nd::<2, 4>(first);
        let x = x.mean_dim(3).mean_dim(2);
        self.fc.forward(x.flatten::<2>(1, 3))
    }
}

#[test]
fn what_cannot_be_followed_is_named_and_the_rest_goes_on() {
    let device = Device::flex();
    let model = Unfollowed {
        first: Conv2dConfig::new([3, 4], [1, 1]).init(&device),
        grouped: Conv2dConfig::new([4, 4], [1, 1]).with_groups(2).init(&device),
        last: Conv2dConfig::new([4, 6], [1, 1]).init(&device),
        fc: LinearConfig::new(6, 2).init(&device),
    };
    let network = Network::capture(&model, &images(2, &device)).unwrap();
    let reason = |path: &str| network.layer(path).unwrap().not_prunable.clone().unwrap_or_default();
    assert_eq!(reason("first"), "");
    assert!(reason("last").contains("(GatherNd) is not followed"), "{}", reason("last"));
    assert_eq!(network.layer("last").unwrap().tap.through, ["x * Sigmoid(x)"]);
    // A group of the grouped convolution is two channels: one of each may leave.
    assert_eq!(network.layer("grouped").unwrap().not_prunable, None);
    let calibration = TensorCalibration::new(images(2, &device), vec![0, 1], 2);
    let analysis = model.analyze(&calibration, &AnalyzeConfig::new()).unwrap();
    assert_eq!(analysis.layers.len(), 3);
}

#[test]
fn replay_equals_the_module_and_leaves_it_alone() {
    for device in [Device::flex(), Device::ndarray()] {
        let model = Residual::new(&device);
        let x = images(4, &device);
        let before = model.valid().logits(x.clone()).into_data();
        let network = Network::capture(&model, &x).unwrap();
        let taps = [&network.layers()[0].tap, &network.layers()[1].tap];
        let mut replay = Replay::new(&network, &device, &taps).unwrap();
        for _ in 0..2 {
            let mut seen = Vec::new();
            let logits = replay
                .run(x.clone(), |k, tap| {
                    seen.push((k, tap.dims()));
                    Ok::<(), GraphError>(())
                })
                .unwrap();
            assert_eq!(seen, [(0, [4, 8, 64]), (1, [4, 8, 64])]);
            assert_eq!(logits.into_data(), before);
        }
        assert_eq!(model.valid().logits(x).into_data(), before);
    }
}

#[test]
fn a_short_last_batch_counts_right() {
    let device = Device::flex();
    let model = Residual::new(&device);
    let labels: Vec<usize> = (0..15).map(|k| k % 5).collect();
    // Drawn once: other tests draw from the same generator at the same time.
    let x = images(15, &device);
    let whole = TensorCalibration::new(x.clone(), labels.clone(), 15);
    let cut = TensorCalibration::new(x, labels, 4);
    let config = AnalyzeConfig::new();
    let (a, b) = (analyze(&model, &whole, &config).unwrap(), analyze(&model, &cut, &config).unwrap());
    for (a, b) in a.layers.iter().zip(&b.layers) {
        assert_eq!(a.path, b.path);
        for (a, b) in a.performance.iter().zip(&b.performance) {
            assert_eq!(a.clusters, b.clusters);
            assert!((a.max - b.max).abs() < 1e-5 * a.max.abs());
        }
    }
    for (path, means) in &a.input_means {
        for (x, y) in means.iter().zip(&b.input_means[path]) {
            assert!((x - y).abs() < 1e-5, "{path}: {x} {y}");
        }
    }
}
