//! [`PrunePlan`]: which channels and connections stay, as plain data that can be saved, loaded and applied.

mod blocks;
mod check;
mod earlier;
mod file;
mod seal;

pub(crate) use earlier::check_earlier;

use burn_sfp_graph::{ChannelId, Fingerprint, LayerKind, ParameterShape};
use burn_sfp_nn::{FieldEdit, Removable};
use serde::{Deserialize, Serialize};

/// The version of the file format.
pub const PLAN_VERSION: u32 = 6;

/// The indices of one axis of a parameter that stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AxisCut {
    /// The axis.
    pub axis: usize,
    /// Its length in the original.
    pub length: usize,
    /// Indices that stay, ascending.
    pub keep: Vec<usize>,
}

/// How a parameter shrinks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ParameterCut {
    /// Module path.
    pub path: String,
    /// The axes that shrink.
    pub axes: Vec<AxisCut>,
}

impl ParameterCut {
    /// Shortens the axes of a shape that the cut shortens.
    pub(crate) fn shorten(&self, shape: &mut [usize]) {
        self.axes.iter().for_each(|axis| shape[axis.axis] = axis.keep.len());
    }
}

/// The removed connections of a layer between filters and inputs that stay. Indices are those before the cuts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Mask {
    /// Module path of the layer.
    pub layer: String,
    /// Module path of its weight.
    pub parameter: String,
    /// The axis of the weight's outputs; the other one of the first two is that of its inputs.
    pub output_axis: usize,
    /// Number of inputs before the cuts.
    pub inputs: usize,
    /// For each output, the inputs that stay connected, ascending.
    pub keep: Vec<Vec<u32>>,
}

/// The parameter that is corrected for removed inputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CorrectionTarget {
    /// The correction is added to this bias.
    Bias(String),
    /// The correction is subtracted from this running mean: that of a batch normalisation directly behind a layer without bias.
    RunningMean(String),
}

/// A correction of a layer's bias by the mean activations or constants of removed inputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CorrectedBias {
    /// Module path of the layer.
    pub layer: String,
    /// Module path of its weight.
    pub weight: String,
    /// The axis of the weight's outputs.
    pub output_axis: usize,
    /// The parameter that is corrected.
    pub target: CorrectionTarget,
    /// Indices of inputs, each with its mean activation or constant, ascending.
    pub inputs: Vec<(usize, f32)>,
    /// For each element of the kernel, the share of output positions at which it lies inside the input and not in the zero
    /// padding. All 1 if the correction is exact.
    pub coverage: Vec<f32>,
    /// Whether the values are constants that silenced filters leave behind, which is exact, and not means over samples.
    pub constants: bool,
    /// Whether only removed connections count (those of the mask and of removed inputs) or all connections of each input.
    pub removed_connections_only: bool,
}

/// A parameter that is multiplied by a factor, because the smaller module computes another factor from its shapes (attention that
/// is scaled by the width of its heads, for example).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Scale {
    /// Module path.
    pub path: String,
    /// The factor.
    pub factor: f64,
    /// What of it is multiplied; all of it where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<ScaledPart>,
}

/// Indices of an axis of a parameter before the cuts, which do not concern that axis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ScaledPart {
    /// The axis.
    pub axis: usize,
    /// The first index.
    pub start: usize,
    /// The index after the last.
    pub end: usize,
}

/// An axis of a parameter that [`PrunePlan::zeroed`] leaves as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Unzeroed {
    /// Module path.
    pub path: String,
    /// The axis.
    pub axis: usize,
}

/// A parameter whose mean over the channels is subtracted from it before it is cut, because layer normalisations subtract it anyway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Centered {
    /// Module path.
    pub path: String,
    /// The axis of the channels.
    pub axis: usize,
}

