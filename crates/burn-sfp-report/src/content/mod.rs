//! [`Content`]: what a report shows, as plain data, cut down to what a page can hold.

mod check;
mod drawing;
mod filters;
mod kept;
mod layers;
mod links;
mod matrices;
mod recognised;
mod shown;
mod sizes;

use serde::Serialize;

use crate::ReportError;
use crate::given::Given;
use crate::text::shortened;

#[cfg(test)]
pub(crate) use drawing::Node;
pub(crate) use drawing::{Drawing, NodeKind};
pub(crate) use kept::{Kept, kept};
pub(crate) use layers::LayerRow;
pub(crate) use links::{Link, Map};
pub(crate) use recognised::{LabelCounts, Recognised, UnitRow};
pub(crate) use sizes::{Asked, LatencyLine, Measure, asked, measures};

/// Version of the JSON format.
const FORMAT: u32 = 1;

/// What a report shows.
#[derive(Debug, Serialize)]
pub(crate) struct Content {
    /// Version of this format.
    pub format: u32,
    pub title: String,
    pub policy: String,
    /// What was asked of the groups of layers, where the budget says it.
    pub asked: Option<Asked>,
    /// Sizes and accuracies before and after.
    pub measures: Vec<Measure>,
    pub latency: Vec<LatencyLine>,
    /// Number of layers of the plan.
    pub layers_in_all: usize,
    /// Number of these that lost filters.
    pub layers_pruned: usize,
    /// The residual blocks that are left out whole, by module path.
    pub blocks: Vec<String>,
    /// The layers, in the order in which they run.
    pub layers: Vec<LayerRow>,
    /// Why filters stay.
    pub kept: Vec<Kept>,
    pub warnings: Vec<String>,
    pub drawing: Drawing,
    /// Connections between consecutive layers.
    pub links: Vec<Link>,
    /// What the filters recognise.
    pub recognised: Option<Recognised>,
    /// What is left out because there is too much of it.
    pub left_out: Vec<String>,
}

impl Content {
    /// Collects what a report shows.
    pub fn of(given: &Given<'_>) -> Result<Self, ReportError> {
        check::check(given)?;
        let plan = given.plan;
        let mut left_out = Vec::new();
        let kept = kept(plan, &mut left_out);
        let lines = layers::layers(given, &kept, &mut left_out);
        let recognised = given.analysis.map(|analysis| recognised::recognised(given, analysis, &mut left_out));
        Ok(Self {
            format: FORMAT,
            title: shortened(&given.title),
            policy: shortened(&plan.policy),
            asked: asked(plan),
            measures: measures(given),
            latency: sizes::latency(given),
            layers_in_all: plan.layers.len(),
            layers_pruned: plan.layers.iter().filter(|layer| layer.filters_after < layer.filters_before).count(),
            drawing: drawing::drawing(given, &mut left_out),
            links: links::links(given, &mut left_out),
            blocks: kept::blocks(plan, &mut left_out),
            layers: lines,
            warnings: kept::warnings(plan, &mut left_out),
            kept: kept.entries,
            recognised: recognised.transpose()?,
            left_out,
        })
    }

    /// Which blocks are left out whole, in words.
    pub fn about_blocks(&self) -> Option<String> {
        (!self.blocks.is_empty()).then(|| format!("Left out whole: {}.", self.blocks.join(", ")))
    }

    /// What to know of the sizes where connections were removed one by one.
    pub fn about_masks(&self) -> Option<&'static str> {
        self.links.iter().any(|link| link.masked > 0).then_some(
            "Connections that were removed one by one are zeros: parameters and multiply-adds count them until layers of sparse types \
             leave them out (`sparsify`).",
        )
    }

    /// The content as JSON.
    pub fn json(&self) -> String {
        // Plain structs with text keys: there is nothing in them that JSON cannot hold.
        serde_json::to_string(self).unwrap_or_default()
    }
}
