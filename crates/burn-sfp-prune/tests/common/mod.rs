//! Random chains and residual networks of convolutions, normalisations, poolings and linear layers.

#![allow(dead_code)]

mod draw;

use burn::module::{Module, Param, RunningState};
use burn::nn::conv::{Conv1d, Conv1dConfig, Conv2d, Conv2dConfig};
use burn::nn::pool::{AvgPool2dConfig, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig1d, PaddingConfig2d};
use burn::tensor::activation::{gelu, leaky_relu, relu, sigmoid};
use burn::tensor::{Device, Tensor};
use burn_sfp_graph::GraphModule;
use draw::{drawn, uniform};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    None,
    Relu,
    Gelu,
    Sigmoid,
    LeakyRelu,
    Tanh,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pool {
    None,
    Max,
    Average,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Skip {
    None,
    Identity,
    Projection,
}

#[derive(Clone, Debug)]
pub struct BlockSpec {
    pub filters: usize,
    pub kernel: usize,
    pub padding: usize,
    pub stride: usize,
    pub bias: bool,
    pub norm: bool,
    pub activation: Activation,
    pub pool: Pool,
    pub skip: Skip,
}

#[derive(Clone, Debug)]
pub struct Spec {
    pub blocks: Vec<BlockSpec>,
    pub one_dimensional: bool,
    pub global_pool: bool,
    pub hidden: Option<usize>,
    pub fc_bias: bool,
    pub seed: u64,
}

/// A 3x3 convolution that keeps the size of the map, with bias, normalisation and ReLU.
pub fn plain_block(filters: usize) -> BlockSpec {
    let (kernel, padding, stride, bias, norm) = (3, 1, 1, true, true);
    let (activation, pool, skip) = (Activation::Relu, Pool::None, Skip::None);
    BlockSpec { filters, kernel, padding, stride, bias, norm, activation, pool, skip }
}

pub const SIDE: usize = 12;
pub const CLASSES: usize = 3;

pub fn specs() -> impl Strategy<Value = Spec> {
    use Activation::*;
    let block = (
        1..7usize,
        prop_oneof![Just((1, 0)), Just((3, 1)), Just((3, 0)), Just((2, 1))],
        1..3usize,
        any::<bool>(),
        any::<bool>(),
        prop::sample::select(vec![None, Relu, Gelu, Sigmoid, LeakyRelu, Tanh]),
        prop_oneof![4 => Just(Pool::None), 1 => Just(Pool::Max), 1 => Just(Pool::Average)],
        prop_oneof![3 => Just(Skip::None), 2 => Just(Skip::Identity), 1 => Just(Skip::Projection)],
    )
        .prop_map(|(filters, (kernel, padding), stride, bias, norm, activation, pool, skip)| BlockSpec {
            filters,
            kernel,
            padding,
            stride,
            bias,
            norm,
            activation,
            pool,
            skip,
        });
    (
        prop::collection::vec(block, 1..6),
        prop::bool::weighted(0.2),
        any::<bool>(),
        prop::option::of(1..7usize),
        any::<bool>(),
        any::<u64>(),
    )
        .prop_map(|(blocks, one_dimensional, global_pool, hidden, fc_bias, seed)| Spec {
            blocks,
            one_dimensional,
            global_pool,
            hidden,
            fc_bias,
            seed,
        })
}

#[derive(Module, Debug)]
pub enum Conv {
    One(Conv1d),
    Two(Conv2d),
}

#[derive(Module, Debug)]
pub struct Block {
    pub conv: Conv,
    pub norm: Option<BatchNorm>,
    pub projection: Option<Conv>,
    #[module(skip)]
    pub spec: BlockSpec,
}

/// Maps the input of a layer, by the layer's path.
pub type Edit<'a> = dyn Fn(&str, Tensor<2>, usize) -> Tensor<2> + 'a;

#[derive(Module, Debug)]
pub struct Net {
    pub blocks: Vec<Block>,
    pub hidden: Option<Linear>,
    pub fc: Linear,
    #[module(skip)]
    pub spec: Spec,
}

fn conv(
    spec: &Spec,
    from: usize,
    block: &BlockSpec,
    kernel: usize,
    padding: usize,
    stride: usize,
    device: &Device,
) -> Conv {
    if spec.one_dimensional {
        let config = Conv1dConfig::new(from, block.filters, kernel).with_stride(stride).with_bias(block.bias);
        Conv::One(config.with_padding(PaddingConfig1d::Explicit(padding, padding)).init(device))
    } else {
        let config =
            Conv2dConfig::new([from, block.filters], [kernel; 2]).with_stride([stride; 2]).with_bias(block.bias);
        Conv::Two(config.with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding)).init(device))
    }
}

