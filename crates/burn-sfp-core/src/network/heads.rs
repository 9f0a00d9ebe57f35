//! Attention: heads that work side by side on the same tokens.

use burn::backend::ir::{
    ActivationOperationIr as A, BaseOperationIr as B, FloatOperationIr as F, ModuleOperationIr as M,
    NumericOperationIr as N, OperationIr, TensorId, TensorIr,
};

use super::layer::Tap;
use super::{ChannelId, Network};

/// The heads of one attention, units of an analysis beside the nodes and filters of layers.
///
/// What a head gives out is its mixture of values, `[samples, heads, tokens, width]`: for METHOD section 2 the head is f, and
/// its positions s are all its numbers, tokens times width. Found are Burn's attention operation and every product of two
/// computed tensors of four axes whose left one comes from a softmax over the last axis.
///
/// ```
/// use burn::nn::attention::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig};
/// use burn::nn::{Linear, LinearConfig};
/// use burn::prelude::*;
/// use burn_sfp_core::{SfpModule, network::Network};
///
/// #[derive(Module, Debug)]
/// struct Attentive { attention: MultiHeadAttention, classifier: Linear }
///
/// impl SfpModule for Attentive {
///     type Input = Tensor<3>;
///     fn logits(&self, tokens: Tensor<3>) -> Tensor<2> {
///         let mixed = self.attention.forward(MhaInput::self_attn(tokens)).context;
///         self.classifier.forward(mixed.mean_dim(1).squeeze_dim::<2>(1))
///     }
/// }
/// let device = Device::flex();
/// let model = Attentive {
///     attention: MultiHeadAttentionConfig::new(12, 3).init(&device),
///     classifier: LinearConfig::new(12, 2).init(&device),
/// };
/// let network = Network::capture(&model, &Tensor::zeros([2, 5, 12], &device))?;
/// let heads = &network.heads()[0];
/// assert_eq!((heads.path.as_str(), heads.heads, heads.width), ("attention", 3, 4));
/// assert_eq!(heads.tap.positions, 5 * 4);
/// assert_eq!(heads.made_by, ["attention.query", "attention.key", "attention.value"]);
/// # Ok::<(), burn_sfp_core::SfpError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Heads {
    /// The module that holds all layers in `made_by`, for example `blocks.0.attention`; no layer has this path. A second
    /// attention of the same module is called `blocks.0.attention#2`. Where only the whole network holds them: `attention`.
    pub path: String,
    /// F: number of heads.
    pub heads: usize,
    /// Numbers that a head gives each token.
    pub width: usize,
    /// Where their output is read: `[samples, heads, tokens, width]`.
    pub tap: Tap,
    /// Paths of the layers that make queries, keys and values, in the order in which they run.
    pub made_by: Vec<String>,
    /// Why no head can be removed, where none can.
    pub not_prunable: Option<String>,
    /// How many layers run before.
    pub(crate) after: usize,
    output_channels: Vec<ChannelId>,
}

impl Heads {
    /// The channel of each head, empty where heads could not be followed: an atom (see [`Flow`](super::Flow)) that leaves with
    /// the head's part of every query, key and value.
    pub fn output_channels(&self) -> &[ChannelId] {
        &self.output_channels
    }
}

impl Network {
    /// The heads of all attentions, in the order in which they run.
    pub fn heads(&self) -> &[Heads] {
        &self.heads
    }

    /// The heads at a path; see [`Heads::path`].
    pub fn heads_at(&self, path: &str) -> Option<&Heads> {
        self.heads.iter().find(|heads| heads.path == path)
    }

    pub(super) fn find_heads(&self) -> Vec<Heads> {
        let mut found: Vec<Heads> = Vec::new();
        for (index, operation) in self.operations.iter().enumerate() {
            let (inputs, out) = match operation {
                OperationIr::Module(M::Attention(op)) => (vec![op.query.id, op.key.id, op.value.id], &op.out),
                OperationIr::Float(_, F::Matmul(op))
                    if self.index.makers.contains_key(&op.rhs.id) && self.weighs_positions(&op.lhs) =>
                {
                    (vec![op.lhs.id, op.rhs.id], &op.out)
                }
                _ => continue,
            };
            let shape: Vec<usize> = out.shape.iter().copied().collect();
            let &[samples, heads, tokens, width] = &shape[..] else { continue };
            let behind = self.layers_behind(inputs);
            let made_by: Vec<String> = behind.iter().map(|&layer| self.layers[layer].path.clone()).collect();
            // A second call of the same layers is the same attention, read at its first call as layers are.
            if samples != self.batch || found.iter().any(|other| other.made_by == made_by) {
                continue;
            }
            let labels = self.flow.tensors.get(&out.id).and_then(|axes| axes[1].clone());
            let output_channels = labels.unwrap_or_default();
            found.push(Heads {
                path: self.free_path(&made_by, &found),
                heads,
                width,
                tap: Tap { through: vec![], filter_axis: 1, positions: tokens * width, tensor: out.id, shape },
                made_by,
                not_prunable: self.flow.why_not(&output_channels),
                after: self
                    .layers
                    .iter()
                    .filter(|layer| layer.operations.first().is_some_and(|&op| op < index))
                    .count(),
                output_channels,
            });
        }
        found
    }

    /// Whether a tensor holds weights of positions: a softmax over the last axis, perhaps masked or scaled afterwards.
    fn weighs_positions(&self, tensor: &TensorIr) -> bool {
        let made_by = |id: &TensorId| self.index.makers.get(id).map(|&maker| &self.operations[maker]);
        let mut at = tensor.id;
        loop {
            at = match made_by(&at) {
                Some(OperationIr::Activation(A::Softmax(op))) => return op.axis + 1 == tensor.shape.num_dims(),
                // Burn's quiet softmax: exp(x) over one more than its sum.
                Some(OperationIr::NumericFloat(_, N::Div(op))) => {
                    return matches!(made_by(&op.lhs.id), Some(OperationIr::Float(_, F::Exp(_))));
                }
                Some(OperationIr::NumericFloat(_, N::MulScalar(op))) => op.lhs.id,
                Some(OperationIr::BaseFloat(B::MaskFill(op))) => op.tensor.id,
                Some(OperationIr::BaseFloat(B::MaskWhere(op))) => op.tensor.id,
                Some(OperationIr::BaseFloat(B::Cast(op))) => op.input.id,
                _ => return false,
            };
        }
    }

    /// The innermost module around all these layers, under a name that nothing else has.
    fn free_path(&self, made_by: &[String], found: &[Heads]) -> String {
        let mut parents = made_by.iter().map(|path| {
            let mut parts: Vec<&str> = path.split('.').collect();
            parts.pop();
            parts
        });
        let mut common = parents.next().unwrap_or_default();
        for parts in parents {
            common.truncate(common.iter().zip(&parts).take_while(|(a, b)| a == b).count());
        }
        let name = if common.is_empty() { "attention".to_string() } else { common.join(".") };
        let taken = |path: &String| self.layer(path).is_some() || found.iter().any(|heads| heads.path == *path);
        let numbered = (2..).map(|count| format!("{name}#{count}"));
        std::iter::once(name.clone()).chain(numbered).find(|path| !taken(path)).unwrap_or(name)
    }
}
