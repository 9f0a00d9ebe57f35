//! What the training loop trains on, and how it computes logits.

use burn::tensor::Tensor;
use burn_sfp_core::Batch;

use crate::PruneError;

/// A labelled batch, perhaps with the logits of a teacher.
#[derive(Clone, Debug)]
pub(super) struct Example<I> {
    pub input: I,
    pub labels: Vec<usize>,
    /// Logits of the teacher, where they are known already.
    pub teacher: Option<Tensor<2>>,
}

impl<I> From<Batch<I>> for Example<I> {
    fn from(batch: Batch<I>) -> Self {
        Self { input: batch.input, labels: batch.labels, teacher: None }
    }
}

/// Computes the logits of a model on a batch, given with its position.
pub(super) type Forward<'a, M, I> = &'a dyn Fn(&M, &I, usize) -> Result<Tensor<2>, PruneError>;
/// Computes the logits of the teacher on a batch, given with its position.
pub(super) type Teacher<'a, I> = &'a dyn Fn(&I, usize) -> Result<Tensor<2>, PruneError>;

/// How logits are computed.
pub(super) struct Work<'a, M, I> {
    pub forward: Forward<'a, M, I>,
    /// Used where a batch comes without the teacher's logits.
    pub teacher: Option<Teacher<'a, I>>,
}
