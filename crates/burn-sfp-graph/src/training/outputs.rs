//! [`FrozenOutputs`]: the tensors between the frozen part and the part that learns.

use burn::backend::ir::TensorIr;
use burn::tensor::{Bool, DType, Int, Tensor};

use crate::op::description::dims;
use crate::{InputMapper, ModuleInput};

/// A tensor that the frozen part hands over, without its axis of samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrozenOutput {
    /// Shape of one sample's entry.
    pub shape: Vec<usize>,
    /// Type of its elements.
    pub dtype: DType,
}

impl FrozenOutput {
    pub(super) fn of(tensor: &TensorIr) -> Self {
        Self { shape: dims(tensor).split_off(1), dtype: tensor.dtype }
    }

    /// Elements of one sample's entry.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A tensor that the frozen part hands over, `[samples, elements]`.
#[derive(Clone, Debug)]
pub enum FrozenTensor {
    /// Floats.
    Float(Tensor<2>),
    /// Integers.
    Int(Tensor<2, Int>),
    /// Booleans.
    Bool(Tensor<2, Bool>),
}

impl ModuleInput for FrozenTensor {
    fn map_tensors<M: InputMapper>(self, mapper: &mut M) -> Self {
        match self {
            Self::Float(tensor) => Self::Float(mapper.float(tensor)),
            Self::Int(tensor) => Self::Int(mapper.int(tensor)),
            Self::Bool(tensor) => Self::Bool(mapper.bool(tensor)),
        }
    }
}

/// All tensors that the frozen part hands over for a batch, in the order of [`TrainingGraph::outputs`](super::TrainingGraph::outputs).
#[derive(Clone, Debug)]
pub struct FrozenOutputs(pub Vec<FrozenTensor>);

impl ModuleInput for FrozenOutputs {
    fn map_tensors<M: InputMapper>(self, mapper: &mut M) -> Self {
        Self(self.0.map_tensors(mapper))
    }
}
