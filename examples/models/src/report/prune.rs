//! Every network pruned by magnitude: sizes before and after, and what no plan can touch.

use std::collections::BTreeMap;
use std::fmt::Write;

use burn::tensor::Device;
use burn_sfp::prelude::{Budget, GraphModule, GroupCut, Magnitude, Planner, PruneError};
use comfy_table::Table;

use crate::figure::grouped;
use crate::zoo::{Entry, Size, Visit, visit_all};

/// A row for each network, then the layers that keep their channels.
///
/// # Errors
/// What pruning a network ends in.
pub fn pruned(ratio: f64, blocks: GroupCut, device: &Device) -> Result<String, PruneError> {
    let table = super::empty(&["network", "parameters", "after", "multiply-adds", "after", "layers pruned"], 5);
    let planner = Planner::new().budget(Budget::PerLayer(ratio)).group_cut(blocks);
    let mut rows = Rows { planner, table, kept: String::new(), failed: None };
    visit_all(Size::Standard, device, &mut rows);
    match rows.failed {
        Some(error) => Err(error),
        None => Ok(format!("{}\n\nLayers that keep their filters:\n{}", rows.table, rows.kept)),
    }
}

struct Rows {
    planner: Planner,
    table: Table,
    kept: String,
    failed: Option<PruneError>,
}

impl Visit for Rows {
    fn visit<M: GraphModule>(&mut self, entry: &Entry, model: M, input: M::Inputs) {
        let plan = match self.planner.prune(&model, &input, &Magnitude::l2()) {
            Ok(smaller) => smaller.plan,
            Err(error) => {
                self.failed = self.failed.take().or(Some(error));
                return;
            }
        };
        let cut = plan.layers.iter().filter(|layer| layer.filters_after < layer.filters_before).count();
        self.table.add_row([
            entry.name.to_string(),
            grouped(plan.parameters_before),
            grouped(plan.parameters_after),
            grouped(plan.macs_before),
            grouped(plan.macs_after),
            format!("{cut} of {}", plan.layers.len()),
        ]);
        let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for kept in &plan.unpruned {
            by_reason.entry(&kept.reason).or_default().push(&kept.path);
        }
        for (reason, paths) in by_reason {
            // Writing to a string does not fail.
            let _ = writeln!(self.kept, "- {}: {} ({reason})", entry.name, paths.join(", "));
        }
    }
}
