//! The operations of a recorded pass, with sparse convolutions and batch normalisations in training as one operation each.

use std::collections::{HashMap, HashSet};

use burn::backend::ir::{
    ActivationOperationIr, BaseOperationIr as B, BatchNormOpIr, FloatOperationIr as F, ModuleOperationIr as M,
    NumericOperationIr as N, OperationIr, TensorId, TensorIr,
};
use burn_sfp_nn::sparse::SparseCall;

use crate::capture::SparseAt;
use crate::graph::Graph;

/// What a node does.
#[derive(Debug)]
pub(super) enum Work {
    /// The recorded operation.
    Recorded,
    /// A convolution with the kernels that stay.
    Sparse(Box<Sparse>),
    /// A batch normalisation by the statistics of the batch.
    Norm(Box<Norm>),
}

/// A convolution of `x` with the kernels that stay.
#[derive(Debug)]
pub(super) struct Sparse {
    pub call: SparseCall,
    pub x: TensorIr,
    pub values: TensorIr,
    pub out: TensorIr,
}

/// A batch normalisation by the statistics of the batch, which it returns too, with the ReLU behind it where that is its only reader.
#[derive(Debug)]
pub(super) struct Norm {
    pub x: TensorIr,
    pub gamma: TensorIr,
    pub beta: TensorIr,
    pub epsilon: f64,
    pub relu: bool,
    pub out: TensorIr,
    pub mean: TensorIr,
    pub variance: TensorIr,
}

/// One operation to run.
#[derive(Debug)]
pub(super) struct Node {
    pub work: Work,
    /// Position of the recorded operation.
    pub operation: usize,
    inputs: Vec<TensorIr>,
    outputs: Vec<TensorIr>,
}

impl Node {
    fn recorded_at(graph: &Graph, operation: usize) -> Self {
        let op = &graph.operations[operation];
        let (inputs, outputs) = (op.inputs().cloned().collect(), op.outputs().cloned().collect());
        Self { work: Work::Recorded, operation, inputs, outputs }
    }

    pub fn inputs(&self) -> &[TensorIr] {
        &self.inputs
    }

    pub fn outputs(&self) -> &[TensorIr] {
        &self.outputs
    }

    pub fn is_random(&self, graph: &Graph) -> bool {
        matches!(
            &graph.operations[self.operation],
            OperationIr::Float(_, F::Random(_)) | OperationIr::NumericInt(_, N::IntRandom(_))
        )
    }

    /// Whether the node gives the same elements another shape or order, or repeats them.
    pub fn is_view(&self, graph: &Graph) -> bool {
        let (OperationIr::BaseFloat(op) | OperationIr::BaseInt(op) | OperationIr::BaseBool(op)) =
            &graph.operations[self.operation]
        else {
            return false;
        };
        matches!(op, B::Reshape(_) | B::SwapDims(_) | B::Permute(_) | B::Expand(_) | B::RepeatDim(_))
    }

    /// Whether the node repeats elements.
    pub fn repeats(&self) -> bool {
        let elements = |tensors: &[TensorIr]| tensors.iter().map(|tensor| tensor.shape.num_elements()).sum::<usize>();
        elements(&self.outputs) > elements(&self.inputs)
    }
}

