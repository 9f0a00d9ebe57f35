//! One export by burn-onnx, for one batch size.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;

use burn::module::Param;
use burn::tensor::{Bool, Float, Int, Tensor};
use burn_onnx::export::{ExportError, OnnxExporter};
use burn_sfp_graph::{GraphModule, ModuleInput, Network, attempt};
use burn_sfp_nn::walk::{ParamMapper, ParamPath, ParamVisitor, map_params, visit_params};
use onnx_ir::{GraphProto, Message, ModelProto};

use super::flat::{Flat, restore};
use super::names::tidy;
use super::{OnnxError, index_of};
use crate::PruneError;

/// An exported model, and the same forward pass as captured by this library.
pub(super) struct Recorded {
    pub model: ModelProto,
    pub network: Network,
    /// How many more operations burn-onnx counts than the network has: the tensors at the boundary, and what `rebuild` runs.
    pub shift: usize,
}

impl Recorded {
    pub fn graph(&self) -> &GraphProto {
        &self.model.graph
    }

    /// Position in the network of the operation that an ONNX node is written for.
    pub fn operation(&self, node: &str) -> Option<usize> {
        index_of(node)?.checked_sub(self.shift)
    }
}

/// Exports a prepared model as it runs on an input.
pub(super) fn record<M: GraphModule, I: ModuleInput, O: ModuleInput>(
    model: &M,
    input: &I,
    forward: &impl Fn(&M, I) -> O,
) -> Result<Recorded, PruneError> {
    let network = Network::capture_with(model, input, forward)?;
    let inputs = flat(input.clone(), "takes")?;
    let outputs = RefCell::new(Flat::default());
    let run = |model: &M, lists| {
        let rebuilt = rebuilt(model);
        let returned = Flat::of(forward(rebuilt.as_ref().unwrap_or(model), restore(input.clone(), lists)));
        let lists = returned.lists.clone();
        outputs.replace(returned);
        lists
    };
    // A clone of a module shares its running statistics, and the exporter moves those of the clone to its own device: it gets a copy.
    let exported = attempt(|| OnnxExporter::new().export(&model.valid(), inputs.lists.clone(), run));
    let exported = exported.map_err(|message| OnnxError::Forward { message })?;
    let bytes = exported.map_err(|error| explained(error, &network, inputs.order().len()))?;
    let outputs = outputs.into_inner();
    too_many_axes(&outputs, "returns")?;
    let failed = |error: &dyn std::fmt::Display| OnnxError::Exporter { message: error.to_string() };
    let mut model = ModelProto::parse_from_bytes(bytes.as_bytes()).map_err(|error| failed(&error))?;
    let last = model.graph.node.iter().filter_map(|node| index_of(&node.name)).max();
    let shift = last.map_or(0, |last| (last + 1).saturating_sub(network.operations().len()));
    tidy(model.graph.mut_or_insert_default(), &inputs.order(), &outputs.order());
    Ok(Recorded { model, network, shift })
}

fn flat<I: ModuleInput>(tensors: I, verb: &str) -> Result<Flat, OnnxError> {
    let flat = Flat::of(tensors);
    too_many_axes(&flat, verb)?;
    Ok(flat)
}

fn too_many_axes(flat: &Flat, verb: &str) -> Result<(), OnnxError> {
    let error = |axes| OnnxError::Boundary { what: format!("{verb} a tensor of {axes} axes: give it at most 8") };
    flat.too_many_axes.map_or(Ok(()), |axes| Err(error(axes)))
}

/// Says which operation or tensor an error of the exporter means.
fn explained(error: ExportError, network: &Network, inputs: usize) -> OnnxError {
    match error {
        ExportError::UnsupportedOperation { operation, kind } => {
            let is_it = |&at: &usize| network.operation_name(at).is_some_and(|name| kind.contains(&name));
            let at = operation.checked_sub(inputs);
            let at =
                at.filter(is_it).or_else(|| (0..network.operations().len()).find(is_it)).or(at).unwrap_or_default();
            // Burn's own description of an operation holds all of its tensors.
            let why = (!kind.contains('{')).then_some(kind);
            unsupported(network, at, why)
        }
        ExportError::UnsupportedDType { dtype, .. } => OnnxError::Precision { what: "a tensor".into(), dtype },
        ExportError::InvalidBoundary(message) if message.contains("duplicate graph output") => {
            OnnxError::Boundary { what: "returns the same tensor more than once: return it once".into() }
        }
        error => OnnxError::Exporter { message: error.to_string() },
    }
}

/// The error about an operation of the network.
pub(super) fn unsupported(network: &Network, operation: usize, why: Option<String>) -> OnnxError {
    let name = network.operation_name(operation).unwrap_or_else(|| "unknown".into());
    let [of, after] =
        [network.layer_of(operation), network.layer_before(operation)].map(|path| path.map(str::to_string));
    OnnxError::Unsupported { operation, name, of, after, why }
}

/// Builds a module that stores its device anew on the exporter's device, with the parameters of the one that is there.
fn rebuilt<M: GraphModule>(model: &M) -> Option<M> {
    let fresh = model.rebuild(&model.devices().into_iter().next()?)?;
    let mut parameters = Parameters(HashMap::new());
    visit_params(model, &mut parameters);
    // Parameters first: evaluation mode would initialise those that are lazy, by random operations.
    Some(map_params(fresh, &mut parameters).valid())
}

/// Values of parameters by path.
struct Parameters(HashMap<String, Box<dyn Any>>);

macro_rules! parameters {
    ($($name:ident: $kind:ty,)+) => {
        impl ParamVisitor for Parameters {
            $(fn $name<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D, $kind>>) {
                self.0.insert(path.join(), Box::new(param.val()));
            })+
        }

        impl ParamMapper for Parameters {
            $(fn $name<const D: usize>(
                &mut self,
                path: ParamPath<'_>,
                param: Param<Tensor<D, $kind>>,
            ) -> Param<Tensor<D, $kind>> {
                let value = self.0.remove(&path.join()).and_then(|value| value.downcast::<Tensor<D, $kind>>().ok());
                match value {
                    Some(value) => Param::initialized(param.id, *value),
                    None => param,
                }
            })+
        }
    };
}

parameters! {
    float: Float,
    int: Int,
    bool: Bool,
}
