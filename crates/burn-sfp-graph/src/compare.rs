//! Whether a smaller module runs the graph that its plan foresaw.
//!
//! A forward pass may hold constants that a capture cannot tell from computed ones: a reshape by a stored width, a slice at a fixed
//! channel, a division by the root of a head's width. Capturing the smaller module once and comparing finds them all.

use std::collections::{BTreeSet, HashSet};

use burn::backend::ir::{BaseOperationIr as B, IrVisitorMut, NumericOperationIr as N, OperationIr, ScalarIr};

use crate::GraphError;
use crate::blocks::Omitted;
use crate::channels::ids::ChannelId;
use crate::channels::left::Left;
use crate::graph::Graph;
use crate::layers::mean_square::root_mean_squares;
use crate::layers::written_out::{WrittenOut, put_together, written_out};
use crate::network::Network;
use crate::op::describe;
use crate::op::description::dims;
use crate::op::matmul::{is_product, is_turned_round};
use crate::op::name::name;
use crate::op::normalization::layer_norm;
use crate::op::plain::options;
use crate::wiring::Wiring;

/// A scalar of an operation that changed with the width of the network.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ScalarChange {
    /// Position of the operation in the original network.
    pub operation: usize,
    /// Name of the operation.
    pub name: String,
    /// The scalar in the original network.
    pub before: f64,
    /// The scalar in the smaller network.
    pub after: f64,
    /// Index of the layer whose weights times this factor undo the change, where there is one: everything between it and the operation is
    /// linear and read by nothing else.
    pub undone_by: Option<(usize, f64)>,
}

impl Network {
    /// Compares the capture of a smaller module, on the same input, with this network without the channels in `removed` (closed). Returns the
    /// scalars that differ.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::{GraphModule, Network};
    /// # #[derive(Module, Debug)]
    /// # struct Mlp { a: Linear, b: Linear }
    /// # impl GraphModule for Mlp {
    /// #     type Inputs = Tensor<2>;
    /// #     type Outputs = Tensor<2>;
    /// #     fn run(&self, x: Tensor<2>) -> Tensor<2> {
    /// #         self.b.forward(burn::tensor::activation::relu(self.a.forward(x)))
    /// #     }
    /// # }
    /// # let device = Device::flex();
    /// # let mlp = |width| Mlp {
    /// #     a: LinearConfig::new(4, width).init(&device),
    /// #     b: LinearConfig::new(width, 3).init(&device),
    /// # };
    /// let x = Tensor::zeros([2, 4], &device);
    /// let (network, smaller) = (Network::capture(&mlp(8), &x)?, Network::capture(&mlp(7), &x)?);
    /// let removed = network.flow().closed(&[network.layers()[0].output_channels()[0]].into());
    /// assert!(network.compare_smaller(&removed, &smaller)?.is_empty());
    /// assert!(network.compare_smaller(&Default::default(), &smaller).is_err());
    /// # Ok::<(), burn_sfp_graph::GraphError>(())
    /// ```
    ///
    /// # Errors
    /// [`GraphError::GraphMismatch`] where another operation, shape, slice or group count turns up.
    pub fn compare_smaller(
        &self,
        removed: &BTreeSet<ChannelId>,
        smaller: &Network,
    ) -> Result<Vec<ScalarChange>, GraphError> {
        self.compare_without(removed, &Omitted::default(), smaller)
    }

    /// [`compare_smaller`](Network::compare_smaller) of a module that lacks whole blocks too.
    ///
    /// # Errors
    /// As [`compare_smaller`](Network::compare_smaller).
    pub fn compare_without(
        &self,
        removed: &BTreeSet<ChannelId>,
        omitted: &Omitted,
        smaller: &Network,
    ) -> Result<Vec<ScalarChange>, GraphError> {
        self.compare_graph(removed, omitted, &smaller.graph)
    }

