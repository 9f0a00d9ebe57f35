//! A small network with fixed weights: two normalised convolutions, with or without a skip, and a classifier.

#![allow(dead_code)]

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use burn_sfp_core::{Analysis, AnalyzeConfig, NoProgress, SfpModule, TensorCalibration, analyze_network};
use burn_sfp_graph::GraphModule;
use burn_sfp_graph::Network;
use burn_sfp_nn::walk::{ParamMapper, ParamPath, map_params};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub const CLASSES: usize = 4;
pub const FILTERS: usize = 8;
pub const SIDE: usize = 4;

#[derive(Module, Debug)]
pub struct Small {
    pub first: Conv2d,
    pub norm: BatchNorm,
    pub second: Conv2d,
    pub second_norm: BatchNorm,
    pub fc: Linear,
    pub skip: bool,
}

impl Small {
    pub fn new(seed: u64, skip: bool) -> Self {
        Self::with_filters(seed, skip, FILTERS)
    }

    pub fn with_filters(seed: u64, skip: bool, filters: usize) -> Self {
        let device = Device::flex();
        let conv = |from, to| {
            Conv2dConfig::new([from, to], [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).init(&device)
        };
        let model = Self {
            first: conv(2, filters),
            norm: BatchNormConfig::new(filters).init(&device),
            second: conv(filters, filters),
            second_norm: BatchNormConfig::new(filters).init(&device),
            fc: LinearConfig::new(filters * SIDE * SIDE, CLASSES).with_bias(false).init(&device),
            skip,
        };
        map_params(model, &mut Fill(ChaCha8Rng::seed_from_u64(seed)))
    }
}

impl GraphModule for Small {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.norm.forward(self.first.forward(x)));
        let y = self.second_norm.forward(self.second.forward(x.clone()));
        let y = relu(if self.skip { x + y } else { y });
        self.fc.forward(y.flatten::<2>(1, 3))
    }
}

/// Draws values by the name of the parameter: scales and variances are positive.
struct Fill(ChaCha8Rng);

impl ParamMapper for Fill {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let positive = ["running_var", "gamma"].contains(&path.name());
        let (low, high) = if positive { (0.5, 1.5) } else { (-0.4, 0.4) };
        param.map(|old| {
            let values: Vec<f32> = (0..old.shape().num_elements()).map(|_| self.0.random_range(low..high)).collect();
            Tensor::from_data(TensorData::new(values, old.dims()), &Device::flex())
        })
    }
}

/// Images with labels 0, 1, .. in turn: the pattern of the label plus noise.
pub fn images(samples: usize) -> (Tensor<4>, Vec<usize>) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let size = 2 * SIDE * SIDE;
    let patterns: Vec<f32> = (0..CLASSES * size).map(|_| rng.random_range(-1.0..1.0)).collect();
    let labels: Vec<usize> = (0..samples).map(|k| k % CLASSES).collect();
    let values: Vec<f32> =
        labels.iter().flat_map(|label| &patterns[label * size..(label + 1) * size]).copied().collect();
    let values: Vec<f32> = values.into_iter().map(|value| value + rng.random_range(-0.5..0.5)).collect();
    (Tensor::from_data(TensorData::new(values, [samples, 2, SIDE, SIDE]), &Device::flex()), labels)
}

pub fn analysed(model: &Small, config: &AnalyzeConfig) -> (Network, Analysis) {
    let (x, labels) = images(24);
    analyze_network(model, &TensorCalibration::new(x, labels, 12), config, &NoProgress).unwrap()
}

/// The logits in evaluation mode, bit for bit.
pub fn bytes(model: &Small) -> Vec<u8> {
    model.valid().logits(images(6).0).into_data().as_bytes().to_vec()
}
