//! Streams of channels that only layer normalisations read and whose mean over the channels can be taken out of the parameters that write
//! to them: the residual streams of pre-norm transformers.
//!
//! A layer normalisation subtracts the mean over its channels (Ba, Kiros and Hinton, "Layer Normalization", 2016, arXiv 1607.06450). Where
//! everything that is added to what it reads is linear in a parameter, the mean can be subtracted from that parameter instead,
//! `W - mean_c(W)`, and no output changes. What is left divides by `sqrt(mean(x^2) + epsilon)`, as root-mean-square normalisation does
//! (Ashkboos et al., "SliceGPT", 2024, arXiv 2401.15024, section 3.2), and loses channels by the same rule (`mean_square.rs`).

use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;

use burn::backend::ir::{BaseOperationIr as B, LayerNormOpIr, OperationIr, TensorId, TensorIr};
use burn_sfp_nn::NnLayer;

use crate::graph::{Graph, Parameter};
use crate::op::describe;
use crate::op::name::name;
use crate::op::normalization::layer_norm;

/// Channels that only layer normalisations read.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    /// The layer normalisations that read it.
    pub norms: Vec<StreamNorm>,
    /// Index of each parameter that writes to it, and the parameter's axis of the channels.
    pub writers: Vec<(usize, usize)>,
}

/// A layer normalisation that reads a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamNorm {
    /// Index of its gamma among the parameters.
    pub gamma: usize,
    /// The operation.
    pub operation: usize,
    /// What it adds to the variance.
    pub epsilon: f64,
}

/// What is known of the layer normalisations of a graph.
#[derive(Default)]
pub(crate) struct Streams {
    /// The streams whose channels can leave.
    pub centered: Vec<Stream>,
    /// Results of layer normalisations whose channels cannot leave, and why.
    pub fixed: HashMap<TensorId, String>,
    /// Results of layer normalisations whose channels could leave if the layer were another, and advice; in the order in which they run.
    pub replaceable: Vec<(TensorId, String)>,
}

/// Finds the streams that layer normalisations read.
pub(crate) fn streams(graph: &Graph) -> Streams {
    let finder = Finder { graph, origins: graph.origins(), causes: RefCell::new(HashMap::new()) };
    let norms = graph.operations.iter().enumerate().filter_map(|(index, op)| Some((index, layer_norm(op)?)));
    let norms: Vec<(usize, &LayerNormOpIr)> = norms.collect();
    let mut found = Streams::default();
    let mut seen = HashSet::new();
    for &(index, norm) in &norms {
        if seen.contains(&index) {
            continue;
        }
        let path = finder.path_of(norm, index);
        match finder.stream(norm) {
            Ok((stream, unlike)) => {
                seen.extend(stream.norms.iter().map(|norm| norm.operation));
                match unlike {
                    None => found.centered.push(stream),
                    Some(other) => found.replaceable.extend(stream.norms.iter().filter_map(|norm| {
                        let norm = layer_norm(&graph.operations[norm.operation])?;
                        Some((norm.out.id, finder.advice(other)))
                    })),
                }
            }
            Err(cause) => {
                found.fixed.insert(norm.out.id, format!("layer normalisation {path} mixes its channels, and {cause}"));
            }
        }
    }
    found
}

struct Finder<'a> {
    graph: &'a Graph,
    /// Tensors computed from one parameter alone, and that parameter.
    origins: HashMap<TensorId, usize>,
    /// Why channels cannot leave, for the tensors of streams that were looked at.
    causes: RefCell<HashMap<TensorId, Rc<str>>>,
}

/// After how many tensors a walk takes the cause that an earlier walk through the same stream found: in a deep network each of its
/// layer normalisations would walk all of it.
const OWN_WALK: usize = 256;

