//! Values that a forward pass reads while it is recorded.
//!
//! Nothing is computed during a recording, so that reading a computed tensor (`into_data`, `into_scalar`) panics. Where the tensor follows
//! from parameters and constants alone (the target of a reshape in generated code, say), its value is computed from what was recorded so
//! far, and the passes are recorded again with the value in the tensor's place. Burn numbers tensors in the order in which they are made,
//! so that the tensor is known by its distance from the start.

use std::collections::HashSet;

use burn::backend::ir::{OperationIr, TensorId};
use burn::tensor::{Device, Tensor, TensorData};
use burn_capture::CaptureBackend;
use burn_router::RouterClient;

use super::record::Recording;
use crate::GraphError;
use crate::graph::Graph;
use crate::op::name::name;
use crate::replay::evaluate;

/// A computed tensor whose value is known.
pub(super) struct Known {
    /// Its number after the start of the recording.
    distance: u64,
    /// Name of the operation that makes it.
    operation: String,
    value: TensorData,
}

/// How many values a forward pass may read.
const LIMIT: usize = 256;

/// The values read so far.
#[derive(Default)]
pub(super) struct Reads {
    known: Vec<Known>,
    /// Whether recordings run alone, so that numbers can be foreseen.
    pub alone: bool,
}

impl Reads {
    pub fn known(&self) -> &[Known] {
        &self.known
    }

    /// Computes the value whose reading ended the recording, and returns whether the passes have to be recorded again.
    pub fn learn(&mut self, device: &dyn Fn() -> Device, recording: &Recording) -> Result<bool, GraphError> {
        let Some(id) = recording.panicked.as_deref().and_then(tensor_read) else { return Ok(false) };
        if !std::mem::replace(&mut self.alone, true) {
            return Ok(true);
        }
        let graph = &recording.graph;
        let Some(index) = graph.producer(id) else { return Ok(false) };
        let operation = &graph.operations[index];
        let Some(tensor) = operation.outputs().find(|output| output.id == id) else { return Ok(false) };
        let made = name(operation);
        if self.known.len() >= LIMIT || !follows_from_constants(graph, id) {
            return Err(GraphError::ReadsValues { operation: index, name: made, after: super::last_layer(graph) });
        }
        let value = evaluate(graph, index, tensor, &device())?;
        self.known.push(Known { distance: number(id) - number(recording.start), operation: made, value });
        Ok(true)
    }
}

impl Known {
    /// Registers the value with the recording that a tensor belongs to.
    pub fn put(&self, of: &Tensor<1>) -> Option<TensorId> {
        let client = of.clone().try_into_primitive::<CaptureBackend>().ok()?.client.clone();
        Some(client.register_tensor_data(self.value.clone()).id())
    }

    /// Lets the value stand in for the tensor that will be made at the known distance from `start`.
    pub fn stand_in(&self, value: TensorId, start: &Tensor<1>) {
        if let Ok(primitive) = start.clone().try_into_primitive::<CaptureBackend>() {
            let id = TensorId::new(number(primitive.id()) + self.distance);
            primitive.client.register_alias(id, value);
        }
    }

    /// Whether the value stands where it should: at the result of the operation whose value it is.
    pub fn stands(&self, value: TensorId, operations: &[OperationIr]) -> bool {
        operations.iter().any(|op| op.outputs().any(|output| output.id == value) && name(op) == self.operation)
    }
}

/// The tensor whose value could not be read, from the message of the panic.
fn tensor_read(message: &str) -> Option<TensorId> {
    let (_, rest) = message.split_once("captured tensor ")?;
    rest.contains("has no concrete value").then(|| digits(rest)).flatten().map(TensorId::new)
}

/// Burn shows the number of an id only as text.
fn number(id: TensorId) -> u64 {
    digits(&id.to_string()).unwrap_or_default()
}

fn digits(text: &str) -> Option<u64> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let rest = &text[start..];
    rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
}

/// Whether a tensor is computed from parameters and constants alone.
fn follows_from_constants(graph: &Graph, tensor: TensorId) -> bool {
    let (mut open, mut seen) = (vec![tensor], HashSet::new());
    while let Some(at) = open.pop() {
        match graph.made_by(at) {
            _ if !seen.insert(at) => {}
            Some(op) => open.extend(op.inputs().map(|input| input.id)),
            None if graph.values.contains_key(&at) => {}
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tensor_is_found_in_the_message() {
        let message = "Error: WithContext { reason: \"captured tensor TensorId(123) has no concrete value\" }";
        assert_eq!(tensor_read(message), Some(TensorId::new(123)));
        assert_eq!(tensor_read("index out of bounds: 3"), None);
        assert_eq!(number(TensorId::new(77)), 77);
    }
}
