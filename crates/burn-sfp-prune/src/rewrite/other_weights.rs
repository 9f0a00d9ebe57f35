//! Bias corrections that were measured on other weights than those of the model that a plan is applied to.

use burn::module::Module;
use burn_sfp_graph::Fingerprint;
use burn_sfp_nn::listed;

use crate::{PruneError, PrunePlan};

/// What becomes of a plan's bias corrections if they were measured on other weights than those of the model.
///
/// Means over samples and constants of silenced filters hold for one checkpoint. A checkpoint is told from another one by the bits of its
/// parameters and running statistics ([`Fingerprint`]): a fine-tuned model, one with fresh weights and a copy in another precision are
/// others; the same model on another device or in training is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OtherWeights {
    /// They are left out: a removed channel counts as zero. [`Applied::dropped`] lists the layers.
    #[default]
    Drop,
    /// The plan is refused with [`PruneError::OtherWeights`].
    Refuse,
}

/// How a plan is applied.
///
/// ```
/// use burn_sfp_prune::{ApplyConfig, OtherWeights};
/// let config = ApplyConfig::new().other_weights(OtherWeights::Refuse);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ApplyConfig {
    other_weights: OtherWeights,
}

impl ApplyConfig {
    /// Creates the settings of [`PrunePlan::apply`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what becomes of bias corrections that were measured on other weights.
    pub fn other_weights(mut self, other_weights: OtherWeights) -> Self {
        self.other_weights = other_weights;
        self
    }
}

/// A smaller module, and what of its plan was left out.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Applied<M> {
    /// The smaller module.
    pub model: M,
    /// Module paths of the layers whose bias corrections were measured on other weights and left out; empty if all were made.
    pub dropped: Vec<String>,
}

impl<M> Applied<M> {
    /// Returns what was left out as a sentence for a log or a report; `None` if nothing was.
    pub fn warning(&self) -> Option<String> {
        warning(&self.dropped)
    }
}

/// Says that the corrections of these layers were left out; `None` if there are none.
pub(super) fn warning(dropped: &[String]) -> Option<String> {
    let names = listed(&dropped.iter().map(|path| format!("`{path}`")).collect::<Vec<_>>(), 10);
    (!dropped.is_empty()).then(|| {
        format!(
            "the bias corrections of layers {names} were measured on other weights than those of this model and left out: \
             plan again with an analysis of this model to have them"
        )
    })
}

/// Returns the plan's corrections that hold for the model: all or none. The second list holds the layers of those that do not.
pub(super) fn corrections_for<'a, M: Module>(
    plan: &'a PrunePlan,
    model: &M,
    config: &ApplyConfig,
) -> Result<(&'a [crate::CorrectedBias], Vec<String>), PruneError> {
    if plan.bias_corrections.is_empty() {
        return Ok((&[], Vec::new()));
    }
    corrections_on(plan, &Fingerprint::of(model)?, config)
}

fn corrections_on<'a>(
    plan: &'a PrunePlan,
    found: &Fingerprint,
    config: &ApplyConfig,
) -> Result<(&'a [crate::CorrectedBias], Vec<String>), PruneError> {
    let all = plan.bias_corrections.as_slice();
    match (plan.measured_on.difference(found), config.other_weights) {
        (None, _) => Ok((all, Vec::new())),
        (Some(_), OtherWeights::Drop) => Ok((&[], all.iter().map(|corrected| corrected.layer.clone()).collect())),
        (Some(parameter), OtherWeights::Refuse) => Err(PruneError::OtherWeights { parameter: parameter.to_string() }),
    }
}
