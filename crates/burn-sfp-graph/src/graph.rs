//! The recorded forward pass as plain data.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use burn::backend::ir::{BaseOperationIr as B, OperationIr, TensorId};
use burn::tensor::TensorData;
use burn_sfp_nn::NnLayer;
use serde::{Deserialize, Serialize};

/// A float parameter or running statistic of the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Path inside the module, for example `convs.3.weight`.
    pub path: String,
    /// Type of the struct that holds it, for example `Conv2d`. Only the bare name: a type of the user's own may have the same.
    pub container: String,
    /// Types of the structs around it, the outermost first; the last one is `container`.
    pub holders: Vec<String>,
    /// The layer type of burn-sfp that holds it, `None` of other types, whatever their name.
    pub layer: Option<NnLayer>,
    /// Its shape.
    pub shape: Vec<usize>,
    pub(crate) tensor: TensorId,
}

impl Parameter {
    /// Whether the parameter is trained; running statistics are not.
    pub fn is_trained(&self) -> bool {
        !is_statistic(&self.path)
    }
}

/// Whether a path is that of a running statistic, which is not trained.
#[doc(hidden)]
pub fn is_statistic(path: &str) -> bool {
    path.ends_with("running_mean") || path.ends_with("running_var")
}

/// Path and shape of a parameter: a list of them tells one model from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterShape {
    /// Module path.
    pub path: String,
    /// Shape.
    pub shape: Vec<usize>,
}

impl Parameter {
    /// Path of the module that holds the parameter, for example `convs.3`; empty at the root.
    pub(crate) fn module(&self) -> &str {
        self.path.rsplit_once('.').map_or("", |(module, _)| module)
    }

    /// Number of elements.
    pub(crate) fn elements(&self) -> u64 {
        self.shape.iter().product::<usize>() as u64
    }
}

/// Operations, values and parameters of one forward pass, and which operation produces and which consume each tensor.
#[derive(Clone, Debug, Default)]
pub(crate) struct Graph {
    pub operations: Vec<OperationIr>,
    /// Data of parameters and constants, which copies of a graph share.
    pub values: Arc<BTreeMap<TensorId, TensorData>>,
    pub inputs: Vec<TensorId>,
    pub outputs: Vec<TensorId>,
    pub parameters: Vec<Parameter>,
    /// Samples in the recorded batch.
    pub batch: usize,
    /// Number of operations of the main forward pass, which come first. Those of other passes cost nothing.
    pub main: usize,
    /// What to call the tensors that the module holds besides its parameters.
    pub constants: BTreeMap<TensorId, String>,
    /// Slices, by position, whose parts shrink each by itself.
    pub free: BTreeSet<usize>,
    /// Which operation produces and which consume each tensor; [`connected`](Graph::connected) fills it in.
    pub edges: Edges,
}

/// The operation that produces and the operations that consume each tensor, and the parameter that it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Edges {
    producers: HashMap<TensorId, usize>,
    consumers: HashMap<TensorId, Vec<usize>>,
    parameters: HashMap<TensorId, usize>,
}

impl Graph {
    /// Fills in which operation produces and which consume each tensor.
    pub fn connected(mut self) -> Self {
        self.edges = Edges { parameters: self.parameter_index(), ..Edges::default() };
        for (k, op) in self.operations.iter().enumerate() {
            for input in op.inputs() {
                let consumers = self.edges.consumers.entry(input.id).or_default();
                if consumers.last() != Some(&k) {
                    consumers.push(k);
                }
            }
            for output in op.outputs() {
                self.edges.producers.insert(output.id, k);
            }
        }
        self
    }

    /// Position of the operation that produces a tensor; `None` of inputs, parameters and constants.
    pub fn producer(&self, tensor: TensorId) -> Option<usize> {
        self.edges.producers.get(&tensor).copied()
    }

    /// The operation that produces a tensor; `None` of inputs, parameters and constants.
    pub fn made_by(&self, tensor: TensorId) -> Option<&OperationIr> {
        self.producer(tensor).map(|producer| &self.operations[producer])
    }

    /// Positions of the operations that read a tensor.
    pub fn consumers(&self, tensor: TensorId) -> &[usize] {
        self.edges.consumers.get(&tensor).map(Vec::as_slice).unwrap_or_default()
    }

    /// The operations that read a tensor.
    pub fn read_by(&self, tensor: TensorId) -> impl Iterator<Item = &OperationIr> {
        self.consumers(tensor).iter().map(|&consumer| &self.operations[consumer])
    }

