//! Attention whose heads can leave ("Attention Is All You Need", Vaswani et al. 2017, arXiv 1706.03762).

use burn::config::Config;
use burn::module::Module;
use burn::nn::attention::MultiHeadAttention;
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::tensor::activation::{quiet_softmax, softmax};
use burn::tensor::{Bool, Device, Tensor};

use crate::{Scope, Shrink};

/// Configuration of a [`HeadAttention`].
#[derive(Config, Debug)]
pub struct HeadAttentionConfig {
    /// Channels of a token.
    pub width: usize,
    /// Number of heads; divides the width.
    pub heads: usize,
    /// Whether queries, keys and values have a bias; the output always has one.
    #[config(default = true)]
    pub bias: bool,
    /// Dropout of the attention's weights.
    #[config(default = 0.0)]
    pub dropout: f64,
}

impl HeadAttentionConfig {
    /// Makes the layer.
    pub fn init(&self, device: &Device) -> HeadAttention {
        let linear = |bias| LinearConfig::new(self.width, self.width).with_bias(bias).init(device);
        HeadAttention {
            query: linear(self.bias),
            key: linear(self.bias),
            value: linear(self.bias),
            output: linear(true),
            dropout: DropoutConfig::new(self.dropout).init(),
            heads: self.heads,
            scale: ((self.width / self.heads.max(1)) as f64).powf(-0.5),
            masked: -1.0e4,
            quiet: false,
        }
    }
}

/// Attention with several heads that can shrink: whole heads may leave, and dimensions inside every head.
///
/// Burn's `MultiHeadAttention` gives its heads together the width of its input, so nothing inside of it can leave. This layer has
/// the same parameters under the same names and computes the same; make it [from](From) one that is trained:
///
/// ```
/// use burn::nn::attention::{MhaInput, MultiHeadAttentionConfig};
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_sfp_core::nn::HeadAttention;
///
/// let device = Device::flex();
/// let burns = MultiHeadAttentionConfig::new(8, 2).with_dropout(0.0).init(&device);
/// let x = Tensor::<3>::random([2, 3, 8], Distribution::Default, &device);
/// let expected = burns.forward(MhaInput::self_attn(x.clone())).context;
/// let ours = HeadAttention::from(burns).forward(x);
/// assert!((ours - expected).abs().max().into_scalar::<f32>() < 1e-5);
/// ```
///
/// Queries, keys and values are layers of their own, so that a head may have fewer query and key dimensions than value
/// dimensions.
#[derive(Module, Debug)]
pub struct HeadAttention {
    /// Makes the queries of all heads.
    pub query: Linear,
    /// Makes the keys of all heads.
    pub key: Linear,
    /// Makes the values of all heads.
    pub value: Linear,
    /// Joins the heads.
    pub output: Linear,
    /// Dropout of the attention's weights, in training.
    pub dropout: Dropout,
    /// Number of heads.
    pub heads: usize,
    /// Factor of the similarities. A constant: when a head loses dimensions that contribute nothing, its similarities stay.
    pub scale: f64,
    /// Similarity of what a mask hides.
    pub masked: f64,
    /// Whether a head may attend to nothing (`quiet_softmax`).
    pub quiet: bool,
}

impl From<MultiHeadAttention> for HeadAttention {
    fn from(burns: MultiHeadAttention) -> Self {
        Self {
            query: burns.query,
            key: burns.key,
            value: burns.value,
            output: burns.output,
            dropout: burns.dropout,
            heads: burns.n_heads,
            scale: (burns.d_k as f64).powf(-0.5),
            masked: burns.min_float,
            quiet: burns.quiet_softmax,
        }
    }
}