impl<'a> Finder<'a> {
    /// The stream that a layer normalisation reads, and the gamma of one of its layer normalisations that is no `CenteredLayerNorm`, where
    /// there is one. The error is why its channels cannot leave.
    fn stream(&self, norm: &'a LayerNormOpIr) -> Result<(Stream, Option<usize>), String> {
        let mut walk = Walk { finder: self, axes: HashMap::new(), norms: Vec::new(), writers: Vec::new() };
        let walked = walk.follow(&norm.input, norm.input.shape.num_dims() - 1);
        walk.norms.sort_unstable();
        let norms = walked.and_then(|()| walk.norms.iter().map(|&norm| self.norm(norm)).collect());
        let norms: Vec<StreamNorm> = norms.inspect_err(|cause: &String| {
            let shared: Rc<str> = cause.as_str().into();
            let mut causes = self.causes.borrow_mut();
            for &tensor in walk.axes.keys() {
                causes.entry(tensor).or_insert_with(|| shared.clone());
            }
        })?;
        let stream = Stream { norms, writers: walk.writers };
        let ours = |norm: &StreamNorm| self.graph.parameters[norm.gamma].layer == Some(NnLayer::CenteredLayerNorm);
        let unlike = stream.norms.iter().find(|norm| !ours(norm)).map(|norm| norm.gamma);
        Ok((stream, unlike))
    }

    fn norm(&self, operation: usize) -> Result<StreamNorm, String> {
        let op = &self.graph.operations[operation];
        let own = layer_norm(op).and_then(|norm| {
            let gamma = self.state(&norm.gamma)?;
            let shifted = match &norm.beta {
                Some(beta) => {
                    self.graph.parameters[self.state(beta)?].module() == self.graph.parameters[gamma].module()
                }
                None => true,
            };
            let only_scales = shifted && self.only_scales(self.graph.parameters[gamma].tensor);
            only_scales.then(|| StreamNorm { gamma, operation, epsilon: norm.epsilon.elem::<f64>() })
        });
        own.ok_or_else(|| {
            format!("the scale and shift of {} are not parameters of its own", self.what(operation, None))
        })
    }

    /// Index of the parameter that a normalisation's scale or shift is, perhaps cast.
    fn state(&self, tensor: &TensorIr) -> Option<usize> {
        let mut at = tensor.id;
        while let Some(OperationIr::BaseFloat(B::Cast(op))) = self.graph.made_by(at) {
            at = op.input.id;
        }
        self.graph.parameter(at)
    }

    /// Whether layer normalisations scale by a tensor and nothing else reads it.
    fn only_scales(&self, gamma: TensorId) -> bool {
        let mut open = vec![gamma];
        while let Some(at) = open.pop() {
            for op in self.graph.read_by(at) {
                if let OperationIr::BaseFloat(B::Cast(op)) = op {
                    open.push(op.out.id);
                } else if !layer_norm(op)
                    .is_some_and(|norm| norm.gamma.id == at && op.inputs().filter(|input| input.id == at).count() == 1)
                {
                    return false;
                }
            }
        }
        true
    }

    fn path_of(&self, norm: &LayerNormOpIr, operation: usize) -> String {
        match self.state(&norm.gamma) {
            Some(gamma) => format!("`{}`", module(&self.graph.parameters[gamma])),
            None => self.what(operation, None),
        }
    }

    /// What to do about a layer normalisation that is no `CenteredLayerNorm`.
    fn advice(&self, gamma: usize) -> String {
        let parameter = &self.graph.parameters[gamma];
        let made = if parameter.container == "LayerNorm" { ", which is made from it with `into`" } else { "" };
        let path = module(parameter);
        format!(
            "layer normalisation `{path}` mixes its channels; they could leave with `CenteredLayerNorm` of burn-sfp-nn in its \
             place{made}"
        )
    }

    /// An operation by the module whose parameter it applies (other than `except`), or by its name and the module before it.
    fn what(&self, operation: usize, except: Option<usize>) -> String {
        let op = &self.graph.operations[operation];
        let own = |input: &TensorIr| self.origins.get(&input.id).copied().filter(|&origin| Some(origin) != except);
        if let Some(own) = op.inputs().find_map(own) {
            return format!("`{}`", module(&self.graph.parameters[own]));
        }
        let mut open: VecDeque<&OperationIr> = [op].into();
        let mut seen = HashSet::new();
        while let Some(at) = open.pop_front() {
            if let Some(before) = at.inputs().find_map(own) {
                return format!("{} after `{}`", name(op), module(&self.graph.parameters[before]));
            }
            let fresh = at.inputs().filter_map(|input| self.graph.producer(input.id));
            for producer in fresh.collect::<Vec<_>>() {
                if seen.insert(producer) {
                    open.push_back(&self.graph.operations[producer]);
                }
            }
        }
        name(op)
    }
}

/// Module path of the layer that holds a parameter; of a bare parameter of the root, its own path.
fn module(parameter: &Parameter) -> &str {
    if parameter.module().is_empty() { &parameter.path } else { parameter.module() }
}

