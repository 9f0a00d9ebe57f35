//! Scaling what writes to a stream, so that root-mean-square normalisations lose channels without another epsilon.
//!
//! With `c` of `C` channels left, let everything that writes to a stream be multiplied by `k = sqrt(c / C)`. The mean of squares over the
//! channels left is then what it was over all (`k^2 C / c = 1`), so that a normalisation divides by the same root, and its output is `k` times
//! what it was. A gamma, or the weight of a layer behind it, takes `1 / k`. No field of any layer changes.
//!
//! Each tensor of the stream gets an exponent of `k`; operations say how those of their operands and results go together.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use burn::backend::ir::{BaseOperationIr as B, NumericOperationIr as N, OperationIr, TensorId, TensorIr};

use super::mean_square::{MeanSquare, root_mean_squares, uncast};
use super::stream::carried_on;
use crate::graph::Graph;
use crate::op::describe;
use crate::op::description::{WeightedCall, runs_along};

/// The parameters that are scaled when a stream loses channels.
#[derive(Clone, Debug)]
pub(crate) struct Rescaling {
    /// The normalisations that read the stream.
    pub norms: Vec<usize>,
    /// The exponent of `k` for each parameter, by index.
    pub exponents: BTreeMap<usize, i32>,
}

/// The root-mean-square normalisations of a graph that can lose channels, and the streams of them whose writers can be scaled.
pub(crate) fn mean_squares(graph: &Graph) -> (Vec<MeanSquare>, Vec<Rescaling>) {
    let mut norms = root_mean_squares(graph);
    let mut streams: Vec<Rescaling> = Vec::new();
    let known = Known::of(&norms);
    // Normalisations of streams that something in cannot take a factor: the same holds for all that read one stream.
    let mut failed: HashSet<usize> = HashSet::new();
    for index in 0..norms.len() {
        if norms[index].stream.is_some() || failed.contains(&index) {
            continue;
        }
        match rescaling(graph, &norms, &known, &failed, index) {
            Ok(stream) => {
                stream.norms.iter().for_each(|&norm| norms[norm].stream = Some(streams.len()));
                streams.push(stream);
            }
            Err(read) => failed.extend(read.into_iter().chain([index])),
        }
    }
    // Streams are numbered before norms that nothing can undo are left out.
    norms.retain(|norm| norm.gamma.is_some() || norm.stream.is_some());
    (norms, streams)
}

/// The normalisations, by what they make and what they read.
struct Known {
    quotients: HashMap<TensorId, usize>,
    inputs: HashMap<TensorId, Vec<usize>>,
}

impl Known {
    fn of(norms: &[MeanSquare]) -> Self {
        let mut known = Self { quotients: HashMap::new(), inputs: HashMap::new() };
        for (index, norm) in norms.iter().enumerate() {
            known.quotients.entry(norm.quotient).or_insert(index);
            known.inputs.entry(norm.input).or_default().push(index);
        }
        known
    }
}

/// The rescaling of the stream that a normalisation reads. The error, where something in it cannot take a factor, is which
/// normalisations were found to read the stream until then.
fn rescaling(
    graph: &Graph,
    norms: &[MeanSquare],
    known: &Known,
    failed: &HashSet<usize>,
    norm: usize,
) -> Result<Rescaling, BTreeSet<usize>> {
    let mut stream = Stream {
        graph,
        norms,
        known,
        failed,
        members: HashMap::new(),
        outside: HashSet::new(),
        scaled: BTreeMap::new(),
        accounted: HashSet::new(),
        read: BTreeSet::new(),
        gates: Vec::new(),
        met: Vec::new(),
        open: Vec::new(),
    };
    match stream.whole(norm) {
        Some(()) => Ok(Rescaling { norms: stream.read.into_iter().collect(), exponents: stream.scaled }),
        None => Err(stream.read),
    }
}

/// A product with a parameter behind a normalisation whose exponent is still open.
struct Gate {
    gamma: usize,
    product: TensorId,
    axis: usize,
    operation: usize,
}

