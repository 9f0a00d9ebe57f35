//! The layers whose output a tensor is computed from.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use burn::backend::ir::TensorId;

use crate::channels::pins::Pin;
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

/// For each of these operations, which of the pins with a place is the fewest operations away, with and against the direction of the
/// data. Operations that read the same parameter are neighbours. Operations that no pin reaches are left out.
pub(crate) fn nearest<'p>(graph: &Graph, pins: &'p [Pin], of: impl Iterator<Item = usize>) -> HashMap<usize, &'p Pin> {
    let mut wanted: HashSet<usize> = of.collect();
    let mut found: HashMap<usize, &Pin> = HashMap::new();
    let mut open = VecDeque::new();
    let mut shared = HashSet::new();
    // In the order of the pins, and by distance: what is found first is nearest, of several the first pin.
    for pin in pins {
        if let Some(place) = pin.place
            && !found.contains_key(&place)
        {
            found.insert(place, pin);
            open.push_back(place);
        }
    }
    while let Some(at) = open.pop_front() {
        wanted.remove(&at);
        if wanted.is_empty() {
            break;
        }
        let pin = found[&at];
        let Some(op) = graph.operations.get(at) else { continue };
        let before = op.inputs().filter_map(|input| graph.producer(input.id));
        let after = op.outputs().flat_map(|output| graph.consumers(output.id).iter().copied());
        let parameters = op.inputs().filter(|input| graph.values.contains_key(&input.id) && shared.insert(input.id));
        let beside = parameters.flat_map(|input| graph.consumers(input.id).iter().copied());
        for neighbour in before.chain(after).chain(beside).collect::<Vec<_>>() {
            found.entry(neighbour).or_insert_with(|| {
                open.push_back(neighbour);
                pin
            });
        }
    }
    found
}
