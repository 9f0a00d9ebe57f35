//! [`HeadAttention`], in the place of Burn's `MultiHeadAttention`.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay};
use burn::nn::attention::{MhaOutput, MultiHeadAttention};
use burn::nn::{Dropout, DropoutConfig, Initializer, Linear, LinearConfig};
use burn::tensor::activation::{quiet_softmax, softmax};
use burn::tensor::{Bool, Device, Tensor};

use super::cache::MhaCache;
use super::input::MhaInput;
use crate::recognize::{Marker, NnLayer};
use crate::shrink::{Scope, Shrink};

/// Configuration of a [`HeadAttention`], with the fields and defaults of Burn's `MultiHeadAttentionConfig`.
///
/// ```
/// use burn::tensor::Device;
/// use burn_sfp_nn::HeadAttentionConfig;
///
/// let attention = HeadAttentionConfig::new(12, 3).with_dropout(0.0).with_key_bias(false).init(&Device::flex());
/// assert_eq!((attention.n_heads, attention.d_k), (3, 4));
/// assert!(attention.key.bias.is_none());
/// ```
#[derive(Config, Debug)]
pub struct HeadAttentionConfig {
    /// Width of a token: of the input and of the output.
    pub d_model: usize,
    /// Number of heads; divides `d_model`.
    pub n_heads: usize,
    /// Dropout rate of the attention weights. Default: 0.1
    #[config(default = 0.1)]
    pub dropout: f64,
    /// Score of masked positions before the softmax. A value too low may result in NaN. Default: -1.0e4
    #[config(default = -1.0e4)]
    pub min_float: f64,
    /// Whether to use the quiet softmax, by which a head can attend to nothing. Default: false
    #[config(default = false)]
    pub quiet_softmax: bool,
    /// Initializer of the parameters.
    #[config(default = "Initializer::KaimingUniform{gain:1.0/f64::sqrt(3.0), fan_out_only:false}")]
    pub initializer: Initializer,
    /// Whether the key layer has a bias. Default: true
    #[config(default = true)]
    pub key_bias: bool,
    /// Whether the value layer has a bias. Default: true
    #[config(default = true)]
    pub value_bias: bool,
    /// Whether the query layer has a bias. Default: true
    #[config(default = true)]
    pub query_bias: bool,
    /// Whether the output layer has a bias. Default: true
    #[config(default = true)]
    pub output_bias: bool,
}

impl HeadAttentionConfig {
    /// Initializes the layer.
    pub fn init(&self, device: &Device) -> HeadAttention {
        let linear = |bias| {
            let config = LinearConfig::new(self.d_model, self.d_model).with_initializer(self.initializer.clone());
            config.with_bias(bias).init(device)
        };
        let d_k = self.d_model / self.n_heads.max(1);
        HeadAttention {
            query: linear(self.query_bias),
            key: linear(self.key_bias),
            value: linear(self.value_bias),
            output: linear(self.output_bias),
            dropout: DropoutConfig::new(self.dropout).init(),
            d_model: self.d_model,
            n_heads: self.n_heads,
            d_k,
            scale: (d_k as f64).powf(-0.5),
            min_float: self.min_float,
            quiet_softmax: self.quiet_softmax,
            marker: MARKER,
        }
    }
}

const MARKER: Marker = Marker::new(NnLayer::HeadAttention);

