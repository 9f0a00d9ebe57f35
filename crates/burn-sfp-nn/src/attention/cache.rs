//! [`MhaCache`], what attention keeps between the steps of decoding.

use burn::tensor::Tensor;

/// Cache of a [`HeadAttention`](crate::HeadAttention) during inference that decodes one token after another, as Burn's
/// [`MhaCache`](burn::nn::attention::MhaCache).
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_sfp_nn::{HeadAttentionConfig, MhaCache, MhaInput};
///
/// let device = Device::flex();
/// let attention = HeadAttentionConfig::new(8, 2).init(&device);
/// let tokens = Tensor::<3>::random([1, 4, 8], Distribution::Default, &device);
/// let mut cache = MhaCache::autoregressive();
/// for length in 1..=4 {
///     let so_far = tokens.clone().slice([0..1, 0..length]);
///     let output = attention.forward_cache(MhaInput::self_attn(so_far), &mut cache);
///     assert_eq!(output.context.dims(), [1, length, 8]);
/// }
/// ```
#[derive(Clone, Debug)]
pub struct MhaCache {
    pub(super) query: LayerCache<4>,
    pub(super) key: LayerCache<4>,
    pub(super) value: LayerCache<4>,
    pub(super) output: LayerCache<3>,
}

impl MhaCache {
    /// An empty cache for decoding with self-attention: each call computes the last token of its input and appends it to the
    /// tokens of the calls before. The first call computes all of its tokens.
    pub fn autoregressive() -> Self {
        Self {
            query: LayerCache::growing(2),
            key: LayerCache::growing(2),
            value: LayerCache::growing(2),
            output: LayerCache::growing(1),
        }
    }

    /// An empty cache for decoding with cross-attention: as [`autoregressive`](MhaCache::autoregressive), but keys and values
    /// are computed at the first call and kept.
    pub fn autoregressive_cross_attention() -> Self {
        Self { key: LayerCache::Fixed(None), value: LayerCache::Fixed(None), ..Self::autoregressive() }
    }
}

/// What a layer gave for the tokens so far.
#[derive(Clone, Debug)]
pub(super) enum LayerCache<const D: usize> {
    /// Each call adds its last token along `axis`.
    Growing { axis: usize, output: Option<Tensor<D>> },
    /// Computed once.
    Fixed(Option<Tensor<D>>),
}

impl<const D: usize> LayerCache<D> {
    fn growing(axis: usize) -> Self {
        Self::Growing { axis, output: None }
    }

    /// The layer's output for all tokens of `input`, `[batch_size, seq_length, width]`, of which it computes what is missing.
    pub(super) fn forward(&mut self, input: Tensor<3>, layer: impl Fn(Tensor<3>) -> Tensor<D>) -> Tensor<D> {
        match self {
            Self::Growing { axis, output } => {
                let grown = match output.take() {
                    Some(before) => {
                        let last = input.dims()[1].saturating_sub(1);
                        Tensor::cat(vec![before, layer(input.slice_dim(1, last..last + 1))], *axis)
                    }
                    None => layer(input),
                };
                output.insert(grown).clone()
            }
            Self::Fixed(output) => output.get_or_insert_with(|| layer(input)).clone(),
        }
    }
}
