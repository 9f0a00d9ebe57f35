//! Whether a smaller module runs the graph that its plan foresaw.
//!
//! A forward pass may hold numbers that a capture cannot tell from computed ones: a reshape by a stored width, a slice at a fixed
//! channel, a division by the root of a head's width. Capturing the smaller module once and comparing finds them all.

use std::collections::{BTreeSet, HashMap};

use burn::backend::ir::{BaseOperationIr as B, IrVisitorMut, NumericOperationIr as N, OperationIr, ScalarIr, TensorId};

use super::op::{convolution, kept_range, name};
use super::{ChannelId, Network};
use crate::SfpError;

/// A number in the graph that changed with the width.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalarChange {
    /// Position of the operation.
    pub operation: usize,
    /// Its name.
    pub name: String,
    /// The number in the original.
    pub before: f64,
    /// The number in the smaller network.
    pub after: f64,
    /// The layer whose weights times `factor` undo the change, where there is one: everything between it and the operation is
    /// linear and read by nothing else.
    pub undone_by: Option<(usize, f64)>,
}

impl Network {
    /// Compares the capture of a smaller module, on the same input, with this network without `removed` (closed). What
    /// comes back are numbers that differ.
    ///
    /// # Errors
    /// [`SfpError::NotAsPlanned`] where another operation, shape, slice or group count turns up.
    pub fn compare_smaller(
        &self,
        removed: &BTreeSet<ChannelId>,
        smaller: &Network,
    ) -> Result<Vec<ScalarChange>, SfpError> {
        let mut changes = Vec::new();
        let (own, other) = (essential(self), essential(smaller));
        let epsilons: HashMap<usize, f64> =
            self.shrunk_means(removed).into_iter().map(|(_, add, epsilon, ratio)| (add, epsilon * ratio)).collect();
        if own.len() != other.len() {
            return Err(SfpError::NotAsPlanned {
                operation: 0,
                name: "the whole graph".into(),
                after: None,
                what: format!("{} operations instead of {}", other.len(), own.len()),
            });
        }
        for ((index, ours), (_, theirs)) in own.into_iter().zip(other) {
            let differ = |what: String| {
                let after = self.layer_before(index).map(str::to_string);
                Err(SfpError::NotAsPlanned { operation: index, name: name(ours), after, what })
            };
            if std::mem::discriminant(ours) != std::mem::discriminant(theirs) || name(ours) != name(theirs) {
                return differ(format!("{} runs there", name(theirs)));
            }
            for (out, found) in ours.outputs().zip(theirs.outputs()) {
                let expected = self.flow.shape_without(out, removed);
                let found: Vec<usize> = found.shape.iter().copied().collect();
                if !same_but_folded(&expected, &found) {
                    return differ(format!("it makes shape {found:?}, the plan's is {expected:?}"));
                }
            }
            if let (Some(a), Some(b)) = (convolution(ours), convolution(theirs))
                && a.groups > 1
            {
                let expected = self.flow.shape_without(a.x, removed)[1]
                    / self.flow.shape_without(a.weight, removed)[usize::from(!a.transposed)].max(1);
                if !a.transposed && b.groups != expected {
                    return differ(format!("it has {} groups, the plan's are {expected}", b.groups));
                }
            }
            if let (OperationIr::BaseFloat(B::Slice(a)), OperationIr::BaseFloat(B::Slice(b))) = (ours, theirs) {
                let Some(axes) = self.flow.tensors.get(&a.tensor.id) else { continue };
                for (axis, (ra, rb)) in a.ranges.iter().zip(&b.ranges).enumerate() {
                    let Some(labels) = &axes[axis] else { continue };
                    let expected = kept_range(ra, labels.len(), &|k| !removed.contains(&labels[k]));
                    let found = kept_range(rb, b.tensor.shape[axis], &|_| true);
                    if expected != found {
                        return differ(format!("it takes {found:?} of axis {axis}, the plan's is {expected:?}"));
                    }
                }
            }
            for (before, after) in scalars(ours).into_iter().zip(scalars(theirs)) {
                let before = epsilons.get(&index).copied().unwrap_or(before);
                // Bounds of creation and clamping may be infinite; equal bits are equal.
                if before.to_bits() != after.to_bits() && (before - after).abs() > 1e-12 * before.abs() {
                    let undone_by = self.undone_by(index, before, after);
                    changes.push(ScalarChange { operation: index, name: name(ours), before, after, undone_by });
                }
            }
        }
        Ok(changes)
    }

    /// The layer that can take a factor in, upstream of a multiplication or division by a number.
    fn undone_by(&self, operation: usize, before: f64, after: f64) -> Option<(usize, f64)> {
        let (mut at, factor) = match &self.operations[operation] {
            OperationIr::NumericFloat(_, N::DivScalar(op)) => (op.lhs.id, after / before),
            OperationIr::NumericFloat(_, N::MulScalar(op)) => (op.lhs.id, before / after),
            _ => return None,
        };
        loop {
            if self.index.readers(at).len() != 1 {
                return None;
            }
            if let Some(&layer) = self.index.layers.get(&at) {
                return (self.layers[layer].calls == 1).then_some((layer, factor));
            }
            at = self.linear_source(at)?;
        }
    }

    /// The input of a linear operation with one input that matters.
    fn linear_source(&self, tensor: TensorId) -> Option<TensorId> {
        Some(match &self.operations[*self.index.makers.get(&tensor)?] {
            OperationIr::BaseFloat(B::Reshape(op)) => op.input.id,
            OperationIr::BaseFloat(B::SwapDims(op)) => op.input.id,
            OperationIr::BaseFloat(B::Permute(op)) => op.input.id,
            OperationIr::NumericFloat(_, N::MulScalar(op) | N::DivScalar(op)) => op.lhs.id,
            OperationIr::Float(_, burn::backend::ir::FloatOperationIr::Matmul(op)) => op.lhs.id,
            _ => return None,
        })
    }
}

/// All operations but reshapes: Burn folds the leading axes of linear layers into rows, or does not, by their widths. A
/// reshape that goes wrong shows in the shape of what comes next.
fn essential(network: &Network) -> Vec<(usize, &OperationIr)> {
    let reshape = |op: &OperationIr| matches!(op, OperationIr::BaseFloat(B::Reshape(_)));
    network.operations.iter().enumerate().filter(|(_, op)| !reshape(op)).collect()
}

/// Whether two shapes are the same, leading axes perhaps folded into one.
fn same_but_folded(a: &[usize], b: &[usize]) -> bool {
    a == b || (a.len() != b.len() && a.last() == b.last() && a.iter().product::<usize>() == b.iter().product::<usize>())
}

fn scalars(op: &OperationIr) -> Vec<f64> {
    struct Collect(Vec<f64>);
    impl IrVisitorMut for Collect {
        fn visit_scalar_mut(&mut self, scalar: &mut ScalarIr) {
            self.0.push(match *scalar {
                ScalarIr::Float(value) => value,
                ScalarIr::Int(value) => value as f64,
                ScalarIr::UInt(value) => value as f64,
                ScalarIr::Bool(value) => f64::from(u8::from(value)),
            });
        }
    }
    let mut all = Collect(Vec::new());
    op.clone().visit_mut(&mut all);
    all.0
}
