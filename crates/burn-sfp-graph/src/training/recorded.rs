//! What both parts of a recorded pass share.

use burn::backend::ir::TensorId;

use super::cut::Cut;
use super::node::Node;
use crate::graph::Graph;

/// A recorded and cut pass.
pub(super) struct Recorded {
    pub graph: Graph,
    pub nodes: Vec<Node>,
    pub cut: Cut,
    pub logits: TensorId,
    pub input_shapes: Vec<Vec<usize>>,
    /// Path of each running statistic that the pass changes, and its new value.
    pub statistics: Vec<(String, TensorId)>,
}

impl Recorded {
    /// The tensors that some nodes read.
    pub fn read_by(&self, nodes: &[usize]) -> impl Iterator<Item = TensorId> {
        nodes.iter().flat_map(|&at| self.nodes[at].inputs()).map(|input| input.id)
    }
}
