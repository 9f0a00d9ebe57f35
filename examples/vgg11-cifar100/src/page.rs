//! The run as a page to look at.

use std::path::Path;

use burn_sfp::core::Analysis;
use burn_sfp::graph::Network;
use burn_sfp::prune::PrunePlan;
use burn_sfp::report::Report as Page;

use crate::error::ExampleError;
use crate::report::Report;

/// What the page shows.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The trained network.
    pub network: &'a Network,
    /// What its filters recognise.
    pub analysis: &'a Analysis,
    /// What was removed.
    pub plan: &'a PrunePlan,
    /// Accuracies and latencies.
    pub report: &'a Report,
}

/// Writes the page. The labels have their names if `fine_label_names.txt`, which comes with CIFAR-100, is in the folder of the images.
///
/// # Errors
/// [`ExampleError::Page`] where the file cannot be written.
pub fn write(path: &Path, data: &Path, parts: &Parts<'_>) -> Result<(), ExampleError> {
    let report = parts.report;
    let mut page = Page::new(parts.plan)
        .title("VGG-11 on CIFAR-100")
        .analysis(parts.analysis)
        .network(parts.network)
        .latency(&report.latency)
        .accuracy_before(report.top1_before)
        .accuracy_pruned(report.top1_pruned);
    if let Some(accuracy) = report.top1_after {
        page = page.accuracy_tuned(accuracy);
    }
    let names = std::fs::read_to_string(data.join("fine_label_names.txt")).unwrap_or_default();
    let names: Vec<&str> = names.lines().filter(|name| !name.is_empty()).collect();
    if names.len() == parts.analysis.classes {
        page = page.labels(names);
    }
    Ok(page.write_html(path)?)
}
