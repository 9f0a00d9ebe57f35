//! Multiply-adds and parameters, of the network as it is and without some channels.

use std::collections::BTreeSet;

use burn::backend::ir::{FloatOperationIr, ModuleOperationIr as M, OperationIr, TensorIr};

use serde::{Deserialize, Serialize};

use super::op::convolution;
use super::{ChannelId, Flow, Layer, Network};
use crate::latency::parameter_bytes;
use crate::{GraphModule, SfpError};

/// What a model costs as it is, sparse layers as they are executed.
///
/// ```
/// use std::sync::Arc;
/// use burn::prelude::*;
/// use burn::nn::LinearConfig;
/// use burn_sfp_core::network::Cost;
/// use burn_sfp_core::nn::SparseLinear;
/// use burn_sfp_core::sparse::{Form, KernelPattern};
/// use burn_sfp_core::SfpModule;
///
/// #[derive(Module, Debug)]
/// struct Classifier { fc: SparseLinear }
///
/// impl SfpModule for Classifier {
///     type Input = Tensor<2>;
///     fn logits(&self, x: Tensor<2>) -> Tensor<2> { self.fc.forward(x) }
/// }
/// let device = Device::flex();
/// let fc: SparseLinear = LinearConfig::new(4, 3).with_bias(false).init(&device).into();
/// let x = Tensor::zeros([2, 4], &device);
/// assert_eq!(Cost::of(&Classifier { fc: fc.clone() }, &x)?, Cost { macs: 12, parameters: 12, bytes: 48 });
///
/// let form = Form::Kernels(Arc::new(KernelPattern::from_fn(3, 4, |output, input| output == input)));
/// let sparse = Cost::of(&Classifier { fc: fc.with_form(Some(form))? }, &x)?;
/// assert_eq!((sparse.macs, sparse.parameters), (3, 3));
/// # Ok::<(), burn_sfp_core::SfpError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Multiply-adds of one sample: convolutions, linear layers and products of computed tensors. Products with padding count,
    /// as is usual, whether or not they are executed.
    pub macs: u64,
    /// Numbers in float parameters, running statistics included.
    pub parameters: u64,
    /// Bytes of all parameters, the integers of sparse layers included.
    pub bytes: u64,
}

impl Cost {
    /// Counts a model on an example input, whose values are not used.
    ///
    /// # Errors
    /// [`SfpError::Forward`] where the forward pass panics on this input.
    pub fn of<M: GraphModule>(model: &M, input: &M::Inputs) -> Result<Self, SfpError> {
        let macs = Network::record(model, input)?.macs();
        Ok(Self { macs, parameters: model.num_params() as u64, bytes: parameter_bytes(model) })
    }
}

impl Network {
    /// Multiply-adds of one sample: convolutions, linear layers and products of computed tensors (attention).
    pub fn macs(&self) -> u64 {
        self.macs_without(&BTreeSet::new())
    }

    /// [`macs`](Network::macs) without some channels (closed, see [`Flow::closed`](super::Flow::closed)).
    pub fn macs_without(&self, removed: &BTreeSet<ChannelId>) -> u64 {
        let all: Vec<usize> = (0..self.operations.len()).collect();
        self.operations_macs(&all, &self.flow, removed).saturating_sub(self.skipped_macs())
    }

    /// [`macs_without`](Network::macs_without), and [`layer_macs_without`](Network::layer_macs_without) of each layer.
    pub fn all_macs_without(&self, removed: &BTreeSet<ChannelId>) -> (u64, Vec<u64>) {
        let of: Vec<u64> =
            (0..self.operations.len()).map(|op| self.operations_macs(&[op], &self.flow, removed)).collect();
        let layers = self.layers.iter().map(|layer| layer.operations.iter().map(|&op| of[op]).sum());
        (of.iter().sum::<u64>().saturating_sub(self.skipped_macs()), layers.collect())
    }

    /// Multiply-adds of a sample that sparse layers leave out.
    fn skipped_macs(&self) -> u64 {
        self.skipped / self.batch.max(1) as u64
    }

    /// Multiply-adds of a layer for one sample without some channels (closed), all calls together.
    pub fn layer_macs_without(&self, layer: &Layer, removed: &BTreeSet<ChannelId>) -> u64 {
        self.operations_macs(&layer.operations, &self.flow, removed)
    }

    /// Numbers in a parameter without some channels (closed).
    pub fn parameter_size_without(&self, parameter: usize, removed: &BTreeSet<ChannelId>) -> u64 {
        let mut shape = self.parameters[parameter].shape.clone();
        for axis in self.flow.parameter(parameter) {
            shape[axis.axis] = axis.channels.iter().filter(|channel| !removed.contains(channel)).count();
        }
        shape.iter().product::<usize>() as u64
    }

    pub(super) fn operations_macs(&self, operations: &[usize], flow: &Flow, removed: &BTreeSet<ChannelId>) -> u64 {
        operations.iter().map(|&op| macs(&self.operations[op], flow, removed) / self.batch.max(1) as u64).sum()
    }
}

/// Multiply-adds of one operation on the whole batch.
fn macs(operation: &OperationIr, flow: &Flow, removed: &BTreeSet<ChannelId>) -> u64 {
    let shape = |tensor: &TensorIr| flow.shape_without(tensor, removed);
    let count = |shape: &[usize]| shape.iter().map(|&length| length as u64).product::<u64>();
    if let Some(conv) = convolution(operation) {
        let positions = if conv.transposed { shape(conv.x) } else { shape(conv.out) };
        return count(&positions) * count(&shape(conv.weight)[1..]);
    }
    match operation {
        OperationIr::Module(M::DeformableConv2d(op)) => count(&shape(&op.out)) * count(&shape(&op.weight)[1..]),
        OperationIr::Module(M::Linear(op)) => count(&shape(&op.out)) * shape(&op.weight)[0] as u64,
        OperationIr::Float(_, FloatOperationIr::Matmul(op)) => {
            count(&shape(&op.out)) * shape(&op.lhs).last().copied().unwrap_or_default() as u64
        }
        OperationIr::Module(M::Attention(op)) => {
            (count(&shape(&op.query)) + count(&shape(&op.out))) * shape(&op.key)[2] as u64
        }
        _ => 0,
    }
}
