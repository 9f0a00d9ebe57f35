//! Root-mean-square normalisation (Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019, arXiv 1910.07467), as Burn and others
//! write it out in plain operations: `y = x / sqrt(mean(x^2) + epsilon)`, mostly followed by a product with a vector `gamma`.
//!
//! It can lose channels exactly where those that go are zero. With `c` of `C` channels left, the mean of squares is `C / c` times as large.
//! Either gamma times `sqrt(C / c)` and epsilon times `C / c` undo that, or everything that writes to `x` is scaled (`rescale`).

use std::collections::HashMap;

use burn::backend::ir::{
    BaseOperationIr as B, FloatOperationIr as F, NumericOperationIr as N, OperationIr, ScalarOpIr, TensorId, TensorIr,
};

use crate::graph::Graph;

/// A root-mean-square normalisation over an axis.
#[derive(Clone, Debug)]
pub(crate) struct MeanSquare {
    /// What is normalised.
    pub input: TensorId,
    /// The axis.
    pub axis: usize,
    /// The quotient of what is normalised and its root of the mean of squares.
    pub quotient: TensorId,
    /// The result of the mean of squares.
    pub mean: TensorId,
    /// The operation that adds epsilon.
    pub add: usize,
    /// What it adds.
    pub epsilon: f64,
    /// Index of the parameter that the quotient is multiplied with, where there is one that only multiplies such quotients.
    pub gamma: Option<usize>,
    /// Index of the stream that it reads, where scaling all that writes to it is a way.
    pub stream: Option<usize>,
}

/// All root-mean-square normalisations of a graph.
pub(crate) fn root_mean_squares(graph: &Graph) -> Vec<MeanSquare> {
    let mut norms: Vec<MeanSquare> =
        (0..graph.operations.len()).filter_map(|index| mean_square(graph, index)).collect();
    let mut used: HashMap<usize, usize> = HashMap::new();
    norms.iter().filter_map(|norm| norm.gamma).for_each(|gamma| *used.entry(gamma).or_default() += 1);
    // Nothing but normalisations of this kind may read gamma.
    used.retain(|&gamma, used| *used != uses(graph, graph.parameters[gamma].tensor));
    for norm in &mut norms {
        norm.gamma = norm.gamma.filter(|gamma| !used.contains_key(gamma));
    }
    norms
}

/// The normalisation whose mean of squares an operation is.
fn mean_square(graph: &Graph, index: usize) -> Option<MeanSquare> {
    let OperationIr::NumericFloat(_, N::MeanDim(mean)) = &graph.operations[index] else { return None };
    let input = squared(graph, uncast(graph, mean.input.id))?;
    let &[add] = graph.consumers(mean.out.id) else { return None };
    let OperationIr::NumericFloat(_, N::AddScalar(ScalarOpIr { rhs, out, .. })) = &graph.operations[add] else {
        return None;
    };
    let quotient = divided(graph, input, out.id)?;
    let gamma = graph.read_by(quotient.id).find_map(|op| gamma_of(graph, op, quotient));
    Some(MeanSquare {
        input,
        axis: mean.axis,
        quotient: quotient.id,
        mean: mean.out.id,
        add,
        epsilon: rhs.elem::<f64>(),
        gamma: gamma.filter(|&gamma| {
            graph.parameters[gamma].elements() == mean.input.shape[mean.axis] as u64
                && graph.consumers(quotient.id).len() == 1
        }),
        stream: None,
    })
}

/// What a tensor is the square of.
fn squared(graph: &Graph, tensor: TensorId) -> Option<TensorId> {
    let two = |op: &ScalarOpIr| op.rhs.elem::<f64>() == 2.0;
    let base = match graph.made_by(tensor)? {
        OperationIr::NumericFloat(_, N::PowiScalar(op)) if two(op) => op.lhs.id,
        OperationIr::Float(_, F::PowfScalar(op)) if two(op) => op.lhs.id,
        OperationIr::NumericFloat(_, N::Mul(op)) if op.lhs.id == op.rhs.id => op.lhs.id,
        _ => return None,
    };
    Some(uncast(graph, base))
}

/// The quotient of a tensor and the root of `sum`.
fn divided(graph: &Graph, x: TensorId, sum: TensorId) -> Option<&TensorIr> {
    let mut at = sum;
    let (mut rooted, mut inverse) = (false, false);
    loop {
        let &[consumer] = graph.consumers(at) else { return None };
        at = match &graph.operations[consumer] {
            OperationIr::BaseFloat(B::Cast(op)) => op.out.id,
            OperationIr::Float(_, F::Sqrt(op)) if !rooted => {
                rooted = true;
                op.out.id
            }
            OperationIr::Float(_, F::Recip(op)) if rooted && !inverse => {
                inverse = true;
                op.out.id
            }
            OperationIr::NumericFloat(_, N::Div(op)) if rooted && !inverse && op.rhs.id == at => {
                return (uncast(graph, op.lhs.id) == x).then_some(&op.out);
            }
            OperationIr::NumericFloat(_, N::Mul(op)) if inverse => {
                let other = if op.lhs.id == at { op.rhs.id } else { op.lhs.id };
                return (uncast(graph, other) == x).then_some(&op.out);
            }
            _ => return None,
        };
    }
}

/// The parameter that an operation multiplies a quotient with, if it is a vector.
fn gamma_of(graph: &Graph, op: &OperationIr, quotient: &TensorIr) -> Option<usize> {
    let OperationIr::NumericFloat(_, N::Mul(op)) = op else { return None };
    let mut at = if op.lhs.id == quotient.id { op.rhs.id } else { op.lhs.id };
    while let Some(OperationIr::BaseFloat(B::Reshape(op))) = graph.made_by(at) {
        at = op.input.id;
    }
    graph.parameter(at)
}

/// How many operations read a tensor, perhaps under another shape.
fn uses(graph: &Graph, tensor: TensorId) -> usize {
    let (mut open, mut count) = (vec![tensor], 0);
    while let Some(at) = open.pop() {
        for op in graph.read_by(at) {
            match op {
                OperationIr::BaseFloat(B::Reshape(op)) => open.push(op.out.id),
                _ => count += 1,
            }
        }
    }
    count
}

/// A tensor before changes of its float type.
pub(super) fn uncast(graph: &Graph, tensor: TensorId) -> TensorId {
    let mut at = tensor;
    while let Some(OperationIr::BaseFloat(B::Cast(op))) = graph.made_by(at) {
        at = op.input.id;
    }
    at
}
