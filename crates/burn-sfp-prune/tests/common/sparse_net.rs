//! A small network of sparse layers with random weights.

#![allow(dead_code)] // every test file uses a part of this module

use burn::module::{Module, ModuleMapper, Param};
use burn::nn::conv::Conv2dConfig;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use burn_sfp_graph::GraphModule;
use burn_sfp_nn::{Shrink, SparseConv2d, SparseLinear};
use burn_sfp_prune::{SparseConfig, SparseFormat};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[derive(Module, Debug, Shrink)]
pub struct Net {
    pub stem: SparseConv2d,
    pub norm: BatchNorm,
    pub deep: SparseConv2d,
    pub grouped: SparseConv2d,
    pub hidden: SparseLinear,
    pub fc: Linear,
}

impl GraphModule for Net {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.stem.forward_fused(x, Some(&self.norm), true);
        let x = relu(self.deep.forward(x.clone())) + x;
        let x = relu(self.grouped.forward(x)).mean_dim(3).mean_dim(2).flatten::<2>(1, 3);
        self.fc.forward(relu(self.hidden.forward(x)))
    }
    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        Some(self)
    }
}

/// Random weights and statistics.
struct Fill(ChaCha8Rng);

impl ModuleMapper for Fill {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| {
            let values: Vec<f32> = (0..tensor.shape().num_elements()).map(|_| self.0.random_range(0.1..1.0)).collect();
            let signs = tensor.dims().len() > 1;
            let signed = |(k, x): (usize, f32)| if signs && (k * 7919) % 3 == 0 { -x } else { x };
            let values: Vec<f32> = values.into_iter().enumerate().map(signed).collect();
            Tensor::from_data(TensorData::new(values, tensor.shape()), &tensor.device())
        })
    }
}

pub fn net(seed: u64) -> Net {
    let device = Device::flex();
    let conv = |from, to, groups| {
        Conv2dConfig::new([from, to], [3, 3])
            .with_groups(groups)
            .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
            .init(&device)
            .into()
    };
    let net = Net {
        stem: conv(2, 8, 1),
        norm: BatchNormConfig::new(8).init(&device),
        deep: conv(8, 8, 1),
        grouped: conv(8, 12, 2),
        hidden: LinearConfig::new(12, 10).init(&device).into(),
        fc: LinearConfig::new(10, 3).init(&device),
    };
    net.map(&mut Fill(ChaCha8Rng::seed_from_u64(seed))).valid()
}

pub fn images(seed: u64, count: usize) -> Tensor<4> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..count * 2 * 36).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_data(TensorData::new(values, [count, 2, 6, 6]), &Device::flex())
}

pub fn assert_near(found: &[f32], expected: &[f32]) {
    let largest = expected.iter().fold(1e-3_f32, |largest, x| largest.max(x.abs()));
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= 1e-5 * largest, "{a} instead of {b}");
    }
}

pub fn config(format: SparseFormat) -> SparseConfig {
    SparseConfig::new().with_format(format)
}
