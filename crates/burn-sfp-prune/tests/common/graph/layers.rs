//! The parameterised layers of a graph, by kind; calls name them by index.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d, DeformConv2d};
use burn::nn::{BatchNorm, Embedding, GroupNorm, InstanceNorm, LayerNorm, Linear, PRelu, RmsNorm};
use burn::tensor::Tensor;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn_sfp_nn::Shrink;

use super::heads::{Attention, Joint, Shuffle};
use super::value::{Value, each};

#[derive(Module, Debug, Shrink, Default)]
pub struct Layers {
    pub conv1: Vec<Conv1d>,
    pub conv2: Vec<Conv2d>,
    pub conv3: Vec<Conv3d>,
    pub up1: Vec<ConvTranspose1d>,
    pub up2: Vec<ConvTranspose2d>,
    pub up3: Vec<ConvTranspose3d>,
    pub deform: Vec<DeformConv2d>,
    pub linear: Vec<Linear>,
    pub batch: Vec<BatchNorm>,
    pub layer: Vec<LayerNorm>,
    pub group: Vec<GroupNorm>,
    pub instance: Vec<InstanceNorm>,
    pub rms: Vec<RmsNorm>,
    pub prelu: Vec<PRelu>,
    pub embedding: Vec<Embedding>,
    pub attention: Vec<Attention>,
    pub joint: Vec<Joint>,
    pub shuffle: Vec<Shuffle>,
    pub thin: Vec<Thin>,
    /// One number a channel.
    pub bare: Vec<Param<Tensor<1>>>,
    /// `[1, channels, 1, 1]`.
    pub wide: Vec<Param<Tensor<4>>>,
    /// `[in, out]`, or `[out, in]` where it stands on the left.
    pub matrix: Vec<Param<Tensor<2>>>,
}

/// A layer whose weight is the product of two thin matrices: a 3x3 convolution of a map, a linear layer of anything else, whose last axis
/// is that of its channels.
#[derive(Module, Debug, Shrink)]
pub struct Thin {
    /// `[out, rank]`.
    pub a: Param<Tensor<2>>,
    /// `[rank, in * 9]`, or `[rank, in]`.
    pub b: Param<Tensor<2>>,
}

impl Thin {
    pub fn forward(&self, x: Value) -> Value {
        let weight = self.a.val().matmul(self.b.val());
        match x {
            Value::Four(x) => {
                let kernel = weight.reshape([-1, x.dims()[1] as i32, 3, 3]);
                Value::Four(conv2d(x, kernel, None, ConvOptions::new([1, 1], [1, 1], [1, 1], 1)))
            }
            x => each!(x, x => x.matmul(weight.transpose().unsqueeze())),
        }
    }
}