/// Multi-head attention whose heads can be removed, and dimensions inside the heads ("Attention Is All You Need", Vaswani et al.
/// 2017, arXiv 1706.03762).
///
/// Burn's [`MultiHeadAttention`] requires `n_heads * d_k == d_model`, so that nothing inside of it can be removed. This layer has
/// the same parameters, configuration, input and output, and computes the same. In a model's code the types change and the calls
/// stay: `HeadAttention` for `MultiHeadAttention`, [`HeadAttentionConfig`] for `MultiHeadAttentionConfig`, and this crate's
/// [`MhaInput`] and [`MhaCache`] for Burn's. Records of either load into the other, and [`From`] makes one of a trained layer of
/// Burn's:
///
/// ```
/// use burn::nn::attention::{self, MultiHeadAttentionConfig};
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_sfp_nn::{HeadAttention, MhaInput};
///
/// let device = Device::flex();
/// let burns = MultiHeadAttentionConfig::new(8, 2).init(&device);
/// let x = Tensor::<3>::random([2, 3, 8], Distribution::Default, &device);
/// let expected = burns.forward(attention::MhaInput::self_attn(x.clone()));
///
/// let ours = HeadAttention::from(burns).forward(MhaInput::self_attn(x));
/// assert!((ours.context - expected.context).abs().max().into_scalar::<f32>() < 1e-5);
/// assert!((ours.weights - expected.weights).abs().max().into_scalar::<f32>() < 1e-5);
/// ```
///
/// A pruned layer's heads may have fewer query and key dimensions than value dimensions.
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct HeadAttention {
    /// Computes the queries of all heads, `[d_model, n_heads * d_k]`.
    pub query: Linear,
    /// Computes the keys of all heads, `[d_model, n_heads * d_k]`.
    pub key: Linear,
    /// Computes the values of all heads, `[d_model, n_heads * d_v]`.
    pub value: Linear,
    /// Joins the heads, `[n_heads * d_v, d_model]`.
    pub output: Linear,
    /// Dropout of the attention weights, in training.
    pub dropout: Dropout,
    /// Width of a token of the input.
    pub d_model: usize,
    /// Number of heads.
    pub n_heads: usize,
    /// Dimensions of a head's queries and keys.
    pub d_k: usize,
    /// Factor of the scores, `d_k^-0.5` of the unpruned layer. It stays when a head loses dimensions, so that the scores stay.
    pub scale: f64,
    /// Score of masked positions.
    pub min_float: f64,
    /// Whether a head can attend to nothing (quiet softmax).
    pub quiet_softmax: bool,
    marker: Marker,
}

impl From<MultiHeadAttention> for HeadAttention {
    fn from(burns: MultiHeadAttention) -> Self {
        Self {
            query: burns.query,
            key: burns.key,
            value: burns.value,
            output: burns.output,
            dropout: burns.dropout,
            d_model: burns.d_model,
            n_heads: burns.n_heads,
            d_k: burns.d_k,
            scale: (burns.d_k as f64).powf(-0.5),
            min_float: burns.min_float,
            quiet_softmax: burns.quiet_softmax,
            marker: MARKER,
        }
    }
}

impl HeadAttention {
    /// Applies attention to queries, keys and values.
    ///
    /// # Shapes
    /// - query: `[batch_size, seq_length_1, d_model]`
    /// - key and value: `[batch_size, seq_length_2, d_model]`
    /// - context: `[batch_size, seq_length_1, d_model]`
    /// - weights: `[batch_size, n_heads, seq_length_1, seq_length_2]`
    ///
    /// # Panics
    /// As Burn's: where the last axis of an input is not `d_model`, where the batch size of `key` or `value` differs from `query`,
    /// or where the sequence length of `value` differs from `key`.
    pub fn forward(&self, input: MhaInput) -> MhaOutput {
        input.assert_shapes();
        let query = self.split(self.query.forward(input.query));
        let key = self.split(self.key.forward(input.key));
        let value = self.split(self.value.forward(input.value));
        let weights = self.weights(query, key, input.mask_pad, input.mask_attn);
        let context = self.output.forward(join(weights.clone().matmul(value)));
        MhaOutput { weights, context }
    }

    /// Applies attention during decoding: what `cache` holds of earlier tokens is not computed again.
    ///
    /// Shapes are those of [`forward`](HeadAttention::forward); each input holds all tokens so far.
    ///
    /// # Panics
    /// As [`forward`](HeadAttention::forward).
    pub fn forward_cache(&self, input: MhaInput, cache: &mut MhaCache) -> MhaOutput {
        input.assert_shapes();
        let query = cache.query.forward(input.query, |x| self.split(self.query.forward(x)));
        let key = cache.key.forward(input.key, |x| self.split(self.key.forward(x)));
        let value = cache.value.forward(input.value, |x| self.split(self.value.forward(x)));
        let weights = self.weights(query, key, input.mask_pad, input.mask_attn);
        let context = cache.output.forward(join(weights.clone().matmul(value)), |x| self.output.forward(x));
        MhaOutput { weights, context }
    }

    /// Self-attention without masks, `[batch_size, seq_length, d_model]` to the same: the context of
    /// [`forward`](HeadAttention::forward).
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use burn_sfp_nn::HeadAttentionConfig;
    ///
    /// let device = Device::flex();
    /// let attention = HeadAttentionConfig::new(8, 2).init(&device);
    /// assert_eq!(attention.self_attention(Tensor::ones([1, 3, 8], &device)).dims(), [1, 3, 8]);
    /// ```
    ///
    /// # Panics
    /// Where the last axis of `x` is not `d_model`.
    pub fn self_attention(&self, x: Tensor<3>) -> Tensor<3> {
        self.forward(MhaInput::self_attn(x)).context
    }

