//! Each convolution and linear layer: its tap, its neighbours, its cost.

use std::collections::{BTreeSet, HashMap};

use burn::backend::ir::{
    BaseOperationIr, FloatOperationIr, ModuleOperationIr, NumericOperationIr, OperationIr, TensorId, TensorIr,
};
use serde::{Deserialize, Serialize};

use super::index::Index;
use super::op::{self, Convolution, Family, convolution};
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
    /// A transposed 1d convolution, kernel `[in, out / groups, k]`.
    ConvTranspose1d,
    /// A transposed 2d convolution, kernel `[in, out / groups, k, k]`.
    ConvTranspose2d,
    /// A transposed 3d convolution, kernel `[in, out / groups, k, k, k]`.
    ConvTranspose3d,
    /// A linear layer, weight `[in, out]`.
    Linear,
    /// An embedding, weight `[entries, out]`.
    Embedding,
}

impl LayerKind {
    /// The axis of the weight that counts the outputs (filters or nodes).
    pub fn output_axis(self) -> usize {
        usize::from(!matches!(self, Self::Conv1d | Self::Conv2d | Self::Conv3d))
    }

    /// Whether samples of its output are vectors, or maps whose last axis counts the filters.
    pub fn is_linear(self) -> bool {
        matches!(self, Self::Linear | Self::Embedding)
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

impl Tap {
    /// The layer's input, seen as a tap.
    pub(crate) fn of_input(layer: &Layer) -> Self {
        let shape = layer.input_shape.clone();
        let filter_axis = if layer.kind.is_linear() { shape.len() - 1 } else { 1 };
        let others = shape.iter().enumerate().filter(|(axis, _)| *axis != 0 && *axis != filter_axis);
        let positions = others.map(|(_, length)| length).product();
        Self { through: vec![], shape, filter_axis, positions, tensor: layer.input }
    }
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
    /// The inputs of all calls.
    pub(crate) inputs_of_calls: Vec<TensorId>,
    /// The operations of all calls.
    pub(crate) operations: Vec<usize>,
    pub(crate) input_shape: Vec<usize>,
    pub(crate) output_channels: Vec<ChannelId>,
    pub(crate) input_channels: Vec<Option<ChannelId>>,
}

impl Layer {
    /// Numbers of one kernel, 1 of a linear layer.
    pub fn kernel_elements(&self) -> usize {
        self.kernel.iter().product()
    }

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
    conv: Option<Convolution<'a>>,
}

fn call(op: &OperationIr) -> Option<Call<'_>> {
    if let Some(conv) = convolution(op) {
        use LayerKind::*;
        let kinds = if conv.transposed {
            [ConvTranspose1d, ConvTranspose2d, ConvTranspose3d]
        } else {
            [Conv1d, Conv2d, Conv3d]
        };
        let kind = *kinds.get(conv.stride.len().checked_sub(1)?)?;
        return Some(Call { kind, x: conv.x, weight: conv.weight, bias: conv.bias, out: conv.out, conv: Some(conv) });
    }
    let linear = |x, weight, bias, out| Call { kind: LayerKind::Linear, x, weight, bias, out, conv: None };
    Some(match op {
        OperationIr::Module(ModuleOperationIr::Linear(op)) => linear(&op.x, &op.weight, op.bias.as_ref(), &op.out),
        OperationIr::Float(_, FloatOperationIr::Matmul(op)) => linear(&op.lhs, &op.rhs, None, &op.out),
        OperationIr::Module(ModuleOperationIr::Embedding(op)) => Call {
            kind: LayerKind::Embedding,
            x: &op.indices,
            weight: &op.weights,
            bias: None,
            out: &op.out,
            conv: None,
        },
        _ => return None,
    })
}

/// Whether a layer's operation itself adds a bias, be it a parameter or not.
pub(super) fn adds_bias(op: &OperationIr) -> bool {
    call(op).is_some_and(|call| call.bias.is_some())
}

/// Fills in the network's index, flow and layers.
pub(super) fn describe(network: &mut Network) {
    network.index = Index::of(&network.operations);
    let mut flow = Flow::of(network);
    let (mut layers, outputs) = Finder::new(network, &flow).layers();
    for layer in &mut layers {
        flow.pin_indivisible(&layer.output_channels);
    }
    flow.pin_products();
    for layer in &mut layers {
        layer.not_prunable = flow.why_not(&layer.output_channels);
    }
    network.flow = flow;
    network.layers = layers;
    network.index.layers = outputs;
    network.heads = network.find_heads();
}

struct Finder<'a> {
    network: &'a Network,
    flow: &'a Flow,
    parameters: HashMap<TensorId, usize>,
    /// Tensors computed from one parameter alone (a transposed, reshaped or masked weight), and that parameter.
    origin: HashMap<TensorId, usize>,
}

