//! Burn's own layers that need care: ones whose code does not allow their channels to be removed, and ones that count in plain fields.
//!
//! A capture knows the types around a parameter by their bare names only, and a type of the user's own may have the same name. So a layer
//! counts as Burn's where its name, the names of its fields, the shapes of its parameters and the operations that use them are Burn's;
//! any other is followed like parameters of no known layer.

use std::collections::{BTreeSet, HashMap};

use burn::backend::ir::{BaseOperationIr as B, NumericOperationIr as N, OperationIr, TensorId, TensorIr};

use crate::channels::context::{Context, CountedField};
use crate::channels::ids::ChannelId;
use crate::graph::{Graph, Parameter};
use crate::op::describe;
use crate::op::description::dims;

const ATTENTION: &str = "Burn's MultiHeadAttention gives its heads together the width of its input: it requires \
                         n_heads * d_k == d_model, so heads cannot be removed; use `HeadAttention` of burn-sfp-nn, which is made from it \
                         with `from`";
const STATE: &str = "Burn's recurrent layers keep the width of their state in a field";

/// Gates of Burn's recurrent layers; those of an `Lstm` without a forget gate of its own come last.
const RECURRENT: [(&str, &[&str]); 4] = [
    ("Rnn", &["gate"]),
    ("Gru", &["new_gate", "reset_gate", "update_gate"]),
    ("Lstm", &["cell_gate", "forget_gate", "input_gate", "output_gate"]),
    ("Lstm", &["cell_gate", "input_gate", "output_gate"]),
];

/// Module path of the struct `types[0]` around a parameter and the parameter's path inside of it, where the parameter's innermost structs
/// have the names `types`, the outermost first.
pub(crate) fn innermost<'a>(parameter: &'a Parameter, types: &[&str]) -> Option<(&'a str, &'a str)> {
    let start = parameter.holders.len().checked_sub(types.len())?;
    if parameter.holders[start..].iter().zip(types).any(|(holder, name)| holder != name) {
        return None;
    }
    let (cut, _) = parameter.path.rmatch_indices('.').nth(types.len() - 1).unwrap_or((0, ""));
    Some((&parameter.path[..cut], parameter.path[cut..].trim_start_matches('.')))
}

/// Pins the parameters of layers whose forward pass joins or checks widths in a way that leaves no other width possible.
pub(crate) fn fixed_layers(graph: &Graph, context: &mut Context) {
    let inner = Inside::of(graph);
    let attentions = modules(graph, &["MultiHeadAttention", "Linear"], |module| is_attention(graph, &inner, module));
    let recurrent = RECURRENT.iter().flat_map(|&(name, gates)| {
        modules(graph, &[name, "GateController", "Linear"], |module| is_recurrent(graph, &inner, module, gates))
    });
    let recurrent: Vec<&str> = recurrent.collect();
    let of = |modules: &[&str]| {
        modules.iter().flat_map(|module| inner.parameters(module)).copied().collect::<BTreeSet<usize>>()
    };
    let (of_attentions, of_recurrent) = (of(&attentions), of(&recurrent));
    for &index in of_attentions.union(&of_recurrent) {
        let parameter = &graph.parameters[index];
        let (reason, first) = if of_attentions.contains(&index) {
            (ATTENTION, 0)
        } else {
            // What these layers read may go.
            (STATE, usize::from(parameter.path.ends_with("input_transform.weight")))
        };
        let axes: Vec<_> = parameter.shape.iter().map(|&length| Some(context.sets.fresh(length))).collect();
        context.sets.place = graph.consumers(parameter.tensor).first().copied();
        context.pin_axes(&axes[first..], reason);
        context.tensors.insert(parameter.tensor, axes);
    }
}

/// Module paths of the structs with these names around some parameter for which `is` holds.
fn modules<'a>(graph: &'a Graph, types: &[&str], is: impl Fn(&str) -> bool) -> Vec<&'a str> {
    let paths: BTreeSet<&str> =
        graph.parameters.iter().filter_map(|parameter| Some(innermost(parameter, types)?.0)).collect();
    paths.into_iter().filter(|module| is(module)).collect()
}

