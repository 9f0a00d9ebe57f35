//! Means over channels. With `c` of `C` channels left, those that leave being zero, a mean is `C / c` times what it was. What is computed from
//! it keeps that factor, or a power of it, until a parameter takes it in: the weight of a layer that reads it, or what it is multiplied with.
//!
//! A number that is added on the way, as the epsilon of a global response normalisation (Woo and others, "ConvNeXt V2", 2023, arXiv
//! 2301.00808, section 3), has to get the factor too.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

use burn::backend::ir::{BaseOperationIr as B, NumericOperationIr as N, OperationIr, TensorId, TensorIr};

use super::mean_square::MeanSquare;
use crate::graph::Graph;
use crate::op::describe;
use crate::op::description::WeightedCall;
use crate::op::name::name;

/// A mean over channels whose factor is undone behind it. Exponents are those of `sqrt(C / c)`.
#[derive(Clone, Debug)]
pub(crate) struct MeanFactor {
    /// What the mean is over.
    pub input: TensorId,
    /// The axis.
    pub axis: usize,
    /// The result of the mean.
    pub mean: TensorId,
    /// The parameters that undo it.
    pub scales: Vec<PartScale>,
    /// What is added to it, or what it is at least.
    pub epsilon: Option<Epsilon>,
}

/// A factor of a parameter, or of some indices of one of its axes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PartScale {
    /// Index of the parameter.
    pub parameter: usize,
    /// The axis and its indices; all of the parameter where there is none.
    pub part: Option<(usize, Range<usize>)>,
    /// The exponent.
    pub exponent: i32,
}

/// A number that meets a mean and has to get a factor.
#[derive(Clone, Debug)]
pub(crate) struct Epsilon {
    /// The operation.
    pub operation: usize,
    /// The number.
    pub value: f64,
    /// The exponent.
    pub exponent: i32,
    /// Index of the parameter that undoes the factor by a product: the number is a field of its module.
    pub gamma: Option<usize>,
    /// Whether the number stays what it is, because it is no field of the module.
    pub literal: bool,
}

/// An epsilon that is no field of its module stays where it is at most this, which is below the rounding of a mean that it guards.
pub(crate) const NEGLIGIBLE: f64 = 1e-6;

/// The means over an axis whose factor something behind them can undo, and for each other one the operation that cannot take it.
pub(crate) fn mean_factors(graph: &Graph, norms: &[MeanSquare]) -> (Vec<MeanFactor>, HashMap<TensorId, String>) {
    let (mut found, mut fixed) = (Vec::new(), HashMap::new());
    let normalised: HashSet<TensorId> = norms.iter().map(|norm| norm.mean).collect();
    for op in &graph.operations {
        let OperationIr::NumericFloat(_, N::MeanDim(mean)) = op else { continue };
        if mean.input.shape[mean.axis] < 2 || normalised.contains(&mean.out.id) {
            continue;
        }
        let walk = Walk { graph, exponents: HashMap::new(), parts: HashMap::new() };
        match walk.follow(mean.out.id) {
            Ok((scales, epsilon)) => {
                let (input, axis, mean) = (mean.input.id, mean.axis, mean.out.id);
                found.push(MeanFactor { input, axis, mean, scales, epsilon });
            }
            Err(reader) => drop(fixed.insert(mean.out.id, reader)),
        }
    }
    (found, fixed)
}

struct Walk<'g> {
    graph: &'g Graph,
    /// Tensors with a factor.
    exponents: HashMap<TensorId, i32>,
    /// Tensors put together from parts with different factors: the axis, and length and exponent of each part.
    parts: HashMap<TensorId, (usize, Vec<(usize, i32)>)>,
}

impl<'g> Walk<'g> {
    /// Follows the factor of a mean to the parameters that undo it. The error names the operation that cannot take it.
    fn follow(mut self, mean: TensorId) -> Result<(Vec<PartScale>, Option<Epsilon>), String> {
        let graph = self.graph;
        let mut open: BTreeSet<usize> = graph.consumers(mean).iter().copied().collect();
        let (mut scales, mut epsilon): (Vec<PartScale>, Option<Epsilon>) = (Vec::new(), None);
        self.exponents.insert(mean, 2);
        if graph.outputs.contains(&mean) {
            return Err("an output of the network".into());
        }
        while let Some(index) = open.pop_first() {
            let op = &graph.operations[index];
            if let Some(undone) = self.taken_in(op) {
                // The factor ends here.
                if let (Some(epsilon), Some(scale), true) = (&mut epsilon, undone.first(), is_product(op)) {
                    epsilon.gamma.get_or_insert(scale.parameter);
                }
                scales.extend(undone);
                continue;
            }
            let exponent = match self.added(op) {
                Some((value, exponent)) if epsilon.is_none() => {
                    epsilon = Some(Epsilon { operation: index, value, exponent, gamma: None, literal: false });
                    Some(exponent)
                }
                _ => self.exponent(op),
            };
            let (exponent, parts) = match (exponent, self.joined(op)) {
                (Some(exponent), _) => (exponent, None),
                (None, Some(parts)) => (0, Some(parts)),
                (None, None) => return Err(name(op)),
            };
            if exponent == 0 && parts.is_none() {
                continue;
            }
            for out in op.outputs() {
                if graph.outputs.contains(&out.id) {
                    return Err("an output of the network".into());
                }
                match &parts {
                    Some(parts) => drop(self.parts.insert(out.id, parts.clone())),
                    None => drop(self.exponents.insert(out.id, exponent)),
                }
                open.extend(graph.consumers(out.id));
            }
        }
        match &epsilon {
            Some(Epsilon { operation, value, gamma: None, .. }) if value.abs() > NEGLIGIBLE => {
                Err(name(&graph.operations[*operation]))
            }
            _ => Ok((scales, epsilon)),
        }
    }