/// The sizes of one layer before and after pruning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LayerPlan {
    /// Module path.
    pub path: String,
    /// The kind of layer.
    pub kind: LayerKind,
    /// Module path of its weight.
    pub weight: String,
    /// Module path of its bias; `None` if it has none.
    pub bias: Option<String>,
    /// Number of filters (outputs).
    pub filters_before: usize,
    /// Number of filters that stay.
    pub filters_after: usize,
    /// Number of connections (pairs of output and input): kernels of a convolution, weights of a linear layer.
    pub connections_before: u64,
    /// Number of connections that stay.
    pub connections_after: u64,
    /// Elements of the weight and the bias.
    pub parameters_before: u64,
    /// Elements of the weight and the bias of the smaller layer, masked ones included.
    pub parameters_after: u64,
    /// Multiply-adds of one sample.
    pub macs_before: u64,
    /// Multiply-adds of one sample in the smaller layer, masked ones included.
    pub macs_after: u64,
}

/// The sizes of the whole model before and after pruning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Totals {
    /// Number of connections of all layers.
    pub connections_before: u64,
    /// Number of connections that stay.
    pub connections_after: u64,
    /// Elements of all trainable parameters, those of normalisations included.
    pub parameters_before: u64,
    /// Elements of all trainable parameters of the smaller model, masked ones included.
    pub parameters_after: u64,
    /// Multiply-adds of one sample, products between computed tensors (attention) included.
    pub macs_before: u64,
    /// Multiply-adds of one sample in the smaller model, masked ones included.
    pub macs_after: u64,
}

/// A layer that keeps all its filters, or a block that stays, because it could not be followed, has to stay or is excluded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Unpruned {
    /// Module path.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// How many filters of a group of tied layers were asked for, how many went, and what holds the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GroupPlan {
    /// Module paths of the layers whose filters are tied together.
    pub layers: Vec<String>,
    /// How many filters of the first of these layers belong to the group.
    pub filters: usize,
    /// How many of them the stop rule asked for, sets of filters that can only leave together not considered. `None` if the rule
    /// compares all groups ([`RemovalOrder::Global`](crate::RemovalOrder::Global)) or does not say
    /// ([`StopRule::asked`](crate::StopRule::asked)).
    pub asked: Option<usize>,
    /// How many of them were removed.
    pub removed: usize,
    /// What holds the others, if less was removed than asked for, or if the rule does not say how much.
    pub held: Vec<Held>,
}

/// Filters that stay although they were asked for or might have been, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Held {
    /// How many filters.
    pub filters: usize,
    /// Why they stay, with the operation that ties or pins them where there is one.
    pub reason: String,
}

/// An operation whose multiply-adds are not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Uncounted {
    /// Name of the operation.
    pub name: String,
    /// Module path of the layer whose output it reads; `None` if there is none.
    pub after: Option<String>,
}

/// What an earlier pruning did to shapes and plain fields, so that a pruned model can be made from a freshly built original.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EarlierPruning {
    /// Paths and shapes of the parameters before it.
    pub model: Vec<ParameterShape>,
    /// The parameters that it shrank.
    pub cuts: Vec<ParameterCut>,
    /// The plain fields that it changed.
    pub fields: Vec<FieldEdit>,
    /// The parts of the module that it left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<Removable>,
}