/// What a [`HeadAttention`] attends from and to, and what is hidden.
#[derive(Clone, Debug)]
pub struct AttentionInput {
    /// `[samples, tokens, width]`
    pub query: Tensor<3>,
    /// `[samples, others, width]`
    pub key: Tensor<3>,
    /// `[samples, others, width]`
    pub value: Tensor<3>,
    /// `[samples, others]`, true where a token is padding.
    pub mask_pad: Option<Tensor<2, Bool>>,
    /// `[samples, tokens, others]`, true where a token must not look.
    pub mask_attention: Option<Tensor<3, Bool>>,
}

impl HeadAttention {
    /// Self-attention: `[samples, tokens, width]` to the same.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.attend(AttentionInput { query: x.clone(), key: x.clone(), value: x, mask_pad: None, mask_attention: None })
    }

    /// Attention of any kind: `[samples, tokens, width]`.
    pub fn attend(&self, input: AttentionInput) -> Tensor<3> {
        let query = self.split(self.query.forward(input.query));
        let key = self.split(self.key.forward(input.key));
        let value = self.split(self.value.forward(input.value));
        let mut similarities = query.matmul(key.swap_dims(2, 3)) * self.scale;
        if let Some(mask) = input.mask_pad {
            let [samples, others] = mask.dims();
            similarities = similarities.mask_fill(mask.reshape([samples, 1, 1, others]), self.masked);
        }
        if let Some(mask) = input.mask_attention {
            let [samples, tokens, others] = mask.dims();
            similarities = similarities.mask_fill(mask.reshape([samples, 1, tokens, others]), self.masked);
        }
        let weights = if self.quiet { quiet_softmax(similarities, 3) } else { softmax(similarities, 3) };
        let mixed = self.dropout.forward(weights).matmul(value).swap_dims(1, 2);
        let [samples, tokens, heads, width] = mixed.dims();
        self.output.forward(mixed.reshape([samples, tokens, heads * width]))
    }

    /// `[samples, tokens, heads * width]` to `[samples, heads, tokens, width]`.
    fn split(&self, x: Tensor<3>) -> Tensor<4> {
        let [samples, tokens, width] = x.dims();
        x.reshape([samples, tokens, self.heads, width / self.heads]).swap_dims(1, 2)
    }
}

