//! Linear layers, matrix products, attention, embeddings: the last axis of the left meets the second-last of the right.

use burn::backend::ir::{FloatOperationIr, ModuleOperationIr as M, OperationIr, TensorIr};

use super::super::context::Context;
use super::super::labels::Axes;
use super::dims;

const INPUT: &str = "it is an input of the network or a constant";

pub(super) fn flow(op: &OperationIr, context: &mut Context) -> bool {
    match op {
        OperationIr::Module(M::Linear(op)) => {
            product(&op.x, &op.weight, &op.out, context);
            if let Some(bias) = &op.bias {
                let (bias, out) = (context.axes(bias), context.axes(&op.out));
                context.unify(&bias[0], &out[out.len() - 1], "its bias is computed");
            }
        }
        OperationIr::Float(_, FloatOperationIr::Matmul(op)) => product(&op.lhs, &op.rhs, &op.out, context),
        OperationIr::Module(M::Attention(op)) => {
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
        OperationIr::Module(M::Embedding(op)) => {
            let (table, indices) = (context.axes(&op.weights), context.axes(&op.indices));
            context.pin_axes(&table[..1], "it is a row of an embedding");
            let mut axes: Axes = indices;
            axes.push(table[1].clone());
            context.set(&op.out, axes);
        }
        OperationIr::Float(_, FloatOperationIr::Cross(op)) => {
            let (mut axes, other) = (context.axes(&op.lhs), context.axes(&op.rhs));
            for (axis, own) in axes.iter_mut().enumerate() {
                context.unify(own, &other[axis], INPUT);
                if axis == op.dim
                    && let Some(labels) = own.take()
                {
                    context.labels.pin(&labels, "it is one of three components");
                }
            }
            context.set(&op.out, axes);
        }
        _ => return false,
    }
    true
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
        let mut found: Option<Vec<u32>> = None;
        let mut bare = false;
        for (side, tensor) in [(&left, lhs), (&right, rhs)] {
            let Some(own) = side.len().checked_sub(back) else { continue };
            match (&side[own], dims(tensor)[own] == length) {
                (Some(labels), false) => context.labels.pin(labels, "it is spread over many channels"),
                (Some(labels), true) => match &found {
                    Some(found) => context.labels.union_all(found, labels),
                    None => found = Some(labels.clone()),
                },
                (None, same) => bare |= same,
            }
        }
        if bare && let Some(labels) = &found {
            context.labels.pin(labels, INPUT);
        }
        axes[rank - back] = found;
    }
    context.set(out, axes);
}

#[cfg(test)]
mod tests {
    use super::super::super::Network;
    use crate::GraphModule;
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
