//! The pass over the recorded operations that finds out how channels run.

use std::collections::HashMap;

use super::context::Context;
use super::flow::{Flow, ParamAxis};
use super::ids::ChannelId;
use crate::graph::Graph;
use crate::layers::burn::{fixed_layers, normalizations};
use crate::layers::rescale::mean_squares;
use crate::layers::stream::streams;
use crate::op;

/// Follows the channels through all operations.
pub(crate) fn follow(graph: &Graph) -> Flow {
    let mut context = Context::new(graph);
    fixed_layers(graph, &mut context);
    let (means, rescalings) = mean_squares(graph);
    context.divisible = means.iter().map(|norm| norm.mean).collect();
    let streams = streams(graph);
    context.fixed_norms = streams.fixed;
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
    for (norm, advice) in streams.replaceable {
        if let Some(Some(channels)) = context.tensors.get(&norm).and_then(|axes| axes.last()).cloned() {
            context.sets.place = None;
            context.sets.pin(&channels, &advice);
        }
    }
    Flow { means, rescalings, centered: streams.centered, ..finish(context, graph) }
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
    let mut flow = names.flow;
    for (index, parameter) in graph.parameters.iter().enumerate() {
        let Some(axes) = tensors.get(&parameter.tensor) else { continue };
        let carry = |(axis, ids): (usize, &Option<Vec<ChannelId>>)| Some(ParamAxis { axis, channels: ids.clone()? });
        flow.parameters.insert(index, axes.iter().enumerate().filter_map(carry).collect());
    }
    flow.pins.clone_from(context.sets.pins());
    flow.pin_products();
    flow.tensors = tensors;
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