    fn of(&self, tensor: &TensorIr) -> i32 {
        self.exponents.get(&tensor.id).copied().unwrap_or_default()
    }

    /// The exponent of an operation's result.
    fn exponent(&self, op: &OperationIr) -> Option<i32> {
        if op.inputs().any(|input| self.parts.contains_key(&input.id)) {
            return None;
        }
        let exponents: Vec<i32> = op.inputs().map(|input| self.of(input)).collect();
        let described = describe(op)?;
        if let Some(exponent) = described.exponent(&exponents) {
            return Some(exponent);
        }
        // A layer is linear in its input and in its weight.
        let call = described.layer().filter(|call| call.bias.is_none() && !call.kind.reads_indices())?;
        Some(self.of(call.x) + self.of(call.weight))
    }

    /// What an operation adds to a tensor with a factor, or what it is at least, and the exponent of the tensor.
    fn added(&self, op: &OperationIr) -> Option<(f64, i32)> {
        match op {
            OperationIr::NumericFloat(_, N::AddScalar(op) | N::ClampMin(op)) => {
                let exponent = self.exponents.get(&op.lhs.id)?;
                Some((op.rhs.elem::<f64>(), *exponent))
            }
            _ => None,
        }
    }

    /// The parts that an operation puts side by side.
    fn joined(&self, op: &OperationIr) -> Option<(usize, Vec<(usize, i32)>)> {
        let OperationIr::BaseFloat(B::Cat(op)) = op else { return None };
        let whole = op.tensors.iter().all(|part| !self.parts.contains_key(&part.id));
        whole.then(|| (op.dim, op.tensors.iter().map(|part| (part.shape[op.dim], self.of(part))).collect()))
    }

    /// How the parameter that an operation applies undoes the factor of what else it reads, so that its result has none.
    fn taken_in(&self, op: &OperationIr) -> Option<Vec<PartScale>> {
        if let Some(call) = describe(op).and_then(|described| described.layer())
            && !call.kind.reads_indices()
            && self.of(call.weight) == 0
            && let Some(parameter) = self.own(call.weight, op)
        {
            if let Some((dim, parts)) = self.parts.get(&call.x.id) {
                return self.parts_of(&call, parameter, *dim, parts);
            }
            let exponent = self.exponents.get(&call.x.id)?;
            return Some(vec![PartScale { parameter, part: None, exponent: -exponent }]);
        }
        let OperationIr::NumericFloat(_, N::Mul(mul)) = op else { return None };
        for (side, other) in [(&mul.lhs, &mul.rhs), (&mul.rhs, &mul.lhs)] {
            if let (Some(exponent), Some(parameter)) = (self.exponents.get(&side.id), self.own(other, op)) {
                return Some(vec![PartScale { parameter, part: None, exponent: -exponent }]);
            }
        }
        None
    }

    /// The parts of a weight that read the parts of its layer's input.
    fn parts_of(
        &self,
        call: &WeightedCall<'_>,
        parameter: usize,
        dim: usize,
        parts: &[(usize, i32)],
    ) -> Option<Vec<PartScale>> {
        let axis = call.kind.input_axis();
        let along = dim == call.kind.channel_axis(call.x.shape.num_dims()) && call.groups == 1;
        let stored = self.graph.parameters[parameter].tensor == call.weight.id;
        let length: usize = parts.iter().map(|(length, _)| length).sum();
        if !along || !stored || call.weight.shape[axis] != length {
            return None;
        }
        let mut start = 0;
        let scales = parts.iter().map(|&(length, exponent)| {
            start += length;
            PartScale { parameter, part: Some((axis, start - length..start)), exponent: -exponent }
        });
        Some(scales.filter(|scale| scale.exponent != 0).collect())
    }

    /// The parameter that an operand is, perhaps in another order or shape, where nothing else reads it.
    fn own(&self, operand: &TensorIr, reader: &OperationIr) -> Option<usize> {
        let mut at = operand.id;
        let mut only = self.graph.consumers(at).len() == 1;
        while let Some(op) = self.graph.made_by(at) {
            let moves = matches!(
                op,
                OperationIr::BaseFloat(B::Reshape(_) | B::SwapDims(_) | B::Permute(_) | B::Expand(_) | B::Cast(_))
            );
            at = op.inputs().next().filter(|_| moves)?.id;
            only &= self.graph.consumers(at).len() == 1;
        }
        let times = reader.inputs().filter(|input| input.id == operand.id).count();
        self.graph.parameter(at).filter(|_| only && times == 1)
    }
}

fn is_product(op: &OperationIr) -> bool {
    matches!(op, OperationIr::NumericFloat(_, N::Mul(_)))
}
