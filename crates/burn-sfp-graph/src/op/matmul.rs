//! Linear layers, matrix products, attention, embeddings: the last axis of the left meets the second-last of the right.
//!
//! A product `[.., m, k] x [.., k, n]` costs `m * k * n` multiply-adds for each of its batches. Attention (Vaswani and others, "Attention Is
//! All You Need", 2017, section 3.2.1) is two of them: queries times keys, weights times values.

use burn::backend::ir::{
    AttentionOpIr, BaseOperationIr as B, CrossOpIr, EmbeddingOpIr, FloatOperationIr as F, LinearOpIr, MatmulOpIr,
    ModuleOperationIr as M, OperationIr, TensorIr,
};

use super::description::{
    Describe, Described, FREE, Family, Mixture, ShapeOf, WeightedCall, count, dims, is_zero_along,
};
use crate::channels::context::Context;
use crate::channels::ids::{Axes, ChannelId};
use crate::layers::kind::LayerKind;

const INPUT: &str = "it is an input of the network or a constant";

#[allow(non_upper_case_globals)]
impl LayerKind {
    /// A linear layer, weight `[in, out]`.
    pub const Linear: Self = Self::matrix("linear");
    /// An embedding, weight `[entries, out]`.
    pub const Embedding: Self = Self::lookup("embedding");
}

pub(super) const FAMILY: Family = Family { read, kinds: &[LayerKind::Linear, LayerKind::Embedding] };

fn read(op: &OperationIr) -> Option<Described<'_>> {
    Some(match op {
        OperationIr::Module(M::Linear(op)) => Box::new(Linear(op)),
        OperationIr::Float(_, F::Matmul(op)) => Box::new(Product(op)),
        OperationIr::Module(M::Attention(op)) => Box::new(Attention(op)),
        OperationIr::Module(M::Embedding(op)) => Box::new(Embedding(op)),
        OperationIr::Float(_, F::Cross(op)) => Box::new(Cross(op)),
        _ => return None,
    })
}

/// Whether three operations are a product of one row a batch with one matrix for all batches, as Burn turns it round: `[.., b, 1, k]`
/// becomes `[.., 1, b, k]` before and back after it.
pub(crate) fn is_turned_round(before: &OperationIr, product: &OperationIr, after: &OperationIr) -> bool {
    match (before, product, after) {
        (
            OperationIr::BaseFloat(B::SwapDims(before)),
            OperationIr::Float(_, F::Matmul(op)),
            OperationIr::BaseFloat(B::SwapDims(after)),
        ) => op.lhs.id == before.out.id && after.input.id == op.out.id,
        _ => false,
    }
}

/// Whether an operation is a matrix product.
pub(crate) fn is_product(op: &OperationIr) -> bool {
    matches!(op, OperationIr::Float(_, F::Matmul(_)))
}

fn linear<'a>(
    x: &'a TensorIr,
    weight: &'a TensorIr,
    bias: Option<&'a TensorIr>,
    out: &'a TensorIr,
    kind: LayerKind,
) -> Option<WeightedCall<'a>> {
    let shape = dims(weight);
    let inputs = *shape.get(shape.len().checked_sub(2)?)?;
    Some(WeightedCall {
        kind,
        x,
        weight,
        bias,
        out,
        filters: *shape.last()?,
        inputs,
        groups: 1,
        kernel: Vec::new(),
        padding: Vec::new(),
        stride: Vec::new(),
        dilation: Vec::new(),
    })
}

/// A linear layer as one operation.
struct Linear<'a>(&'a LinearOpIr);

impl<'a> Describe<'a> for Linear<'a> {
    fn flow(&self, context: &mut Context) {
        let op = self.0;
        product(&op.x, &op.weight, &op.out, context);
        if let Some(bias) = &op.bias {
            let (bias, out) = (context.axes(bias), context.axes(&op.out));
            context.unify(&bias[0], &out[out.len() - 1], "its bias is computed");
        }
    }

    fn zero_along(&self, axis: usize, context: &Context) -> bool {
        let op = self.0;
        if axis + 1 == op.out.shape.num_dims() {
            return context.is_zero(&op.weight, 1) && op.bias.as_ref().is_none_or(|bias| context.is_zero(bias, 0));
        }
        op.bias.is_none() && context.is_zero(&op.x, axis)
    }

    fn macs(&self, shape: &ShapeOf<'_>) -> Option<u64> {
        Some(count(&shape(&self.0.out)) * shape(&self.0.weight)[0] as u64)
    }

    fn layer(&self) -> Option<WeightedCall<'a>> {
        let op = self.0;
        linear(&op.x, &op.weight, op.bias.as_ref(), &op.out, LayerKind::Linear)
    }

    fn mean_free(&self, axis: usize) -> Vec<(&'a TensorIr, usize)> {
        let op = self.0;
        if axis + 1 != op.out.shape.num_dims() {
            return Vec::new();
        }
        std::iter::once((&op.weight, 1)).chain(op.bias.as_ref().map(|bias| (bias, 0))).collect()
    }
}

