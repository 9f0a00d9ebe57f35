//! Names and order in a file: burn-onnx names tensors by numbers that differ from run to run.

use std::collections::{HashMap, HashSet};

use onnx_ir::{GraphProto, NodeProto};

use super::flat::in_order;

/// How burn-onnx names the tensors that are no parameters.
const NUMBERED: &str = "tensor_";

/// Puts inputs and outputs into the order of the module, leaves out what nothing reads, and names tensors so that the same model gives
/// the same file: `input` (or `input_0`, `input_1`, ..), `output`, parameters by their module paths.
pub(super) fn tidy(graph: &mut GraphProto, inputs: &[usize], outputs: &[usize]) {
    graph.input = in_order(std::mem::take(&mut graph.input), inputs);
    graph.output = in_order(std::mem::take(&mut graph.output), outputs);
    drop_unread(graph);
    rename(graph);
    let mut order = HashMap::new();
    for name in graph.node.iter().flat_map(|node| &node.input) {
        let next = order.len();
        order.entry(name.clone()).or_insert(next);
    }
    graph.initializer.sort_by_key(|value| order.get(&value.name).copied().unwrap_or(usize::MAX));
}

/// Drops operations and values that no output follows from.
fn drop_unread(graph: &mut GraphProto) {
    let mut read: HashSet<String> = graph.output.iter().map(|output| output.name.clone()).collect();
    let mut kept: Vec<NodeProto> = Vec::with_capacity(graph.node.len());
    for node in std::mem::take(&mut graph.node).into_iter().rev() {
        if node.output.iter().any(|output| read.contains(output)) {
            read.extend(node.input.iter().cloned());
            kept.push(node);
        }
    }
    kept.reverse();
    graph.node = kept;
    graph.initializer.retain(|value| read.contains(&value.name));
}

fn rename(graph: &mut GraphProto) {
    let is_numbered = |name: &str| name.starts_with(NUMBERED);
    let parameters = graph.initializer.iter().map(|value| &value.name).filter(|name| !is_numbered(name));
    let mut names = Names { taken: parameters.cloned().collect(), new: HashMap::new() };
    let boundary = |kind: &str, count: usize, at| if count == 1 { kind.to_string() } else { format!("{kind}_{at}") };
    for (at, input) in graph.input.iter().enumerate() {
        names.add(&input.name, boundary("input", graph.input.len(), at));
    }
    for (at, output) in graph.output.iter().enumerate() {
        names.add(&output.name, boundary("output", graph.output.len(), at));
    }
    let values: HashSet<&String> = graph.initializer.iter().map(|value| &value.name).collect();
    for name in graph.node.iter().flat_map(|node| node.input.iter().chain(&node.output)) {
        if is_numbered(name) && !names.new.contains_key(name) {
            let kind = if values.contains(name) { "constant" } else { "t" };
            names.add(name, format!("{kind}_{}", names.new.len()));
        }
    }
    let apply = |name: &mut String| {
        if let Some(new) = names.new.get(name) {
            name.clone_from(new);
        }
    };
    for node in &mut graph.node {
        node.input.iter_mut().chain(&mut node.output).for_each(apply);
    }
    graph.initializer.iter_mut().for_each(|value| apply(&mut value.name));
    graph.input.iter_mut().chain(&mut graph.output).for_each(|value| apply(&mut value.name));
}

struct Names {
    taken: HashSet<String>,
    new: HashMap<String, String>,
}

impl Names {
    /// Gives a tensor a name, unless it has one; a name that is taken is lengthened.
    fn add(&mut self, old: &str, mut new: String) {
        if self.new.contains_key(old) {
            return;
        }
        while !self.taken.insert(new.clone()) {
            new.push('_');
        }
        self.new.insert(old.to_string(), new);
    }
}
