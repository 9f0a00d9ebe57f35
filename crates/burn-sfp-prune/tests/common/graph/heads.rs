//! Layers that keep a count in a plain field: attention its heads, a shuffle its groups.

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::softmax;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, Tensor};
use burn_sfp_nn::{Scope, Shrink};

use super::value::{Layout, Value};

/// How the heads mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    Softmax,
    /// Softmax on transposed keys of the other order: `(k q^T)^T`.
    Turned,
    /// `q (k^T v)`.
    Linear,
    /// Burn's attention operation.
    Fused,
    /// Over the root of the width of a head.
    Root,
}

/// Queries of one value, keys and values of another (or the same).
#[derive(Module, Debug)]
pub struct Attention {
    pub query: Linear,
    pub key: Linear,
    pub value: Linear,
    pub output: Linear,
    pub heads: usize,
    #[module(skip)]
    pub mix: Mix,
}

impl Attention {
    /// `inputs` are the widths of what is asked and what answers; `sizes` are heads, dimensions of keys and of values.
    pub fn new(inputs: [usize; 2], sizes: [usize; 3], out: usize, bias: bool, mix: Mix, device: &Device) -> Self {
        let [heads, key, value] = sizes;
        let linear = |from, to| LinearConfig::new(from, to).with_bias(bias).init(device);
        Self {
            query: linear(inputs[0], heads * key),
            key: linear(inputs[1], heads * key),
            value: linear(inputs[1], heads * value),
            output: linear(heads * value, out),
            heads,
            mix,
        }
    }

    pub fn forward(&self, x: Tensor<3>, y: Tensor<3>) -> Tensor<3> {
        let query = self.split(self.query.forward(x));
        let key = self.split(self.key.forward(y.clone()));
        let value = self.split(self.value.forward(y));
        let root = (query.dims()[3] as f64).sqrt();
        let mixed = match self.mix {
            Mix::Root => softmax(query.matmul(key.swap_dims(2, 3)) / root, 3).matmul(value),
            Mix::Softmax => softmax(query.matmul(key.swap_dims(2, 3)) * 0.7, 3).matmul(value),
            Mix::Turned => softmax(key.matmul(query.swap_dims(2, 3)).swap_dims(2, 3).div_scalar(1.5), 3).matmul(value),
            Mix::Linear => query.matmul(key.swap_dims(2, 3).matmul(value)) * 0.2,
            Mix::Fused => {
                let options = AttentionModuleOptions { scale: Some(0.6), ..Default::default() };
                attention(query, key, value, None, None, options)
            }
        };
        let mixed = mixed.swap_dims(1, 2);
        let [samples, tokens, heads, width] = mixed.dims();
        self.output.forward(mixed.reshape([samples, tokens, heads * width]))
    }

    fn split(&self, x: Tensor<3>) -> Tensor<4> {
        let [samples, tokens, width] = x.dims();
        x.reshape([samples, tokens, self.heads, width / self.heads]).swap_dims(1, 2)
    }
}

impl Shrink for Attention {
    fn shrink(&mut self, scope: &mut Scope<'_>) {
        let left = |parameter| left(scope, parameter, 1, self.heads);
        if let Some(heads) = left("query.weight").or_else(|| left("value.weight")) {
            self.heads = heads;
        }
    }
}

/// How many of `blocks` equal blocks of an axis have something left.
fn left(scope: &Scope<'_>, parameter: &str, axis: usize, blocks: usize) -> Option<usize> {
    let change = scope.axis(parameter, axis)?;
    let width = change.before / blocks;
    let mut kept: Vec<usize> = change.keep.iter().map(|index| index / width).collect();
    kept.dedup();
    Some(kept.len())
}

/// Attention of a value to itself, whose queries, keys and values come from one layer.
#[derive(Module, Debug)]
pub struct Joint {
    pub qkv: Linear,
    pub output: Linear,
    pub heads: usize,
}

impl Joint {
    pub fn new(input: usize, heads: usize, width: usize, out: usize, device: &Device) -> Self {
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        Self { qkv: linear(input, 3 * heads * width), output: linear(heads * width, out), heads }
    }

    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [samples, tokens, _] = x.dims();
        let [query, key, value]: [Tensor<4>; 3] = self
            .qkv
            .forward(x)
            .chunk(3, 2)
            .into_iter()
            .map(|part| {
                let width = part.dims()[2] / self.heads;
                part.reshape([samples, tokens, self.heads, width]).swap_dims(1, 2)
            })
            .collect::<Vec<_>>()
            .try_into()
            .expect("three chunks");
        let mixed = softmax(query.matmul(key.swap_dims(2, 3)) * 0.7, 3).matmul(value).swap_dims(1, 2);
        self.output.forward(mixed.flatten(2, 3))
    }
}

impl Shrink for Joint {
    fn shrink(&mut self, scope: &mut Scope<'_>) {
        if let Some(blocks) = left(scope, "qkv.weight", 1, 3 * self.heads) {
            self.heads = blocks / 3;
        }
    }
}

/// Scales channels and deals them out: channel `m` of group `g` becomes channel `g` of group `m`.
#[derive(Module, Debug)]
pub struct Shuffle {
    pub scale: Param<Tensor<1>>,
    pub groups: usize,
}

impl Shuffle {
    pub fn new(channels: usize, groups: usize, device: &Device) -> Self {
        Self { scale: Param::from_tensor(Tensor::ones([channels], device)), groups }
    }

    pub fn forward(&self, x: Value, layout: Layout) -> Value {
        let scale = self.scale.val();
        let (channels, groups) = (scale.dims()[0], self.groups);
        let members = channels / groups;
        match x {
            Value::Two(x) => {
                let [b, c] = x.dims();
                let x = x * scale.reshape([1, channels]);
                Value::Two(x.reshape([b, groups, members]).swap_dims(1, 2).reshape([b, c]))
            }
            Value::Three(x) if layout == Layout::Tokens => {
                let [b, t, c] = x.dims();
                let x = x * scale.reshape([1, 1, channels]);
                Value::Three(x.reshape([b, t, groups, members]).swap_dims(2, 3).reshape([b, t, c]))
            }
            Value::Three(x) => {
                let [b, c, l] = x.dims();
                let x = x * scale.reshape([1, channels, 1]);
                Value::Three(x.reshape([b, groups, members, l]).swap_dims(1, 2).reshape([b, c, l]))
            }
            Value::Four(x) => {
                let [b, c, h, w] = x.dims();
                let x = x * scale.reshape([1, channels, 1, 1]);
                Value::Four(x.reshape([b, groups, members, h, w]).swap_dims(1, 2).reshape([b, c, h, w]))
            }
            Value::Five(x) => {
                let [b, c, d, h, w] = x.dims();
                let x = x * scale.reshape([1, channels, 1, 1, 1]);
                Value::Five(x.reshape([b, groups, members, d, h, w]).swap_dims(1, 2).reshape([b, c, d, h, w]))
            }
        }
    }
}

impl Shrink for Shuffle {
    fn shrink(&mut self, scope: &mut Scope<'_>) {
        if let Some(groups) = left(scope, "scale", 0, self.groups) {
            self.groups = groups;
        }
    }
}
