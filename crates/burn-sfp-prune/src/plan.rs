//! [`PrunePlan`]: which channels and connections stay, as plain data that is saved, loaded and applied.

use std::fmt;
use std::path::Path;

use burn_sfp_core::file::{read_json, write_json};
use burn_sfp_core::network::{ChannelId, LayerKind};
use burn_sfp_core::{FieldEdit, ParameterShape, SfpError};
use serde::{Deserialize, Serialize};

use crate::PruneError;

/// Version of the file format.
pub const PLAN_VERSION: u32 = 2;

/// The indices of one axis that stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AxisCut {
    /// The axis.
    pub axis: usize,
    /// Its length before.
    pub length: usize,
    /// Indices that stay, ascending.
    pub keep: Vec<usize>,
}

/// How a parameter shrinks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterCut {
    /// Module path.
    pub path: String,
    /// The axes that shrink.
    pub axes: Vec<AxisCut>,
}

/// Connections of a layer that go although both of their ends stay. Indices are those before the cuts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mask {
    /// Module path of the layer.
    pub layer: String,
    /// Module path of its weight.
    pub parameter: String,
    /// The weight's axis that counts outputs; the other of the first two counts inputs.
    pub output_axis: usize,
    /// Inputs before the cuts.
    pub inputs: usize,
    /// For each output the inputs that stay connected, ascending.
    pub keep: Vec<Vec<u32>>,
}

/// Where the mean of what was removed goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FoldTarget {
    /// Added to this bias.
    Bias(String),
    /// Subtracted from this running mean: a layer without bias that a batch normalisation follows directly.
    RunningMean(String),
}

/// Mean activations or constants of removed inputs that a layer's bias takes over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fold {
    /// Module path of the layer.
    pub layer: String,
    /// Module path of its weight.
    pub weight: String,
    /// The weight's axis that counts outputs.
    pub output_axis: usize,
    /// Where it goes.
    pub target: FoldTarget,
    /// Inputs and their mean activation or constant, in the order of the index.
    pub inputs: Vec<(usize, f32)>,
    /// For each element of the kernel the share of output positions at which it lies inside the input, not in the
    /// zero padding. All 1 where the fold is exact.
    pub coverage: Vec<f32>,
    /// Whether these are the constants that silenced filters leave behind, which is exact, and not means over samples.
    pub constants: bool,
    /// Whether only removed connections count (those of the mask and of removed inputs), or all of each input.
    pub removed_connections_only: bool,
}

/// A parameter that is multiplied by a number, because the smaller module divides by another one (attention that is scaled
/// by the width of its heads).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// Module path.
    pub path: String,
    /// The factor.
    pub factor: f64,
}

/// What happens to one layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerPlan {
    /// Module path.
    pub path: String,
    /// Kind of layer.
    pub kind: LayerKind,
    /// Module path of its weight.
    pub weight: String,
    /// Module path of its bias, where it has one.
    pub bias: Option<String>,
    /// Filters (outputs).
    pub filters_before: usize,
    /// Filters that stay.
    pub filters_after: usize,
    /// Pairs of output and input: kernels of a convolution, weights of a linear layer.
    pub connections_before: u64,
    /// Pairs that stay.
    pub connections_after: u64,
    /// Numbers in weight and bias.
    pub parameters_before: u64,
    /// Numbers in weight and bias of the smaller layer, masked ones included.
    pub parameters_after: u64,
    /// Multiply-adds a sample.
    pub macs_before: u64,
    /// Multiply-adds a sample of the smaller layer, masked ones included.
    pub macs_after: u64,
}

/// All layers together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Pairs of output and input of all layers.
    pub connections_before: u64,
    /// Pairs that stay.
    pub connections_after: u64,
    /// Numbers in all trainable parameters, normalisations included.
    pub parameters_before: u64,
    /// Numbers in those of the smaller model, masked ones included.
    pub parameters_after: u64,
    /// Multiply-adds a sample, products between computed tensors (attention) included.
    pub macs_before: u64,
    /// Multiply-adds a sample of the smaller model, masked ones included.
    pub macs_after: u64,
}