/// A product of matrices, which is a linear layer where the right one is a parameter.
struct Product<'a>(&'a MatmulOpIr);

impl<'a> Describe<'a> for Product<'a> {
    fn flow(&self, context: &mut Context) {
        product(&self.0.lhs, &self.0.rhs, &self.0.out, context);
    }

    fn zero_along(&self, axis: usize, context: &Context) -> bool {
        let MatmulOpIr { lhs, rhs, out } = self.0;
        match out.shape.num_dims() - axis {
            1 => context.is_zero(rhs, rhs.shape.num_dims() - 1),
            2 => lhs.shape.num_dims().checked_sub(2).is_some_and(|rows| context.is_zero(lhs, rows)),
            _ => is_zero_along(lhs, out, axis, context) || is_zero_along(rhs, out, axis, context),
        }
    }

    fn non_negative(&self, context: &Context) -> bool {
        [&self.0.lhs, &self.0.rhs].iter().all(|side| context.non_negative.contains(&side.id))
    }

    fn exponent(&self, exponents: &[i32]) -> Option<i32> {
        Some(exponents.iter().sum())
    }

    fn macs(&self, shape: &ShapeOf<'_>) -> Option<u64> {
        Some(count(&shape(&self.0.out)) * shape(&self.0.lhs).last().copied().unwrap_or_default() as u64)
    }

    fn layer(&self) -> Option<WeightedCall<'a>> {
        linear(&self.0.lhs, &self.0.rhs, None, &self.0.out, LayerKind::Linear)
    }

    fn linear_in(&self) -> Option<&'a TensorIr> {
        Some(&self.0.lhs)
    }

    fn mean_free(&self, axis: usize) -> Vec<(&'a TensorIr, usize)> {
        let MatmulOpIr { lhs, rhs, out } = self.0;
        match out.shape.num_dims().checked_sub(axis) {
            Some(1) => vec![(rhs, rhs.shape.num_dims() - 1)],
            Some(2) => lhs.shape.num_dims().checked_sub(2).map(|rows| (lhs, rows)).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    fn mixture(&self) -> Option<Mixture<'a>> {
        let MatmulOpIr { lhs, rhs, out } = self.0;
        Some(Mixture { from: vec![lhs, rhs], given: Some((lhs, rhs)), out })
    }
}

/// Attention as one operation, `[samples, heads, tokens, width]`.
struct Attention<'a>(&'a AttentionOpIr);

impl<'a> Describe<'a> for Attention<'a> {
    fn flow(&self, context: &mut Context) {
        let op = self.0;
        let (q, k, v) = (context.axes(&op.query), context.axes(&op.key), context.axes(&op.value));
        for axis in [0, 1] {
            context.unify(&q[axis], &k[axis], INPUT);
            context.unify(&q[axis], &v[axis], INPUT);
        }
        context.unify(&q[3], &k[3], INPUT);
        context.unify(&k[2], &v[2], INPUT);
        // A key that is zero still takes its share of the softmax.
        context.pin_axes(&k[2..3], "attention spreads over it");
        if op.options.is_causal || op.mask.is_some() || op.attn_bias.is_some() {
            context.pin_axes(&q[2..3], "what attention sees from there depends on its position");
        }
        if op.options.scale.is_none() {
            context.pin_axes(&q[3..], "attention is scaled by the width of its heads");
        }
        for extra in op.mask.iter().chain(&op.attn_bias) {
            let own = context.axes(extra);
            if dims(extra)[1] == dims(&op.query)[1] {
                context.unify(&q[1], &own[1], "its mask or bias carries no channels");
            }
            context.pin_axes(&own[2..], "it weighs positions");
        }
        context.set(&op.out, vec![q[0].clone(), q[1].clone(), q[2].clone(), v[3].clone()]);
    }

    fn zero_along(&self, axis: usize, context: &Context) -> bool {
        (axis == 1 || axis == 3) && context.is_zero(&self.0.value, axis)
    }

    fn macs(&self, shape: &ShapeOf<'_>) -> Option<u64> {
        let op = self.0;
        Some((count(&shape(&op.query)) + count(&shape(&op.out))) * shape(&op.key)[2] as u64)
    }

    fn mixture(&self) -> Option<Mixture<'a>> {
        let op = self.0;
        Some(Mixture { from: vec![&op.query, &op.key, &op.value], given: None, out: &op.out })
    }
}

/// Rows of a table, picked by index.
struct Embedding<'a>(&'a EmbeddingOpIr);

