//! What a convolution or a linear layer takes in of what follows it.

use std::collections::HashSet;

use burn::backend::ir::{
    ActivationOperationIr as A, BatchNormOpIr, BinaryOpIr, Conv2dOptionsIr, FloatOperationIr as F,
    ModuleOperationIr as M, NumericOperationIr as N, OperationIr, TensorId, TensorIr,
};
use burn::tensor::DType;
use burn_sfp_ndarray::ConvGeometry;

use crate::graph::Graph;
use crate::op::convolution::geometry;
use crate::op::description::dims;

/// A layer with what it takes in.
#[derive(Clone, Debug)]
pub(super) struct Fused {
    /// Position of the layer's own operation.
    pub layer: usize,
    /// Positions of all its operations, in order. It runs in the place of the last one.
    pub operations: Vec<usize>,
    pub x: TensorIr,
    pub weight: TensorIr,
    pub bias: Option<TensorIr>,
    /// Of a convolution.
    pub options: Option<Conv2dOptionsIr>,
    pub norm: Option<BatchNormOpIr>,
    pub residual: Option<TensorIr>,
    pub relu: bool,
    /// What larger values become.
    pub most: Option<f32>,
    pub out: TensorIr,
}

impl Fused {
    /// The geometry of a convolution.
    pub fn geometry(&self) -> Option<ConvGeometry> {
        self.options.as_ref().map(geometry)
    }

    /// Names of what the layer takes in.
    pub fn takes_in(&self) -> Vec<&'static str> {
        let parts = [
            ("batch norm", self.norm.is_some()),
            ("sum", self.residual.is_some()),
            ("relu", self.relu),
            ("upper bound", self.most.is_some()),
        ];
        parts.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
    }
}

/// All layers of a forward pass that one kernel can run, with what they take in. No operation is in two of them. `is_constant` says whether a tensor
/// depends on parameters alone.
pub(super) fn fused(graph: &Graph, is_constant: &dyn Fn(TensorId) -> bool) -> Vec<Fused> {
    let mut taken = HashSet::new();
    // Where two layers are added, the later one takes the sum in: the other operand is there by then.
    let mut all: Vec<Fused> = (0..graph.operations.len())
        .rev()
        .filter_map(|index| {
            let mut layer = layer(graph, index, is_constant)?;
            while take_next(graph, &mut layer, &taken, is_constant) {}
            taken.extend(layer.operations.iter().copied());
            Some(layer)
        })
        .collect();
    all.reverse();
    all
}

/// The layer that an operation is, where its weight is constant and everything is in single precision.
fn layer(graph: &Graph, index: usize, is_constant: &dyn Fn(TensorId) -> bool) -> Option<Fused> {
    let (x, weight, bias, options, out) = match &graph.operations[index] {
        OperationIr::Module(M::Conv2d(op)) => (&op.x, &op.weight, &op.bias, Some(op.options.clone()), &op.out),
        OperationIr::Module(M::Linear(op)) => (&op.x, &op.weight, &op.bias, None, &op.out),
        // Linear layers are recorded as products; their bias is added behind.
        OperationIr::Float(_, F::Matmul(op)) => (&op.lhs, &op.rhs, &None, None, &op.out),
        _ => return None,
    };
    let constants = std::iter::once(weight).chain(bias);
    let fits = constants.clone().all(|constant| is_constant(constant.id))
        && constants.chain([x, out]).all(|tensor| tensor.dtype == DType::F32)
        && !is_constant(x.id)
        && (options.is_some() || is_matrix(weight));
    fits.then(|| Fused {
        layer: index,
        operations: vec![index],
        x: x.clone(),
        weight: weight.clone(),
        bias: bias.clone(),
        options,
        norm: None,
        residual: None,
        relu: false,
        most: None,
        out: out.clone(),
    })
}

/// Whether a tensor has one axis of inputs and one of outputs, perhaps with axes of length 1 in front.
fn is_matrix(tensor: &TensorIr) -> bool {
    let shape = dims(tensor);
    shape.len() >= 2 && shape[..shape.len() - 2].iter().all(|&length| length == 1)
}

/// Whether a tensor that is added to a layer's output has an element for each filter of a convolution, or for each output of a linear layer, and is the
/// same everywhere else.
fn is_bias(tensor: &TensorIr, out: &TensorIr, is_conv: bool) -> bool {
    let (shape, out) = (dims(tensor), dims(out));
    // Broadcasting aligns the last axes.
    let behind = if is_conv { out.len().saturating_sub(1) } else { 1 };
    let along = |shape: &[usize]| shape.len().checked_sub(behind).and_then(|axis| shape.get(axis).copied());
    along(&shape).is_some_and(|length| Some(length) == along(&out) && shape.iter().product::<usize>() == length)
}

/// Takes the one operation that reads the result in, where it can be.
fn take_next(graph: &Graph, layer: &mut Fused, taken: &HashSet<usize>, is_constant: &dyn Fn(TensorId) -> bool) -> bool {
    let (result, mut next) = (layer.out.id, layer.clone());
    let &[index] = graph.consumers(result) else { return false };
    if layer.relu || taken.contains(&index) || graph.outputs.contains(&result) {
        return false;
    }
    match &graph.operations[index] {
        OperationIr::Module(M::BatchNorm(op)) => {
            let state = [&op.gamma, &op.beta, &op.mean, &op.variance];
            let is_fixed = state.iter().all(|tensor| is_constant(tensor.id) && tensor.dtype == DType::F32);
            // In one batch norm all has been said that a factor and a shift can say.
            if !is_fixed
                || op.x.id != result
                || layer.options.is_none()
                || layer.norm.is_some()
                || layer.residual.is_some()
            {
                return false;
            }
            next.out = op.out.clone();
            next.norm = Some(op.clone());
        }
        OperationIr::NumericFloat(_, N::Add(BinaryOpIr { lhs, rhs, out })) => {
            let other = if lhs.id == result { rhs } else { lhs };
            if other.id == result || other.dtype != DType::F32 || out.shape != layer.out.shape {
                return false;
            }
            // The bias of a linear layer, and of a sparse convolution, is a sum of its own.
            let is_first = layer.bias.is_none() && layer.residual.is_none() && layer.norm.is_none();
            let is_there = graph.producer(other.id).is_none_or(|producer| producer < index);
            if is_first && is_constant(other.id) && is_bias(other, out, layer.options.is_some()) {
                next.bias = Some(other.clone());
            } else if layer.residual.is_none() && other.shape == out.shape && is_there {
                next.residual = Some(other.clone());
            } else {
                return false;
            }
            next.out = out.clone();
        }
        OperationIr::Activation(A::Relu(op)) => {
            next.relu = true;
            next.out = op.out.clone();
        }
        // ReLU6.
        OperationIr::NumericFloat(_, N::Clamp(op)) => {
            let (least, most) = (op.min.elem::<f64>(), op.max.elem::<f32>());
            if least != 0.0 || !(most > 0.0 && most.is_finite()) {
                return false;
            }
            (next.relu, next.most) = (true, Some(most));
            next.out = op.out.clone();
        }
        _ => return false,
    }
    next.operations.push(index);
    *layer = next;
    true
}
