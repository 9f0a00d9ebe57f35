//! The pass over the recorded operations that finds out how channels run.

use std::collections::{BTreeSet, HashMap, HashSet};

use burn::backend::ir::TensorId;

use super::context::Context;
use super::flow::{Flow, ParamAxis};
use super::ids::ChannelId;
use crate::graph::Graph;
use crate::layers::burn::{fixed_layers, normalizations};
use crate::layers::mean_factor::{MeanFactor, mean_factors};
use crate::layers::mean_square::MeanSquare;
use crate::layers::rescale::{Rescaling, mean_squares};
use crate::layers::stream::{Streams, streams};
use crate::op;

/// Follows the channels through all operations.
pub(crate) fn follow(graph: &Graph) -> Flow {
    let known = Known::of(graph);
    let mut unzeroed = BTreeSet::new();
    loop {
        let (flow, poles) = attempt(graph, &known, &unzeroed);
        // What is divided by something that is zero where a channel is removed has no value there: its parameters keep theirs.
        let before = unzeroed.len();
        unzeroed.extend(poles);
        if unzeroed.len() == before {
            let Known { means, rescalings, mean_factors, streams, .. } = known;
            return Flow { means, rescalings, mean_factors, unzeroed, centered: streams.centered, ..flow };
        }
    }
}

/// What the operations say by themselves, before channels are followed.
struct Known {
    means: Vec<MeanSquare>,
    rescalings: Vec<Rescaling>,
    mean_factors: Vec<MeanFactor>,
    /// Results of other means, and the operation behind each that cannot take its factor.
    fixed_means: HashMap<TensorId, String>,
    streams: Streams,
}

impl Known {
    fn of(graph: &Graph) -> Self {
        let (means, rescalings) = mean_squares(graph);
        let (mean_factors, fixed_means) = mean_factors(graph, &means);
        Self { means, rescalings, mean_factors, fixed_means, streams: streams(graph) }
    }
}

/// Follows the channels where some axes of parameters do not become zero with the channels that leave, and returns the parameters and axes
/// that must not either.
fn attempt(graph: &Graph, known: &Known, unzeroed: &BTreeSet<(usize, usize)>) -> (Flow, BTreeSet<(usize, usize)>) {
    let mut context = Context::new(graph);
    context.unzeroed.clone_from(unzeroed);
    fixed_layers(graph, &mut context);
    let (norms, means) = (known.means.iter().map(|norm| norm.mean), known.mean_factors.iter().map(|mean| mean.mean));
    context.divisible = norms.chain(means).collect();
    context.fixed_means.clone_from(&known.fixed_means);
    context.fixed_norms.clone_from(&known.streams.fixed);
    for (index, operation) in graph.operations.iter().enumerate() {
        context.sets.place = Some(index);
        op::flow(operation, index, &mut context);
    }
    for output in &graph.outputs {
        let axes = context.tensors.get(output).cloned().unwrap_or_default();
        context.sets.place = graph.producer(*output);
        context.pin_axes(&axes, "it is an output of the network");
    }
    normalizations(graph, &mut context);
    // Last, because it is advice: what must stay for another reason would not leave by following it.
    for (norm, advice) in &known.streams.replaceable {
        if let Some(Some(channels)) = context.tensors.get(norm).and_then(|axes| axes.last()).cloned() {
            context.sets.place = None;
            context.sets.pin(&channels, advice);
        }
    }
    let poles = sources_of_poles(graph, &mut context);
    (finish(context, graph), poles)
}

