//! A dynamic batch axis: one file from exports at two batch sizes.
//!
//! Operations must be the same in both. Of their operands, the targets of reshapes may differ in one length, which the file leaves to be
//! inferred from the number of elements, and slices in ends that are those of the axis. Anything else that differs depends on the batch
//! size in a way that a file cannot express.

use std::collections::HashMap;

use burn_sfp_graph::Network;
use onnx_ir::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};

use super::OnnxError;
use super::record::Recorded;

/// Name of the axis.
const BATCH: &str = "batch";
/// Position of the target among the inputs of a `Reshape`.
const TARGET: usize = 1;
/// Positions of the ends and the steps among the inputs of a `Slice`.
const ENDS: usize = 2;
const STEPS: usize = 4;

/// Returns the model for batches of any size.
pub(super) fn merged(mut first: Recorded, second: &Recorded) -> Result<ModelProto, OnnxError> {
    let pair = Pair { first: &first, second };
    pair.same_operations()?;
    let changes = pair.changed_values()?;
    let sizes = (first.network.batch() as i64, second.network.batch() as i64);
    let graph = first.model.graph.mut_or_insert_default();
    for value in &mut graph.initializer {
        if let Some(values) = changes.get(&value.name) {
            value.raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into();
        }
    }
    name_axes(&mut graph.input, &second.graph().input, sizes);
    name_axes(&mut graph.output, &second.graph().output, sizes);
    Ok(first.model)
}

/// The same network, exported at two batch sizes.
struct Pair<'a> {
    first: &'a Recorded,
    second: &'a Recorded,
}

impl Pair<'_> {
    fn same_operations(&self) -> Result<(), OnnxError> {
        let (ours, theirs) = (&self.first.graph().node, &self.second.graph().node);
        let Some(at) = (0..ours.len().max(theirs.len())).find(|&at| ours.get(at) != theirs.get(at)) else {
            return Ok(());
        };
        let kind = |nodes: &[NodeProto]| nodes.get(at).map_or("nothing".to_string(), |node| node.op_type.clone());
        let (ours, theirs) = (kind(ours), kind(theirs));
        let what = if ours == theirs {
            format!("{ours} works otherwise on a batch of {} samples than on one of {}", self.sizes().1, self.sizes().0)
        } else {
            format!("it runs {ours} on a batch of {} samples, {theirs} on one of {}", self.sizes().0, self.sizes().1)
        };
        Err(self.depends(self.first.graph().node.get(at), what))
    }

    /// What is written in place of the values that differ.
    fn changed_values(&self) -> Result<HashMap<String, Vec<i64>>, OnnxError> {
        let theirs = by_name(self.second.graph());
        let mut changes = HashMap::new();
        for ours in &self.first.graph().initializer {
            let Some(theirs) = theirs.get(ours.name.as_str()).filter(|theirs| **theirs != ours) else { continue };
            let reads = |node: &&NodeProto| node.input.contains(&ours.name);
            let node = self.first.graph().node.iter().find(reads);
            let new = node.and_then(|node| self.any_batch(node, ours, theirs));
            let new = new.ok_or_else(|| {
                let kind = node.map_or("a value", |node| node.op_type.as_str());
                self.depends(node, format!("the sizes of {kind} depend on the batch size"))
            })?;
            changes.insert(ours.name.clone(), new);
        }
        Ok(changes)
    }

    /// The operand of a node that serves every batch size, where there is one.
    fn any_batch(&self, node: &NodeProto, ours: &TensorProto, theirs: &TensorProto) -> Option<Vec<i64>> {
        let place = node.input.iter().position(|input| *input == ours.name)?;
        let (mut new, other) = (integers(ours)?, integers(theirs)?);
        let differ: Vec<usize> = (0..new.len()).filter(|&at| other.get(at) != Some(&new[at])).collect();
        match (node.op_type.as_str(), place) {
            ("Reshape", TARGET) if differ.len() == 1 && new.len() == other.len() => new[differ[0]] = -1,
            ("Slice", ENDS) => {
                let values = by_name(self.first.graph());
                let steps = integers(values.get(node.input.get(STEPS)?.as_str())?)?;
                let (shape, other_shape) = (sliced(self.first, node)?, sliced(self.second, node)?);
                for at in differ {
                    let is_end = new[at] == *shape.get(at)? && other.get(at) == other_shape.get(at);
                    if !is_end || *steps.get(at)? < 1 {
                        return None;
                    }
                    new[at] = i64::MAX;
                }
            }
            _ => return None,
        }
        Some(new)
    }

    fn depends(&self, node: Option<&NodeProto>, what: String) -> OnnxError {
        let operation = node.and_then(|node| self.first.operation(&node.name));
        let after = operation.and_then(|operation| self.first.network.layer_before(operation));
        OnnxError::DynamicBatch { what, after: after.map(str::to_string) }
    }

    fn sizes(&self) -> (usize, usize) {
        (self.first.network.batch(), self.second.network.batch())
    }
}

fn by_name(graph: &GraphProto) -> HashMap<&str, &TensorProto> {
    graph.initializer.iter().map(|value| (value.name.as_str(), value)).collect()
}

/// Values of a tensor of 64-bit integers.
fn integers(tensor: &TensorProto) -> Option<Vec<i64>> {
    const I64: i32 = 7;
    let values = tensor.raw_data.chunks_exact(size_of::<i64>()).map(|bytes| bytes.try_into().map(i64::from_le_bytes));
    (tensor.data_type == I64).then(|| values.collect::<Result<_, _>>().ok()).flatten()
}

/// Shape of the tensor that a `Slice` cuts.
fn sliced(recorded: &Recorded, node: &NodeProto) -> Option<Vec<i64>> {
    let operation = recorded.operation(&node.name)?;
    let network: &Network = &recorded.network;
    let is_slice = network.operation_name(operation)? == "Slice";
    let tensor = network.operations().get(operation)?.inputs().next().filter(|_| is_slice)?;
    Some(tensor.shape.iter().map(|&length| length as i64).collect())
}

/// Names the axes of inputs or outputs that differ: those that count samples `batch`, others by tensor and axis.
fn name_axes(ours: &mut [ValueInfoProto], theirs: &[ValueInfoProto], sizes: (i64, i64)) {
    for (value, other) in ours.iter_mut().zip(theirs) {
        let others: Vec<i64> = other.type_.tensor_type().shape.dim.iter().map(|length| length.dim_value()).collect();
        let name = value.name.clone();
        let shape = value.type_.mut_or_insert_default().mut_tensor_type().shape.mut_or_insert_default();
        for (axis, (length, other)) in shape.dim.iter_mut().zip(others).enumerate() {
            let here = length.dim_value();
            if (here, other) == sizes {
                length.set_dim_param(BATCH.to_string());
            } else if here != other {
                length.set_dim_param(format!("{name}_axis_{axis}"));
            }
        }
    }
}