    /// Path of the layer (or bare parameter) that the last operation up to `operation` to read a parameter belongs to.
    pub fn layer_before(&self, operation: usize) -> Option<String> {
        let until = self.operations.len().min(operation + 1);
        let read = |op: &OperationIr| op.inputs().find_map(|input| self.parameter(input.id));
        let path = &self.parameters[self.operations[..until].iter().rev().find_map(read)?].path;
        Some(path.rsplit_once('.').map_or(path.as_str(), |(layer, _)| layer).to_string())
    }

    /// Index of the parameter that a tensor is, where it is one.
    pub fn parameter(&self, tensor: TensorId) -> Option<usize> {
        self.edges.parameters.get(&tensor).copied()
    }

    /// Whether a tensor is a mask over removed connections, perhaps under another shape.
    pub fn is_connection_mask(&self, tensor: TensorId) -> bool {
        let mut at = tensor;
        while let Some(OperationIr::BaseFloat(B::Reshape(op))) = self.made_by(at) {
            at = op.input.id;
        }
        self.parameter(at).is_some_and(|index| self.parameters[index].layer == Some(NnLayer::ConnectionMask))
    }

    /// Index of each parameter by its tensor.
    pub fn parameter_index(&self) -> HashMap<TensorId, usize> {
        self.parameters.iter().enumerate().map(|(k, parameter)| (parameter.tensor, k)).collect()
    }

    /// Tensors computed from constants alone, and what to call the first tensor of the module that they are computed from.
    pub fn constant_origins(&self) -> HashMap<TensorId, String> {
        let mut origins: HashMap<TensorId, String> = self.constants.clone().into_iter().collect();
        if origins.is_empty() {
            return origins;
        }
        for op in &self.operations {
            let known = |id: &TensorId| origins.contains_key(id);
            let mut inputs = op.inputs().map(|input| input.id);
            if !inputs.all(|id| known(&id) || (self.values.contains_key(&id) && self.parameter(id).is_none())) {
                continue;
            }
            if let Some(first) = op.inputs().find_map(|input| origins.get(&input.id).cloned()) {
                origins.extend(op.outputs().map(|output| (output.id, first.clone())));
            }
        }
        origins
    }

    /// Tensors computed from parameters and constants alone: the same for every input.
    pub fn fixed(&self) -> HashSet<TensorId> {
        let mut fixed: HashSet<TensorId> = self.values.keys().copied().collect();
        for op in &self.operations {
            if op.inputs().all(|input| fixed.contains(&input.id)) {
                fixed.extend(op.outputs().map(|output| output.id));
            }
        }
        fixed
    }

    /// Tensors computed from parameters and constants alone, each with the parameters that it is computed from, in the order in which they
    /// are read. Masks over connections count as constants.
    pub fn made_of(&self) -> HashMap<TensorId, Rc<[usize]>> {
        let nothing: Rc<[usize]> = Rc::new([]);
        let mut made: HashMap<TensorId, Rc<[usize]>> = HashMap::new();
        for (index, parameter) in self.parameters.iter().enumerate() {
            let mask = parameter.layer == Some(NnLayer::ConnectionMask);
            made.insert(parameter.tensor, if mask { nothing.clone() } else { Rc::new([index]) });
        }
        for op in &self.operations {
            let mut all: Option<Rc<[usize]>> = None;
            let fixed = op.inputs().all(|input| {
                let constant = || input.dtype.is_float() && self.values.contains_key(&input.id);
                let Some(own) = made.get(&input.id).or(constant().then_some(&nothing)) else { return false };
                all = Some(match all.take() {
                    None => own.clone(),
                    Some(all) if own.iter().all(|parameter| all.contains(parameter)) => all,
                    Some(all) => {
                        let more = own.iter().filter(|parameter| !all.contains(parameter));
                        all.iter().chain(more).copied().collect()
                    }
                });
                true
            });
            if let (true, Some(all)) = (fixed, all) {
                made.extend(op.outputs().map(|output| (output.id, all.clone())));
            }
        }
        made
    }

    /// Tensors computed from one parameter alone (a transposed, reshaped or masked weight), and that parameter.
    pub fn origins(&self) -> HashMap<TensorId, usize> {
        let mut origins = self.parameter_index();
        for op in &self.operations {
            let from: Option<Vec<usize>> = op.inputs().map(|input| origins.get(&input.id).copied()).collect();
            if let Some(&first) = from.as_deref().and_then(<[usize]>::first) {
                origins.extend(op.outputs().map(|output| (output.id, first)));
            }
        }
        origins
    }
}
