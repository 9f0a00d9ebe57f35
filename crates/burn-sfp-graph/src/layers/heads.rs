//! Attention: heads that work side by side on the same tokens.

use std::collections::{HashMap, HashSet};

use burn::backend::ir::{
    ActivationOperationIr as A, BaseOperationIr as B, FloatOperationIr as F, NumericOperationIr as N, OperationIr,
    TensorId, TensorIr,
};

use super::behind::layers_behind;
use super::layer::{Layer, OutputTap};
use crate::channels::flow::Flow;
use crate::channels::ids::ChannelId;
use crate::graph::Graph;
use crate::op::describe;
use crate::op::description::dims;

/// The heads of one attention, units of an analysis beside the nodes and filters of layers.
///
/// A head's output is its mixture of values, `[samples, heads, tokens, width]`: in docs/method.md, section 2, the head is f, and its
/// positions s are all its elements, tokens times width. An attention is Burn's attention operation, or a product of two computed tensors
/// of four axes whose left one comes from a softmax over the last axis.
///
/// ```
/// use burn::nn::attention::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig};
/// use burn::nn::{Linear, LinearConfig};
/// use burn::prelude::*;
/// use burn_sfp_graph::GraphModule;
/// use burn_sfp_graph::Network;
///
/// #[derive(Module, Debug)]
/// struct Attentive { attention: MultiHeadAttention, classifier: Linear }
///
/// impl GraphModule for Attentive {
///     type Inputs = Tensor<3>;
///     type Outputs = Tensor<2>;
///     fn run(&self, tokens: Tensor<3>) -> Tensor<2> {
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
/// # Ok::<(), burn_sfp_graph::GraphError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Heads {
    /// The module that holds all layers in `made_by`, for example `blocks.0.attention`; no layer has this path. A second
    /// attention of the same module is called `blocks.0.attention#2`. Where only the whole network holds them: `attention`.
    pub path: String,
    /// F: number of heads.
    pub heads: usize,
    /// Number of elements of a head's output for one token.
    pub width: usize,
    /// Where their output is read: `[samples, heads, tokens, width]`.
    pub tap: OutputTap,
    /// Paths of the layers that make queries, keys and values, in the order in which they run.
    pub made_by: Vec<String>,
    /// The reason why no head can be removed, `None` where some can.
    pub not_prunable: Option<String>,
    /// Number of layers that run before.
    pub after: usize,
    output_channels: Vec<ChannelId>,
}

impl Heads {
    /// The channel of each head, empty where heads could not be followed: an atom (see [`Flow`]) that is removed together with the head's
    /// part of every query, key and value.
    pub fn output_channels(&self) -> &[ChannelId] {
        &self.output_channels
    }
}

/// Finds the heads of all attentions, in the order in which they run.
pub(crate) fn find_heads(
    graph: &Graph,
    flow: &Flow,
    layers: &[Layer],
    layer_of: &HashMap<TensorId, usize>,
) -> Vec<Heads> {
    let mut found: Vec<Heads> = Vec::new();
    let mut seen: HashSet<Vec<String>> = HashSet::new();
    let mut taken: HashMap<String, usize> = layers.iter().map(|layer| (layer.path.clone(), 1)).collect();
    // Layers are in the order of their first operations.
    let starts: Vec<usize> = layers.iter().filter_map(|layer| layer.operations.first().copied()).collect();
    for (index, operation) in graph.operations.iter().enumerate() {
        let Some(mixture) = describe(operation).and_then(|described| described.mixture()) else { continue };
        let attends = mixture
            .given
            .is_none_or(|(weights, values)| graph.producer(values.id).is_some() && weighs_positions(graph, weights));
        let shape = dims(mixture.out);
        let (true, &[samples, heads, tokens, width]) = (attends, &shape[..]) else { continue };
        let behind = layers_behind(graph, layer_of, mixture.from.iter().map(|tensor| tensor.id).collect());
        let made_by: Vec<String> = behind.iter().map(|&layer| layers[layer].path.clone()).collect();
        // A second call of the same layers is the same attention, read at its first call as layers are.
        if samples != graph.batch || !seen.insert(made_by.clone()) {
            continue;
        }
        let output_channels = flow.tensors.get(&mixture.out.id).and_then(|axes| axes[1].clone()).unwrap_or_default();
        let path = free_path(&made_by, &mut taken);
        found.push(Heads {
            path,
            heads,
            width,
            not_prunable: flow.why_not(&output_channels),
            after: starts.partition_point(|&start| start < index),
            tap: OutputTap {
                through: vec![],
                filter_axis: 1,
                positions: tokens * width,
                tensor: mixture.out.id,
                shape,
            },
            made_by,
            output_channels,
        });
    }
    found
}

/// Whether a tensor holds weights of positions: a softmax over the last axis, perhaps masked or scaled afterwards.
fn weighs_positions(graph: &Graph, tensor: &TensorIr) -> bool {
    let mut at = tensor.id;
    loop {
        at = match graph.made_by(at) {
            Some(OperationIr::Activation(A::Softmax(op))) => return op.axis + 1 == tensor.shape.num_dims(),
            // Burn's quiet softmax: exp(x) over one more than its sum.
            Some(OperationIr::NumericFloat(_, N::Div(op))) => {
                return matches!(graph.made_by(op.lhs.id), Some(OperationIr::Float(_, F::Exp(_))));
            }
            Some(OperationIr::NumericFloat(_, N::MulScalar(op))) => op.lhs.id,
            Some(OperationIr::BaseFloat(B::MaskFill(op))) => op.tensor.id,
            Some(OperationIr::BaseFloat(B::MaskWhere(op))) => op.tensor.id,
            Some(OperationIr::BaseFloat(B::Cast(op))) => op.input.id,
            _ => return false,
        };
    }
}

/// The innermost module around all these layers, under a name that is not taken, and is from now on. `taken` holds each name with the
/// last number behind it.
fn free_path(made_by: &[String], taken: &mut HashMap<String, usize>) -> String {
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
    let (mut path, mut number) = (name.clone(), taken.get(&name).copied().unwrap_or_default());
    while taken.contains_key(&path) {
        number += 1;
        path = format!("{name}#{number}");
    }
    taken.insert(name, number.max(1));
    taken.entry(path.clone()).or_insert(1);
    path
}
