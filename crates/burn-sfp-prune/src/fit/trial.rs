//! Trying whether the smaller module would run, without making it.

use std::collections::BTreeSet;

use burn_sfp_graph::{ChannelId, GraphError, Network, Omitted, mismatch_advice, place};

use crate::PruneError;
use crate::rewrite::unsettled;
use crate::target::Rewritten;

/// Why a smaller module does not run as planned, and where.
#[derive(Debug)]
pub(super) struct Failure {
    /// Position of the operation; `None` if the pass came to its end, or failed as a whole.
    pub operation: Option<usize>,
    pub error: PruneError,
}

impl Failure {
    /// Returns the failure, or the error if it is another: one of the plan or of the model itself.
    pub fn of(error: PruneError) -> Result<Self, PruneError> {
        let operation = match &error {
            PruneError::Graph(GraphError::GraphMismatch { operation, .. }) => *operation,
            PruneError::NumberChanges { operation, .. } => Some(*operation),
            PruneError::NeedsShrink { .. } | PruneError::BlockStays { .. } => None,
            PruneError::Graph(GraphError::ReadsValues { .. } | GraphError::Forward { .. }) => None,
            _ => return Err(error),
        };
        Ok(Self { operation, error })
    }

    /// Says why the channels there stay.
    pub fn reason(&self) -> String {
        match &self.error {
            PruneError::Graph(GraphError::GraphMismatch { operation, name, after, what }) => {
                let step = operation.map_or_else(|| name.clone(), |at| format!("operation {at} ({name})"));
                format!("the forward pass does not follow at {step}{}: {what}; {}", place(after), mismatch_advice(what))
            }
            error => error.to_string(),
        }
    }

    /// How far the pass came.
    pub fn position(&self) -> usize {
        self.operation.unwrap_or(usize::MAX)
    }
}

/// Checks that the module without these channels and blocks would run the planned graph.
pub(super) fn attempt(
    network: &Network,
    module: &dyn Rewritten,
    channels: &BTreeSet<ChannelId>,
    omitted: &Omitted,
) -> Result<Option<Failure>, PruneError> {
    let removed = network.flow().closed(channels);
    let checked = module.check_sketch(network, &removed, omitted);
    let checked = checked.and_then(|changes| match changes.iter().find(|change| change.undone_by.is_none()) {
        Some(change) => Err(unsettled(network, change)),
        None => Ok(()),
    });
    checked.map(|()| None).or_else(|error| Failure::of(error).map(Some))
}