struct Stream<'g> {
    graph: &'g Graph,
    norms: &'g [MeanSquare],
    known: &'g Known,
    /// Normalisations of streams that cannot be scaled.
    failed: &'g HashSet<usize>,
    /// Axis of the channels and exponent of each tensor in the stream.
    members: HashMap<TensorId, (usize, i32)>,
    /// Tensors that must not be part of it.
    outside: HashSet<TensorId>,
    /// Exponents of parameters.
    scaled: BTreeMap<usize, i32>,
    /// Pairs of a scaled parameter and an operation that may read it.
    accounted: HashSet<(usize, usize)>,
    /// Normalisations that read the stream.
    read: BTreeSet<usize>,
    gates: Vec<Gate>,
    /// Inputs of layers whose weight is a member, each with the exponent that undoes the weight's.
    met: Vec<(TensorId, i32)>,
    open: Vec<TensorId>,
}

impl<'g> Stream<'g> {
    /// Follows the stream that a normalisation reads to all its ends.
    fn whole(&mut self, norm: usize) -> Option<()> {
        self.assign(self.norms[norm].input, self.norms[norm].axis, 1)?;
        self.settle()?;
        while !self.gates.is_empty() {
            self.open_gate()?;
        }
        self.check()
    }

    fn assign(&mut self, tensor: TensorId, axis: usize, exponent: i32) -> Option<()> {
        if exponent == 0 {
            self.outside.insert(tensor);
            return Some(());
        }
        match self.members.insert(tensor, (axis, exponent)) {
            None => self.open.push(tensor),
            Some(known) if known == (axis, exponent) => {}
            Some(_) => return None,
        }
        Some(())
    }

    fn settle(&mut self) -> Option<()> {
        while let Some(tensor) = self.open.pop() {
            let (axis, exponent) = self.members[&tensor];
            self.backward(tensor, axis, exponent)?;
            for &consumer in self.graph.consumers(tensor) {
                self.forward(tensor, axis, exponent, consumer)?;
            }
            if self.graph.outputs.contains(&tensor) {
                return None;
            }
        }
        Some(())
    }

    /// What makes a member.
    fn backward(&mut self, tensor: TensorId, axis: usize, exponent: i32) -> Option<()> {
        let graph = self.graph;
        let Some(index) = graph.producer(tensor) else {
            let parameter = graph.parameter(tensor)?;
            return self.scale_everywhere(parameter, exponent);
        };
        if let Some(norm) = self.known.quotients.get(&tensor).map(|&norm| &self.norms[norm]) {
            return (norm.axis == axis).then(|| self.assign(norm.input, axis, exponent))?;
        }
        let op = &graph.operations[index];
        let from = describe(op)?.mean_free(axis);
        if !from.is_empty() {
            return from.into_iter().try_for_each(|(operand, own)| self.assign(operand.id, own, exponent));
        }
        // A product with a parameter along the axis: a gamma of the stream's own, or a factor of what writes to it.
        let OperationIr::NumericFloat(_, N::Mul(mul)) = op else { return None };
        let (factor, other) = match (self.factor(&mul.lhs, &mul.out, axis), self.factor(&mul.rhs, &mul.out, axis)) {
            (None, Some(factor)) => (factor, mul.lhs.id),
            (Some(factor), None) => (factor, mul.rhs.id),
            _ => return None,
        };
        if self.accounted.contains(&(factor, index)) {
            return Some(());
        }
        let own = self.members.get(&other).map_or(0, |member| member.1);
        if own == 0 {
            self.outside.insert(other);
        }
        self.gates.retain(|gate| gate.operation != index);
        self.scale(factor, exponent - own, index)
    }

