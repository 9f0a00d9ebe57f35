//! [`PruneError`]: everything that can go wrong in planning, rewriting and fine-tuning.

use burn_sfp_core::checks::{ChunkError, MayLackMemory};
use burn_sfp_core::{Analysis, DataError, SfpError};
use burn_sfp_graph::{FileError, GraphError, place};
use burn_sfp_nn::{ConfigError, NnError, listed};

/// An error of planning, rewriting or fine-tuning. Each message says what was found, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PruneError {
    /// The analysis failed.
    #[error(transparent)]
    Analysis(SfpError),
    /// The model could not be captured, or the smaller module does not run the planned graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A layer refused what it was given.
    #[error(transparent)]
    Layer(#[from] NnError),
    /// A policy or a stop rule failed with an error of its own; see [`PruneError::policy`].
    #[error("{policy}: {source}")]
    Policy {
        /// Name of the policy or of the stop rule.
        policy: String,
        /// Its error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The condition of [`Planner::exclude_where`](crate::Planner::exclude_where) is met by no layer.
    #[error("the condition of `exclude_where` is met by none of the model's layers: {}", listed(available, 40))]
    NothingExcluded {
        /// The paths of all layers.
        available: Vec<String>,
    },
    /// A rule for layers speaks of none.
    #[error("the condition of a rule for layers is met by none of the model's layers: {}", listed(available, 40))]
    NoSuchLayer {
        /// The paths of all layers.
        available: Vec<String>,
    },
    /// A block that a plan leaves out stays in the module.
    #[error(
        "block `{path}` stays in the module: `Shrink` among the derives down to it, `shrinkable` in the `impl GraphModule`, and a `Vec` or an \
         `Option` that holds it would let it go"
    )]
    BlockStays {
        /// Module path of the block.
        path: String,
    },
    /// A policy scores whole blocks and the budget does not say what they save.
    #[error(
        "policy {policy} scores whole blocks, and a budget of {budget} does not say what leaving one out saves: set one in units of cost \
         (`Keep`, `KeepLatency`), or take the scores of blocks out of the policy"
    )]
    BlocksNeedCost {
        /// Name of the policy.
        policy: String,
        /// The budget.
        budget: String,
    },
    /// The file of a search belongs to another one.
    #[error("the file holds the probes of another search: {found}, not {expected}; give each search a file of its own")]
    OtherSearch {
        /// The search of the file.
        found: String,
        /// The search that was started.
        expected: String,
    },
    /// Too much of the network has to stay for a budget.
    #[error(
        "a budget of {budget} cannot be met: {least} of {whole} {unit} have to stay; most of them are in {}: ask for no less, or free \
         these layers", held.join(", ")
    )]
    BudgetNotMet {
        /// The budget.
        budget: String,
        /// How far it goes.
        least: f64,
        /// The cost of the original.
        whole: f64,
        /// What is counted.
        unit: String,
        /// The layers that hold the most of what is left, each with its share and why.
        held: Vec<String>,
    },
    /// The kernels of a layer cannot be read because its weight is not a float tensor.
    #[error("the kernels of layer `{path}` cannot be read: its weight `{parameter}` holds no float values")]
    NoFloatWeight {
        /// Module path of the layer.
        path: String,
        /// Module path of the weight.
        parameter: String,
    },
    /// A policy needs the analysis of a layer that was not analysed.
    #[error(
        "policy {policy} prunes the connections of `{path}` and needs the analysis of `{needed}`, which is missing: analyse that layer too"
    )]
    NotAnalyzed {
        /// Name of the policy.
        policy: String,
        /// Module path of the layer to prune.
        path: String,
        /// Module path of the layer whose analysis is missing.
        needed: String,
    },
    /// A policy was told to prune a layer that has to stay as it is.
    #[error("layer `{path}` cannot be pruned: {reason}")]
    NotPrunable {
        /// Module path of the layer.
        path: String,
        /// Why it has to stay.
        reason: String,
    },
    /// The plan would leave a layer without filters.
    #[error("{asked} would leave layer `{path}` none of its {filters} filters: ask for less, or exclude the layer")]
    WouldEmpty {
        /// Module path of the layer.
        path: String,
        /// Number of its filters.
        filters: usize,
        /// What was asked for.
        asked: String,
    },
    /// A plain field of a layer has to change with the shapes, and the model gives no access to it.
    #[error(
        "layer `{path}` ({container}) keeps `{field}` in a plain field, which has to change from {before} to {after}: add \
         `Shrink` to the derives of the model and of each struct down to this layer, and to its `impl SfpModule` (or \
         `GraphModule`) the line `fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {{ Some(self) }}`"
    )]
    NeedsShrink {
        /// Module path of the layer.
        path: String,
        /// Type of the layer.
        container: String,
        /// Name of the field.
        field: String,
        /// Its value in the original.
        before: f64,
        /// Its value in the smaller model.
        after: f64,
    },
    /// The forward pass computes a factor from a width, and no parameter can compensate for its change.
    #[error(
        "operation {operation} ({name}){}: its factor changes from {before} to {after} with the width, and no layer whose \
         output only it reads can compensate for that: keep the number in a field of the module instead of computing it \
         from `dims()`",
        place(layer)
    )]
    NumberChanges {
        /// Position in the graph.
        operation: usize,
        /// Name of the operation.
        name: String,
        /// The layer whose output it reads.
        layer: Option<String>,
        /// The factor in the original.
        before: f64,
        /// The factor in the smaller model.
        after: f64,
    },
    /// A forward pass of [`Planner::also`](crate::Planner::also) is one of another type of model.
    #[error(
        "`also` was given a forward pass of `{found}`, and the model is a `{expected}`: give it one of the model's own"
    )]
    OtherModel {
        /// Type of the pass.
        found: String,
        /// Type of the model.
        expected: String,
    },
    /// A policy ranks by what filters recognise, and there is no analysis.
    #[error("policy {policy} needs an analysis: use `Pruner`, or hand the analysis to `Planner::plan`")]
    NeedsAnalysis {
        /// Name of the policy.
        policy: String,
    },
    /// A ratio or another setting is out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The plan or the analysis was made for another model.
    #[error(
        "this is another model than that of the plan or the analysis: {what}; make a plan from this model's own analysis"
    )]
    ModelMismatch {
        /// The first difference.
        what: String,
    },
    /// The plan contradicts itself, or was changed after it was made (a hand-edited or damaged file).
    #[error("the plan is not consistent: {0}; make it again")]
    InvalidPlan(String),
    /// The plan's bias corrections were measured on other weights, and [`OtherWeights::Refuse`](crate::OtherWeights::Refuse) is set.
    #[error(
        "the plan's bias corrections were measured on other weights than those of this model (parameter `{parameter}` has \
         other values): plan again with an analysis of this model, or apply the plan without them (`OtherWeights::Drop`)"
    )]
    OtherWeights {
        /// Module path of the first parameter that differs.
        parameter: String,
    },
    /// A parameter already carries a connection mask.
    #[error("parameter `{path}` carries a connection mask already: call `materialize()` on the model first")]
    AlreadyMasked {
        /// Module path of the parameter.
        path: String,
    },
    /// A model was asked to move its connections, and nothing in it is masked.
    #[error(
        "the model carries no masks over connections: apply a plan that removes connections, and do not call `materialize()` before training"
    )]
    NoMasks,
    /// The gradients by which connections should move are NaN or infinite.
    #[error(
        "after step {step} the gradient of `{path}` holds the value {value}: connections cannot move by it; lower the learning rate, or look \
         for NaN and infinite values in the batch"
    )]
    NonFiniteRegrowth {
        /// Module path of the parameter.
        path: String,
        /// The value found.
        value: f64,
        /// The optimiser step.
        step: usize,
    },
    /// A policy returned something that does not fit the network.
    #[error("policy {policy} returned a ranking that does not fit layer `{path}`: {what}")]
    BadRanking {
        /// Name of the policy.
        policy: String,
        /// Module path of the layer.
        path: String,
        /// What does not fit.
        what: String,
    },
    /// A parameter cannot be saved.
    #[error("parameter `{path}` cannot be saved: {what}")]
    NotSaved {
        /// Module path of the parameter.
        path: String,
        /// Why, and what to do.
        what: String,
    },
    /// The work was cancelled by its [`Progress`](burn_sfp_core::Progress) before the model was planned.
    #[error("pruning was cancelled; `analysis` is that of the {} samples seen by then", analysis.samples)]
    Cancelled {
        /// The analysis of the samples that were seen.
        analysis: Box<Analysis>,
    },
    /// A policy reads what was not gathered from calibration data.
    #[error(
        "policy {policy} reads {needs}, which was not gathered from calibration data: prune with `Pruner`, or call \
         `Evidence::gather` and hand the policy over by `evidence.policy(..)`"
    )]
    NeedsEvidence {
        /// Name of the policy.
        policy: String,
        /// What it reads.
        needs: String,
    },
    /// The cross-entropy of a calibration batch is NaN or infinite.
    #[error(
        "the cross-entropy of calibration batch {batch} is {value}: the inputs, the weights or the running statistics hold NaN or \
         infinite values; clean them before gathering gradients"
    )]
    NonFiniteLoss {
        /// Position of the batch in its pass, from 0.
        batch: usize,
        /// The loss found.
        value: f64,
    },
    /// The gradient of a parameter is NaN or infinite.
    #[error(
        "the gradient of parameter `{path}` holds the value {value} on calibration batch {batch}: it cannot be ranked by; look for an \
         operation without a finite derivative (a root or a norm at zero), or for values beyond the range of the model's float type"
    )]
    NonFiniteGradient {
        /// Module path of the parameter.
        path: String,
        /// Position of the batch in its pass, from 0.
        batch: usize,
        /// The value found.
        value: f64,
    },
    /// The training data could not be read.
    #[error("training batch {batch} could not be read: {source}")]
    Data {
        /// Position of the batch.
        batch: usize,
        /// The error of the data source.
        source: DataError,
    },
    /// A pass over the training data holds more or fewer samples than it should.
    #[error(
        "epoch {epoch} holds {}{found} samples, and `samples` says {expected}: every pass must hold as many, for the learning \
         rate follows them", if found > expected { "at least " } else { "" }
    )]
    PassLength {
        /// Number of the epoch, from 0.
        epoch: usize,
        /// Samples found.
        found: usize,
        /// Samples of a pass.
        expected: usize,
    },
    /// Training would return the model as it was.
    #[error("nothing was trained: {why}")]
    NothingTrained {
        /// Why, and what to do.
        why: String,
    },
    /// The teacher of a distillation has other logits than the model.
    #[error(
        "the teacher returns logits of shape {found:?} where the model returns {expected:?}: take a teacher of the same classes"
    )]
    OtherTeacher {
        /// Shape of the teacher's logits.
        found: [usize; 2],
        /// Shape of the model's.
        expected: [usize; 2],
    },
    /// A store would be larger than allowed.
    #[error(
        "the outputs of the frozen layers take {bytes} bytes, and {limit} are allowed: store fewer copies or half precision, allow more \
         (`StoreConfig::memory`), or let them go to disk (`spill`, `file`)"
    )]
    StoreTooLarge {
        /// Bytes needed.
        bytes: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The file of a store belongs to another model or to other data.
    #[error("{}: is the store of something else: {what}; delete it, or give this training a file of its own", path.display())]
    OtherStore {
        /// The file.
        path: std::path::PathBuf,
        /// What differs.
        what: String,
    },
    /// A checkpoint belongs to another training.
    #[error(
        "{}: is the checkpoint of another training (another model, plan, settings or number of samples); delete it, or give this one a \
         file of its own", path.display()
    )]
    OtherCheckpoint {
        /// The file.
        path: std::path::PathBuf,
    },
    /// An output of the frozen layers is beyond the range of half precision.
    #[error(
        "the frozen layers return the value {value}, beyond the range of half precision: store `StorePrecision::BFloat16` or `Float32`"
    )]
    NotInHalf {
        /// The value.
        value: f32,
    },
    /// A model does not train on its recorded pass, or on stored outputs, as it trains itself.
    #[error(
        "this model does not train on its recorded pass as it trains itself: {what}; a forward pass that detaches tensors, branches on \
         autodiff or mixes the samples of stored batches has to run itself (`fine_tune`)"
    )]
    NotByRecordedPass {
        /// What differs.
        what: String,
    },
    /// The inputs of a training batch are NaN or infinite.
    #[error("training batch {batch} holds the value {value}: clean the inputs of NaN and infinite values")]
    NonFiniteBatch {
        /// Position of the batch.
        batch: usize,
        /// The value found.
        value: f64,
    },
    /// The model holds NaN or infinite values before training.
    #[error(
        "parameter `{path}` holds the value {value} before training, and the loss is not finite: load sound weights"
    )]
    NonFiniteModel {
        /// Module path of the parameter or running statistic.
        path: String,
        /// The value found.
        value: f64,
    },
    /// Training left NaN or infinite values in the model.
    #[error("parameter `{path}` holds the value {value} after {steps} steps: lower the learning rate")]
    NonFiniteParameter {
        /// Module path of the parameter or running statistic.
        path: String,
        /// The value found.
        value: f64,
        /// Optimiser steps made.
        steps: usize,
    },
    /// Training diverged.
    #[error("the loss became {loss} at step {step}: lower the learning rate (it was {learning_rate})")]
    Diverged {
        /// The optimiser step.
        step: usize,
        /// The loss of that step.
        loss: f64,
        /// The learning rate of that step.
        learning_rate: f64,
    },
    /// The model could not be exported to ONNX.
    #[cfg(feature = "onnx")]
    #[error(transparent)]
    Onnx(#[from] crate::OnnxError),
}

