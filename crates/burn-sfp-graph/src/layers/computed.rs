//! Weights that are computed from parameters in the forward pass: what they are called, which of them are the same, and which products of
//! parameters make them.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use burn::backend::ir::{BaseOperationIr as B, OperationIr, TensorId, TensorIr};

use crate::channels::flow::Flow;
use crate::graph::{Graph, Parameter};
use crate::op::describe;
use crate::op::description::{Role, WeightedCall};
use crate::op::plain::without_tensors;

/// The path of a layer whose weight is computed from these parameters: the parameter's without `.weight`, or all of them behind what their
/// paths have in common, `block.lora.{base,a,b}`.
pub(super) fn path_of(graph: &Graph, made_of: &[usize]) -> String {
    let paths: Vec<&str> = made_of.iter().map(|&parameter| graph.parameters[parameter].path.as_str()).collect();
    let [first, rest @ ..] = &paths[..] else { return String::new() };
    if rest.is_empty() {
        return first.strip_suffix(".weight").unwrap_or(first).to_string();
    }
    let mut common = 0;
    for (at, _) in first.match_indices('.') {
        if rest.iter().all(|path| path.as_bytes().get(..=at) == first.as_bytes().get(..=at)) {
            common = at + 1;
        }
    }
    let names: Vec<&str> = paths.iter().map(|path| &path[common..]).collect();
    format!("{}{{{}}}", &first[..common], names.join(","))
}

/// The products, by position, whose result goes into a weight: they make it and are no layers of their own. What an activation stands behind
/// is one, and so is what a linear layer of Burn's computes.
pub(super) fn kernel_products(graph: &Graph, made: &HashMap<TensorId, Rc<[usize]>>) -> HashSet<usize> {
    let of_linear = |tensor: TensorId| {
        let parameter = graph.parameter(tensor).map(|index| &graph.parameters[index]);
        parameter.is_some_and(|parameter: &Parameter| {
            parameter.container.ends_with("Linear") && parameter.path.ends_with("weight")
        })
    };
    // A layer of Burn's that reads anything but the weight of another one.
    let is_layer = |call: &WeightedCall<'_>| of_linear(call.weight.id) && !of_linear(call.x.id);
    let (mut found, mut seen) = (HashSet::new(), HashSet::new());
    for op in &graph.operations {
        let Some(call) = describe(op).and_then(|described| described.layer()) else { continue };
        if !made.contains_key(&call.weight.id) {
            continue;
        }
        let mut open = vec![call.weight.id];
        while let Some(tensor) = open.pop() {
            let Some(index) = graph.producer(tensor).filter(|index| seen.insert(*index)) else { continue };
            let op = &graph.operations[index];
            let Some(described) = describe(op) else { continue };
            if described.role() == Role::Activation {
                continue;
            }
            match described.layer() {
                Some(call) if is_layer(&call) => continue,
                Some(_) => drop(found.insert(index)),
                None => {}
            }
            open.extend(op.inputs().map(|input| input.id));
        }
    }
    found
}

/// The kernel that a convolution's kernels for each sample are modulated from (StyleGAN 2): computed from parameters alone, with the filters and
/// the inputs of the convolution, between which and the kernels there are products, quotients and sums element by element.
pub(super) fn modulated<'g>(
    graph: &'g Graph,
    flow: &Flow,
    made: &HashMap<TensorId, Rc<[usize]>>,
    call: &WeightedCall<'g>,
) -> Option<&'g TensorIr> {
    if call.kind.is_linear() {
        return None;
    }
    let made_by = flow.tensors.get(&call.out.id)?.get(1)?.as_ref()?;
    // A kernel as it is applied, perhaps with axes of length 1 before it, whose filters are those of each sample.
    let fits = |tensor: &TensorIr| {
        let from = tensor.shape.num_dims().checked_sub(call.weight.shape.num_dims())?;
        let leading = tensor.shape.iter().take(from).all(|&length| length == 1);
        let axis = from + call.kind.output_axis();
        let ids = flow.tensors.get(&tensor.id)?.get(axis)?.as_ref()?;
        let same =
            made_by.len() % ids.len() == 0 && made_by.iter().enumerate().all(|(k, id)| *id == ids[k % ids.len()]);
        (leading && same).then_some(())
    };
    let (mut open, mut seen) = (vec![call.weight], HashSet::new());
    while let Some(tensor) = open.pop() {
        if made.get(&tensor.id).is_some_and(|made| !made.is_empty()) {
            match fits(tensor) {
                Some(()) => return Some(tensor),
                None => continue,
            }
        }
        let Some(op) = graph.made_by(tensor.id).filter(|_| seen.insert(tensor.id)) else { continue };
        let described = describe(op)?;
        let moved = described.linear_in().is_some() && described.layer().is_none();
        if moved || described.elementwise().is_some() || matches!(op, OperationIr::BaseFloat(B::Expand(_))) {
            open.extend(op.inputs());
        }
    }
    None
}

/// Tells tensors that are computed in the same way from the same parameters.
pub(super) struct Expressions<'g> {
    graph: &'g Graph,
    known: HashMap<TensorId, u64>,
}

impl<'g> Expressions<'g> {
    pub fn new(graph: &'g Graph) -> Self {
        Self { graph, known: HashMap::new() }
    }

    /// A number that stands for how a tensor is computed.
    pub fn of(&mut self, tensor: TensorId) -> u64 {
        if let Some(&known) = self.known.get(&tensor) {
            return known;
        }
        let mut hasher = DefaultHasher::new();
        match self.graph.made_by(tensor) {
            Some(op) => {
                self.hash(op, &mut hasher);
                // Which of several results it is.
                op.outputs().position(|output| output.id == tensor).hash(&mut hasher);
            }
            None => match self.graph.parameter(tensor) {
                Some(parameter) => parameter.hash(&mut hasher),
                None => self.graph.values.get(&tensor).map(|data| data.as_bytes()).hash(&mut hasher),
            },
        }
        let number = hasher.finish();
        self.known.insert(tensor, number);
        number
    }

    fn hash(&mut self, op: &OperationIr, hasher: &mut DefaultHasher) {
        without_tensors(op).hash(hasher);
        for output in op.outputs() {
            output.shape.iter().for_each(|length| length.hash(hasher));
        }
        for input in op.inputs().map(|input| input.id).collect::<Vec<_>>() {
            self.of(input).hash(hasher);
        }
    }
}