    /// The attention weights, `[batch_size, n_heads, seq_length_1, seq_length_2]`.
    fn weights(
        &self,
        query: Tensor<4>,
        key: Tensor<4>,
        mask_pad: Option<Tensor<2, Bool>>,
        mask_attn: Option<Tensor<3, Bool>>,
    ) -> Tensor<4> {
        let mut scores = query.matmul(key.swap_dims(2, 3)) * self.scale;
        if let Some(mask) = mask_pad {
            let [batch_size, seq_length_2] = mask.dims();
            scores = scores.mask_fill(mask.reshape([batch_size, 1, 1, seq_length_2]), self.min_float);
        }
        if let Some(mask) = mask_attn {
            let [batch_size, seq_length_1, seq_length_2] = mask.dims();
            scores = scores.mask_fill(mask.reshape([batch_size, 1, seq_length_1, seq_length_2]), self.min_float);
        }
        let weights = if self.quiet_softmax { quiet_softmax(scores, 3) } else { softmax(scores, 3) };
        self.dropout.forward(weights)
    }

    /// `[batch_size, seq_length, n_heads * width]` to `[batch_size, n_heads, seq_length, width]`.
    fn split(&self, x: Tensor<3>) -> Tensor<4> {
        let [batch_size, seq_length, width] = x.dims();
        x.reshape([batch_size, seq_length, self.n_heads, width / self.n_heads.max(1)]).swap_dims(1, 2)
    }
}

/// `[batch_size, n_heads, seq_length, width]` to `[batch_size, seq_length, n_heads * width]`.
fn join(x: Tensor<4>) -> Tensor<3> {
    let x = x.swap_dims(1, 2);
    let [batch_size, seq_length, heads, width] = x.dims();
    x.reshape([batch_size, seq_length, heads * width])
}

impl Shrink for HeadAttention {
    fn shrink(&mut self, scope: &mut Scope<'_>) {
        if let Some(change) = scope.axis("query.weight", 0) {
            self.d_model = change.keep.len();
        }
        // A head that loses only some of its dimensions keeps others, so the heads that the kept dimensions belong to are the
        // heads that stay. Values may lose dimensions that queries and keys keep, but heads leave all three.
        let kept = |parameter| {
            let change = scope.axis(parameter, 1)?;
            let width = (change.before / self.n_heads.max(1)).max(1);
            let mut heads: Vec<usize> = change.keep.iter().map(|index| index / width).collect();
            heads.dedup();
            Some(heads.len())
        };
        if let Some(heads) = kept("query.weight").or_else(|| kept("value.weight")) {
            self.n_heads = heads;
        }
        if let Some(change) = scope.axis("query.weight", 1) {
            self.d_k = change.keep.len() / self.n_heads.max(1);
        }
    }
}

impl ModuleDisplay for HeadAttention {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new().with_new_line_after_attribute(false).optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        content
            .add("d_model", &self.d_model)
            .add("n_heads", &self.n_heads)
            .add("d_k", &self.d_k)
            .add("dropout", &self.dropout.prob)
            .add("min_float", &self.min_float)
            .add("quiet_softmax", &self.quiet_softmax)
            .optional()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::Param;
    use burn::nn::attention::{self, MultiHeadAttentionConfig};
    use burn::tensor::{Distribution, Int, Tolerance};

    use crate::shrink::AxisChange;

    const WIDTH: usize = 12;
    const HEADS: usize = 3;

    fn layer(device: &Device) -> HeadAttention {
        HeadAttentionConfig::new(WIDTH, HEADS).with_dropout(0.0).init(device)
    }