/// The parameter's path inside of a module, where it is inside.
fn inside<'a>(parameter: &'a Parameter, module: &str) -> Option<&'a str> {
    if module.is_empty() { Some(&parameter.path) } else { parameter.path.strip_prefix(module)?.strip_prefix('.') }
}

/// The parameters inside of each module, in their order.
struct Inside<'a> {
    graph: &'a Graph,
    of: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Inside<'a> {
    fn of(graph: &'a Graph) -> Self {
        let mut of: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, Parameter { path, .. }) in graph.parameters.iter().enumerate() {
            for module in path.match_indices('.').map(|(end, _)| &path[..end]).chain([""]) {
                of.entry(module).or_default().push(index);
            }
        }
        Self { graph, of }
    }

    fn parameters(&self, module: &str) -> &[usize] {
        self.of.get(module).map(Vec::as_slice).unwrap_or_default()
    }

    /// The parameter at a path inside of a module.
    fn find(&self, module: &str, path: &str) -> Option<&'a Parameter> {
        let mut all = self.parameters(module).iter().map(|&index| &self.graph.parameters[index]);
        all.find(|parameter| inside(parameter, module) == Some(path))
    }

    /// The different first parts of the paths of a module's parameters inside of it, in alphabetical order.
    fn fields(&self, module: &str) -> Vec<&'a str> {
        let inner = self.parameters(module).iter();
        let inner = inner.filter_map(|&index| inside(&self.graph.parameters[index], module));
        let first: BTreeSet<&str> = inner.filter_map(|path| path.split('.').next()).collect();
        first.into_iter().collect()
    }
}

/// Whether a module is Burn's `MultiHeadAttention`: four linear layers of the same square shape, the last of which reads heads that a
/// reshape has joined.
fn is_attention(graph: &Graph, inner: &Inside<'_>, module: &str) -> bool {
    let names = ["key", "output", "query", "value"];
    let weights: Option<Vec<&Parameter>> =
        names.iter().map(|name| inner.find(module, &format!("{name}.weight"))).collect();
    let Some(weights) = weights else { return false };
    let &[d_model, _] = &weights[0].shape[..] else { return false };
    let square = weights.iter().all(|weight| weight.shape == [d_model, d_model]);
    square && inner.fields(module) == names && applied(graph, weights[1].tensor).is_some_and(|x| joins_heads(graph, x))
}

/// Whether a module is one of Burn's recurrent layers with these gates: each adds a linear layer of the input and one of the state, all of
/// the width of the state.
fn is_recurrent(graph: &Graph, inner: &Inside<'_>, module: &str, gates: &[&str]) -> bool {
    let gate_of = |gate: &str| {
        let weight = |transform: &str| inner.find(module, &format!("{gate}.{transform}.weight"));
        let (input, hidden) = (weight("input_transform")?, weight("hidden_transform")?);
        let (&[d_input, wide], &[width, other]) = (&input.shape[..], &hidden.shape[..]) else { return None };
        let used = applied(graph, input.tensor).is_some() && applied(graph, hidden.tensor).is_some();
        (wide == width && width == other && used).then_some((d_input, width))
    };
    let sizes: Option<BTreeSet<(usize, usize)>> = gates.iter().map(|gate| gate_of(gate)).collect();
    sizes.is_some_and(|sizes| sizes.len() == 1) && inner.fields(module) == gates
}

/// The input of the first layer that applies a weight, which may be reshaped or masked on the way.
fn applied(graph: &Graph, weight: TensorId) -> Option<&TensorIr> {
    let mut at = weight;
    for _ in 0..4 {
        let call = |op| describe(op)?.layer().filter(|call| call.weight.id == at);
        if let Some(call) = graph.read_by(at).find_map(call) {
            return Some(call.x);
        }
        at = graph.read_by(at).next()?.outputs().next()?.id;
    }
    None
}

/// Whether a tensor is `[samples, tokens, heads, width]` reshaped to `[samples, tokens, heads * width]`, perhaps with its leading axes folded
/// afterwards.
fn joins_heads(graph: &Graph, tensor: &TensorIr) -> bool {
    let mut at = tensor;
    while let Some(OperationIr::BaseFloat(B::Reshape(op))) = graph.made_by(at.id) {
        if let (&[_, _, heads, width], Some(&joined)) = (&dims(&op.input)[..], dims(&op.out).last())
            && heads * width == joined
        {
            return true;
        }
        at = &op.input;
    }
    false
}