/// A layer that kept its filters because they could not be followed or have to stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptWhole {
    /// Module path.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// What to remove from a model, closed under the network's dependencies.
///
/// Made by [`Planner::plan`](crate::Planner::plan), carried out by [`apply`](PrunePlan::apply). It knows the paths and
/// shapes of the model that it was made for and refuses another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrunePlan {
    /// Version of the format.
    pub version: u32,
    /// Name of the policy.
    pub policy: String,
    /// Paths and shapes of the model's parameters.
    pub model: Vec<ParameterShape>,
    /// The channel sets that leave, as numbered by the captured network.
    pub channels: Vec<ChannelId>,
    /// Parameters that shrink.
    pub cuts: Vec<ParameterCut>,
    /// Connections that go between filters that stay.
    pub masks: Vec<Mask>,
    /// Mean activations that biases take over.
    pub folds: Vec<Fold>,
    /// Plain fields that follow.
    pub fields: Vec<FieldEdit>,
    /// Parameters that take a factor in.
    pub scales: Vec<Scale>,
    /// Layer by layer, in the order in which they run.
    pub layers: Vec<LayerPlan>,
    /// Layers that were left whole, and why.
    pub kept_whole: Vec<KeptWhole>,
    /// Paths of the parameters and flags of the layers that the plan touches: what fine-tuning trains.
    pub trainable: Vec<String>,
    /// Numbers in all trainable parameters of the model (running statistics are not counted).
    pub parameters_before: u64,
    /// The same of the smaller model.
    pub parameters_after: u64,
    /// Multiply-adds of one sample, products between computed tensors (attention) included.
    pub macs_before: u64,
    /// The same of the smaller model.
    pub macs_after: u64,
}

impl PrunePlan {
    /// Writes the plan as JSON; the file appears whole or not at all.
    ///
    /// # Errors
    /// [`SfpError::File`] where it cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), PruneError> {
        Ok(write_json(path.as_ref(), self)?)
    }

    /// Reads a plan.
    ///
    /// # Errors
    /// [`SfpError::File`] where the file is missing, truncated, foreign or of another version.
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

    /// What happens to a layer.
    pub fn layer(&self, path: &str) -> Option<&LayerPlan> {
        self.layers.iter().find(|layer| layer.path == path)
    }

    /// All layers together.
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

    /// A table: for each layer filters, connections, parameters and MACs, before and after.
    pub fn summary(&self) -> PlanSummary<'_> {
        PlanSummary(self)
    }
}

/// Prints a plan as a table.
#[derive(Clone, Copy, Debug)]
pub struct PlanSummary<'a>(&'a PrunePlan);

impl fmt::Display for PlanSummary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.0;
        let pair = |before: u64, after: u64| format!("{before} -> {after}");
        writeln!(f, "{:<24} {:>14} {:>20} {:>22} {:>26}", "layer", "filters", "connections", "parameters", "MACs")?;
        for layer in &plan.layers {
            writeln!(
                f,
                "{:<24} {:>14} {:>20} {:>22} {:>26}",
                layer.path,
                pair(layer.filters_before as u64, layer.filters_after as u64),
                pair(layer.connections_before, layer.connections_after),
                pair(layer.parameters_before, layer.parameters_after),
                pair(layer.macs_before, layer.macs_after)
            )?;
        }
        let all = plan.totals();
        writeln!(
            f,
            "{:<24} {:>14} {:>20} {:>22} {:>26}",
            "all",
            "",
            pair(all.connections_before, all.connections_after),
            pair(all.parameters_before, all.parameters_after),
            pair(all.macs_before, all.macs_after)
        )?;
        for kept in &plan.kept_whole {
            writeln!(f, "{} keeps its filters: {}", kept.path, kept.reason)?;
        }
        Ok(())
    }
}
