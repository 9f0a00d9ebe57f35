//! Which operations are fixed, which are frozen, which learn, and the tensors between the last two.

use std::collections::{HashMap, HashSet};

use burn::backend::ir::{TensorId, TensorIr};

use super::node::Node;
use crate::GraphError;
use crate::graph::Graph;
use crate::op::description::dims;
use crate::op::name::name;

/// Nodes by their positions, each list in the order in which they run.
pub(super) struct Cut {
    /// Computed from parameters and constants that do not learn.
    pub fixed: Vec<usize>,
    /// Computed from the input too.
    pub frozen: Vec<usize>,
    /// Everything behind a parameter that learns or a random number.
    pub learning: Vec<usize>,
    /// What the nodes that learn read of the frozen ones and of the input.
    pub between: Vec<TensorIr>,
    /// The recorded operations that `between` is computed by, of sparse layers too.
    pub steady: Vec<usize>,
}

/// On which side of the cut a node stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Fixed,
    Frozen,
    Learning,
}

impl Cut {
    /// Cuts where parameters begin of which `learns` is true. Only what is `wanted` is computed.
    pub fn of(
        graph: &Graph,
        nodes: &[Node],
        learns: &dyn Fn(&str) -> bool,
        wanted: &[TensorId],
    ) -> Result<Self, GraphError> {
        let (learning, following) = (behind_learning(graph, nodes, learns), behind_inputs(graph));
        let any = |set: &HashSet<TensorId>, node: &Node| node.outputs().iter().any(|out| set.contains(&out.id));
        let side = |node: &Node| match node {
            node if any(&learning, node) => Side::Learning,
            node if any(&following, node) => Side::Frozen,
            _ => Side::Fixed,
        };
        let sides: Vec<Side> = nodes.iter().map(side).collect();
        let mut late: HashSet<usize> =
            needed(nodes, wanted).into_iter().filter(|&at| sides[at] == Side::Learning).collect();
        let makers = makers(nodes);
        let frozen = |id: TensorId| match makers.get(&id) {
            Some(&at) => sides[at] == Side::Frozen,
            None => graph.inputs.contains(&id),
        };
        let between = loop {
            let between =
                read_by(nodes, &late, |at, id| frozen(id) && makers.get(&id).is_none_or(|maker| !at.contains(maker)));
            let moved = between.iter().find_map(|tensor| {
                let &maker = makers.get(&tensor.id)?;
                let node = &nodes[maker];
                let elsewhere = !by_sample(graph, tensor) || node.repeats();
                (elsewhere && node.is_view(graph)).then_some(maker)
            });
            match moved {
                // A view costs nothing, and what it is of may hold an entry for each sample.
                Some(maker) => late.insert(maker),
                None => break between,
            };
        };
        if let Some(tensor) = between.iter().find(|tensor| !by_sample(graph, tensor)) {
            return Err(not_by_sample(graph, nodes, &makers, tensor));
        }
        let ids: Vec<TensorId> = between.iter().map(|tensor| tensor.id).collect();
        let mut late: Vec<usize> = late.into_iter().collect();
        late.sort_unstable();
        let read_late = late.iter().flat_map(|&at| nodes[at].inputs()).map(|input| input.id);
        let both: Vec<TensorId> = read_late.chain(ids.iter().copied()).collect();
        let of = |side: Side, wanted: &[TensorId]| {
            needed(nodes, wanted).into_iter().filter(|&at| sides[at] == side).collect::<Vec<_>>()
        };
        Ok(Self {
            fixed: of(Side::Fixed, &both),
            frozen: of(Side::Frozen, &ids),
            steady: recorded_for(graph, &ids),
            learning: late,
            between,
        })
    }
}

/// The parameters that learn, random numbers, and all that is computed from them.
fn behind_learning(graph: &Graph, nodes: &[Node], learns: &dyn Fn(&str) -> bool) -> HashSet<TensorId> {
    let parameters = graph.parameters.iter().filter(|parameter| learns(&parameter.path));
    let mut behind: HashSet<TensorId> = parameters.map(|parameter| parameter.tensor).collect();
    let random = nodes.iter().filter(|node| node.is_random(graph));
    behind.extend(random.flat_map(|node| node.outputs()).map(|out| out.id));
    spread(graph, &mut behind);
    behind
}

fn behind_inputs(graph: &Graph) -> HashSet<TensorId> {
    let mut behind = graph.inputs.iter().copied().collect();
    spread(graph, &mut behind);
    behind
}

/// Adds all that is computed from the tensors of a set.
fn spread(graph: &Graph, set: &mut HashSet<TensorId>) {
    for op in &graph.operations {
        if op.inputs().any(|input| set.contains(&input.id)) {
            set.extend(op.outputs().map(|out| out.id));
        }
    }
}

/// Position of the node that makes each tensor.
fn makers(nodes: &[Node]) -> HashMap<TensorId, usize> {
    let made = |(at, node): (usize, &Node)| node.outputs().iter().map(move |out| (out.id, at)).collect::<Vec<_>>();
    nodes.iter().enumerate().flat_map(made).collect()
}

/// The nodes that are needed for some tensors, in their order.
pub(super) fn needed(nodes: &[Node], wanted: &[TensorId]) -> Vec<usize> {
    let mut open: HashSet<TensorId> = wanted.iter().copied().collect();
    let mut found = Vec::new();
    for (at, node) in nodes.iter().enumerate().rev() {
        if node.outputs().iter().any(|out| open.contains(&out.id)) {
            open.extend(node.inputs().iter().map(|input| input.id));
            found.push(at);
        }
    }
    found.reverse();
    found
}

/// The recorded operations that are needed for some tensors, in their order.
fn recorded_for(graph: &Graph, wanted: &[TensorId]) -> Vec<usize> {
    let mut open: HashSet<TensorId> = wanted.iter().copied().collect();
    let mut found = Vec::new();
    for (at, op) in graph.operations.iter().enumerate().rev() {
        if op.outputs().any(|out| open.contains(&out.id)) {
            open.extend(op.inputs().map(|input| input.id));
            found.push(at);
        }
    }
    found.reverse();
    found
}

/// The tensors that some nodes read and of which `is` is true, each once, in the order in which they are read.
fn read_by(nodes: &[Node], of: &HashSet<usize>, is: impl Fn(&HashSet<usize>, TensorId) -> bool) -> Vec<TensorIr> {
    let mut seen = HashSet::new();
    let reading = nodes.iter().enumerate().filter(|(at, _)| of.contains(at));
    let read = reading.flat_map(|(_, node)| node.inputs());
    read.filter(|input| is(of, input.id) && seen.insert(input.id)).cloned().collect()
}

/// Whether a tensor has one entry for each sample along its first axis.
fn by_sample(graph: &Graph, tensor: &TensorIr) -> bool {
    dims(tensor).first() == Some(&graph.batch)
}

fn not_by_sample(graph: &Graph, nodes: &[Node], makers: &HashMap<TensorId, usize>, tensor: &TensorIr) -> GraphError {
    let operation = makers.get(&tensor.id).map_or(0, |&at| nodes[at].operation);
    let name = makers.get(&tensor.id).map_or("the input".into(), |&at| name(&graph.operations[nodes[at].operation]));
    GraphError::NotBySample {
        operation,
        name,
        after: graph.layer_before(operation),
        shape: dims(tensor),
        samples: graph.batch,
    }
}