    /// [`compare_without`](Network::compare_without) with the recorded operations alone.
    pub(crate) fn compare_graph(
        &self,
        removed: &BTreeSet<ChannelId>,
        omitted: &Omitted,
        smaller: &Graph,
    ) -> Result<Vec<ScalarChange>, GraphError> {
        let ours = written_out(&self.graph, &self.flow.means);
        let theirs = written_out(smaller, &root_mean_squares(smaller));
        let own = self.left_of(&ours, omitted);
        let (other, made) = turned_back(&own, essential(smaller, &theirs));
        if own.len() != other.len() {
            return Err(self.other_operations(&own, &other));
        }
        let left = self.flow.left(removed);
        let epsilons = self.new_epsilons(removed);
        // Layer normalisations leave the mean in or take it out; see `written_out`.
        let centered = |norms: &[WrittenOut]| norms.iter().map(|norm| norm.at).collect::<HashSet<usize>>();
        let (of_ours, of_theirs) = (centered(&ours), centered(&theirs));
        let forms = (own.iter().zip(&other)).map(|((own, op), (other, _))| {
            layer_norm(op).is_some()
                && (of_ours.contains(own) || epsilons.contains_key(own)) != of_theirs.contains(other)
        });
        let forms: Vec<bool> = forms.collect();
        let mut changes = Vec::new();
        let mut wiring = Wiring::new(&self.graph, omitted, smaller);
        for ((((index, ours), (_, theirs)), made), other_form) in own.into_iter().zip(other).zip(made).zip(forms) {
            let wired = wiring.pair(ours, theirs, made);
            let form = || other_form.then(|| FORM.into());
            if let Some(what) = mismatch(ours, theirs, made, left).or(wired).or_else(form) {
                return Err(self.mismatch_at(index, what));
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
        match wiring.other_output() {
            Some(what) => Err(GraphError::GraphMismatch { operation: None, name: "the end".into(), after: None, what }),
            None => Ok(changes),
        }
    }

    /// The operation at which a smaller module's forward pass panicked: `partial` is what it recorded until then. That is the first one that
    /// is not as planned, or else the one that did not come.
    pub(crate) fn stopped(
        &self,
        removed: &BTreeSet<ChannelId>,
        omitted: &Omitted,
        partial: &Graph,
        message: &str,
    ) -> GraphError {
        let ours = written_out(&self.graph, &self.flow.means);
        let theirs = written_out(partial, &root_mean_squares(partial));
        let own = self.left_of(&ours, omitted);
        let (other, made) = turned_back(&own, essential(partial, &theirs));
        let left = self.flow.left(removed);
        let pairs = own.iter().zip(&other).zip(made);
        let wrong = pairs.into_iter().find_map(|((ours, theirs), made)| {
            mismatch(ours.1, theirs.1, made, left).map(|what| self.mismatch_at(ours.0, what))
        });
        if let Some(error) = wrong {
            return error;
        }
        let what = format!("the smaller module fails there with \"{message}\"");
        // Reshapes that were still recorded are passed over.
        let since = other.last().map_or(0, |(last, _)| last + 1);
        let passed = partial.operations.len() - since;
        let next = match other.len().checked_sub(1).and_then(|last| own.get(last)) {
            Some((last, _)) => last + 1 + passed,
            None => passed,
        };
        let next = next.min(own.get(other.len()).map_or(next, |(index, _)| *index));
        match self.graph.operations.get(next) {
            Some(_) => self.mismatch_at(next, what),
            None => GraphError::GraphMismatch { operation: None, name: "the end".into(), after: None, what },
        }
    }

    /// The operations that matter without those of some blocks.
    fn left_of<'a>(&'a self, norms: &'a [WrittenOut], omitted: &Omitted) -> Vec<Entry<'a>> {
        let mut own = essential(&self.graph, norms);
        own.retain(|(index, _)| !omitted.has_operation(*index));
        own
    }

    /// The channels (atoms, see [`Flow`](crate::Flow)) that a mismatch at an operation may be about: those on the axes of the tensors
    /// there, and then, step by step against the direction of the data, those on the way to it. Each list holds what was not in one before.
    pub fn channels_before(&self, operation: usize) -> Vec<BTreeSet<ChannelId>> {
        let (mut seen, mut known) = (HashSet::new(), BTreeSet::new());
        let mut lists = Vec::new();
        let mut open = vec![operation];
        while !open.is_empty() {
            let mut fresh = BTreeSet::new();
            let mut behind = Vec::new();
            for index in open {
                let Some(op) = self.graph.operations.get(index).filter(|_| seen.insert(index)) else { continue };
                for tensor in op.inputs().chain(op.outputs()) {
                    let axes = self.flow.tensors.get(&tensor.id).into_iter().flatten().flatten().flatten();
                    fresh.extend(axes.flat_map(|id| self.flow.atoms_of(id)).copied().filter(|id| known.insert(*id)));
                }
                behind.extend(op.inputs().filter_map(|input| self.graph.producer(input.id)));
            }
            if !fresh.is_empty() {
                lists.push(fresh);
            }
            open = behind;
        }
        lists
    }

    /// The first operation that differs, of two graphs of different length; where one is the start of the other, what the longer one goes on
    /// with.
    fn other_operations(&self, own: &[Entry<'_>], other: &[Entry<'_>]) -> GraphError {
        let at = (0..own.len().max(other.len()))
            .find(|&k| own.get(k).map(|op| name(op.1)) != other.get(k).map(|op| name(op.1)))
            .unwrap_or_default();
        let (ours, theirs) = (own.get(at), other.get(at));
        let found = match theirs {
            Some(op) => format!("the smaller module runs {} there", name(op.1)),
            None => format!("the smaller module ends after {} operations", other.len()),
        };
        let what = format!("{found} ({} operations instead of {})", other.len(), own.len());
        match ours {
            Some(&(operation, _)) => self.mismatch_at(operation, what),
            None => GraphError::GraphMismatch { operation: None, name: "the end".into(), after: None, what },
        }
    }

    fn mismatch_at(&self, operation: usize, what: String) -> GraphError {
        let after = self.layer_before(operation).map(str::to_string);
        let name = name(&self.graph.operations[operation]);
        GraphError::GraphMismatch { operation: Some(operation), name, after, what }
    }

    /// The layer upstream of a multiplication or division by a scalar that can take the factor into its weights.
    fn undone_by(&self, operation: usize, before: f64, after: f64) -> Option<(usize, f64)> {
        let described = describe(&self.graph.operations[operation])?;
        let (mut at, factor) = (described.linear_in()?.id, described.undo(before, after)?);
        loop {
            if self.graph.consumers(at).len() != 1 {
                return None;
            }
            if let Some(&layer) = self.layer_of.get(&at) {
                let found = &self.layers[layer];
                return (!found.is_shared() && !found.is_computed()).then_some((layer, factor));
            }
            at = describe(self.graph.made_by(at)?)?.linear_in()?.id;
        }
    }
}

const FORM: &str = "its field `centered` is not what the plan says";

/// An operation and its position in the network.
type Entry<'a> = (usize, &'a OperationIr);

/// What `theirs` has other than `ours` without the removed channels; `made` is the operation that makes its result.
fn mismatch(ours: &OperationIr, theirs: &OperationIr, made: &OperationIr, left: Left<'_>) -> Option<String> {
    if std::mem::discriminant(ours) != std::mem::discriminant(theirs) || name(ours) != name(theirs) {
        return Some(format!("the smaller module runs {} there", name(theirs)));
    }
    for (out, found) in ours.outputs().zip(made.outputs()) {
        let (expected, found) = (left.shape(out), dims(found));
        if !same_but_folded(&expected, &found) {
            return Some(format!("it makes shape {found:?}, the plan's is {expected:?}"));
        }
    }
    if ours.inputs().count() != theirs.inputs().count() {
        return Some(format!(
            "it reads {} tensors, in the original {}",
            theirs.inputs().count(),
            ours.inputs().count()
        ));
    }
    // The left side of a product that is turned round has other axes.
    let turned = usize::from(!std::ptr::eq(theirs, made));
    for (input, found) in ours.inputs().zip(theirs.inputs()).skip(turned) {
        let (expected, found) = (left.shape(input), dims(found));
        if !same_but_folded(&expected, &found) {
            return Some(format!("it reads shape {found:?}, the plan's is {expected:?}"));
        }
    }
    describe(ours)
        .and_then(|described| described.mismatch(theirs, left))
        .or_else(|| (options(ours) != options(theirs)).then(|| "its options are not those of the original".to_string()))
}

/// All operations but reshapes and products with connection masks. Burn folds the leading axes of linear layers into rows, or does
/// not, by their widths; a reshape that goes wrong shows in the shape of what comes next. Masks are there or not, by whether the
/// plan has any and whether they are materialised.
fn essential<'a>(graph: &'a Graph, norms: &'a [WrittenOut]) -> Vec<Entry<'a>> {
    let matters = |op: &OperationIr| match op {
        OperationIr::BaseFloat(B::Reshape(_)) => false,
        OperationIr::NumericFloat(_, N::Mul(op)) => !graph.is_connection_mask(op.rhs.id),
        _ => true,
    };
    put_together(graph, norms).filter(|(_, op)| matters(op)).collect()
}

/// Burn turns the product of one row a batch with one matrix for all batches round: `[.., b, 1, k]` becomes `[.., 1, b, k]`
/// before and back after it. Where the smaller network does and the original does not, the two swaps are left out; next to
/// each operation that stays comes the one that makes its result.
fn turned_back<'a>(own: &[Entry<'a>], other: Vec<Entry<'a>>) -> (Vec<Entry<'a>>, Vec<&'a OperationIr>) {
    let (mut all, mut made) = (Vec::with_capacity(other.len()), Vec::with_capacity(other.len()));
    let mut at = 0;
    while at < other.len() {
        let turned = match (own.get(all.len()), &other[at..]) {
            (Some((_, ours)), [(_, before), (_, product), (_, after), ..]) => {
                is_product(ours) && is_turned_round(before, product, after)
            }
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
        assert!(smaller.graph.operations.len() > network.graph.operations.len());
        assert_eq!(network.compare_smaller(&removed, &smaller).unwrap(), []);
        let one_too_few = network.flow.closed(&filters[2..].iter().copied().collect());
        assert!(network.compare_smaller(&one_too_few, &smaller).is_err());
    }

    #[test]
    fn the_first_operation_that_differs_is_named() {
        let (network, mut smaller) = (captured(3), captured(3));
        smaller.graph.operations.truncate(3);
        let error = network.compare_smaller(&BTreeSet::new(), &smaller).unwrap_err().to_string();
        assert!(error.contains("the smaller module ends after"), "{error}");
    }
}
