//! The parameterised layers of a graph, by kind; calls name them by index.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d, DeformConv2d};
use burn::nn::{BatchNorm, Embedding, GroupNorm, InstanceNorm, LayerNorm, Linear, PRelu, RmsNorm};
use burn::tensor::Tensor;
use burn_sfp_nn::Shrink;

use super::heads::{Attention, Joint, Shuffle};

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
    /// One number a channel.
    pub bare: Vec<Param<Tensor<1>>>,
    /// `[1, channels, 1, 1]`.
    pub wide: Vec<Param<Tensor<4>>>,
    /// `[in, out]`, or `[out, in]` where it stands on the left.
    pub matrix: Vec<Param<Tensor<2>>>,
}