    /// What reads a member.
    fn forward(&mut self, tensor: TensorId, axis: usize, exponent: i32, consumer: usize) -> Option<()> {
        let graph = self.graph;
        let op = &graph.operations[consumer];
        let own = |norm: &&usize| self.norms[**norm].axis == axis && norm_reads(graph, &self.norms[**norm], consumer);
        if let Some(&norm) = self.known.inputs.get(&tensor).into_iter().flatten().find(own) {
            // The same epsilon is right for a factor of k alone.
            if exponent != 1 || self.failed.contains(&norm) {
                return None;
            }
            self.read.insert(norm);
            return self.assign(self.norms[norm].quotient, axis, 1);
        }
        let operand = op.inputs().find(|input| input.id == tensor)?;
        let times = op.inputs().filter(|input| input.id == tensor).count();
        if let Some((out, along)) = carried_on(op, operand, axis, times) {
            return self.assign(out.id, along, exponent);
        }
        if let Some(call) = describe(op).and_then(|described| described.layer()) {
            return self.contract(&call, operand, axis, exponent, consumer);
        }
        let OperationIr::NumericFloat(_, N::Mul(mul)) = op else { return None };
        let other = if mul.lhs.id == tensor { &mul.rhs } else { &mul.lhs };
        let gamma = self.factor(other, &mul.out, axis)?;
        if !self.accounted.contains(&(gamma, consumer)) {
            self.gates.push(Gate { gamma, product: mul.out.id, axis, operation: consumer });
        }
        Some(())
    }

    /// A layer that sums over the channels of a member: as its input, or as its weight (a table that is read at both ends of the network).
    fn contract(
        &mut self,
        call: &WeightedCall<'_>,
        operand: &TensorIr,
        axis: usize,
        exponent: i32,
        consumer: usize,
    ) -> Option<()> {
        let weight = self.vector(call.weight.id)?;
        if call.weight.id == operand.id && call.x.id != operand.id {
            let rank = operand.shape.num_dims();
            let sums = call.kind.is_matrix() && axis + 2 == rank;
            self.met.push((call.x.id, -exponent));
            return (sums && self.accounted.insert((weight, consumer))).then_some(());
        }
        let sums = axis == call.kind.channel_axis(operand.shape.num_dims()) && !call.kind.reads_indices();
        if !sums || call.groups > 1 {
            return None;
        }
        let own = self.scaled.get(&weight).copied().unwrap_or(-exponent);
        self.scale(weight, own, consumer)?;
        (own == -exponent).then_some(())
    }

    /// The parameter that a tensor holds the elements of, in another order or shape.
    fn vector(&self, tensor: TensorId) -> Option<usize> {
        let mut at = tensor;
        while let Some(op) = self.graph.made_by(at).filter(|op| moves(op)) {
            at = op.inputs().next()?.id;
        }
        self.graph.parameter(at)
    }

    /// The parameter that a factor is, where it runs along an axis of the product.
    fn factor(&self, operand: &TensorIr, out: &TensorIr, axis: usize) -> Option<usize> {
        runs_along(operand, out, axis)?;
        self.vector(operand.id)
    }

    fn scale(&mut self, parameter: usize, exponent: i32, operation: usize) -> Option<()> {
        self.accounted.insert((parameter, operation));
        match self.scaled.insert(parameter, exponent) {
            Some(known) if known != exponent => None,
            _ => Some(()),
        }
    }

    /// A parameter that is a member itself: whatever reads it is looked at as what reads a member.
    fn scale_everywhere(&mut self, parameter: usize, exponent: i32) -> Option<()> {
        let readers = self.graph.consumers(self.graph.parameters[parameter].tensor);
        readers.iter().try_for_each(|&reader| self.scale(parameter, exponent, reader))
    }

    /// Decides on the exponent of a gamma by what stands behind it; where that does not matter, as another call of it decided.
    fn open_gate(&mut self) -> Option<()> {
        let (mut first, mut wanted) = (0, None);
        for (index, gate) in self.gates.iter().enumerate() {
            let own = self.wanted(gate)?;
            if own.is_some() {
                (first, wanted) = (index, own);
                break;
            }
        }
        let gate = self.gates.swap_remove(first);
        let known = self.scaled.get(&gate.gamma).map(|exponent| exponent + 1);
        let behind = wanted.or(known).unwrap_or_default();
        self.scale(gate.gamma, behind - 1, gate.operation)?;
        self.assign(gate.product, gate.axis, behind)?;
        self.settle()
    }