/// Channel and group counts of Burn's group and instance normalisations.
pub(crate) fn normalizations(graph: &Graph, context: &mut Context) {
    let inner = Inside::of(graph);
    for (index, parameter) in graph.parameters.iter().enumerate() {
        let grouped = innermost(parameter, &["GroupNorm"]);
        let Some((module, "gamma")) = grouped.or_else(|| innermost(parameter, &["InstanceNorm"])) else { continue };
        let beta = inner.find(module, "beta").is_some_and(|beta| beta.shape == parameter.shape);
        let Some(scaled) = scaled_by(graph, parameter.tensor) else { continue };
        if !beta
            || parameter.shape.len() != 1
            || inner.fields(module) != ["beta", "gamma"]
            || !is_quotient(graph, scaled)
        {
            continue;
        }
        let Some(Some(channels)) = context.tensors.get(&parameter.tensor).and_then(|axes| axes.first()).cloned() else {
            continue;
        };
        context.fields.push(CountedField { parameter: index, field: "num_channels", of: channels });
        if grouped.is_some()
            && let Some(groups) = groups_of(graph, scaled, context)
        {
            context.fields.push(CountedField { parameter: index, field: "num_groups", of: groups });
        }
    }
}

/// The tensor that a vector, reshaped along axis 1, is multiplied with.
fn scaled_by(graph: &Graph, gamma: TensorId) -> Option<TensorId> {
    let reshaped = graph.read_by(gamma).find_map(|op| match op {
        OperationIr::BaseFloat(B::Reshape(op)) if op.input.id == gamma => Some(op.out.id),
        _ => None,
    })?;
    graph.read_by(reshaped).find_map(|op| match op {
        OperationIr::NumericFloat(_, N::Mul(op)) if op.rhs.id == reshaped => Some(op.lhs.id),
        _ => None,
    })
}

/// Whether a tensor is a quotient (by a standard deviation), reshaped or cast.
fn is_quotient(graph: &Graph, tensor: TensorId) -> bool {
    let mut at = tensor;
    loop {
        at = match graph.made_by(at) {
            Some(OperationIr::BaseFloat(B::Reshape(op))) => op.input.id,
            Some(OperationIr::BaseFloat(B::Cast(op))) => op.input.id,
            producer => return matches!(producer, Some(OperationIr::NumericFloat(_, N::Div(_)))),
        };
    }
}

/// The channel ids of a group normalisation's groups: from the normalised tensor back to the reshape that made the groups.
fn groups_of(graph: &Graph, normalized: TensorId, context: &Context) -> Option<Vec<ChannelId>> {
    let mut at = normalized;
    let mut reshapes = 0;
    for _ in 0..8 {
        let producer = graph.made_by(at)?;
        if let OperationIr::BaseFloat(B::Reshape(op)) = producer {
            reshapes += 1;
            if reshapes == 2 {
                return context.tensors.get(&op.out.id)?.get(1)?.clone();
            }
        }
        at = producer.inputs().next()?.id;
    }
    None
}

#[cfg(test)]
mod tests {
    use burn::module::{Module, Param};
    use burn::nn::attention::{MhaInput, MultiHeadAttention as BurnAttention, MultiHeadAttentionConfig};
    use burn::nn::{GroupNorm as BurnGroupNorm, GroupNormConfig, Linear, LinearConfig, Lstm as BurnLstm, LstmConfig};
    use burn::tensor::activation::relu;
    use burn::tensor::{Device, Tensor};

    use crate::{GraphModule, Network};

    /// Types of the user's own with the names of Burn's.
    mod own {
        use super::*;

        #[derive(Module, Debug)]
        pub struct Lstm {
            pub hidden: Linear,
            pub out: Linear,
        }

        #[derive(Module, Debug)]
        pub struct GroupNorm {
            pub gamma: Param<Tensor<1>>,
            pub shift: Param<Tensor<1>>,
        }

