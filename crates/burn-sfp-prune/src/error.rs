//! Everything that can go wrong in planning and rewriting.

use burn_sfp_core::SfpError;

/// An error of planning, rewriting or fine-tuning. Each message says what was found, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PruneError {
    /// The analysis failed.
    #[error(transparent)]
    Analysis(#[from] SfpError),
    /// A layer that a policy names is not in the model.
    #[error("the model has no layer `{path}`; its layers are: {}", available.join(", "))]
    UnknownLayer {
        /// The path asked for.
        path: String,
        /// Paths that exist.
        available: Vec<String>,
    },
    /// A policy needs the labels of a layer that was not analysed.
    #[error(
        "policy {policy} prunes the connections of `{path}` and needs the analysis of `{needed}`, which is missing: analyse that layer too"
    )]
    NotAnalysed {
        /// Policy.
        policy: String,
        /// Layer to prune.
        path: String,
        /// Layer whose analysis is missing.
        needed: String,
    },
    /// A layer was named whose channels have to stay.
    #[error("layer `{path}` cannot be pruned: {reason}")]
    NotPrunable {
        /// Layer.
        path: String,
        /// Why.
        reason: String,
    },
    /// The plan would leave a layer without filters.
    #[error("{asked} would leave layer `{path}` none of its {filters} filters: ask for less, or exclude the layer")]
    WouldEmpty {
        /// Layer.
        path: String,
        /// Its filters.
        filters: usize,
        /// What was asked for.
        asked: String,
    },
    /// A plain field has to follow, and a module mapper reaches parameters only.
    #[error(
        "layer `{path}` ({container}) keeps `{field}` in a plain field, which has to change from {before} to {after}: add \
         `Shrink` to the derives of the model and of each struct down to this layer, and to its `impl SfpModule` (or \
         `GraphModule`) the line `fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {{ Some(self) }}`"
    )]
    NeedsShrink {
        /// Layer.
        path: String,
        /// Its type.
        container: String,
        /// Field.
        field: String,
        /// Value before.
        before: f64,
        /// Value after.
        after: f64,
    },
    /// The forward pass computes a number from a width, and nothing can make up for its change.
    #[error(
        "operation {operation} ({name}){}: its number changes from {before} to {after} with the width, and no layer that \
         only it reads could take the ratio in: keep the number in a field of the module instead of computing it from \
         `dims()`",
        place(layer)
    )]
    NumberChanges {
        /// Position in the graph.
        operation: usize,
        /// Name of the operation.
        name: String,
        /// The layer whose output it works on.
        layer: Option<String>,
        /// The number in the original.
        before: f64,
        /// The number in the smaller model.
        after: f64,
    },
    /// A policy looks at what filters recognise, and there is no analysis.
    #[error("policy {policy} needs an analysis: use `Pruner`, or hand the analysis to `Planner::plan`")]
    NeedsAnalysis {
        /// Policy.
        policy: String,
    },
    /// A ratio or another setting is out of range.
    #[error("{name} is {found}, but must be {expected}")]
    Config {
        /// Name of the setting.
        name: &'static str,
        /// Value found.
        found: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// The plan was made for another model.
    #[error("the plan was made for another model: {what}; make a plan from this model's own analysis")]
    OtherModel {
        /// First difference.
        what: String,
    },
    /// The plan contradicts itself (a hand-edited or damaged file).
    #[error("the plan is not consistent: {0}; make it again")]
    BrokenPlan(String),
    /// The model carries connection masks already.
    #[error("parameter `{path}` carries a connection mask already: call `materialize()` on the model first")]
    AlreadyMasked {
        /// Parameter.
        path: String,
    },
    /// A policy returned something that does not fit the network.
    #[error("policy {policy} returned a ranking that does not fit layer `{path}`: {what}")]
    BadRanking {
        /// Policy.
        policy: String,
        /// Layer.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// The training data could not be read.
    #[error("training batch {batch} could not be read: {message}")]
    Data {
        /// Position of the batch.
        batch: usize,
        /// What the source said.
        message: String,
    },
    /// Training diverged.
    #[error("the loss became {loss} at step {step}: lower the learning rate (it was {learning_rate})")]
    Diverged {
        /// Optimiser step.
        step: usize,
        /// The loss found.
        loss: f64,
        /// Learning rate of that step.
        learning_rate: f64,
    },
}

fn place(layer: &Option<String>) -> String {
    layer.as_ref().map(|layer| format!(" after layer `{layer}`")).unwrap_or_default()
}
