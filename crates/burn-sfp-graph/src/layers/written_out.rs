//! Centred layer normalisations as the one operation that they were.
//!
//! `CenteredLayerNorm` is one operation until it is centred; from then on it is the several operations of Burn's `RmsNorm` and the sum with
//! its shift. To compare a smaller network with the original, these are put back together.

use std::collections::{BTreeSet, HashMap};

use burn::backend::ir::{
    BaseOperationIr as B, LayerNormOpIr, ModuleOperationIr as M, NumericOperationIr as N, OperationIr, TensorId,
    TensorIr,
};
use burn_sfp_nn::NnLayer;

use super::mean_square::MeanSquare;
use crate::graph::Graph;

/// A centred layer normalisation in the operations of its root-mean-square form.
pub(crate) struct WrittenOut {
    /// All its operations, by position.
    operations: BTreeSet<usize>,
    /// The one that stands for all: it adds epsilon.
    pub at: usize,
    /// The layer normalisation that they stand for.
    norm: OperationIr,
}

/// Finds the centred layer normalisations among the root-mean-square normalisations of a graph.
pub(crate) fn written_out(graph: &Graph, means: &[MeanSquare]) -> Vec<WrittenOut> {
    let ours = |gamma: usize| graph.parameters[gamma].layer == Some(NnLayer::CenteredLayerNorm);
    let means: Vec<&MeanSquare> = means.iter().filter(|mean| mean.gamma.is_some_and(ours)).collect();
    if means.is_empty() {
        return Vec::new();
    }
    let parameters = Parameters {
        origins: graph.origins(),
        by_path: graph.parameters.iter().enumerate().map(|(index, other)| (other.path.as_str(), index)).collect(),
    };
    means.into_iter().filter_map(|mean| together(graph, &parameters, mean)).collect()
}

/// The parameters of a graph, by what is computed from them and by path.
struct Parameters<'a> {
    /// Tensors computed from one parameter alone, and that parameter.
    origins: HashMap<TensorId, usize>,
    by_path: HashMap<&'a str, usize>,
}

/// The operations of a graph, by position, those of each centred layer normalisation as one.
pub(crate) fn put_together<'a>(
    graph: &'a Graph,
    norms: &'a [WrittenOut],
) -> impl Iterator<Item = (usize, &'a OperationIr)> {
    // Of several around one operation, the first.
    let all = norms.iter().rev().flat_map(|norm| norm.operations.iter().map(move |&index| (index, norm)));
    let of: HashMap<usize, &WrittenOut> = all.collect();
    graph.operations.iter().enumerate().filter_map(move |(index, op)| match of.get(&index) {
        Some(norm) => (norm.at == index).then_some((index, &norm.norm)),
        None => Some((index, op)),
    })
}

fn together(graph: &Graph, parameters: &Parameters<'_>, mean: &MeanSquare) -> Option<WrittenOut> {
    let gamma = mean.gamma?;
    let mut operations = BTreeSet::from([graph.producer(mean.mean)?]);
    let is = |tensor: &TensorIr, parameter: usize| parameters.origins.get(&tensor.id) == Some(&parameter);
    // From the mean of squares to the product with gamma.
    let mut at = mean.mean;
    let (mut divided, mut epsilon) = (None, None);
    let product = loop {
        let &[next] = graph.consumers(at) else { return None };
        operations.insert(next);
        let op = &graph.operations[next];
        match op {
            OperationIr::NumericFloat(_, N::Mul(op)) => break op,
            OperationIr::NumericFloat(_, N::Div(op)) => divided = Some(op.lhs.clone()),
            OperationIr::NumericFloat(_, N::AddScalar(op)) => epsilon = Some(op.rhs),
            _ => {}
        }
        at = op.outputs().next()?.id;
    };
    let (input, epsilon) = (divided?, epsilon?);
    let side = [&product.lhs, &product.rhs].into_iter().find(|side| is(side, gamma))?;
    let scale = stored(graph, side, &mut operations);
    // And to the sum with beta, where there is one.
    let module = graph.parameters[gamma].path.strip_suffix("gamma")?;
    let beta = parameters.by_path.get(format!("{module}beta").as_str()).copied();
    let mut out = product.out.clone();
    let beta = match beta {
        Some(beta) => {
            let &[next] = graph.consumers(out.id) else { return None };
            let OperationIr::NumericFloat(_, N::Add(sum)) = &graph.operations[next] else { return None };
            operations.insert(next);
            out = sum.out.clone();
            let side = [&sum.lhs, &sum.rhs].into_iter().find(|side| is(side, beta))?;
            Some(stored(graph, side, &mut operations))
        }
        None => None,
    };
    squares(graph, mean.mean, input.id, &mut operations)?;
    let norm = OperationIr::Module(M::LayerNorm(LayerNormOpIr { input, gamma: scale, beta, epsilon, out }));
    Some(WrittenOut { operations, at: mean.add, norm })
}

/// A parameter as it is stored, from where it is used with leading axes.
fn stored(graph: &Graph, used: &TensorIr, operations: &mut BTreeSet<usize>) -> TensorIr {
    let mut at = used;
    while let Some(OperationIr::BaseFloat(B::Reshape(op))) = graph.made_by(at.id) {
        operations.extend(graph.producer(at.id));
        at = &op.input;
    }
    at.clone()
}

/// Adds the operations between a tensor and the mean of its squares.
fn squares(graph: &Graph, mean: TensorId, input: TensorId, operations: &mut BTreeSet<usize>) -> Option<()> {
    let mut open = vec![graph.made_by(mean)?.inputs().next()?.id];
    while let Some(at) = open.pop() {
        if at == input {
            continue;
        }
        let producer = graph.producer(at)?;
        operations.insert(producer);
        open.extend(graph.operations[producer].inputs().map(|input| input.id));
    }
    Some(())
}