/// A pruning plan: what is removed from a model, closed under the network's dependencies.
///
/// [`Planner::plan`](crate::Planner::plan) makes it, [`apply`](PrunePlan::apply) carries it out. It holds the paths and shapes of
/// the model that it was made for and refuses another one. A checksum over the plan itself finds what changed in it since;
/// [`sealed`](PrunePlan::sealed) accepts changes that were made on purpose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PrunePlan {
    /// The version of the file format.
    pub version: u32,
    /// Name of the policy.
    pub policy: String,
    /// Paths and shapes of the model's parameters.
    pub model: Vec<ParameterShape>,
    /// The prunings that the model has been through before, the first one first; see [`Planner::after`](crate::Planner::after).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<EarlierPruning>,
    /// The channel sets that are removed, by their ids in the captured network.
    pub channels: Vec<ChannelId>,
    /// The slices, by position of the operation in the captured network, whose parts shrink each by itself; see
    /// [`Network::uneven_splits`](burn_sfp_graph::Network::uneven_splits).
    #[serde(default)]
    pub free_splits: Vec<usize>,
    /// The residual blocks that are left out whole. All paths of the plan are those of the original; elements of a list behind one that is
    /// left out move up in the smaller module ([`path_after`](PrunePlan::path_after)).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<Removable>,
    /// The blocks that the policy scored and that cannot be left out, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept_blocks: Vec<Unpruned>,
    /// The parameters that shrink.
    pub cuts: Vec<ParameterCut>,
    /// The removed connections between filters that stay.
    pub masks: Vec<Mask>,
    /// The corrections of biases for removed inputs.
    pub bias_corrections: Vec<CorrectedBias>,
    /// The plain fields that change with the shapes.
    pub fields: Vec<FieldEdit>,
    /// The parameters that are multiplied by a factor.
    pub scales: Vec<Scale>,
    /// The parameters whose mean over the channels is taken out before they are cut: those that write to a stream that loses channels
    /// and that layer normalisations read ([`CenteredLayerNorm`](burn_sfp_nn::CenteredLayerNorm)).
    pub centered: Vec<Centered>,
    /// The axes of parameters that are not set to zero in the original with zeros ([`PrunePlan::zeroed`]), because the forward pass
    /// divides by their norm (weight normalisation).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unzeroed: Vec<Unzeroed>,
    /// The layers, in the order in which they run.
    pub layers: Vec<LayerPlan>,
    /// The layers that keep all their filters, and why.
    pub unpruned: Vec<Unpruned>,
    /// The groups of layers whose filters are tied together: how much was asked of each, how much went and what holds the rest.
    pub groups: Vec<GroupPlan>,
    /// The modules with parameters that the captured forward passes do not reach, as a warning: if one of them reads channels that are
    /// removed, it no longer fits. [`Planner::also`](crate::Planner::also) adds the pass that runs it.
    pub unreached: Vec<String>,
    /// The operations whose multiply-adds are not known. They are missing from all counts of MACs.
    pub uncounted: Vec<Uncounted>,
    /// The paths of what fine-tuning trains: parameters and flags of the layers that the plan changes.
    pub trainable: Vec<String>,
    /// Elements of all trainable parameters of the model; running statistics are not counted.
    pub parameters_before: u64,
    /// The same of the smaller model.
    pub parameters_after: u64,
    /// Multiply-adds of one sample, products between computed tensors (attention) included.
    pub macs_before: u64,
    /// The same of the smaller model.
    pub macs_after: u64,
    /// Which values the model's parameters had when the bias corrections were measured. They do not hold for other values:
    /// [`ApplyConfig`](crate::ApplyConfig) says what becomes of them then.
    pub measured_on: Fingerprint,
    /// Checksum of everything else.
    pub(crate) digest: u32,
}

impl PrunePlan {
    /// Returns the entry of a layer by its module path.
    pub fn layer(&self, path: &str) -> Option<&LayerPlan> {
        self.layers.iter().find(|layer| layer.path == path)
    }

    /// The prunings that a model has been through once this plan is applied.
    pub(crate) fn with_earlier(&self) -> Vec<EarlierPruning> {
        let Self { model, cuts, fields, blocks, .. } = self.clone();
        self.earlier.iter().cloned().chain([EarlierPruning { model, cuts, fields, blocks }]).collect()
    }

    /// Returns the sizes of the whole model.
    pub fn totals(&self) -> Totals {
        let sum = |of: fn(&LayerPlan) -> u64| self.layers.iter().map(of).fold(0, u64::saturating_add);
        Totals {
            connections_before: sum(|layer| layer.connections_before),
            connections_after: sum(|layer| layer.connections_after),
            parameters_before: self.parameters_before,
            parameters_after: self.parameters_after,
            macs_before: self.macs_before,
            macs_after: self.macs_after,
        }
    }
}
