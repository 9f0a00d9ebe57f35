//! The layers before and after.

use std::collections::HashMap;

use burn_sfp_prune::{ChosenFormat, SparseLayer};
use serde::Serialize;

use super::kept::Reasons;
use super::shown::listed;
use crate::given::Given;
use crate::text::{ratio, shortened};

/// A layer before and after; pairs are `[before, after]`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LayerRow {
    pub path: String,
    pub kind: &'static str,
    pub filters: [usize; 2],
    pub connections: [u64; 2],
    pub parameters: [u64; 2],
    pub macs: [u64; 2],
    /// Positions of the reasons why filters stay.
    pub kept: Vec<usize>,
    /// The format of a layer that skips removed connections.
    pub format: Option<String>,
}

impl LayerRow {
    /// The share of the filters that stay.
    pub fn left(&self) -> f64 {
        ratio(self.filters[0] as u64, self.filters[1] as u64)
    }
}

pub(super) fn layers(given: &Given<'_>, reasons: &Reasons, left_out: &mut Vec<String>) -> Vec<LayerRow> {
    let plan = given.plan;
    let formats: HashMap<&str, &SparseLayer> = given.sparse.iter().map(|layer| (layer.path.as_str(), layer)).collect();
    let shown = listed(plan.layers.len());
    if shown < plan.layers.len() {
        left_out.push(format!("layers: the first {shown} of {} are listed and drawn", plan.layers.len()));
    }
    let row = |layer: &burn_sfp_prune::LayerPlan| LayerRow {
        path: shortened(&layer.path),
        kind: layer.kind.name(),
        filters: [layer.filters_before, layer.filters_after],
        connections: [layer.connections_before, layer.connections_after],
        parameters: [layer.parameters_before, layer.parameters_after],
        macs: [layer.macs_before, layer.macs_after],
        kept: reasons.of.get(&layer.path).cloned().unwrap_or_default(),
        format: formats.get(layer.path.as_str()).map(|layer| format(&layer.format)),
    };
    plan.layers.iter().take(shown).map(row).collect()
}

fn format(format: &ChosenFormat) -> String {
    match format {
        ChosenFormat::Dense { reason: None } => "dense (the fastest)".into(),
        ChosenFormat::Dense { reason: Some(reason) } => format!("dense ({})", shortened(reason)),
        ChosenFormat::Kernels => "single kernels".into(),
        ChosenFormat::Blocks(count) => format!("{count} dense blocks"),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_in_words() {
        let dense = |reason: Option<&str>| ChosenFormat::Dense { reason: reason.map(str::to_string) };
        assert_eq!(format(&dense(None)), "dense (the fastest)");
        assert_eq!(format(&dense(Some("it is grouped"))), "dense (it is grouped)");
        assert_eq!(
            [ChosenFormat::Kernels, ChosenFormat::Blocks(3)].map(|of| format(&of)),
            ["single kernels", "3 dense blocks"]
        );
    }
}
