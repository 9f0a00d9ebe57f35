//! Networks to train.

use burn::module::{Module, ModuleMapper, Param};
use burn::nn::conv::{Conv1d, Conv1dConfig, Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{
    BatchNorm, BatchNormConfig, Dropout, DropoutConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig,
    PaddingConfig2d,
};
use burn::tensor::activation::{gelu, relu};
use burn::tensor::{Device, Tensor, TensorData};
use burn_sfp_graph::GraphModule;
use burn_sfp_nn::{FoldBatchNorm, HeadAttention, HeadAttentionConfig, MhaInput, SparseConv2d, SparseLinear};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Random values; variances and scales are positive.
struct Fill(ChaCha8Rng);

impl ModuleMapper for Fill {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| {
            let range = if D == 1 { 0.2..1.0 } else { -0.5..0.5 };
            let values = (0..tensor.shape().num_elements()).map(|_| self.0.random_range(range.clone()));
            Tensor::from_data(TensorData::new(values.collect::<Vec<f32>>(), tensor.shape()), &tensor.device())
        })
    }
}

pub fn filled<M: Module>(module: M, seed: u64) -> M {
    module.map(&mut Fill(ChaCha8Rng::seed_from_u64(seed))).valid()
}

fn device() -> Device {
    Device::flex()
}

fn conv(from: usize, to: usize) -> Conv2d {
    Conv2dConfig::new([from, to], [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).init(&device())
}

fn norm(channels: usize) -> BatchNorm {
    BatchNormConfig::new(channels).with_momentum(0.3).init(&device())
}

fn linear(from: usize, to: usize) -> Linear {
    LinearConfig::new(from, to).init(&device())
}

/// Convolutions with batch normalisations and poolings, one after another.
#[derive(Module, Debug)]
pub struct Plain {
    pub stem: Conv2d,
    pub stem_norm: BatchNorm,
    pub deep: SparseConv2d,
    pub deep_norm: FoldBatchNorm,
    pub last: SparseConv2d,
    pub last_norm: BatchNorm,
    pub hidden: SparseLinear,
    pub fc: Linear,
    pub pool: MaxPool2d,
}

impl Plain {
    pub fn new(seed: u64) -> Self {
        let pool = MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init();
        let net = Self {
            stem: conv(2, 6),
            stem_norm: norm(6),
            deep: conv(6, 8).into(),
            deep_norm: norm(8).into(),
            last: conv(8, 8).into(),
            last_norm: norm(8),
            hidden: linear(32, 10).into(),
            fc: linear(10, 3),
            pool,
        };
        filled(net, seed)
    }
}

impl GraphModule for Plain {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.pool.forward(relu(self.stem_norm.forward(self.stem.forward(x))));
        let x = relu(self.deep_norm.forward(self.deep.forward(x)));
        let x = self.pool.forward(self.last.forward_fused(x, Some(&self.last_norm), true));
        self.fc.forward(relu(self.hidden.forward(x.flatten::<2>(1, 3))))
    }
}

/// Residual connections across the layers that learn.
#[derive(Module, Debug)]
pub struct Residual {
    pub stem: Conv2d,
    pub a: Conv2d,
    pub a_norm: BatchNorm,
    pub b: Conv2d,
    pub b_norm: BatchNorm,
    pub up: ConvTranspose2d,
    pub fc: Linear,
}

impl Residual {
    pub fn new(seed: u64) -> Self {
        let net = Self {
            stem: conv(2, 6),
            a: conv(6, 6),
            a_norm: norm(6),
            b: conv(6, 6),
            b_norm: norm(6),
            up: ConvTranspose2dConfig::new([6, 4], [2, 2]).with_stride([2, 2]).init(&device()),
            fc: linear(4, 3),
        };
        filled(net, seed)
    }
}

impl GraphModule for Residual {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<4>) -> Tensor<2> {
        let image = x.clone().mean_dim(1);
        let x = relu(self.stem.forward(x));
        let inner = relu(self.a_norm.forward(self.a.forward(x.clone())));
        let x = relu(self.b_norm.forward(self.b.forward(inner)) + x) * image;
        let x = relu(self.up.forward(x)).mean_dim(3).mean_dim(2).flatten::<2>(1, 3);
        self.fc.forward(x)
    }
}

