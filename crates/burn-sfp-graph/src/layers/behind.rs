//! The layers whose output a tensor is computed from.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use burn::backend::ir::TensorId;

use crate::graph::Graph;

/// The layers reached from the tensors `open` against the direction of the data, none behind another. `layer_of` names the layer whose
/// output a tensor is.
pub(crate) fn layers_behind(
    graph: &Graph,
    layer_of: &HashMap<TensorId, usize>,
    mut open: Vec<TensorId>,
) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut seen = HashSet::new();
    while let Some(tensor) = open.pop() {
        if !seen.insert(tensor) {
            continue;
        }
        if let Some(&producer) = layer_of.get(&tensor) {
            found.insert(producer);
        } else if let Some(operation) = graph.made_by(tensor) {
            open.extend(operation.inputs().map(|input| input.id));
        }
    }
    found
}

/// The distance of each operation from another one, with and against the direction of the data. Operations that read the same parameter are
/// neighbours.
pub(crate) fn distances(graph: &Graph, from: usize) -> HashMap<usize, usize> {
    let mut found = HashMap::from([(from, 0)]);
    let mut open = VecDeque::from([from]);
    while let Some(at) = open.pop_front() {
        let next = found[&at] + 1;
        let op = &graph.operations[at];
        let before = op.inputs().filter_map(|input| graph.producer(input.id));
        let after = op.outputs().flat_map(|output| graph.consumers(output.id).iter().copied());
        let parameters = op.inputs().filter(|input| graph.values.contains_key(&input.id));
        let beside = parameters.flat_map(|input| graph.consumers(input.id).iter().copied());
        for neighbour in before.chain(after).chain(beside).collect::<Vec<_>>() {
            found.entry(neighbour).or_insert_with(|| {
                open.push_back(neighbour);
                next
            });
        }
    }
    found
}