impl Net {
    pub fn new(mut spec: Spec, device: &Device) -> Self {
        draw::seed(spec.seed);
        let mut channels = 2;
        let mut side = SIDE;
        let mut blocks = Vec::new();
        for k in 0..spec.blocks.len() {
            let mut block = spec.blocks[k].clone();
            // A shape that the size allows; a skip needs equal shapes on both ways.
            if block.skip == Skip::Identity {
                block.filters = channels;
            }
            if block.skip != Skip::None {
                (block.kernel, block.padding) = if block.kernel == 1 { (1, 0) } else { (3, 1) };
            }
            if block.skip == Skip::Identity {
                block.stride = 1;
            }
            if side + 2 * block.padding < block.kernel + 2 {
                (block.kernel, block.padding, block.stride) = (1, 0, 1);
            }
            let out = (side + 2 * block.padding - block.kernel) / block.stride + 1;
            if out < 4 || spec.one_dimensional {
                block.pool = Pool::None;
            }
            let module = Block {
                conv: conv(&spec, channels, &block, block.kernel, block.padding, block.stride, device),
                norm: block.norm.then(|| norm(block.filters, device)),
                projection: (block.skip == Skip::Projection)
                    .then(|| conv(&spec, channels, &block, 1, 0, block.stride, device)),
                spec: block.clone(),
            };
            channels = block.filters;
            side = if block.pool == Pool::None { out } else { out / 2 };
            blocks.push(module);
            spec.blocks[k] = block;
        }
        let positions = if spec.one_dimensional { side } else { side * side };
        let features = if spec.global_pool { channels } else { channels * positions };
        let hidden = spec.hidden.map(|hidden| LinearConfig::new(features, hidden).init(device));
        let fc = LinearConfig::new(spec.hidden.unwrap_or(features), CLASSES).with_bias(spec.fc_bias).init(device);
        drawn(Self { blocks, hidden, fc, spec })
    }

    pub fn input(&self, samples: usize, device: &Device) -> Tensor<4> {
        let width = if self.spec.one_dimensional { 1 } else { SIDE };
        uniform([samples, 2, SIDE, width], -1.0, 1.0, device)
    }

    /// The forward pass with every layer's input passed through `edit` as `[rows, channels or features]`, its channel
    /// axis moved last.
    pub fn forward(&self, x: Tensor<4>, edit: &Edit<'_>) -> Tensor<2> {
        let mut x = x;
        for (k, block) in self.blocks.iter().enumerate() {
            let name = |part: &str| format!("blocks.{k}.{part}");
            let mut y = block.conv.run(&name("conv"), x.clone(), edit);
            if let Some(norm) = &block.norm {
                y = norm.forward(y);
            }
            match block.spec.skip {
                Skip::None => {}
                Skip::Identity => y = y + x.clone(),
                Skip::Projection => {
                    if let Some(projection) = &block.projection {
                        y = y + projection.run(&name("projection"), x.clone(), edit);
                    }
                }
            }
            y = match block.spec.activation {
                Activation::None => y,
                Activation::Relu => relu(y),
                Activation::Gelu => gelu(y),
                Activation::Sigmoid => sigmoid(y),
                Activation::LeakyRelu => leaky_relu(y, 0.1),
                Activation::Tanh => y.tanh(),
            };
            x = match block.spec.pool {
                Pool::None => y,
                Pool::Max => MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init().forward(y),
                Pool::Average => AvgPool2dConfig::new([2, 2]).with_strides([2, 2]).init().forward(y),
            };
        }
        let [samples, channels, _, _] = x.dims();
        let mut x: Tensor<2> = if self.spec.global_pool {
            x.mean_dim(3).mean_dim(2).reshape([samples, channels])
        } else {
            x.flatten(1, 3)
        };
        if let Some(hidden) = &self.hidden {
            x = relu(hidden.forward(edited("hidden", x, edit)));
        }
        self.fc.forward(edited("fc", x, edit))
    }
}

fn edited(path: &str, x: Tensor<2>, edit: &Edit<'_>) -> Tensor<2> {
    let features = x.dims()[1];
    edit(path, x, features)
}

impl Conv {
    fn run(&self, path: &str, x: Tensor<4>, edit: &Edit<'_>) -> Tensor<4> {
        let [samples, channels, h, w] = x.dims();
        let rows = x.permute([0, 2, 3, 1]).reshape([samples * h * w, channels]);
        let x = edit(path, rows, channels).reshape([samples, h, w, channels]).permute([0, 3, 1, 2]);
        match self {
            Self::Two(conv) => conv.forward(x),
            Self::One(conv) => {
                let y = conv.forward(x.reshape([samples, channels, h]));
                let [samples, filters, length] = y.dims();
                y.reshape([samples, filters, length, 1])
            }
        }
    }
}

impl GraphModule for Net {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<4>) -> Tensor<2> {
        self.forward(x, &|_, x, _| x)
    }
}

fn norm(channels: usize, device: &Device) -> BatchNorm {
    let mut norm = BatchNormConfig::new(channels).init(device);
    norm.gamma = Param::from_tensor(uniform([channels], 0.5, 1.5, device));
    norm.beta = Param::from_tensor(uniform([channels], -0.5, 0.5, device));
    norm.running_mean = RunningState::new(uniform([channels], -0.5, 0.5, device));
    norm.running_var = RunningState::new(uniform([channels], 0.5, 2.0, device));
    norm
}

/// Largest difference over the largest value.
pub fn difference(a: Tensor<2>, b: Tensor<2>) -> f64 {
    let scale = b.clone().abs().max().into_data().iter::<f64>().next().unwrap().max(1e-3);
    (a - b).abs().max().into_data().iter::<f64>().next().unwrap() / scale
}