/// A transformer block on the rows of an image.
#[derive(Module, Debug)]
pub struct Tokens {
    pub embed: Linear,
    pub before: LayerNorm,
    pub attention: HeadAttention,
    pub between: LayerNorm,
    pub wide: Linear,
    pub narrow: Linear,
    pub fc: Linear,
}

impl Tokens {
    pub fn new(seed: u64) -> Self {
        let layer_norm = || LayerNormConfig::new(8).init(&device());
        let net = Self {
            embed: linear(16, 8),
            before: layer_norm(),
            attention: HeadAttentionConfig::new(8, 2).with_dropout(0.0).init(&device()),
            between: layer_norm(),
            wide: linear(8, 16),
            narrow: linear(16, 8),
            fc: linear(8, 3),
        };
        filled(net, seed)
    }
}

impl GraphModule for Tokens {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.embed.forward(x.swap_dims(1, 2).flatten::<3>(2, 3));
        let x = x.clone() + self.attention.forward(MhaInput::self_attn(self.before.forward(x))).context;
        let x = x.clone() + self.narrow.forward(gelu(self.wide.forward(self.between.forward(x))));
        self.fc.forward(x.mean_dim(1).flatten::<2>(1, 2))
    }
}

/// One-dimensional convolutions, and dropout before the classifier.
#[derive(Module, Debug)]
pub struct Dropped {
    pub stem: Conv1d,
    pub norm: BatchNorm,
    pub hidden: Linear,
    pub dropout: Dropout,
    pub fc: Linear,
}

impl Dropped {
    pub fn new(seed: u64) -> Self {
        let net = Self {
            stem: Conv1dConfig::new(2, 6, 3).init(&device()),
            norm: norm(6),
            hidden: linear(6, 12),
            dropout: DropoutConfig::new(0.4).init(),
            fc: linear(12, 3),
        };
        filled(net, seed)
    }
}

impl GraphModule for Dropped {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.norm.forward(self.stem.forward(x.flatten::<3>(2, 3))));
        let x = relu(self.hidden.forward(x.mean_dim(2).flatten::<2>(1, 2)));
        self.fc.forward(self.dropout.forward(x))
    }
}

/// What a recorded forward pass does not show.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hidden {
    /// A tensor without its gradients.
    Detached,
    /// Another way where there are gradients.
    Branch,
    /// The mean over the batch.
    Mixed,
    /// Tokens first, samples second.
    Turned,
    /// A sort, which has no gradient on stored outputs.
    Sorted,
    Nothing,
}

#[derive(Module, Debug)]
pub struct Odd {
    pub stem: Linear,
    pub hidden: Linear,
    pub side: Linear,
    pub fc: Linear,
    #[module(skip)]
    pub hides: u8,
}

impl Odd {
    pub fn new(hides: Hidden) -> Self {
        let [stem, hidden, side] = [(16, 8), (8, 8), (8, 8)].map(|(from, to)| linear(from, to));
        filled(Self { stem, hidden, side, fc: linear(8, 3), hides: hides as u8 }, 3)
    }
}

impl GraphModule for Odd {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<4>) -> Tensor<2> {
        let hides = |what: Hidden| self.hides == what as u8;
        let mut x = self.stem.forward(x.swap_dims(1, 2).flatten::<3>(2, 3));
        if hides(Hidden::Mixed) {
            x = x.clone() - x.mean_dim(0);
        }
        if hides(Hidden::Turned) {
            // The frozen part ends in a product over tokens and samples.
            let [samples, tokens, width] = x.dims();
            x = (relu(x.swap_dims(0, 1)) * 1.5).reshape([tokens, samples, width]);
            return self.fc.forward(relu(self.hidden.forward(x).mean_dim(0).flatten::<2>(0, 1)));
        }
        let x = self.hidden.forward(relu(x)).mean_dim(1).flatten::<2>(1, 2);
        let side = self.side.forward(x.clone());
        let x = match () {
            () if hides(Hidden::Detached) => x + side.detach(),
            () if hides(Hidden::Sorted) => x + side.sort(1),
            () if hides(Hidden::Branch) && x.device().is_autodiff() && !x.is_tracked() => x,
            () if hides(Hidden::Branch) => x + side * 2.0,
            () => x + side,
        };
        self.fc.forward(relu(x))
    }
}
