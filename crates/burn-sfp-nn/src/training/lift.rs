//! Tensors with autodiff and what is inside of them.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::{Autodiff, AutodiffBackend, Backend, DispatchKindConversion};
use burn::tensor::{DispatchTensor, Tensor};

/// A float tensor of a backend.
pub(super) type Primitive<B> = burn::backend::tensor::FloatTensor<B>;

/// The primitive with autodiff of a tensor; a tensor without is a constant.
pub(super) fn lifted<B: Backend, C: CheckpointStrategy, const D: usize>(
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

/// The tensor without autodiff.
pub(super) fn inner<B: Backend, C: CheckpointStrategy, const D: usize>(lifted: &Primitive<Autodiff<B, C>>) -> Tensor<D>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    Tensor::from_primitive::<B>(lifted.primitive().clone())
}