        /// No heads at all: a gate of two layers.
        #[derive(Module, Debug)]
        pub struct MultiHeadAttention {
            pub query: Linear,
            pub key: Linear,
            pub value: Linear,
            pub output: Linear,
        }
    }

    #[derive(Module, Debug)]
    struct Own {
        lstm: own::Lstm,
        norm: own::GroupNorm,
        attention: own::MultiHeadAttention,
    }

    impl GraphModule for Own {
        type Inputs = Tensor<2>;
        type Outputs = Tensor<2>;
        fn run(&self, x: Tensor<2>) -> Tensor<2> {
            let x = self.lstm.out.forward(relu(self.lstm.hidden.forward(x)));
            let x = x * self.norm.gamma.val().reshape([1, -1]) + self.norm.shift.val().reshape([1, -1]);
            let attention = &self.attention;
            let gate = attention.query.forward(x.clone()) * attention.key.forward(x.clone());
            attention.output.forward(relu(gate + attention.value.forward(x)))
        }
    }

    #[test]
    fn types_of_the_users_own_with_the_names_of_burns_are_followed_like_any_other() {
        let device = Device::flex();
        let linear = |from, to| LinearConfig::new(from, to).init(&device);
        let ones = || Param::from_tensor(Tensor::ones([6], &device));
        let model = Own {
            lstm: own::Lstm { hidden: linear(4, 8), out: linear(8, 6) },
            norm: own::GroupNorm { gamma: ones(), shift: ones() },
            attention: own::MultiHeadAttention {
                query: linear(6, 6),
                key: linear(6, 6),
                value: linear(6, 6),
                output: linear(6, 6),
            },
        };
        let network = Network::capture(&model, &Tensor::zeros([2, 4], &device)).unwrap();
        for layer in network.layers() {
            assert_eq!(layer.not_prunable.is_some(), layer.is_classifier, "{layer:?}");
        }
        let removed = network.layers().iter().filter(|layer| !layer.is_classifier);
        let removed = removed.map(|layer| layer.output_channels()[0]).collect();
        assert_eq!(network.field_edits(&network.flow().closed(&removed)), []);
    }

    #[derive(Module, Debug)]
    struct Burns {
        lstm: BurnLstm,
        attention: BurnAttention,
        conv: burn::nn::conv::Conv1d,
        norm: BurnGroupNorm,
        last: burn::nn::conv::Conv1d,
    }

    impl GraphModule for Burns {
        type Inputs = Tensor<3>;
        type Outputs = Tensor<3>;
        fn run(&self, x: Tensor<3>) -> Tensor<3> {
            let x = self.lstm.forward(x, None).0;
            let x = self.attention.forward(MhaInput::self_attn(x)).context;
            self.last.forward(relu(self.norm.forward(self.conv.forward(x))))
        }
    }

    #[test]
    fn burns_own_are_known() {
        let device = Device::flex();
        let conv = |from, to| burn::nn::conv::Conv1dConfig::new(from, to, 1).init(&device);
        let model = Burns {
            lstm: LstmConfig::new(4, 8, true).init(&device),
            attention: MultiHeadAttentionConfig::new(8, 2).init(&device),
            conv: conv(5, 6),
            norm: GroupNormConfig::new(3, 6).init(&device),
            last: conv(6, 2),
        };
        let network = Network::capture(&model, &Tensor::zeros([2, 5, 4], &device)).unwrap();
        let why = |path: &str| network.layer(path).unwrap().not_prunable.clone().unwrap_or_default();
        for gate in ["input_gate", "forget_gate", "output_gate", "cell_gate"] {
            assert!(why(&format!("lstm.{gate}.input_transform")).contains("recurrent"));
        }
        for name in ["query", "key", "value", "output"] {
            assert!(why(&format!("attention.{name}")).contains("HeadAttention` of burn-sfp-nn"));
        }
        // Whole groups can go.
        let atom = network.flow().atoms(network.layer("conv").unwrap().output_channels()[0])[0];
        let edits = network.field_edits(&network.flow().closed(&[atom].into()));
        let found: Vec<_> = edits.iter().map(|edit| (edit.field.as_str(), edit.before, edit.after)).collect();
        assert_eq!(found, [("num_channels", 6.0, 4.0), ("num_groups", 3.0, 2.0)]);
    }
}
