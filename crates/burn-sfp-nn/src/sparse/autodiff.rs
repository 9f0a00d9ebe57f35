//! The sparse convolution as one operation of the autodiff graph.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::{Autodiff, Backend, DispatchKindConversion};
use burn::tensor::{DispatchTensor, Tensor};

use super::call::SparseConv;
use super::dispatch;
use crate::autodiff::{Operation, inner, lifted, on_any, recorded};

/// Convolves tensors of which at least one has autodiff; `None` where their device has no sparse kernel.
pub(super) fn convolve(x: &Tensor<4>, values: &Tensor<3>, call: &SparseConv) -> Option<Tensor<4>> {
    on_any(&Convolution { x, values, call })
}

struct Convolution<'a> {
    x: &'a Tensor<4>,
    values: &'a Tensor<3>,
    call: &'a SparseConv,
}

impl Operation for Convolution<'_> {
    type Output = Tensor<4>;

    fn run<B: Backend, C: CheckpointStrategy>(&self) -> Option<Tensor<4>>
    where
        DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Autodiff<B, C>>,
    {
        let (x, values) = (lifted::<B, C, 4>(self.x)?, lifted::<B, C, 3>(self.values)?);
        let out = dispatch::convolve(&inner::<B, C, 4>(&x), &inner::<B, C, 3>(&values), self.call)?;
        let out = out.try_into_primitive::<B>().ok()?;
        let parents = [&x, &values];
        let out =
            recorded::<B, C, _, 2, 2>(Gradient, parents, parents, out, |[x, values]| (x, values, self.call.clone()));
        Some(Tensor::from_primitive::<Autodiff<B, C>>(out))
    }
}

#[derive(Debug)]
struct Gradient;

impl<B: Backend> Backward<B, 2> for Gradient
where
    DispatchTensor: DispatchKindConversion<B>,
{
    type State = (NodeId, NodeId, SparseConv);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let [of_x, of_values] = ops.parents;
        let (x, values, call) = ops.state;
        let grad = Tensor::<4>::from_primitive::<B>(grads.consume::<B>(&ops.node));
        let x = Tensor::<4>::from_primitive::<B>(checkpointer.retrieve_node_output(x));
        let values = Tensor::<3>::from_primitive::<B>(checkpointer.retrieve_node_output(values));
        // The forward pass ran on this backend's kernels, so both gradients do.
        if let Some(node) = of_x
            && let Some(Ok(found)) =
                dispatch::grad_input(&grad, &values, &call, x.dims()).map(Tensor::try_into_primitive::<B>)
        {
            grads.register::<B>(node.id, found);
        }
        if let Some(node) = of_values
            && let Some(Ok(found)) = dispatch::grad_values(&x, &grad, &call).map(Tensor::try_into_primitive::<B>)
        {
            grads.register::<B>(node.id, found);
        }
    }
}
