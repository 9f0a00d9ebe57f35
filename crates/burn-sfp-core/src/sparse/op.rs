//! The convolution over kernels that stay, on whatever device, with gradients.
//!
//! On flex and ndarray the kernels of `burn-sfp-ndarray` run on the tensors' own memory, on the CubeCL runtimes those of
//! `burn-sfp-wgpu`. Everywhere else (and where a fusing backend hides its tensors) the kernels are put back into a dense
//! weight by Burn's own operations: the same numbers, no gain.

// burn-ndarray is deprecated in 0.22 and supported here as long as it exists.
#![allow(deprecated)]

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::{BalancedCheckpointing, CheckpointStrategy, NoCheckpointing};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, Backend, DispatchKindConversion};
use burn::tensor::{DType, DispatchTensor, Tensor};

use super::call::{Finish, SparseConv};
use super::{host, portable};
use crate::backend::on_host;

/// `x` `[N, I, H, W]`, `values` `[K, kh, kw]` in the order of the pattern; returns `[N, O, H', W']`.
///
/// # Panics
/// Where the input does not fit the layer, as Burn's convolution does.
pub(crate) fn convolve(x: Tensor<4>, values: Tensor<3>, call: &SparseConv) -> Tensor<4> {
    // Without any kernel the weight is one row of zeros, which no kernel of this library has a place for.
    if x.dtype() != DType::F32 || values.dtype() != DType::F32 || call.pattern.kept() == 0 {
        return portable::convolve(x, values, call);
    }
    if !x.is_autodiff() && !values.is_autodiff() {
        return plain(&x, &values, call).unwrap_or_else(|| portable::convolve(x, values, call));
    }
    // A tensor without gradients is a constant for the other.
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
    found.unwrap_or_else(|| portable::convolve(x, values, call))
}

/// Whether a tensor is in host memory, without autodiff, for [`convolve_and`].
pub(crate) fn is_on_host(x: &Tensor<4>) -> bool {
    on_host(x, |_| ()).is_some()
}

/// [`convolve`] without gradients and with something done to each sum; `None` where the device has no kernel for it.
pub(crate) fn convolve_and(x: &Tensor<4>, values: &Tensor<3>, call: &SparseConv, finish: &Finish) -> Option<Tensor<4>> {
    if call.pattern.kept() == 0 {
        return None;
    }
    host::forward(x, values, call, finish).map(unwrap)
}

/// Kernels of this library on tensors without autodiff.
fn plain(x: &Tensor<4>, values: &Tensor<3>, call: &SparseConv) -> Option<Tensor<4>> {
    let found = host::forward(x, values, call, &Finish::default());
    #[cfg(feature = "wgpu")]
    let found = found.or_else(|| super::cube::forward(x, values, call));
    found.map(unwrap)
}

fn gradient_of_input(grad: &Tensor<4>, values: &Tensor<3>, call: &SparseConv, shape: [usize; 4]) -> Option<Tensor<4>> {
    let found = host::grad_input(grad, values, call, shape);
    #[cfg(feature = "wgpu")]
    let found = found.or_else(|| super::cube::grad_input(grad, values, call, shape));
    found.map(unwrap)
}

fn gradient_of_values(x: &Tensor<4>, grad: &Tensor<4>, call: &SparseConv) -> Option<Tensor<3>> {
    let found = host::grad_values(x, grad, call);
    #[cfg(feature = "wgpu")]
    let found = found.or_else(|| super::cube::grad_values(x, grad, call));
    found.map(unwrap)
}

/// A forward pass has no way to return an error; Burn's layers panic on inputs that do not fit, and so does this one.
fn unwrap<const D: usize>(done: Result<Tensor<D>, String>) -> Tensor<D> {
    done.unwrap_or_else(|message| panic!("sparse convolution: {message}"))
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
    let out = plain(
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
                gradient_of_input(&grad, &values, &call, x.dims()).map(Tensor::try_into_primitive::<B>)
        {
            grads.register::<B>(node.id, found);
        }
        if let Some(node) = of_values
            && let Some(Ok(found)) = gradient_of_values(&x, &grad, &call).map(Tensor::try_into_primitive::<B>)
        {
            grads.register::<B>(node.id, found);
        }
    }
}