impl<'a> Describe<'a> for Embedding<'a> {
    fn flow(&self, context: &mut Context) {
        let op = self.0;
        let (table, indices) = (context.axes(&op.weights), context.axes(&op.indices));
        context.pin_axes(&table[..1], "it is a row of an embedding");
        let mut axes: Axes = indices;
        axes.push(table[1].clone());
        context.set(&op.out, axes);
    }

    fn zero_along(&self, axis: usize, context: &Context) -> bool {
        axis + 1 == self.0.out.shape.num_dims() && context.is_zero(&self.0.weights, 1)
    }

    fn macs(&self, _shape: &ShapeOf<'_>) -> Option<u64> {
        FREE
    }

    fn layer(&self) -> Option<WeightedCall<'a>> {
        linear(&self.0.indices, &self.0.weights, None, &self.0.out, LayerKind::Embedding)
    }

    fn mean_free(&self, axis: usize) -> Vec<(&'a TensorIr, usize)> {
        let last = axis + 1 == self.0.out.shape.num_dims();
        last.then_some((&self.0.weights, 1)).into_iter().collect()
    }
}

/// The cross product of vectors of three components.
struct Cross<'a>(&'a CrossOpIr);

impl<'a> Describe<'a> for Cross<'a> {
    fn flow(&self, context: &mut Context) {
        let op = self.0;
        let (mut axes, other) = (context.axes(&op.lhs), context.axes(&op.rhs));
        for (axis, own) in axes.iter_mut().enumerate() {
            context.unify(own, &other[axis], INPUT);
            if axis == op.dim
                && let Some(ids) = own.take()
            {
                context.sets.pin(&ids, "it is one of three components");
            }
        }
        context.set(&op.out, axes);
    }

    fn macs(&self, _shape: &ShapeOf<'_>) -> Option<u64> {
        FREE
    }
}

fn product(lhs: &TensorIr, rhs: &TensorIr, out: &TensorIr, context: &mut Context) {
    let (left, right) = (context.axes(lhs), context.axes(rhs));
    let (l, r, rank) = (left.len(), right.len(), dims(out).len());
    context.unify(&left[l - 1], &right[r.saturating_sub(2)], INPUT);
    let mut axes = vec![None; rank];
    axes[rank - 1] = right[r - 1].clone();
    if l >= 2 {
        axes[rank - 2] = left[l - 2].clone();
    }
    // Batch axes: a channel there must be the same on both sides, or broadcast.
    for back in 3..=rank {
        let length = dims(out)[rank - back];
        let mut found: Option<Vec<ChannelId>> = None;
        let mut bare = false;
        for (side, tensor) in [(&left, lhs), (&right, rhs)] {
            let Some(own) = side.len().checked_sub(back) else { continue };
            match (&side[own], dims(tensor)[own] == length) {
                (Some(ids), false) => context.sets.pin(ids, "it is spread over many channels"),
                (Some(ids), true) => match &found {
                    Some(found) => context.sets.union_all(found, ids),
                    None => found = Some(ids.clone()),
                },
                (None, same) => bare |= same,
            }
        }
        if bare && let Some(ids) = &found {
            context.sets.pin(ids, INPUT);
        }
        axes[rank - back] = found;
    }
    context.set(out, axes);
}

#[cfg(test)]
mod tests {
    use crate::GraphModule;
    use crate::Network;
    use burn::module::Module;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::module::attention;
    use burn::tensor::ops::AttentionModuleOptions;
    use burn::tensor::{Device, Tensor};

    /// Layers that mix positions make queries and keys.
    #[derive(Module, Debug)]
    struct Mixed {
        queries: Linear,
        keys: Linear,
        out: Linear,
        causal: bool,
    }

    impl GraphModule for Mixed {
        type Inputs = Tensor<4>;
        type Outputs = Tensor<4>;
        fn run(&self, x: Tensor<4>) -> Tensor<4> {
            let query = self.queries.forward(x.clone().swap_dims(2, 3)).swap_dims(2, 3);
            let key = self.keys.forward(x.swap_dims(2, 3)).swap_dims(2, 3);
            let options = AttentionModuleOptions { scale: Some(0.5), is_causal: self.causal, ..Default::default() };
            let mixed = attention(query, key.clone(), key, None, None, options);
            self.out.forward(mixed.swap_dims(2, 3))
        }
    }

    #[test]
    fn positions_under_a_softmax_stay() {
        let device = Device::flex();
        let linear = || LinearConfig::new(4, 4).init(&device);
        for causal in [false, true] {
            let model = Mixed { queries: linear(), keys: linear(), out: linear(), causal };
            let network = Network::capture(&model, &Tensor::zeros([1, 2, 4, 3], &device)).unwrap();
            let free = |path: &str| network.layer(path).unwrap().not_prunable.is_none();
            assert!(!free("keys"));
            assert_eq!(free("queries"), !causal);
        }
    }
}