    /// The exponent that everything behind a product can take: 0, or what undoes that of a weight which is scaled already; `Some(None)`
    /// where nothing is behind it.
    fn wanted(&self, gate: &Gate) -> Option<Option<i32>> {
        let mut open = vec![(gate.product, gate.axis)];
        let mut wanted = None;
        while let Some((tensor, axis)) = open.pop() {
            for &consumer in self.graph.consumers(tensor) {
                let op = &self.graph.operations[consumer];
                let call = describe(op).and_then(|described| described.layer());
                let weight = call.filter(|call| call.x.id == tensor).and_then(|call| self.vector(call.weight.id));
                let operand = op.inputs().find(|input| input.id == tensor)?;
                let times = op.inputs().filter(|input| input.id == tensor).count();
                let own = match (weight, carried_on(op, operand, axis, times)) {
                    (Some(weight), _) => -self.scaled.get(&weight).copied().unwrap_or_default(),
                    // What only moves the elements; a sum has an exponent of its own.
                    (None, Some((out, along))) if !matches!(op, OperationIr::NumericFloat(..)) => {
                        open.push((out.id, along));
                        continue;
                    }
                    _ => 0,
                };
                if wanted.is_some_and(|wanted| wanted != own) {
                    return None;
                }
                wanted = Some(own);
            }
        }
        Some(wanted)
    }

    /// Nothing outside is scaled by the way, weights meet the inputs that undo them, and no scaled parameter is read elsewhere.
    fn check(&self) -> Option<()> {
        let exponent = |tensor: &TensorId| self.members.get(tensor).map_or(0, |member| member.1);
        let apart = self.outside.iter().all(|tensor| exponent(tensor) == 0);
        let undone = self.met.iter().all(|(input, wanted)| exponent(input) == *wanted);
        let mut scaled = self.scaled.iter().filter(|(_, exponent)| **exponent != 0).map(|(parameter, _)| *parameter);
        (apart && undone && scaled.all(|parameter| self.read_here_only(parameter))).then_some(())
    }

    fn read_here_only(&self, parameter: usize) -> bool {
        let mut open = vec![self.graph.parameters[parameter].tensor];
        while let Some(tensor) = open.pop() {
            for &consumer in self.graph.consumers(tensor) {
                let op = &self.graph.operations[consumer];
                let known = self.members.contains_key(&tensor) || self.accounted.contains(&(parameter, consumer));
                if !known {
                    if !moves(op) {
                        return false;
                    }
                    open.extend(op.outputs().map(|out| out.id));
                }
            }
        }
        true
    }
}

/// Whether an operation is one by which a normalisation reads its input: the square (perhaps of a cast) or the quotient.
fn norm_reads(graph: &Graph, norm: &MeanSquare, consumer: usize) -> bool {
    let op = &graph.operations[consumer];
    let Some(out) = op.outputs().next() else { return false };
    if out.id == norm.quotient {
        return true;
    }
    match op {
        OperationIr::BaseFloat(B::Cast(cast)) => {
            graph.consumers(cast.out.id).iter().all(|&next| norm_reads(graph, norm, next))
        }
        _ => graph.read_by(out.id).any(|next| {
            let mean = next.outputs().any(|result| result.id == norm.mean);
            let cast = matches!(next, OperationIr::BaseFloat(B::Cast(cast)) if graph.read_by(cast.out.id)
                .any(|mean| mean.outputs().any(|result| result.id == norm.mean)));
            (mean || cast) && op.inputs().all(|input| uncast(graph, input.id) == norm.input)
        }),
    }
}

/// Whether an operation only moves the elements of its one operand.
fn moves(op: &OperationIr) -> bool {
    matches!(
        op,
        OperationIr::BaseFloat(B::Reshape(_) | B::SwapDims(_) | B::Permute(_) | B::Flip(_) | B::Expand(_) | B::Cast(_))
    )
}
