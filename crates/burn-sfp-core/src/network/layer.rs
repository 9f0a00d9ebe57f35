//! Each convolution and linear layer: its tap, its neighbours, its cost.

use std::collections::{BTreeSet, HashMap};

use burn::backend::ir::{FloatOperationIr, ModuleOperationIr, NumericOperationIr, OperationIr, TensorId, TensorIr};
use serde::{Deserialize, Serialize};

use super::op::{self, Family};
use super::{ChannelId, Flow, Network};

/// What a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerKind {
    /// A 1d convolution, kernel `[out, in / groups, k]`.
    Conv1d,
    /// A 2d convolution, kernel `[out, in / groups, k, k]`.
    Conv2d,
    /// A 3d convolution, kernel `[out, in / groups, k, k, k]`.
    Conv3d,
    /// A linear layer, weight `[in, out]`.
    Linear,
}

impl LayerKind {
    /// The axis of the weight that counts the outputs (filters or nodes).
    pub fn output_axis(self) -> usize {
        usize::from(self == Self::Linear)
    }

    /// The axis of the weight that counts the inputs.
    pub fn input_axis(self) -> usize {
        1 - self.output_axis()
    }
}

/// Where a layer's output is read: after the normalisation, activation and pooling that follow directly
/// (METHOD section 1, the layer's output A).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tap {
    /// Operations passed between the layer and the tap.
    pub through: Vec<String>,
    /// Shape of the tapped tensor, samples first.
    pub shape: Vec<usize>,
    /// The axis of the filters.
    pub filter_axis: usize,
    /// S: positions of one filter's output, 1 for a linear layer on vectors.
    pub positions: usize,
    pub(crate) tensor: TensorId,
}

/// A convolution or linear layer of the captured network.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Module path, for example `convs.3`.
    pub path: String,
    /// What it is.
    pub kind: LayerKind,
    /// F: number of filters (output channels, nodes).
    pub filters: usize,
    /// Number of input channels or features, all groups together.
    pub inputs: usize,
    /// Groups of a convolution, 1 otherwise.
    pub groups: usize,
    /// Where its output is read.
    pub tap: Tap,
    /// Paths of the layers that read its output without another layer in between.
    pub consumers: Vec<String>,
    /// Paths of the layers whose output it reads without another layer in between.
    pub producers: Vec<String>,
    /// Whether the tap itself, perhaps flattened, is the input of the classifier.
    pub feeds_classifier: bool,
    /// Whether this layer's output is the network's output.
    pub is_classifier: bool,
    /// Multiply-adds for one sample, all calls together.
    pub macs: u64,
    /// Numbers in its weight and bias.
    pub parameters: u64,
    /// How often the forward pass calls it.
    pub calls: usize,
    /// Why its filters cannot be removed, where they cannot.
    pub not_prunable: Option<String>,
    /// Zero padding of a convolution, `(before, after)` for each position axis.
    pub padding: Vec<(usize, usize)>,
    pub(crate) kernel: Vec<usize>,
    pub(crate) stride: Vec<usize>,
    pub(crate) dilation: Vec<usize>,
    /// Index in [`Network::parameters`] of the running mean of a batch normalisation that follows directly.
    pub running_mean: Option<usize>,
    pub(crate) weight: usize,
    pub(crate) bias: Option<usize>,
    pub(crate) input: TensorId,
    pub(crate) input_shape: Vec<usize>,
    pub(crate) output_channels: Vec<ChannelId>,
    pub(crate) input_channels: Vec<Option<ChannelId>>,
}

impl Layer {
    /// Index of its weight in [`Network::parameters`].
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Index of its bias in [`Network::parameters`], where it has one.
    pub fn bias(&self) -> Option<usize> {
        self.bias
    }

    /// The channel of each filter.
    pub fn output_channels(&self) -> &[ChannelId] {
        &self.output_channels
    }

    /// The channel that each input index carries, `None` for an input of the network.
    pub fn input_channels(&self) -> &[Option<ChannelId>] {
        &self.input_channels
    }

    /// Shape of the input tensor, samples first.
    pub fn input_shape(&self) -> &[usize] {
        &self.input_shape
    }