impl<'a> Finder<'a> {
    fn new(network: &'a Network, flow: &'a Flow) -> Self {
        let parameters = network.parameter_index();
        let mut origin = parameters.clone();
        for op in &network.operations {
            let from: Option<Vec<usize>> = op.inputs().map(|input| origin.get(&input.id).copied()).collect();
            if let Some(&first) = from.as_deref().and_then(<[usize]>::first) {
                for output in op.outputs() {
                    origin.insert(output.id, first);
                }
            }
        }
        Self { network, flow, parameters, origin }
    }

    /// The layers, and for each tensor that is a layer's output that layer.
    fn layers(&self) -> (Vec<Layer>, HashMap<TensorId, usize>) {
        let mut layers: Vec<Layer> = Vec::new();
        let mut outputs = HashMap::new();
        let mut of_weight: HashMap<usize, usize> = HashMap::new();
        for (operation, op) in self.network.operations.iter().enumerate() {
            let found = call(op).and_then(|call| Some((self.origin.get(&call.weight.id).copied()?, call)));
            let Some((weight, mut call)) = found else { continue };
            self.take_bias(&mut call);
            self.unfold_rows(&mut call);
            let index = *of_weight.entry(weight).or_insert_with(|| {
                layers.push(self.layer(weight, &call));
                layers.len() - 1
            });
            let layer = &mut layers[index];
            layer.calls = layer.operations.len() + 1;
            layer.operations.push(operation);
            layer.inputs_of_calls.push(call.x.id);
            outputs.insert(call.out.id, index);
        }
        let macs: Vec<u64> = layers
            .iter()
            .map(|layer| self.network.operations_macs(&layer.operations, self.flow, &BTreeSet::new()))
            .collect();
        let classifier_input = layers.iter().find(|layer| layer.is_classifier).map(|layer| layer.input);
        for (layer, macs) in layers.iter_mut().zip(macs) {
            layer.macs = macs;
            layer.feeds_classifier =
                classifier_input.is_some_and(|input| self.same_but_reshaped(layer.tap.tensor, input));
        }
        (layers, outputs)
    }

    /// Burn's backends record a linear layer as a product and, where it has a bias, a sum with it.
    fn take_bias(&self, call: &mut Call<'a>) {
        let readers = self.network.index.readers(call.out.id);
        let (&[only], None, LayerKind::Linear) = (readers, call.bias, call.kind) else { return };
        let OperationIr::NumericFloat(_, NumericOperationIr::Add(sum)) = &self.network.operations[only] else { return };
        let other = if sum.lhs.id == call.out.id { &sum.rhs } else { &sum.lhs };
        let last = call.out.shape[call.out.shape.num_dims() - 1];
        if self.origin.contains_key(&other.id) && other.shape.iter().product::<usize>() == last {
            call.bias = Some(other);
            call.out = &sum.out;
        }
    }