/// Tensors still to be looked at, each with its axis of the channels.
type Open<'a> = VecDeque<(&'a TensorIr, usize)>;

/// Collects every tensor whose mean over the channels has to be zero, so that one of them may be.
struct Walk<'f, 'a> {
    finder: &'f Finder<'a>,
    /// The axis of the channels of each of them.
    axes: HashMap<TensorId, usize>,
    norms: Vec<usize>,
    writers: Vec<(usize, usize)>,
}

impl<'a> Walk<'_, 'a> {
    /// Goes from a tensor back to the parameters that write to it and on to the layer normalisations that read it. The error says what
    /// else does; of several, the nearest.
    fn follow(&mut self, tensor: &'a TensorIr, axis: usize) -> Result<(), String> {
        let mut open = Open::from([(tensor, axis)]);
        while let Some((tensor, axis)) = open.pop_front() {
            match self.axes.insert(tensor.id, axis) {
                Some(known) if known == axis => continue,
                Some(_) => return Err("they meet themselves along another axis".into()),
                None => {}
            }
            if self.axes.len() > OWN_WALK
                && let Some(cause) = self.finder.causes.borrow().get(&tensor.id)
            {
                return Err(cause.to_string());
            }
            self.sources(tensor, axis, &mut open)?;
            self.readers(tensor, axis, &mut open)?;
        }
        Ok(())
    }

    /// What a tensor without a mean is computed from.
    fn sources(&mut self, tensor: &'a TensorIr, axis: usize, open: &mut Open<'a>) -> Result<(), String> {
        let finder = self.finder;
        if let Some(parameter) = finder.graph.parameter(tensor.id) {
            if !tensor.dtype.is_float() {
                return Err(format!(
                    "`{}`, which writes to them, is quantised",
                    finder.graph.parameters[parameter].path
                ));
            }
            self.writers.push((parameter, axis));
            return Ok(());
        }
        let Some(producer) = finder.graph.producer(tensor.id) else {
            return Err(
                "an input of the network or a constant gives them a mean that cannot be taken out of weights".into()
            );
        };
        let op = &finder.graph.operations[producer];
        let from = describe(op).map(|described| described.mean_free(axis)).unwrap_or_default();
        if !from.is_empty() {
            open.extend(from);
            return Ok(());
        }
        Err(match layer_norm(op) {
            Some(norm) => format!(
                "layer normalisation {} gives them a mean that cannot be taken out of weights (post-norm)",
                finder.path_of(norm, producer)
            ),
            None => {
                format!("{} gives them a mean that cannot be taken out of weights", finder.what(producer, None))
            }
        })
    }

    /// What is computed from a tensor without a mean.
    fn readers(&mut self, tensor: &'a TensorIr, axis: usize, open: &mut Open<'a>) -> Result<(), String> {
        let finder = self.finder;
        for &reader in finder.graph.consumers(tensor.id) {
            let op = &finder.graph.operations[reader];
            let times = op.inputs().filter(|input| input.id == tensor.id).count();
            if let Some(norm) = layer_norm(op)
                && (norm.input.id, axis + 1, times) == (tensor.id, tensor.shape.num_dims(), 1)
            {
                self.norms.push(reader);
                continue;
            }
            let Some(next) = carried_on(op, tensor, axis, times) else {
                let own = finder.origins.get(&tensor.id).copied();
                let what = finder.what(reader, own);
                return Err(match own {
                    Some(own) => {
                        let path = &finder.graph.parameters[own].path;
                        format!("`{path}`, which writes to them, is also read by {what}, which needs its mean")
                    }
                    None => format!("{what} reads them too and needs their mean"),
                });
            };
            open.push_back(next);
        }
        Ok(())
    }
}

/// The result of an operation, and its axis that has no mean because a tensor has none along an axis and the other operands neither.
/// `None` where the operation reads the tensor in any other way.
pub(super) fn carried_on<'a>(
    op: &'a OperationIr,
    tensor: &TensorIr,
    axis: usize,
    times: usize,
) -> Option<(&'a TensorIr, usize)> {
    let (described, out) = (describe(op)?, op.outputs().next()?);
    let along = |&axis_out: &usize| {
        let from = described.mean_free(axis_out);
        from.iter().filter(|(operand, own)| (operand.id, *own) == (tensor.id, axis)).count() == times
    };
    Some((out, (0..out.shape.num_dims()).find(along)?))
}
