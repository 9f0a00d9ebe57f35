//! The layers whose output a tensor is computed from.

use std::collections::{BTreeSet, HashMap, HashSet};

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
