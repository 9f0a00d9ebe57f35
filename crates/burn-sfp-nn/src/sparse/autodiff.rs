//! The sparse convolution as one operation of the autodiff graph.

// burn-ndarray is deprecated in 0.22 and supported here as long as it exists.
#![allow(deprecated)]

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::{BalancedCheckpointing, CheckpointStrategy, NoCheckpointing};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, Backend, DispatchKindConversion};
use burn::tensor::{DispatchTensor, Tensor};

use super::call::SparseConv;
use super::dispatch;

/// Convolves tensors of which at least one has autodiff; `None` where their device has no sparse kernel.
pub(super) fn convolve(x: &Tensor<4>, values: &Tensor<3>, call: &SparseConv) -> Option<Tensor<4>> {
    // A tensor without gradients is a constant for the other.
    let (x, values) = (x.clone(), values.clone());
    let (x, values) = match (x.gradient_checkpointing_strategy(), values.gradient_checkpointing_strategy()) {
        (Some(strategy), None) => (x, values.autodiff().with_gradient_checkpointing_strategy(strategy)),
        (None, Some(strategy)) => (x.autodiff().with_gradient_checkpointing_strategy(strategy), values),
        _ => (x, values),
    };
    let found = None;
    #[cfg(feature = "flex")]
    let found = found.or_else(|| on_backend::<burn_flex::Flex>(&x, &values, call));
    #[cfg(feature = "ndarray")]
    let found = found.or_else(|| on_backend::<burn_ndarray::NdArray>(&x, &values, call));
    #[cfg(feature = "wgpu")]
    let found = found.or_else(|| on_backend::<burn::backend::Cube>(&x, &values, call));
    found
}

fn on_backend<B: Backend>(x: &Tensor<4>, values: &Tensor<3>, call: &SparseConv) -> Option<Tensor<4>>
where
    DispatchTensor: DispatchKindConversion<B>
        + DispatchKindConversion<Autodiff<B, NoCheckpointing>>
        + DispatchKindConversion<Autodiff<B, BalancedCheckpointing>>,
{
    tracked::<B, NoCheckpointing>(x, values, call).or_else(|| tracked::<B, BalancedCheckpointing>(x, values, call))
}

/// The convolution as one operation of the autodiff graph.
fn tracked<B: Backend, C: CheckpointStrategy>(x: &Tensor<4>, values: &Tensor<3>, call: &SparseConv) -> Option<Tensor<4>>
where
    DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Autodiff<B, C>>,
{
    let lifted_x = x.clone().try_into_primitive::<Autodiff<B, C>>().ok()?;
    let lifted_values = values.clone().try_into_primitive::<Autodiff<B, C>>().ok()?;
    let inner = |primitive: &B::FloatTensorPrimitive| primitive.clone();
    let out = dispatch::convolve(
        &Tensor::from_primitive::<B>(inner(lifted_x.primitive())),
        &Tensor::from_primitive::<B>(inner(lifted_values.primitive())),
        call,
    )?;
    let out = out.try_into_primitive::<B>().ok()?;
    let prepared = Gradient.prepare::<C>([lifted_x.node(), lifted_values.node()]).compute_bound().stateful();
    let out = match prepared {
        OpsKind::Tracked(mut prepared) => {
            let state = (prepared.checkpoint(&lifted_x), prepared.checkpoint(&lifted_values), call.clone());
            prepared.finish(state, out)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(out),
    };
    Some(Tensor::from_primitive::<Autodiff<B, C>>(out))
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