/// The nodes of a graph in the order in which they run.
pub(super) fn nodes_of(graph: &Graph, sparse: &[SparseAt]) -> Vec<Node> {
    let mut known: HashMap<TensorId, &TensorIr> = HashMap::new();
    for op in &graph.operations {
        known.extend(op.inputs().chain(op.outputs()).map(|tensor| (tensor.id, tensor)));
    }
    let sparse: HashMap<TensorId, &SparseAt> = sparse.iter().map(|at| (at.out, at)).collect();
    let mut nodes: Vec<Node> = (0..graph.operations.len()).map(|at| Node::recorded_at(graph, at)).collect();
    let mut replaced: HashSet<usize> = HashSet::new();
    for node in &mut nodes {
        if let Some(found) = node.outputs.first().and_then(|out| sparse.get(&out.id)) {
            if let (Some(&x), Some(&values)) = (known.get(&found.x), known.get(&found.values)) {
                let (x, values, out) = (x.clone(), values.clone(), node.outputs[0].clone());
                node.inputs = vec![x.clone(), values.clone()];
                node.work = Work::Sparse(Box::new(Sparse { call: found.call.clone(), x, values, out }));
            }
        } else if let OperationIr::Module(M::BatchNorm(op)) = &graph.operations[node.operation]
            && let Some((mut norm, statistics)) = norm_in_training(graph, op)
        {
            replaced.extend(statistics);
            if let Some((at, rectified)) = only_rectified(graph, &op.out) {
                replaced.insert(at);
                (norm.relu, norm.out) = (true, rectified.clone());
            }
            node.inputs = vec![norm.x.clone(), norm.gamma.clone(), norm.beta.clone()];
            node.outputs = vec![norm.out.clone(), norm.mean.clone(), norm.variance.clone()];
            node.work = Work::Norm(Box::new(norm));
        }
    }
    nodes.retain(|node| !replaced.contains(&node.operation));
    nodes
}

/// Recognises what Burn records of a batch normalisation in training: mean and variance of each channel, then the normalisation by
/// them. Returns it as one operation, and the positions of the two that it takes the place of.
fn norm_in_training(graph: &Graph, op: &BatchNormOpIr) -> Option<(Norm, [usize; 2])> {
    let (mean, variance) = (reshaped(graph, op.mean.id)?, reshaped(graph, op.variance.id)?);
    let per_channel = reshaped(graph, mean.1.id)?;
    let of_x = channel_means(graph, per_channel.1.id)?;
    if swapped(graph, of_x)? != op.x.id {
        return None;
    }
    let OperationIr::NumericFloat(_, N::Mul(square)) =
        graph.made_by(swapped(graph, channel_means(graph, variance.1.id)?)?)?
    else {
        return None;
    };
    let OperationIr::NumericFloat(_, N::Sub(centered)) = graph.made_by(square.lhs.id)? else { return None };
    let fits = square.lhs.id == square.rhs.id && centered.lhs.id == op.x.id && centered.rhs.id == mean.1.id;
    let norm = Norm {
        x: op.x.clone(),
        gamma: op.gamma.clone(),
        beta: op.beta.clone(),
        epsilon: op.epsilon.elem(),
        relu: false,
        out: op.out.clone(),
        mean: op.mean.clone(),
        variance: op.variance.clone(),
    };
    fits.then_some((norm, [mean.0, variance.0]))
}

/// The ReLU that alone reads a tensor: its position and its result.
fn only_rectified<'a>(graph: &'a Graph, tensor: &TensorIr) -> Option<(usize, &'a TensorIr)> {
    let [at] = *graph.consumers(tensor.id) else { return None };
    match &graph.operations[at] {
        OperationIr::Activation(ActivationOperationIr::Relu(op)) if !graph.outputs.contains(&tensor.id) => {
            Some((at, &op.out))
        }
        _ => None,
    }
}

/// The reshape that makes a tensor: its position and its input.
fn reshaped(graph: &Graph, tensor: TensorId) -> Option<(usize, &TensorIr)> {
    let at = graph.producer(tensor)?;
    match &graph.operations[at] {
        OperationIr::BaseFloat(B::Reshape(op)) => Some((at, &op.input)),
        _ => None,
    }
}

/// The tensor whose rows, `[channels, rest]`, a tensor holds the means of.
fn channel_means(graph: &Graph, tensor: TensorId) -> Option<TensorId> {
    match graph.made_by(tensor)? {
        OperationIr::NumericFloat(_, N::MeanDim(op)) if op.axis == 1 => Some(reshaped(graph, op.input.id)?.1.id),
        _ => None,
    }
}

/// The tensor of which another one is the copy with its first two axes swapped.
fn swapped(graph: &Graph, tensor: TensorId) -> Option<TensorId> {
    match graph.made_by(tensor)? {
        OperationIr::BaseFloat(B::SwapDims(op)) if (op.dim1.min(op.dim2), op.dim1.max(op.dim2)) == (0, 1) => {
            Some(op.input.id)
        }
        _ => None,
    }
}