    /// Kernel size for each position axis; empty for a linear layer.
    pub fn kernel(&self) -> &[usize] {
        &self.kernel
    }

    /// Stride for each position axis; empty for a linear layer.
    pub fn stride(&self) -> &[usize] {
        &self.stride
    }

    /// Dilation for each position axis; empty for a linear layer.
    pub fn dilation(&self) -> &[usize] {
        &self.dilation
    }
}

struct Call<'a> {
    kind: LayerKind,
    x: &'a TensorIr,
    weight: &'a TensorIr,
    bias: Option<&'a TensorIr>,
    out: &'a TensorIr,
    groups: usize,
    padding: Vec<(usize, usize)>,
    stride: Vec<usize>,
    dilation: Vec<usize>,
}

fn call(op: &OperationIr) -> Option<Call<'_>> {
    use LayerKind::*;
    let linear = |x, weight, bias, out| Call {
        kind: Linear,
        x,
        weight,
        bias,
        out,
        groups: 1,
        padding: vec![],
        stride: vec![],
        dilation: vec![],
    };
    Some(match op {
        OperationIr::Module(ModuleOperationIr::Conv1d(op)) => Call {
            kind: Conv1d,
            x: &op.x,
            weight: &op.weight,
            bias: op.bias.as_ref(),
            out: &op.out,
            groups: op.options.groups,
            padding: op.options.padding.to_vec(),
            stride: op.options.stride.to_vec(),
            dilation: op.options.dilation.to_vec(),
        },
        OperationIr::Module(ModuleOperationIr::Conv2d(op)) => Call {
            kind: Conv2d,
            x: &op.x,
            weight: &op.weight,
            bias: op.bias.as_ref(),
            out: &op.out,
            groups: op.options.groups,
            padding: op.options.padding.to_vec(),
            stride: op.options.stride.to_vec(),
            dilation: op.options.dilation.to_vec(),
        },
        OperationIr::Module(ModuleOperationIr::Conv3d(op)) => Call {
            kind: Conv3d,
            x: &op.x,
            weight: &op.weight,
            bias: op.bias.as_ref(),
            out: &op.out,
            groups: op.options.groups,
            padding: op.options.padding.iter().map(|&p| (p, p)).collect(),
            stride: op.options.stride.to_vec(),
            dilation: op.options.dilation.to_vec(),
        },
        OperationIr::Module(ModuleOperationIr::Linear(op)) => linear(&op.x, &op.weight, op.bias.as_ref(), &op.out),
        OperationIr::Float(_, FloatOperationIr::Matmul(op)) => linear(&op.lhs, &op.rhs, None, &op.out),
        _ => return None,
    })
}

/// Fills in the network's flow and layers.
pub(super) fn describe(network: &mut Network) {
    let flow = Flow::of(network);
    let layers = Finder::new(network, &flow).layers();
    network.flow = flow;
    network.layers = layers;
}

struct Finder<'a> {
    network: &'a Network,
    flow: &'a Flow,
    /// Tensors computed from one parameter alone (a transposed, reshaped or masked weight), and that parameter.
    origin: HashMap<TensorId, usize>,
    readers: HashMap<TensorId, Vec<usize>>,
}

impl<'a> Finder<'a> {
    fn new(network: &'a Network, flow: &'a Flow) -> Self {
        let mut origin = network.parameter_index();
        let mut readers: HashMap<TensorId, Vec<usize>> = HashMap::new();
        for (index, op) in network.operations.iter().enumerate() {
            for input in op.inputs() {
                readers.entry(input.id).or_default().push(index);
            }
            let from: Option<Vec<usize>> = op.inputs().map(|input| origin.get(&input.id).copied()).collect();
            if let Some(&first) = from.as_deref().and_then(<[usize]>::first) {
                for output in op.outputs() {
                    origin.insert(output.id, first);
                }
            }
        }
        Self { network, flow, origin, readers }
    }