impl Shrink for HeadAttention {
    fn shrink(&mut self, scope: &mut Scope<'_>) {
        // Of a head that loses only some dimensions others remain, so counting the heads of what remains answers for both
        // kinds of pruning. Values may lose dimensions that queries and keys keep, but never a head alone.
        let left = |parameter| {
            let change = scope.axis(parameter, 1)?;
            let width = change.before / self.heads;
            let mut heads: Vec<usize> = change.keep.iter().map(|index| index / width).collect();
            heads.dedup();
            Some(heads.len())
        };
        if let Some(heads) = left("query.weight").or_else(|| left("value.weight")) {
            self.heads = heads;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::Param;
    use burn::nn::attention::{MhaInput, MultiHeadAttentionConfig};
    use burn::tensor::{Int, Tolerance};

    use crate::AxisChange;

    const WIDTH: usize = 12;
    const HEADS: usize = 3;

    fn attention(device: &Device) -> HeadAttention {
        HeadAttentionConfig::new(WIDTH, HEADS).init(device)
    }

    /// Keeps columns of a layer.
    fn columns(layer: &mut Linear, keep: &[usize]) -> AxisChangeOf {
        let select = |tensor: Tensor<2>| {
            let device = tensor.device();
            tensor.select(1, indices(keep, &device))
        };
        let before = layer.weight.dims()[1];
        layer.weight = layer.weight.clone().map(select);
        layer.bias = layer.bias.take().map(|bias| {
            let device = bias.device();
            bias.map(|tensor| tensor.select(0, indices(keep, &device)))
        });
        AxisChangeOf { before, keep: keep.to_vec() }
    }

    /// Keeps rows of a layer.
    fn rows(layer: &mut Linear, keep: &[usize]) {
        let device = layer.weight.device();
        layer.weight = layer.weight.clone().map(|tensor| tensor.select(0, indices(keep, &device)));
    }

    /// Zeros in the columns that are not kept.
    fn clear(layer: &mut Linear, keep: &[usize]) {
        let device = layer.weight.device();
        let mask: Vec<f32> = (0..WIDTH).map(|index| if keep.contains(&index) { 1. } else { 0. }).collect();
        let mask = Tensor::<1>::from_floats(mask.as_slice(), &device);
        layer.weight = Param::from_tensor(layer.weight.val() * mask.clone().unsqueeze());
        layer.bias = layer.bias.take().map(|bias| Param::from_tensor(bias.val() * mask));
    }

    fn indices(keep: &[usize], device: &Device) -> Tensor<1, Int> {
        let keep: Vec<i32> = keep.iter().map(|&index| index as i32).collect();
        Tensor::from_ints(keep.as_slice(), device)
    }

    struct AxisChangeOf {
        before: usize,
        keep: Vec<usize>,
    }

    impl AxisChangeOf {
        fn at(self, parameter: &str) -> AxisChange {
            AxisChange { parameter: format!("{parameter}.weight"), axis: 1, before: self.before, keep: self.keep }
        }
    }

    /// Prunes queries and keys to `inner`, values to `outer`; what goes was zero before, so the output has to stay.
    fn check(inner: &[usize], outer: &[usize], heads: usize) {
        let device = Device::flex();
        let mut layer = attention(&device);
        clear(&mut layer.query, inner);
        clear(&mut layer.value, outer);
        let x = Tensor::<3>::random([2, 5, WIDTH], burn::tensor::Distribution::Default, &device);
        let before = layer.forward(x.clone());
        let mut axes = vec![
            columns(&mut layer.query, inner).at("query"),
            columns(&mut layer.key, inner).at("key"),
            columns(&mut layer.value, outer).at("value"),
        ];
        axes.retain(|change| change.keep.len() < change.before);
        rows(&mut layer.output, outer);
        layer.shrink(&mut Scope::new(&[], &axes));
        assert_eq!(layer.heads, heads);
        layer.forward(x).into_data().assert_approx_eq::<f32>(&before.into_data(), Tolerance::default());
    }

    #[test]
    fn whole_heads_go() {
        let keep = [0, 1, 2, 3, 8, 9, 10, 11];
        check(&keep, &keep, 2);
        check(&keep[4..], &keep[4..], 1);
    }

    #[test]
    fn dimensions_inside_heads_go() {
        let all: Vec<usize> = (0..WIDTH).collect();
        let (three, two) = ([0, 1, 3, 4, 5, 7, 8, 9, 11], [1, 2, 5, 6, 9, 10]);
        check(&three, &three, 3);
        check(&three, &two, 3);
        check(&two, &all, 3);
        check(&all, &two, 3);
    }

    #[test]
    fn both_go() {
        check(&[4, 6, 7, 8, 10, 11], &[5, 9], 2);
    }

    #[test]
    fn masks_hide_the_same_as_in_burns_layer() {
        let device = Device::flex();
        let burns = MultiHeadAttentionConfig::new(WIDTH, HEADS).with_dropout(0.0).init(&device);
        let x = Tensor::<3>::random([2, 4, WIDTH], burn::tensor::Distribution::Default, &device);
        let pad = Tensor::<2, Int>::from_ints([[0, 0, 0, 1], [0, 0, 1, 1]], &device).bool();
        let look =
            Tensor::<2, Int>::from_ints([[0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]], &device).bool();
        let look = look.unsqueeze::<3>().expand([2, 4, 4]);
        let expected =
            burns.forward(MhaInput::self_attn(x.clone()).mask_pad(pad.clone()).mask_attn(look.clone())).context;
        let input = AttentionInput {
            query: x.clone(),
            key: x.clone(),
            value: x,
            mask_pad: Some(pad),
            mask_attention: Some(look),
        };
        let ours = HeadAttention::from(burns).attend(input);
        ours.into_data().assert_approx_eq::<f32>(&expected.into_data(), Tolerance::default());
    }
}
