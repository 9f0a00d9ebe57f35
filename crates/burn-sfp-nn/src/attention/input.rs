//! [`MhaInput`], the input of attention.

use burn::tensor::{Bool, Tensor, assert_shape};

/// The input of [`HeadAttention`](crate::HeadAttention): queries, keys, values and masks.
///
/// Built as Burn's [`MhaInput`](burn::nn::attention::MhaInput), whose fields only Burn's own layer can read. In a user's code the
/// import changes, the calls stay.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_sfp_nn::{HeadAttentionConfig, MhaInput};
///
/// let device = Device::flex();
/// let attention = HeadAttentionConfig::new(8, 2).init(&device);
/// let (tokens, memory) = (Tensor::<3>::ones([1, 3, 8], &device), Tensor::<3>::ones([1, 5, 8], &device));
/// let padding = Tensor::<2>::zeros([1, 5], &device).bool();
/// let output = attention.forward(MhaInput::new(tokens, memory.clone(), memory).mask_pad(padding));
/// assert_eq!((output.context.dims(), output.weights.dims()), ([1, 3, 8], [1, 2, 3, 5]));
/// ```
#[derive(Clone, Debug)]
pub struct MhaInput {
    pub(super) query: Tensor<3>,
    pub(super) key: Tensor<3>,
    pub(super) value: Tensor<3>,
    pub(super) mask_pad: Option<Tensor<2, Bool>>,
    pub(super) mask_attn: Option<Tensor<3, Bool>>,
}

impl MhaInput {
    /// The input of self-attention: `tensor`, `[batch_size, seq_length, d_model]`, as query, key and value.
    pub fn self_attn(tensor: Tensor<3>) -> Self {
        Self::new(tensor.clone(), tensor.clone(), tensor)
    }

    /// An input of `query`, `[batch_size, seq_length_1, d_model]`, and `key` and `value`, `[batch_size, seq_length_2, d_model]`.
    pub fn new(query: Tensor<3>, key: Tensor<3>, value: Tensor<3>) -> Self {
        Self { query, key, value, mask_pad: None, mask_attn: None }
    }

    /// Adds a padding mask, `[batch_size, seq_length_2]`: true where a token is padding, which no token attends to.
    pub fn mask_pad(mut self, mask_pad: Tensor<2, Bool>) -> Self {
        self.mask_pad = Some(mask_pad);
        self
    }

    /// Adds an attention mask, `[batch_size, seq_length_1, seq_length_2]`: true where a token does not attend to another.
    pub fn mask_attn(mut self, mask_attn: Tensor<3, Bool>) -> Self {
        self.mask_attn = Some(mask_attn);
        self
    }

    /// Panics where keys or values do not belong to the queries. The width is checked by the layers.
    pub(super) fn assert_shapes(&self) {
        let [batch_size, _, _] = self.query.dims();
        let [_, seq_length_2, _] = self.key.dims();
        assert_shape!(self.key, [batch_size, _, _]);
        assert_shape!(self.value, [batch_size, seq_length_2, _]);
    }
}
