//! A network with everything that a file of a pruned model has to hold: sparse layers, normalisations that fold, plain fields.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{GroupNorm, GroupNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use burn_sfp_core::TensorCalibration;
use burn_sfp_graph::GraphModule;
use burn_sfp_nn::walk::{ParamMapper, ParamPath, map_params};
use burn_sfp_nn::{
    FoldBatchNorm, FoldBatchNormConfig, Shrink, SparseConv2d, SparseConv2dConfig, SparseLinear, SparseLinearConfig,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub const SIDE: usize = 6;
pub const CLASSES: usize = 3;

#[derive(Module, Debug, Shrink)]
pub struct Net {
    pub stem: SparseConv2d,
    pub norm: FoldBatchNorm,
    pub depthwise: Conv2d,
    pub group_norm: GroupNorm,
    pub deep: SparseConv2d,
    pub hidden: SparseLinear,
    pub fc: Linear,
}

impl GraphModule for Net {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.norm.forward(self.stem.forward(x)));
        let x = x.clone() + relu(self.group_norm.forward(self.depthwise.forward(x)));
        let x = relu(self.deep.forward(x)).mean_dim(3).mean_dim(2).flatten::<2>(1, 3);
        self.fc.forward(relu(self.hidden.forward(x)))
    }
    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        Some(self)
    }
}

impl Net {
    pub fn new(seed: u64) -> Self {
        Self::wide(seed, 16)
    }

    pub fn wide(seed: u64, width: usize) -> Self {
        let device = Device::flex();
        let padding = PaddingConfig2d::Explicit(1, 1, 1, 1);
        let sparse = |from, to| SparseConv2dConfig::new([from, to], [3, 3]).with_padding(padding.clone()).init(&device);
        let net = Self {
            stem: sparse(2, width),
            norm: FoldBatchNormConfig::new(width).init(&device),
            depthwise: Conv2dConfig::new([width, width], [3, 3])
                .with_padding(padding.clone())
                .with_groups(width)
                .init(&device),
            group_norm: GroupNormConfig::new(width, width).init(&device),
            deep: sparse(width, 2 * width),
            hidden: SparseLinearConfig::new(2 * width, width).init(&device),
            fc: LinearConfig::new(width, CLASSES).init(&device),
        };
        map_params(net, &mut Fill(ChaCha8Rng::seed_from_u64(seed)))
    }
}

/// Draws values; scales and variances are positive.
struct Fill(ChaCha8Rng);

impl ParamMapper for Fill {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (low, high) = if ["running_var", "gamma"].contains(&path.name()) { (0.5, 1.5) } else { (-0.5, 0.5) };
        param.map(|old| {
            let values: Vec<f32> = (0..old.shape().num_elements()).map(|_| self.0.random_range(low..high)).collect();
            Tensor::from_data(TensorData::new(values, old.dims()), &old.device())
        })
    }
}

/// Images of classes 0, 1, .. in turn.
pub fn images(samples: usize) -> Tensor<4> {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let pixels = 2 * SIDE * SIDE;
    let pattern = |label: usize, pixel: usize| if pixel % CLASSES == label { 1.0 } else { 0.0 };
    let value = |k: usize| pattern(k / pixels % CLASSES, k % pixels);
    let values: Vec<f32> = (0..samples * pixels).map(|k| value(k) + rng.random_range(-0.3..0.3)).collect();
    Tensor::from_data(TensorData::new(values, [samples, 2, SIDE, SIDE]), &Device::flex())
}

pub fn labels(samples: usize) -> Vec<usize> {
    (0..samples).map(|k| k % CLASSES).collect()
}

pub fn data() -> TensorCalibration<Tensor<4>> {
    TensorCalibration::new(images(24), labels(24), 8)
}