    /// Where it runs faster, Burn folds all leading axes of a linear layer's input into rows and unfolds its output: the layer's
    /// input and output are those outside of the fold.
    fn unfold_rows(&self, call: &mut Call<'a>) {
        let last = |tensor: &TensorIr| tensor.shape.iter().next_back().copied();
        let maker = self.network.index.makers.get(&call.x.id).map(|&maker| &self.network.operations[maker]);
        let &[reader] = self.network.index.readers(call.out.id) else { return };
        if let (
            LayerKind::Linear,
            Some(OperationIr::BaseFloat(BaseOperationIr::Reshape(fold))),
            OperationIr::BaseFloat(BaseOperationIr::Reshape(unfold)),
        ) = (call.kind, maker, &self.network.operations[reader])
            && fold.out.shape.num_dims() == 2
            && fold.input.shape.num_dims() > 2
            && last(&fold.input) == last(&fold.out)
            && unfold.out.shape.num_dims() == fold.input.shape.num_dims()
            && last(&unfold.input) == last(&unfold.out)
        {
            call.x = &fold.input;
            call.out = &unfold.out;
        }
    }

    fn layer(&self, weight: usize, call: &Call<'_>) -> Layer {
        let parameter = &self.network.parameters[weight];
        let path = parameter.path.strip_suffix(".weight").unwrap_or(&parameter.path).to_string();
        let shape: Vec<usize> = call.weight.shape.iter().copied().collect();
        let groups = call.conv.as_ref().map_or(1, |conv| conv.groups);
        let (filters, inputs, kernel) = match &call.conv {
            None => (shape[shape.len() - 1], shape[shape.len() - 2], vec![]),
            Some(conv) if conv.transposed => (shape[1] * groups, shape[0], shape[2..].to_vec()),
            Some(_) => (shape[0], shape[1] * groups, shape[2..].to_vec()),
        };
        let axes = |tensor: &TensorIr, axis: usize| {
            self.flow.tensors.get(&tensor.id).and_then(|axes| axes.get(axis).cloned().flatten())
        };
        let out_axis = if call.conv.is_none() { call.out.shape.num_dims() - 1 } else { 1 };
        let in_axis = if call.conv.is_none() { call.x.shape.num_dims() - 1 } else { 1 };
        let output_channels = axes(call.out, out_axis).unwrap_or_default();
        let input_channels = match axes(call.x, in_axis) {
            Some(labels) if call.kind != LayerKind::Embedding => labels.into_iter().map(Some).collect(),
            _ => vec![None; inputs],
        };
        let geometry = |of: fn(&Convolution<'_>) -> Vec<usize>| call.conv.as_ref().map(of).unwrap_or_default();
        let bias = call.bias.and_then(|bias| self.origin.get(&bias.id).copied());
        let numbers = |index: usize| self.network.parameters[index].shape.iter().product::<usize>() as u64;
        Layer {
            path,
            kind: call.kind,
            filters,
            inputs,
            groups,
            tap: self.tap(call.out, out_axis),
            feeds_classifier: false,
            is_classifier: call.kind == LayerKind::Linear
                && self.network.outputs.first().is_some_and(|&output| self.same_but_reshaped(call.out.id, output)),
            macs: 0,
            parameters: numbers(weight) + bias.map_or(0, numbers),
            calls: 0,
            not_prunable: None,
            padding: call.conv.as_ref().map(|conv| conv.padding.clone()).unwrap_or_default(),
            kernel,
            stride: geometry(|conv| conv.stride.clone()),
            dilation: geometry(|conv| conv.dilation.clone()),
            running_mean: self.running_mean(call.out),
            weight,
            bias,
            input: call.x.id,
            inputs_of_calls: Vec::new(),
            operations: Vec::new(),
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
            let (op, family, name) = match *self.network.index.readers(at.id) {
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
        let &[only] = self.network.index.readers(out.id) else { return None };
        match &self.network.operations[only] {
            OperationIr::Module(ModuleOperationIr::BatchNorm(norm)) => self.parameters.get(&norm.mean.id).copied(),
            _ => None,
        }
    }

    /// Whether `to` is `from`, or `from` under another shape with the samples still first.
    fn same_but_reshaped(&self, from: TensorId, to: TensorId) -> bool {
        let mut at = from;
        while at != to {
            let readers = self.network.index.readers(at);
            let next = readers.iter().find_map(|&index| match &self.network.operations[index] {
                OperationIr::BaseFloat(BaseOperationIr::Reshape(op)) if op.input.shape[0] == op.out.shape[0] => {
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
