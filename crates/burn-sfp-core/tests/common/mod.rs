//! A small convolutional network with fixed weights, and samples with one pattern a class.

#![allow(dead_code)]

pub mod definition;

use burn::module::{Module, ModuleMapper, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use burn_sfp_core::{Analysis, Seconds, TensorCalibration};
use burn_sfp_graph::GraphModule;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub const CLASSES: usize = 5;
pub const SIDE: usize = 6;

#[derive(Module, Debug)]
pub struct Cnn {
    pub first: Conv2d,
    pub norm: BatchNorm,
    pub second: Conv2d,
    pub pool: MaxPool2d,
    pub fc: Linear,
}

impl Cnn {
    pub fn new(seed: u64, device: &Device) -> Self {
        Self::with_filters(seed, 6, device)
    }

    pub fn with_filters(seed: u64, filters: usize, device: &Device) -> Self {
        let conv = |from, to| {
            Conv2dConfig::new([from, to], [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).init(device)
        };
        let model = Self {
            first: conv(2, filters),
            norm: BatchNormConfig::new(filters).init(device),
            second: conv(filters, 8),
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            fc: LinearConfig::new(8 * 9, CLASSES).with_bias(false).init(device),
        };
        model.map(&mut Fill { path: Vec::new(), rng: ChaCha8Rng::seed_from_u64(seed), device: device.clone() })
    }

    /// What the analysis taps: the outputs of `first` and `second`, and the logits.
    pub fn outputs(&self, x: Tensor<4>) -> (Tensor<4>, Tensor<4>, Tensor<2>) {
        let first = relu(self.norm.forward(self.first.forward(x)));
        let second = self.pool.forward(relu(self.second.forward(first.clone())));
        let logits = self.fc.forward(second.clone().flatten::<2>(1, 3));
        (first, second, logits)
    }
}

impl GraphModule for Cnn {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<4>) -> Tensor<2> {
        assert!(x.dims()[3] >= SIDE, "the images are too small");
        self.outputs(x).2
    }
}

/// Fills float parameters with values that depend on the seed alone, whatever else runs in the process.
struct Fill {
    path: Vec<String>,
    rng: ChaCha8Rng,
    device: Device,
}

impl ModuleMapper for Fill {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let positive = self.path.last().is_some_and(|name| name == "running_var" || name == "gamma");
        let (low, high) = if positive { (0.5, 1.5) } else { (-0.4, 0.4) };
        param.map(|old| numbers(old.dims(), low, high, &mut self.rng, &self.device))
    }
}

pub fn fill<M: Module>(model: M, seed: u64, device: &Device) -> M {
    model.map(&mut Fill { path: Vec::new(), rng: ChaCha8Rng::seed_from_u64(seed), device: device.clone() })
}

pub fn numbers<const D: usize>(
    shape: [usize; D],
    low: f32,
    high: f32,
    rng: &mut ChaCha8Rng,
    device: &Device,
) -> Tensor<D> {
    let values = (0..shape.iter().product()).map(|_| rng.random_range(low..high)).collect::<Vec<f32>>();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Images with labels 0, 1, .. in turn: the pattern of the label plus `noise`.
pub fn images(samples: usize, noise: f32, seed: u64, device: &Device) -> (Tensor<4>, Vec<usize>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let size = 2 * SIDE * SIDE;
    let patterns: Vec<f32> = (0..CLASSES * size).map(|_| rng.random_range(-1.0..1.0)).collect();
    let labels: Vec<usize> = (0..samples).map(|k| k % CLASSES).collect();
    let values: Vec<f32> = labels
        .iter()
        .flat_map(|label| patterns[label * size..(label + 1) * size].to_vec())
        .map(|value| value + noise * rng.random_range(-1.0..1.0))
        .collect();
    (Tensor::from_data(TensorData::new(values, [samples, 2, SIDE, SIDE]), device), labels)
}

pub fn calibration(samples: usize, batch: usize, device: &Device) -> TensorCalibration<Tensor<4>> {
    let (x, labels) = images(samples, 1.0, 1, device);
    TensorCalibration::new(x, labels, batch)
}

/// Everything but the seconds, bit for bit.
pub fn json(mut analysis: Analysis) -> String {
    analysis.seconds = Seconds::default();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("analysis.json");
    analysis.save(&path).unwrap();
    std::fs::read_to_string(path).unwrap()
}

#[cfg(feature = "wgpu")]
#[path = "../../../burn-sfp-wgpu/tests/common/limit.rs"]
mod limit;

/// The default wgpu device for a test of limited time, or a word that the test was skipped.
#[cfg(feature = "wgpu")]
pub fn gpu() -> Option<Device> {
    limit::limit_test();
    let device = burn_sfp_nn::tensor::wgpu_device();
    if device.is_none() {
        println!("skipped: no wgpu adapter");
    }
    device
}
