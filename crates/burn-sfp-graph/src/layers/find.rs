//! Finds the layers among the recorded operations.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use burn::backend::ir::{BaseOperationIr as B, NumericOperationIr as N, OperationIr, TensorId, TensorIr};

use super::computed::{Expressions, kernel_products, modulated, path_of};
use super::layer::{Form, Layer, OutputTap};
use crate::channels::flow::Flow;
use crate::channels::ids::ChannelId;
use crate::graph::Graph;
use crate::op::describe;
use crate::op::description::{Role, WeightedCall, dims};
use crate::op::name::name;
use crate::op::normalization::batch_norm;

/// The layers of a graph, in the order in which they run, and for each tensor that is a layer's output that layer.
pub(crate) fn find_layers(graph: &Graph, flow: &Flow) -> (Vec<Layer>, HashMap<TensorId, usize>) {
    let made = graph.made_of();
    let factors = kernel_products(graph, &made);
    Finder { graph, flow, made, factors }.layers()
}

struct Finder<'a> {
    graph: &'a Graph,
    flow: &'a Flow,
    /// Tensors computed from parameters alone, and these parameters.
    made: HashMap<TensorId, Rc<[usize]>>,
    /// Products of parameters that make a weight: they belong to its layer.
    factors: HashSet<usize>,
}

/// What tells one layer from another.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Parameter(usize),
    Computed(u64),
}

impl<'a> Finder<'a> {
    fn layers(&self) -> (Vec<Layer>, HashMap<TensorId, usize>) {
        let mut layers: Vec<Layer> = Vec::new();
        let mut outputs = HashMap::new();
        let mut of_weight: HashMap<Key, usize> = HashMap::new();
        let mut expressions = Expressions::new(self.graph);
        let mut names: HashMap<String, usize> = HashMap::new();
        for (operation, op) in self.graph.operations.iter().enumerate() {
            let Some(described) = describe(op) else { continue };
            let Some(mut call) = described.layer() else { continue };
            let Some(weight) = self.weight(&call).filter(|_| !self.factors.contains(&operation)) else { continue };
            let Some(made_of) = self.made_of(weight) else { continue };
            self.take_bias(&mut call);
            self.unfold_rows(&mut call);
            let key = match made_of[..] {
                [only] => Key::Parameter(only),
                _ => Key::Computed(expressions.of(weight.id)),
            };
            let index = *of_weight.entry(key).or_insert_with(|| {
                let mut layer = self.layer(made_of, weight, &call);
                let calls = names.entry(layer.path.clone()).or_default();
                *calls += 1;
                if *calls > 1 {
                    layer.path = format!("{}#{calls}", layer.path);
                }
                layers.push(layer);
                layers.len() - 1
            });
            let layer = &mut layers[index];
            if operation < self.graph.main {
                layer.calls += 1;
                layer.macs += described.macs(&dims).unwrap_or_default() / self.graph.batch.max(1) as u64;
            }
            layer.operations.push(operation);
            layer.inputs_of_calls.push(call.x.id);
            outputs.insert(call.out.id, index);
        }
        let classifier_input = layers.iter().find(|layer| layer.is_classifier).map(|layer| layer.input);
        for layer in &mut layers {
            layer.feeds_classifier =
                classifier_input.is_some_and(|input| self.same_but_reshaped(layer.tap.tensor, input));
        }
        (layers, outputs)
    }

    /// Burn's backends record a linear layer as a product and, where it has a bias, a sum with it.
    fn take_bias(&self, call: &mut WeightedCall<'a>) {
        let consumers = self.graph.consumers(call.out.id);
        let (&[only], None, true) = (consumers, call.bias, call.kind.is_matrix()) else { return };
        let OperationIr::NumericFloat(_, N::Add(sum)) = &self.graph.operations[only] else { return };
        let other = if sum.lhs.id == call.out.id { &sum.rhs } else { &sum.lhs };
        let last = call.out.shape[call.out.shape.num_dims() - 1];
        if self.made_of(other).is_some() && other.shape.iter().product::<usize>() == last {
            call.bias = Some(other);
            call.out = &sum.out;
        }
    }

