//! How often each operation was in a graph where something left through it.

use std::collections::BTreeMap;

use super::call::Activation;
use super::net::{GIVEN, Net};
use super::value::Value;

#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub graphs: usize,
    /// Graphs that lost anything.
    pub pruned: usize,
    /// For each kind of call: graphs that have it, graphs in which one of its operands or its result shrank.
    pub calls: BTreeMap<String, (usize, usize)>,
}

impl Tally {
    /// Counts a graph, from the values of the original and of the smaller module.
    pub fn count(&mut self, net: &Net, before: &[Value], after: &[Value]) {
        self.graphs += 1;
        let shrank = |at: usize| before[at].dims() != after[at].dims();
        let mut own: BTreeMap<String, bool> = BTreeMap::new();
        for (k, node) in net.program.nodes.iter().enumerate() {
            *own.entry(node.name()).or_default() |= shrank(GIVEN + k) || node.from.iter().any(|&at| shrank(at));
        }
        self.pruned += usize::from(own.values().any(|shrank| *shrank));
        for (name, shrank) in own {
            let entry = self.calls.entry(name).or_default();
            entry.0 += 1;
            entry.1 += usize::from(shrank);
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.graphs += other.graphs;
        self.pruned += other.pruned;
        for (name, (there, shrank)) in &other.calls {
            let entry = self.calls.entry(name.clone()).or_default();
            entry.0 += there;
            entry.1 += shrank;
        }
    }
}

/// Every name of a call under which something can leave. A softmax over channels and their least value are not among them: they
/// keep all of theirs.
pub fn expected() -> Vec<String> {
    let mut all: Vec<String> = Activation::ALL.iter().map(|kind| format!("{kind:?}")).collect();
    all.extend(NAMES.iter().map(|name| name.to_string()));
    all
}

const NAMES: [&str; 84] = [
    "Adaptive",
    "Add",
    "Assign of channels",
    "Assign of positions",
    "Attention",
    "AvgPool",
    "BatchNorm",
    "Cat of channels",
    "Cat of positions",
    "Chunk of channels",
    "Chunk of positions",
    "Constant",
    "Conv of Map",
    "Conv of Signal",
    "Conv of Volume",
    "CumSum",
    "Deform",
    "Embed",
    "ExpandLike",
    "Flip of channels",
    "Flip of positions",
    "Gather",
    "Gram",
    "GroupNorm",
    "InstanceNorm",
    "Interpolate",
    "Joint",
    "LayerNorm",
    "LikeOf",
    "Linear",
    "Map to Signal",
    "Map to Tokens",
    "Map to Vector",
    "Map to Volume",
    "MaskWhere",
    "Matrix",
    "MatrixLeft",
    "Max",
    "Max over channels",
    "Max over positions",
    "MaxPool",
    "Maxout",
    "Mean over channels",
    "Mean over positions",
    "Min over positions",
    "Mul",
    "Ones",
    "Pad",
    "PixelShuffle",
    "PixelUnshuffle",
    "Prelu",
    "Repeat of channels",
    "Repeat of positions",
    "RmsNorm",
    "Roll",
    "Scale",
    "Scores",
    "Select",
    "Shift",
    "Shuffle",
    "Signal to Map",
    "Signal to Tokens",
    "Signal to Vector",
    "Slice of channels",
    "Slice of positions",
    "Softmax of positions",
    "Sort",
    "Stack",
    "Step",
    "Sub",
    "Sum over channels",
    "Sum over positions",
    "Swap",
    "Thin",
    "Tokens to Map",
    "Tokens to Signal",
    "Tokens to Vector",
    "Transposed of Map",
    "Transposed of Signal",
    "Transposed of Volume",
    "Unflatten",
    "Unfold",
    "Unit of channels",
    "Wide",
];
