//! Root-mean-square normalisation (Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019, arXiv 1910.07467), as Burn writes it
//! out in plain operations: `y = x / sqrt(mean(x^2) + epsilon) * gamma`.
//!
//! It can lose channels exactly where those that go are zero. With `c` of `C` channels left, the mean of squares is `C / c` times as large,
//! which gamma times `sqrt(C / c)` and epsilon times `C / c` undo.

use burn::backend::ir::{BaseOperationIr as B, FloatOperationIr as F, NumericOperationIr as N, OperationIr, TensorId};

use super::burn::innermost;
use crate::graph::Graph;

/// A root-mean-square normalisation over channels.
#[derive(Clone, Debug)]
pub(crate) struct MeanSquare {
    /// Index of its gamma among the parameters.
    pub gamma: usize,
    /// What the mean of squares is written to.
    pub mean: TensorId,
    /// The operation that adds epsilon.
    pub add: usize,
    /// What it adds.
    pub epsilon: f64,
}

/// Burn's `RmsNorm`s: a module of that name whose only parameter is a vector `gamma`, used as the formula above says.
pub(crate) fn mean_squares(graph: &Graph) -> Vec<MeanSquare> {
    let all = graph.parameters.iter().enumerate().filter_map(|(gamma, parameter)| {
        let (module, name) = innermost(parameter, &["RmsNorm"])?;
        let alone = graph.parameters.iter().filter(|other| other.module() == module).count() == 1;
        (name == "gamma" && alone && parameter.shape.len() == 1).then(|| mean_square(graph, gamma, parameter.tensor))?
    });
    all.collect()
}

fn mean_square(graph: &Graph, gamma: usize, tensor: TensorId) -> Option<MeanSquare> {
    // Gamma gets leading axes, then multiplies the quotient.
    let mut at = tensor;
    let quotient = loop {
        let &[consumer] = graph.consumers(at) else { return None };
        match &graph.operations[consumer] {
            OperationIr::BaseFloat(B::Reshape(op)) => at = op.out.id,
            OperationIr::NumericFloat(_, N::Mul(op)) => break if op.rhs.id == at { op.lhs.id } else { op.rhs.id },
            _ => return None,
        }
    };
    let OperationIr::NumericFloat(_, N::Div(op)) = graph.made_by(quotient)? else { return None };
    let mut at = op.rhs.id;
    let sum = loop {
        match graph.made_by(at)? {
            OperationIr::BaseFloat(B::Cast(op)) => at = op.input.id,
            OperationIr::Float(_, F::Sqrt(op)) => break op.input.id,
            _ => return None,
        }
    };
    let add = graph.producer(sum)?;
    let OperationIr::NumericFloat(_, N::AddScalar(op)) = &graph.operations[add] else { return None };
    let OperationIr::NumericFloat(_, N::MeanDim(mean)) = graph.made_by(op.lhs.id)? else { return None };
    Some(MeanSquare { gamma, mean: mean.out.id, add, epsilon: op.rhs.elem::<f64>() })
}