impl PruneError {
    /// Wraps the error of a policy or of a stop rule: any error type, or a message.
    ///
    /// ```
    /// use burn_sfp_prune::PruneError;
    /// let parsed = "none".parse::<f64>().map_err(|error| PruneError::policy("my policy", error));
    /// assert_eq!(parsed.unwrap_err().to_string(), "my policy: invalid float literal");
    /// ```
    pub fn policy(name: impl Into<String>, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Policy { policy: name.into(), source: error.into() }
    }

    /// Whether a device lacked memory, so that the same work may succeed with smaller batches.
    ///
    /// ```
    /// use burn_sfp_prune::PruneError;
    /// assert!(!PruneError::from(burn_sfp_core::SfpError::NoSamples).is_out_of_memory());
    /// ```
    pub fn is_out_of_memory(&self) -> bool {
        match self {
            Self::Analysis(error) => error.is_out_of_memory(),
            Self::Graph(error) => error.is_out_of_memory(),
            _ => false,
        }
    }
}

impl MayLackMemory for PruneError {
    fn lacks_memory(&self) -> bool {
        self.is_out_of_memory()
    }
}

impl ChunkError for PruneError {
    fn is_of_data(&self) -> bool {
        match self {
            Self::Analysis(error) => error.is_of_data(),
            Self::Graph(error) => matches!(error, GraphError::GraphChanges { .. }),
            Self::Layer(_) => false,
            _ => true,
        }
    }
}

impl From<SfpError> for PruneError {
    fn from(error: SfpError) -> Self {
        match error {
            SfpError::Graph(error) => Self::Graph(error),
            SfpError::Layer(error) => Self::Layer(error),
            SfpError::Config(error) => Self::Config(error),
            error => Self::Analysis(error),
        }
    }
}
