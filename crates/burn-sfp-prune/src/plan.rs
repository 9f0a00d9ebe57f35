//! [`PrunePlan`]: which channels and connections stay, as plain data that can be saved, loaded and applied.

use std::path::Path;

use burn_sfp_core::SfpError;
use burn_sfp_core::file::{read_json, write_json};
use burn_sfp_graph::ParameterShape;
use burn_sfp_graph::{ChannelId, LayerKind};
use burn_sfp_nn::FieldEdit;
use serde::{Deserialize, Serialize};

use crate::PruneError;

/// The version of the file format.
pub const PLAN_VERSION: u32 = 4;

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

/// A layer that keeps all its filters because they could not be followed, have to stay or are excluded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Unpruned {
    /// Module path.
    pub path: String,
    /// Why it keeps them.
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

/// A pruning plan: what is removed from a model, closed under the network's dependencies.
///
/// [`Planner::plan`](crate::Planner::plan) makes it, [`apply`](PrunePlan::apply) carries it out. It holds the paths and shapes of
/// the model that it was made for and refuses another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PrunePlan {
    /// The version of the file format.
    pub version: u32,
    /// Name of the policy.
    pub policy: String,
    /// Paths and shapes of the model's parameters.
    pub model: Vec<ParameterShape>,
    /// The channel sets that are removed, by their ids in the captured network.
    pub channels: Vec<ChannelId>,
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
    /// The layers, in the order in which they run.
    pub layers: Vec<LayerPlan>,
    /// The layers that keep all their filters, and why.
    pub unpruned: Vec<Unpruned>,
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
}

impl PrunePlan {
    /// Writes the plan to a JSON file, which appears whole or not at all.
    ///
    /// # Errors
    /// [`SfpError::File`] if it cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), PruneError> {
        Ok(write_json(path.as_ref(), self)?)
    }

    /// Reads a plan from a file.
    ///
    /// # Errors
    /// [`SfpError::File`] if the file is missing, truncated, foreign or of another version.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, PruneError> {
        let path = path.as_ref();
        let plan: Self = read_json(path, "a pruning plan")?;
        if plan.version != PLAN_VERSION {
            return Err(SfpError::File {
                path: path.to_path_buf(),
                message: format!(
                    "a plan of version {}, this build reads version {PLAN_VERSION}: plan again",
                    plan.version
                ),
            }
            .into());
        }
        Ok(plan)
    }

    /// Returns the entry of a layer by its module path.
    pub fn layer(&self, path: &str) -> Option<&LayerPlan> {
        self.layers.iter().find(|layer| layer.path == path)
    }

    /// Returns the sizes of the whole model.
    pub fn totals(&self) -> Totals {
        let sum = |of: fn(&LayerPlan) -> u64| self.layers.iter().map(of).sum();
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
