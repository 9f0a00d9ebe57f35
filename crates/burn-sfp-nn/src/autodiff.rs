//! Operations of our own in the autodiff graph: what they are on each backend, and tensors with autodiff and what is inside of them.

// burn-ndarray is deprecated in 0.22 and supported here as long as it exists.
#![allow(deprecated)]

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::strategy::{BalancedCheckpointing, CheckpointStrategy, NoCheckpointing};
use burn::backend::autodiff::ops::{Backward, OpsKind};
use burn::backend::{Autodiff, AutodiffBackend, Backend, DispatchKindConversion};
use burn::tensor::{DispatchTensor, Tensor};

/// An operation on tensors of which at least one has autodiff.
pub(crate) trait Operation {
    type Output;

    /// Runs it as one operation of the graph; `None` where its tensors are of another backend, keep activations by another strategy, or have no kernel.
    fn run<B: Backend, C: CheckpointStrategy>(&self) -> Option<Self::Output>
    where
        DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Autodiff<B, C>>;
}

/// Runs an operation on the backend of its tensors, where that is one on the CPU.
pub(crate) fn on_cpu<O: Operation>(operation: &O) -> Option<O::Output> {
    let _ = operation;
    let found = None;
    #[cfg(feature = "flex")]
    let found = found.or_else(|| on_backend::<burn_flex::Flex, O>(operation));
    #[cfg(feature = "ndarray")]
    let found = found.or_else(|| on_backend::<burn_ndarray::NdArray, O>(operation));
    found
}

/// Runs an operation on the backend of its tensors.
pub(crate) fn on_any<O: Operation>(operation: &O) -> Option<O::Output> {
    let found = on_cpu(operation);
    #[cfg(feature = "wgpu")]
    let found = found.or_else(|| on_backend::<burn::backend::Cube, O>(operation));
    found
}

fn on_backend<B: Backend, O: Operation>(operation: &O) -> Option<O::Output>
where
    DispatchTensor: DispatchKindConversion<B>
        + DispatchKindConversion<Autodiff<B, NoCheckpointing>>
        + DispatchKindConversion<Autodiff<B, BalancedCheckpointing>>,
{
    operation.run::<B, NoCheckpointing>().or_else(|| operation.run::<B, BalancedCheckpointing>())
}

/// A float tensor of a backend.
pub(crate) type Primitive<B> = burn::backend::tensor::FloatTensor<B>;

/// The primitive with autodiff of a tensor; a tensor without is a constant.
pub(crate) fn lifted<B: Backend, C: CheckpointStrategy, const D: usize>(
    tensor: &Tensor<D>,
) -> Option<Primitive<Autodiff<B, C>>>
where
    DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Autodiff<B, C>>,
{
    let tensor = tensor.clone();
    if tensor.is_autodiff() {
        return tensor.try_into_primitive::<Autodiff<B, C>>().ok();
    }
    Some(<Autodiff<B, C> as AutodiffBackend>::from_inner(tensor.try_into_primitive::<B>().ok()?))
}

/// The result of an operation with its gradient, for which the values of the parents in `kept` are there later: `state` receives their nodes.
pub(crate) fn recorded<B, C, G, const N: usize, const K: usize>(
    gradient: G,
    parents: [&Primitive<Autodiff<B, C>>; N],
    kept: [&Primitive<Autodiff<B, C>>; K],
    out: Primitive<B>,
    state: impl FnOnce([NodeId; K]) -> G::State,
) -> Primitive<Autodiff<B, C>>
where
    B: Backend,
    C: CheckpointStrategy,
    G: Backward<B, N>,
{
    match gradient.prepare::<C>(parents.map(|parent| parent.node())).compute_bound().stateful() {
        OpsKind::Tracked(mut prepared) => {
            let nodes = kept.map(|parent| prepared.checkpoint(parent));
            prepared.finish(state(nodes), out)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(out),
    }
}

/// The tensor without autodiff.
pub(crate) fn inner<B: Backend, C: CheckpointStrategy, const D: usize>(lifted: &Primitive<Autodiff<B, C>>) -> Tensor<D>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    Tensor::from_primitive::<B>(lifted.primitive().clone())
}
