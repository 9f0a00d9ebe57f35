//! Whether a smaller module runs the graph that its plan foresaw.
//!
//! A forward pass may hold numbers that a capture cannot tell from computed ones: a reshape by a stored width, a slice at a fixed
//! channel, a division by the root of a head's width. Capturing the smaller module once and comparing finds them all.

use std::collections::{BTreeSet, HashMap, HashSet};

use burn::backend::ir::{
    BaseOperationIr as B, FloatOperationIr as F, IrVisitorMut, NumericOperationIr as N, OperationIr, ScalarIr, TensorId,
};

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
        let (other, made) = turned_back(&own, other);
        if own.len() != other.len() {
            // The first that differs; where one graph is the start of the other, what the longer one goes on with.
            let at =
                (0..).find(|&k| own.get(k).map(|o| name(o.1)) != other.get(k).map(|o| name(o.1))).unwrap_or_default();
            let or_end = |all: &[Entry<'_>]| all.get(at).map_or_else(|| "the end".into(), |op| name(op.1));
            return Err(SfpError::NotAsPlanned {
                operation: own.get(at).map_or(self.operations.len(), |op| op.0),
                name: or_end(&own),
                after: own.get(at).and_then(|op| self.layer_before(op.0)).map(str::to_string),
                what: format!("{} runs there ({} operations instead of {})", or_end(&other), other.len(), own.len()),
            });
        }
        for (((index, ours), (_, theirs)), made) in own.into_iter().zip(other).zip(made) {
            let differ = |what: String| {
                let after = self.layer_before(index).map(str::to_string);
                Err(SfpError::NotAsPlanned { operation: index, name: name(ours), after, what })
            };
            if std::mem::discriminant(ours) != std::mem::discriminant(theirs) || name(ours) != name(theirs) {
                return differ(format!("{} runs there", name(theirs)));
            }
            for (out, found) in ours.outputs().zip(made.outputs()) {
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
            OperationIr::Float(_, F::Matmul(op)) => op.lhs.id,
            _ => return None,
        })
    }
}

/// An operation and its position in the network.
type Entry<'a> = (usize, &'a OperationIr);

/// All operations but reshapes and products with connection masks. Burn folds the leading axes of linear layers into rows, or does
/// not, by their widths; a reshape that goes wrong shows in the shape of what comes next. Masks are there or not, by whether the
/// plan has any and whether they are materialised.
fn essential(network: &Network) -> Vec<Entry<'_>> {
    let masks = network.parameters.iter().filter(|parameter| parameter.container == "ConnectionMask");
    let mut masks: HashSet<TensorId> = masks.map(|parameter| parameter.tensor).collect();
    let mut matters = |op: &OperationIr| match op {
        OperationIr::BaseFloat(B::Reshape(op)) => {
            if masks.contains(&op.input.id) {
                masks.insert(op.out.id);
            }
            false
        }
        OperationIr::NumericFloat(_, N::Mul(op)) => !masks.contains(&op.rhs.id),
        _ => true,
    };
    network.operations.iter().enumerate().filter(|(_, op)| matters(op)).collect()
}

/// Burn turns the product of one row a batch with one matrix for all batches round: `[.., b, 1, k]` becomes `[.., 1, b, k]`
/// before and back after it. Where the smaller network does and the original does not, the two swaps are left out; next to
/// each operation that stays comes the one that makes its result.
fn turned_back<'a>(own: &[Entry<'a>], other: Vec<Entry<'a>>) -> (Vec<Entry<'a>>, Vec<&'a OperationIr>) {
    let product = |op: &OperationIr| matches!(op, OperationIr::Float(_, F::Matmul(_)));
    let (mut all, mut made) = (Vec::with_capacity(other.len()), Vec::with_capacity(other.len()));
    let mut at = 0;
    while at < other.len() {
        let turned = match (own.get(all.len()), &other[at..]) {
            (
                Some((_, ours)),
                [
                    (_, OperationIr::BaseFloat(B::SwapDims(before))),
                    (_, OperationIr::Float(_, F::Matmul(op))),
                    (_, OperationIr::BaseFloat(B::SwapDims(after))),
                    ..,
                ],
            ) => product(ours) && op.lhs.id == before.out.id && after.input.id == op.out.id,
            _ => false,
        };
        let (kept, last) = if turned { (at + 1, at + 2) } else { (at, at) };
        all.push(other[kept]);
        made.push(other[last].1);
        at = last + 1;
    }
    (all, made)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GraphModule;
    use burn::module::{Module, Param};
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::{Device, Tensor};

    /// The layer's filters are the rows of a product with one matrix for all samples.
    #[derive(Module, Debug)]
    struct Rows {
        rows: Linear,
        matrix: Param<Tensor<3>>,
        last: Linear,
    }

    impl GraphModule for Rows {
        type Inputs = Tensor<3>;
        type Outputs = Tensor<3>;
        fn run(&self, x: Tensor<3>) -> Tensor<3> {
            let rows = self.rows.forward(x).swap_dims(1, 2);
            self.last.forward(rows.matmul(self.matrix.val()).swap_dims(1, 2))
        }
    }

    fn captured(filters: usize) -> Network {
        let device = Device::flex();
        let model = Rows {
            rows: LinearConfig::new(3, filters).init(&device),
            matrix: Param::from_tensor(Tensor::ones([1, 4, 5], &device)),
            last: LinearConfig::new(filters, 2).init(&device),
        };
        Network::capture(&model, &Tensor::zeros([2, 4, 3], &device)).unwrap()
    }

    #[test]
    fn a_product_that_burn_turns_round_is_the_same() {
        let (network, smaller) = (captured(3), captured(1));
        let filters = &network.layer("rows").unwrap().output_channels;
        let removed = network.flow.closed(&filters[1..].iter().copied().collect());
        assert!(smaller.operations.len() > network.operations.len());
        assert_eq!(network.compare_smaller(&removed, &smaller).unwrap(), []);
        let one_too_few = network.flow.closed(&filters[2..].iter().copied().collect());
        assert!(network.compare_smaller(&one_too_few, &smaller).is_err());
    }

    #[test]
    fn the_first_operation_that_differs_is_named() {
        let (network, mut smaller) = (captured(3), captured(3));
        smaller.operations.truncate(3);
        let error = network.compare_smaller(&BTreeSet::new(), &smaller).unwrap_err().to_string();
        assert!(error.contains("the end runs there"), "{error}");
    }
}