    /// Where it runs faster, Burn folds all leading axes of a linear layer's input into rows and unfolds its output: the layer's
    /// input and output are those outside of the fold.
    fn unfold_rows(&self, call: &mut WeightedCall<'a>) {
        let last = |tensor: &TensorIr| tensor.shape.iter().next_back().copied();
        let &[consumer] = self.graph.consumers(call.out.id) else { return };
        if let (true, Some(OperationIr::BaseFloat(B::Reshape(fold))), OperationIr::BaseFloat(B::Reshape(unfold))) =
            (call.kind.is_matrix(), self.graph.made_by(call.x.id), &self.graph.operations[consumer])
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

    /// What a call applies, or modulates for each sample, where it is computed from parameters alone.
    fn weight(&self, call: &WeightedCall<'a>) -> Option<&'a TensorIr> {
        match self.made_of(call.weight) {
            Some(_) => Some(call.weight),
            None => modulated(self.graph, self.flow, &self.made, call),
        }
    }

    /// The parameters that a tensor is computed from, where it is computed from such alone.
    fn made_of(&self, tensor: &TensorIr) -> Option<&[usize]> {
        self.made.get(&tensor.id).map(|made| &made[..]).filter(|made| !made.is_empty())
    }

    /// What a tensor has to do with the parameter that it is computed from.
    fn form(&self, tensor: &TensorIr) -> Form {
        let (mut at, mut form) = (tensor, Form::Stored);
        while let Some(op) = self.graph.made_by(at.id) {
            at = match op {
                OperationIr::BaseFloat(B::Cast(op)) => &op.input,
                OperationIr::BaseFloat(B::Reshape(op)) if plain(&op.input) == plain(&op.out) => &op.input,
                OperationIr::BaseFloat(B::Reshape(_) | B::SwapDims(_) | B::Permute(_) | B::Flip(_)) => {
                    form = Form::Moved;
                    match op.inputs().next() {
                        Some(input) => input,
                        None => return Form::Computed,
                    }
                }
                OperationIr::NumericFloat(_, N::Mul(op)) if self.graph.is_connection_mask(op.rhs.id) => &op.lhs,
                _ => return Form::Computed,
            };
        }
        form
    }

    /// The layer of a weight that is computed from these parameters, as its first call shows it.
    fn layer(&self, made_of: &[usize], weight: &TensorIr, call: &WeightedCall<'a>) -> Layer {
        let path = path_of(self.graph, made_of);
        let kind = call.kind;
        let modulated = weight.id != call.weight.id;
        let (filters, inputs, groups) = if modulated {
            let from = weight.shape.num_dims() - call.weight.shape.num_dims();
            (weight.shape[from + kind.output_axis()], weight.shape[from + kind.input_axis()], 1)
        } else {
            (call.filters, call.inputs, call.groups)
        };
        let (out_axis, in_axis) =
            (kind.channel_axis(call.out.shape.num_dims()), kind.channel_axis(call.x.shape.num_dims()));
        let input_channels = match self.channels(call.x, in_axis) {
            Some(ids) if !kind.reads_indices() => ids.into_iter().map(Some).collect(),
            _ => vec![None; call.inputs],
        };
        let first = |ids: Vec<ChannelId>| ids.into_iter().take(filters).collect();
        let bias = call.bias.and_then(|bias| self.made_of(bias)).unwrap_or_default();
        let form = match call.bias {
            Some(bias) if self.form(bias) == Form::Computed => Form::Computed,
            _ if modulated => Form::Computed,
            _ => self.form(weight),
        };
        let all: BTreeSet<usize> = made_of.iter().chain(bias).copied().collect();
        Layer {
            path,
            kind,
            filters,
            inputs,
            groups,
            tap: self.tap(call.out, out_axis),
            feeds_classifier: false,
            is_classifier: kind.is_matrix()
                && self.graph.outputs.first().is_some_and(|&output| self.same_but_reshaped(call.out.id, output)),
            macs: 0,
            parameters: all.iter().map(|&parameter| self.graph.parameters[parameter].elements()).sum(),
            calls: 0,
            not_prunable: None,
            padding: call.padding.clone(),
            kernel: call.kernel.clone(),
            stride: call.stride.clone(),
            dilation: call.dilation.clone(),
            running_mean: self.running_mean(call.out),
            weight: made_of.first().copied().unwrap_or_default(),
            bias: bias.first().copied(),
            applied: weight.clone(),
            made_of: made_of.to_vec(),
            bias_made_of: bias.to_vec(),
            form,
            input: call.x.id,
            inputs_of_calls: Vec::new(),
            operations: Vec::new(),
            input_shape: dims(call.x),
            output_channels: self.channels(call.out, out_axis).map(first).unwrap_or_default(),
            input_channels: input_channels.into_iter().take(inputs).collect(),
        }
    }

    fn channels(&self, tensor: &TensorIr, axis: usize) -> Option<Vec<ChannelId>> {
        self.flow.tensors.get(&tensor.id)?.get(axis)?.clone()
    }

    /// Follows the only consumer while it is a normalisation, an activation or a pooling, each at most once.
    fn tap(&self, out: &TensorIr, filter_axis: usize) -> OutputTap {
        let mut at = out;
        let mut through = Vec::new();
        let mut passed = Vec::new();
        loop {
            let (op, role, name) = match *self.graph.consumers(at.id) {
                [only] => {
                    let op = &self.graph.operations[only];
                    (op, role(op), name(op))
                }
                [gate, product] if self.gates(at.id, gate, product) => {
                    let gate = name(&self.graph.operations[gate]);
                    (&self.graph.operations[product], Role::Activation, format!("x * {gate}(x)"))
                }
                _ => break,
            };
            let next = op.outputs().next().filter(|next| next.shape.num_dims() == at.shape.num_dims());
            let (Some(next), false) = (next, role == Role::Other || passed.contains(&role)) else { break };
            passed.push(role);
            through.push(name);
            at = next;
        }
        let shape = dims(at);
        let others = shape.iter().enumerate().filter(|(axis, _)| *axis != 0 && *axis != filter_axis);
        let positions = others.map(|(_, length)| length).product();
        OutputTap { through, shape, filter_axis, positions, tensor: at.id }
    }

    /// Whether the two consumers of `x` are an activation and the product of its output with `x`, as in SiLU.
    fn gates(&self, x: TensorId, gate: usize, product: usize) -> bool {
        let gate = &self.graph.operations[gate];
        let (Some(gated), Role::Activation) = (gate.outputs().next(), role(gate)) else { return false };
        match &self.graph.operations[product] {
            OperationIr::NumericFloat(_, N::Mul(mul)) => {
                (mul.lhs.id == x && mul.rhs.id == gated.id) || (mul.rhs.id == x && mul.lhs.id == gated.id)
            }
            _ => false,
        }
    }

    fn running_mean(&self, out: &TensorIr) -> Option<usize> {
        let &[only] = self.graph.consumers(out.id) else { return None };
        let norm = batch_norm(&self.graph.operations[only])?;
        self.graph.parameter(norm.mean.id)
    }

    /// Whether `to` is `from`, or `from` under another shape with the samples still first.
    fn same_but_reshaped(&self, from: TensorId, to: TensorId) -> bool {
        let mut at = from;
        while at != to {
            let next = self.graph.read_by(at).find_map(|op| match op {
                OperationIr::BaseFloat(B::Reshape(op)) if op.input.shape[0] == op.out.shape[0] => Some(op.out.id),
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

/// A shape without axes of length 1.
fn plain(tensor: &TensorIr) -> Vec<usize> {
    tensor.shape.iter().copied().filter(|&length| length > 1).collect()
}

fn role(op: &OperationIr) -> Role {
    describe(op).map_or(Role::Other, |described| described.role())
}