/// The axes of parameters from which the zeros come that something is divided by.
fn sources_of_poles(graph: &Graph, context: &mut Context) -> BTreeSet<(usize, usize)> {
    let mut found = BTreeSet::new();
    let poles = std::mem::take(&mut context.poles);
    if poles.is_empty() {
        return found;
    }
    let fixed = graph.fixed();
    for (pole, axis) in poles {
        let ids = context.tensors.get(&pole).and_then(|axes| axes[axis].clone()).unwrap_or_default();
        let atoms: HashSet<ChannelId> = ids.iter().flat_map(|&id| context.sets.atoms(id)).collect();
        let (mut open, mut seen) = (vec![pole], HashSet::new());
        while let Some(tensor) = open.pop() {
            if !seen.insert(tensor) {
                continue;
            }
            if let Some(parameter) = graph.parameter(tensor) {
                let axes = context.tensors.get(&tensor).cloned().unwrap_or_default();
                for (own, ids) in axes.iter().enumerate() {
                    let carries = |&id: &ChannelId| context.sets.atoms(id).iter().any(|atom| atoms.contains(atom));
                    if ids.iter().flatten().any(carries) {
                        found.insert((parameter, own));
                    }
                }
                continue;
            }
            let Some(op) = graph.made_by(tensor) else { continue };
            match op::describe(op).and_then(|described| described.layer()) {
                // What a layer reads is zero at other channels of its weight.
                Some(call) if !fixed.contains(&tensor) => {
                    let weight = graph.parameter(call.weight.id).map(|weight| (weight, call.kind.output_axis()));
                    let bias = call.bias.and_then(|bias| Some((graph.parameter(bias.id)?, 0)));
                    found.extend(weight.into_iter().chain(bias));
                }
                _ => open.extend(op.inputs().map(|input| input.id)),
            }
        }
    }
    found
}

/// Puts the representative of its set in the place of every channel id.
fn finish(mut context: Context, graph: &Graph) -> Flow {
    let mut names = Names { known: vec![None; context.sets.len()], ..Names::default() };
    let mut tensors = std::mem::take(&mut context.tensors);
    for axes in tensors.values_mut() {
        for id in axes.iter_mut().flatten().flatten() {
            *id = names.of(*id, &mut context);
        }
    }
    let mut fields = std::mem::take(&mut context.fields);
    for id in fields.iter_mut().flat_map(|field| &mut field.of) {
        *id = names.of(*id, &mut context);
    }
    let uneven: Vec<(ChannelId, String)> = std::mem::take(&mut context.uneven);
    let uneven = uneven.into_iter().map(|(id, tie)| (names.of(id, &mut context), tie)).collect::<Vec<_>>();
    let summed: Vec<ChannelId> = std::mem::take(&mut context.summed);
    let summed = summed.into_iter().map(|id| names.of(id, &mut context)).collect();
    let mut flow = names.flow;
    flow.summed = summed;
    for (id, tie) in uneven {
        for atom in flow.atoms(id) {
            flow.uneven.entry(atom).or_insert_with(|| tie.clone());
        }
    }
    for (index, parameter) in graph.parameters.iter().enumerate() {
        let Some(axes) = tensors.get(&parameter.tensor) else { continue };
        let carry = |(axis, ids): (usize, &Option<Vec<ChannelId>>)| Some(ParamAxis { axis, channels: ids.clone()? });
        flow.parameters.insert(index, axes.iter().enumerate().filter_map(carry).collect());
    }
    flow.pins.clone_from(context.sets.pins());
    flow.ties.clone_from(context.sets.ties());
    flow.pin_products();
    flow.tensors = tensors;
    flow.non_negative = std::mem::take(&mut context.non_negative);
    flow.fields = fields;
    flow
}

/// The representative of each set, and the products and families among them.
#[derive(Default)]
struct Names {
    /// By root: there are as many ids as indices, and each is looked up often.
    known: Vec<Option<ChannelId>>,
    /// One of the products with the same atoms stands for all of them.
    canonical: HashMap<Vec<ChannelId>, ChannelId>,
    flow: Flow,
}

impl Names {
    fn of(&mut self, id: ChannelId, context: &mut Context) -> ChannelId {
        let root = context.sets.find(id);
        if let Some(known) = self.known[root as usize] {
            return known;
        }
        let name = self.new_name(root, context);
        self.known[root as usize] = Some(name);
        name
    }

    fn new_name(&mut self, root: ChannelId, context: &mut Context) -> ChannelId {
        let atoms = if context.sets.is_product(root) { context.sets.atoms(root) } else { vec![root] };
        for &atom in &atoms {
            self.flow.families.insert(atom, context.sets.family(atom));
        }
        if let [atom] = atoms[..] {
            return atom;
        }
        *self.canonical.entry(atoms.clone()).or_insert_with(|| {
            self.flow.products.insert(root, atoms);
            root
        })
    }
}