    /// Keeps columns of a layer, and says so.
    fn columns(layer: &mut Linear, name: &str, keep: &[usize]) -> AxisChange {
        let device = layer.weight.device();
        let before = layer.weight.dims()[1];
        layer.weight = layer.weight.clone().map(|tensor| tensor.select(1, indices(keep, &device)));
        let bias = layer.bias.take();
        layer.bias = bias.map(|bias| bias.map(|tensor| tensor.select(0, indices(keep, &device))));
        AxisChange { parameter: format!("{name}.weight"), axis: 1, before, keep: keep.to_vec() }
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

    fn random(shape: [usize; 3], device: &Device) -> Tensor<3> {
        Tensor::random(shape, Distribution::Default, device)
    }

    fn assert_near<const D: usize>(found: Tensor<D>, expected: Tensor<D>) {
        found.into_data().assert_approx_eq::<f32>(&expected.into_data(), Tolerance::default());
    }

    /// Prunes queries and keys to `inner`, values to `outer`; what goes was zero before, so the output has to stay.
    fn check(inner: &[usize], outer: &[usize], heads: usize) {
        let device = Device::flex();
        let mut layer = layer(&device);
        clear(&mut layer.query, inner);
        clear(&mut layer.value, outer);
        let x = random([2, 5, WIDTH], &device);
        let before = layer.self_attention(x.clone());
        let mut axes = vec![
            columns(&mut layer.query, "query", inner),
            columns(&mut layer.key, "key", inner),
            columns(&mut layer.value, "value", outer),
        ];
        axes.retain(|change| change.keep.len() < change.before);
        rows(&mut layer.output, outer);
        layer.shrink(&mut Scope::new(&[], &axes));
        assert_eq!((layer.n_heads, layer.d_k), (heads, inner.len() / heads));
        assert_near(layer.self_attention(x), before);
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
    fn it_computes_what_burns_layer_computes() {
        let device = Device::flex();
        let (x, memory) = (random([2, 4, WIDTH], &device), random([2, 6, WIDTH], &device));
        let pad = Tensor::<2, Int>::from_ints([[0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1, 1]], &device).bool();
        let look = Tensor::<2, Int>::from_ints(
            [[0, 1, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]],
            &device,
        );
        let look = look.bool().unsqueeze::<3>().expand([2, 4, 6]);
        for quiet in [false, true] {
            let burns = MultiHeadAttentionConfig::new(WIDTH, HEADS).with_quiet_softmax(quiet).init(&device);
            let theirs = attention::MhaInput::new(x.clone(), memory.clone(), memory.clone());
            let expected = burns.forward(theirs.mask_pad(pad.clone()).mask_attn(look.clone()));
            let input = MhaInput::new(x.clone(), memory.clone(), memory.clone());
            let input = input.mask_pad(pad.clone()).mask_attn(look.clone());
            let found = HeadAttention::from(burns).forward(input);
            assert_near(found.context, expected.context);
            assert_near(found.weights, expected.weights);
        }
    }

    #[test]
    fn caches_hold_what_burns_layer_caches() {
        let device = Device::flex();
        let burns = MultiHeadAttentionConfig::new(WIDTH, HEADS).init(&device);
        let ours = HeadAttention::from(burns.clone());
        let (x, memory) = (random([2, 4, WIDTH], &device), random([2, 6, WIDTH], &device));
        let caches = [
            (attention::MhaCache::autoregressive(), MhaCache::autoregressive()),
            (attention::MhaCache::autoregressive_cross_attention(), MhaCache::autoregressive_cross_attention()),
        ];
        for (cross, (mut theirs, mut cache)) in caches.into_iter().enumerate() {
            for length in 1..=4 {
                let query = x.clone().slice([0..2, 0..length, 0..WIDTH]);
                let other = if cross == 1 { memory.clone() } else { query.clone() };
                let input = attention::MhaInput::new(query.clone(), other.clone(), other.clone());
                let expected = burns.forward_cache(input, &mut theirs);
                let found = ours.forward_cache(MhaInput::new(query, other.clone(), other), &mut cache);
                assert_near(found.context, expected.context);
                assert_near(found.weights, expected.weights);
            }
        }
    }

    #[test]
    fn configurations_and_records_are_those_of_burns_layer() {
        let device = Device::flex();
        let burns = MultiHeadAttentionConfig::new(WIDTH, HEADS);
        let ours = HeadAttentionConfig::new(WIDTH, HEADS);
        assert_eq!(ours.to_string(), burns.to_string());
        let (burns, ours) = (burns.init(&device), ours.init(&device));
        assert_eq!(ours.to_string().replace("HeadAttention", "MultiHeadAttention"), burns.to_string());
        let x = random([2, 3, WIDTH], &device);
        let expected = burns.forward(attention::MhaInput::self_attn(x.clone())).context;
        assert_near(ours.load_record(burns.into_record()).self_attention(x), expected);
    }

    #[test]
    #[should_panic(expected = "axis 0 expected 2, got 1")]
    fn keys_of_another_batch_size_panic_as_in_burns_layer() {
        let device = Device::flex();
        let other = random([1, 3, WIDTH], &device);
        layer(&device).forward(MhaInput::new(random([2, 3, WIDTH], &device), other.clone(), other));
    }
}