    fn layers(&self) -> Vec<Layer> {
        let mut layers: Vec<Layer> = Vec::new();
        // For each tensor, the layers whose channels reach it without another layer in between.
        let mut sources: HashMap<TensorId, BTreeSet<usize>> = HashMap::new();
        let mut read: Vec<BTreeSet<usize>> = Vec::new();
        for op in &self.network.operations {
            let found = call(op).and_then(|call| Some((self.origin.get(&call.weight.id).copied()?, call)));
            let Some((weight, mut call)) = found else {
                let reached: BTreeSet<usize> =
                    op.inputs().filter_map(|input| sources.get(&input.id)).flatten().copied().collect();
                for output in op.outputs() {
                    sources.insert(output.id, reached.clone());
                }
                continue;
            };
            self.take_bias(&mut call);
            let before = sources.get(&call.x.id).cloned().unwrap_or_default();
            let index = match layers.iter().position(|layer| layer.weight == weight) {
                Some(index) => {
                    layers[index].calls += 1;
                    layers[index].macs += macs(&call);
                    read[index].extend(before);
                    index
                }
                None => {
                    layers.push(self.layer(weight, &call));
                    read.push(before);
                    layers.len() - 1
                }
            };
            for output in op.outputs() {
                sources.insert(output.id, BTreeSet::from([index]));
            }
        }
        for (index, producers) in read.iter().enumerate() {
            for &producer in producers {
                let (from, to) = (layers[producer].path.clone(), layers[index].path.clone());
                layers[producer].consumers.push(to);
                layers[index].producers.push(from);
            }
        }
        let classifier_input = layers.iter().find(|layer| layer.is_classifier).map(|layer| layer.input);
        for layer in &mut layers {
            layer.feeds_classifier =
                classifier_input.is_some_and(|input| self.same_but_reshaped(layer.tap.tensor, input));
        }
        layers
    }

    /// Burn's backends record a linear layer as a product and, where it has a bias, a sum with it.
    fn take_bias(&self, call: &mut Call<'a>) {
        let readers = self.readers.get(&call.out.id).map(Vec::as_slice);
        let (Some(&[only]), None, LayerKind::Linear) = (readers, call.bias, call.kind) else { return };
        let OperationIr::NumericFloat(_, NumericOperationIr::Add(sum)) = &self.network.operations[only] else { return };
        let other = if sum.lhs.id == call.out.id { &sum.rhs } else { &sum.lhs };
        let last = call.out.shape[call.out.shape.num_dims() - 1];
        if self.origin.contains_key(&other.id) && other.shape.iter().product::<usize>() == last {
            call.bias = Some(other);
            call.out = &sum.out;
        }
    }

    fn layer(&self, weight: usize, call: &Call<'_>) -> Layer {
        let parameter = &self.network.parameters[weight];
        let path = parameter.path.strip_suffix(".weight").unwrap_or(&parameter.path).to_string();
        let shape: Vec<usize> = call.weight.shape.iter().copied().collect();
        let (filters, inputs, kernel) = match call.kind {
            LayerKind::Linear => (shape[shape.len() - 1], shape[shape.len() - 2], vec![]),
            _ => (shape[0], shape[1] * call.groups, shape[2..].to_vec()),
        };
        let axes = |tensor: &TensorIr, axis: usize| {
            self.flow.tensors.get(&tensor.id).and_then(|axes| axes.get(axis).cloned().flatten())
        };
        let out_axis = if call.kind == LayerKind::Linear { call.out.shape.num_dims() - 1 } else { 1 };
        let in_axis = if call.kind == LayerKind::Linear { call.x.shape.num_dims() - 1 } else { 1 };
        let output_channels = axes(call.out, out_axis).unwrap_or_default();
        let input_channels = match axes(call.x, in_axis) {
            Some(labels) => labels.into_iter().map(Some).collect(),
            None => vec![None; inputs],
        };
        let bias = call.bias.and_then(|bias| self.origin.get(&bias.id).copied());
        let numbers = |index: usize| self.network.parameters[index].shape.iter().product::<usize>() as u64;
        let not_prunable = if output_channels.is_empty() {
            Some("its output carries no channel that could be followed".to_string())
        } else if output_channels.iter().all(|&channel| self.flow.pinned(channel).is_some()) {
            self.flow.pinned(output_channels[0]).map(str::to_string)
        } else {
            None
        };
        Layer {
            path,
            kind: call.kind,
            filters,
            inputs,
            groups: call.groups,
            tap: self.tap(call.out, out_axis),
            consumers: Vec::new(),
            producers: Vec::new(),
            feeds_classifier: false,
            is_classifier: call.kind == LayerKind::Linear
                && self.network.outputs.first().is_some_and(|&output| self.same_but_reshaped(call.out.id, output)),
            macs: macs(call),
            parameters: numbers(weight) + bias.map_or(0, numbers),
            calls: 1,
            not_prunable,
            padding: call.padding.clone(),
            kernel,
            stride: call.stride.clone(),
            dilation: call.dilation.clone(),
            running_mean: self.running_mean(call.out),
            weight,
            bias,
            input: call.x.id,
            input_shape: call.x.shape.iter().copied().collect(),
            output_channels,
            input_channels,
        }
    }

