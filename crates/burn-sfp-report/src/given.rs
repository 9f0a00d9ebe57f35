//! [`Given`]: what a report is made from.

use burn_sfp_core::Analysis;
use burn_sfp_graph::Network;
use burn_sfp_graph::latency::LatencyTable;
use burn_sfp_prune::{PrunePlan, SparseLayer};

/// What a report is made from.
#[derive(Clone, Debug)]
pub(crate) struct Given<'a> {
    pub plan: &'a PrunePlan,
    pub analysis: Option<&'a Analysis>,
    pub network: Option<&'a Network>,
    pub latency: Option<&'a LatencyTable>,
    pub sparse: &'a [SparseLayer],
    pub labels: Vec<String>,
    pub title: String,
    pub accuracy: Accuracy,
    /// Bytes on disk before and after.
    pub bytes: Option<(u64, u64)>,
}

/// Shares of samples that are classified correctly.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Accuracy {
    pub before: Option<f64>,
    pub pruned: Option<f64>,
    pub tuned: Option<f64>,
}
