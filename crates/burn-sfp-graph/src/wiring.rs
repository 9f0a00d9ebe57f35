//! Which tensor each operation of a smaller network reads, compared with the original: a forward pass may take another way by its widths, with
//! the same operations in the same order.

use std::collections::HashMap;

use burn::backend::ir::{BaseOperationIr as B, NumericOperationIr as N, OperationIr, TensorId};
use burn_sfp_nn::Removable;

use crate::blocks::Omitted;
use crate::graph::Graph;
use crate::op::name::name;

/// The tensors of a smaller network that stand for those of the original.
pub(crate) struct Wiring<'a> {
    ours: &'a Graph,
    /// The blocks that `theirs` lacks.
    omitted: &'a Omitted,
    theirs: &'a Graph,
    pairs: HashMap<TensorId, TensorId>,
}

impl<'a> Wiring<'a> {
    /// Pairs the inputs, and the parameters by their paths.
    pub fn new(ours: &'a Graph, omitted: &'a Omitted, theirs: &'a Graph) -> Self {
        let mut pairs: HashMap<TensorId, TensorId> =
            ours.inputs.iter().copied().zip(theirs.inputs.iter().copied()).collect();
        let by_path: HashMap<&str, TensorId> =
            theirs.parameters.iter().map(|parameter| (parameter.path.as_str(), parameter.tensor)).collect();
        let of = |path: &str| match omitted.is_empty() {
            true => by_path.get(path).copied(),
            false => by_path.get(Removable::path_without(omitted.parts(), path)?.as_str()).copied(),
        };
        pairs.extend(ours.parameters.iter().filter_map(|parameter| Some((parameter.tensor, of(&parameter.path)?))));
        Self { ours, omitted, theirs, pairs }
    }

    /// Says what `theirs` reads other than `ours` does, and pairs their results; `made` is the operation that makes that of `theirs`.
    pub fn pair(&mut self, ours: &OperationIr, theirs: &OperationIr, made: &OperationIr) -> Option<String> {
        let turned = !std::ptr::eq(theirs, made);
        let mut all = ours.inputs().zip(theirs.inputs()).enumerate();
        let wrong = all.find_map(|(at, (own, other))| {
            let other = if turned && at == 0 { self.unswapped(other.id) } else { other.id };
            self.other(own.id, other)
        });
        self.pairs.extend(ours.outputs().map(|out| out.id).zip(made.outputs().map(|out| out.id)));
        wrong
    }

    /// Says which output of the network is not that of the original.
    pub fn other_output(&self) -> Option<String> {
        if self.ours.outputs.len() != self.theirs.outputs.len() {
            let (found, expected) = (self.theirs.outputs.len(), self.ours.outputs.len());
            return Some(format!("the smaller module returns {found} tensors instead of {expected}"));
        }
        let mut all = self.ours.outputs.iter().zip(&self.theirs.outputs).enumerate();
        all.find_map(|(at, (&own, &other))| Some(format!("output {at}: {}", self.other(own, other)?)))
    }

    /// What a tensor is other than the one that stands for ours.
    fn other(&self, own: TensorId, other: TensorId) -> Option<String> {
        let (own, other) = (self.root_of_ours(own), root(self.theirs, other));
        if let Some(&expected) = self.pairs.get(&own) {
            return (expected != other).then(|| {
                let (found, expected) = (what(self.theirs, other), what(self.ours, own));
                format!("it reads {found} where the original reads {expected}")
            });
        }
        let (own, other) = (self.ours.values.get(&own)?, self.theirs.values.get(&other)?);
        let same = own.shape() != other.shape() || own.as_bytes() == other.as_bytes();
        (!same).then(|| "a constant that it reads has other values than in the original".to_string())
    }

    /// The root of a tensor of the original, without what the blocks that are left out do to a stream.
    fn root_of_ours(&self, tensor: TensorId) -> TensorId {
        let mut at = tensor;
        loop {
            let before = self.omitted.stand_in(root(self.ours, at));
            if before == at {
                return at;
            }
            at = before;
        }
    }

    /// A tensor before its axes were swapped.
    fn unswapped(&self, tensor: TensorId) -> TensorId {
        match self.theirs.made_by(tensor) {
            Some(OperationIr::BaseFloat(B::SwapDims(op))) => op.input.id,
            _ => tensor,
        }
    }
}

/// A tensor before changes of its shape and masks over connections, which are compared in other ways.
fn root(graph: &Graph, tensor: TensorId) -> TensorId {
    let mut at = tensor;
    loop {
        at = match graph.made_by(at) {
            Some(OperationIr::BaseFloat(B::Reshape(op))) => op.input.id,
            Some(OperationIr::NumericFloat(_, N::Mul(op))) if graph.is_connection_mask(op.rhs.id) => op.lhs.id,
            _ => return at,
        };
    }
}

/// A tensor for a message.
fn what(graph: &Graph, tensor: TensorId) -> String {
    if let Some(parameter) = graph.parameter(tensor) {
        return format!("`{}`", graph.parameters[parameter].path);
    }
    match graph.producer(tensor) {
        Some(operation) => format!("the result of operation {operation} ({})", name(&graph.operations[operation])),
        None => "an input of the network or a constant".into(),
    }
}
