//! [`Silence`]: which tensors are zero everywhere once all parameters of a block are.

use std::collections::{BTreeSet, HashMap, HashSet};

use burn::backend::ir::{OperationIr, TensorId};

use crate::channels::context::Context;
use crate::network::Network;
use crate::op::describe;

/// The tensors that are zero everywhere, by the descriptions of the operations.
pub(super) struct Silence {
    context: Context,
    zero: HashSet<TensorId>,
    /// For each tensor that depends on the block and is not zero, the operation that makes it so.
    loud: HashMap<TensorId, usize>,
}

impl Silence {
    /// All of these parameters are zero, but for running statistics and what something is divided by.
    pub fn new(network: &Network, parameters: &BTreeSet<usize>) -> Self {
        let mut context = Context::new(&network.graph);
        let (mut zero, mut unzeroed) = (HashSet::new(), BTreeSet::new());
        for (index, parameter) in network.graph.parameters.iter().enumerate() {
            if parameters.contains(&index) && parameter.is_trained() && !network.flow.keeps_values(index) {
                zero.insert(parameter.tensor);
            } else {
                unzeroed.extend((0..parameter.shape.len()).map(|axis| (index, axis)));
            }
        }
        context.unzeroed = unzeroed;
        Self { context, zero, loud: HashMap::new() }
    }

    /// Follows the zeros through an operation that depends on the block.
    pub fn follow(&mut self, index: usize, op: &OperationIr) {
        let degrees: Vec<i32> = op.inputs().map(|input| i32::from(self.zero.contains(&input.id))).collect();
        let described = describe(op);
        for output in op.outputs() {
            let silent = described.as_ref().is_some_and(|described| {
                // A positive power of a factor of zero is zero.
                described.exponent(&degrees).is_some_and(|degree| degree > 0)
                    || (0..output.shape.num_dims()).any(|axis| described.zero_along(axis, &self.context))
            });
            if silent {
                self.zero.insert(output.id);
                self.context.zero.extend((0..output.shape.num_dims()).map(|axis| (output.id, axis)));
            } else {
                self.loud.insert(output.id, index);
            }
        }
    }

    /// The operation that makes a tensor other than zero; `None` in place of the operation where it is not one of the block's. `None` where
    /// the tensor is zero.
    pub fn loud(&self, tensor: TensorId) -> Option<Option<usize>> {
        (!self.zero.contains(&tensor)).then(|| self.loud.get(&tensor).copied())
    }
}