    /// Follows the only reader while it is a normalisation, an activation or a pooling, each at most once.
    fn tap(&self, out: &TensorIr, filter_axis: usize) -> Tap {
        let mut at = out.clone();
        let mut through = Vec::new();
        let mut passed = Vec::new();
        loop {
            let readers = self.readers.get(&at.id).map(Vec::as_slice).unwrap_or_default();
            let (op, family, name) = match *readers {
                [only] => {
                    let op = &self.network.operations[only];
                    (op, op::family(op), op::name(op))
                }
                [gate, product] if self.gates(at.id, gate, product) => {
                    let gate = op::name(&self.network.operations[gate]);
                    (&self.network.operations[product], Family::Activation, format!("x * {gate}(x)"))
                }
                _ => break,
            };
            let next = op.outputs().next().filter(|next| next.shape.num_dims() == at.shape.num_dims());
            let (Some(next), false) = (next, family == Family::Other || passed.contains(&family)) else { break };
            passed.push(family);
            through.push(name);
            at = next.clone();
        }
        let shape: Vec<usize> = at.shape.iter().copied().collect();
        let positions = shape
            .iter()
            .enumerate()
            .filter(|(axis, _)| *axis != 0 && *axis != filter_axis)
            .map(|(_, len)| len)
            .product();
        Tap { through, shape, filter_axis, positions, tensor: at.id }
    }

    /// Whether the two readers of `x` are an activation and the product of its output with `x`, as in SiLU.
    fn gates(&self, x: TensorId, gate: usize, product: usize) -> bool {
        let gate = &self.network.operations[gate];
        let (Some(gated), Family::Activation) = (gate.outputs().next(), op::family(gate)) else { return false };
        match &self.network.operations[product] {
            OperationIr::NumericFloat(_, NumericOperationIr::Mul(mul)) => {
                (mul.lhs.id == x && mul.rhs.id == gated.id) || (mul.rhs.id == x && mul.lhs.id == gated.id)
            }
            _ => false,
        }
    }

    fn running_mean(&self, out: &TensorIr) -> Option<usize> {
        match self.readers.get(&out.id)?.as_slice() {
            &[only] => match &self.network.operations[only] {
                OperationIr::Module(ModuleOperationIr::BatchNorm(norm)) => {
                    self.network.parameters.iter().position(|parameter| parameter.tensor == norm.mean.id)
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether `to` is `from`, or `from` under another shape with the samples still first.
    fn same_but_reshaped(&self, from: TensorId, to: TensorId) -> bool {
        let mut at = from;
        while at != to {
            let next =
                self.readers.get(&at).into_iter().flatten().find_map(|&index| match &self.network.operations[index] {
                    OperationIr::BaseFloat(burn::backend::ir::BaseOperationIr::Reshape(op))
                        if op.input.shape[0] == op.out.shape[0] =>
                    {
                        Some(op.out.id)
                    }
                    _ => None,
                });
            match next {
                Some(next) => at = next,
                None => return false,
            }
        }
        true
    }
}

/// Multiply-adds of one call for one sample.
fn macs(call: &Call<'_>) -> u64 {
    let out: usize = call.out.shape.iter().skip(1).product();
    let shape: Vec<usize> = call.weight.shape.iter().copied().collect();
    let per_output: usize = match call.kind {
        LayerKind::Linear => shape[shape.len() - 2],
        _ => shape[1..].iter().product(),
    };
    (out * per_output) as u64
}
