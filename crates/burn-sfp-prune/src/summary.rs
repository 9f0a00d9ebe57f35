//! [`PlanSummary`]: a plan printed as a table.

use std::fmt;

use burn_sfp_graph::place;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use crate::PrunePlan;

impl PrunePlan {
    /// Returns the plan as a table: filters, connections, parameters and MACs of each layer, before and after.
    pub fn summary(&self) -> PlanSummary<'_> {
        PlanSummary(self)
    }
}

/// Prints a plan as a table with a row for each layer, followed by the layers that keep all their filters and the operations whose
/// cost is not known.
#[derive(Clone, Copy, Debug)]
pub struct PlanSummary<'a>(&'a PrunePlan);

impl fmt::Display for PlanSummary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.0;
        let pair = |before: u64, after: u64| format!("{before} -> {after}");
        let mut table = Table::new();
        table.load_preset(NOTHING).set_header(["layer", "filters", "connections", "parameters", "MACs"]);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for layer in &plan.layers {
            table.add_row([
                layer.path.clone(),
                pair(layer.filters_before as u64, layer.filters_after as u64),
                pair(layer.connections_before, layer.connections_after),
                pair(layer.parameters_before, layer.parameters_after),
                pair(layer.macs_before, layer.macs_after),
            ]);
        }
        let all = plan.totals();
        table.add_row([
            "all".to_string(),
            String::new(),
            pair(all.connections_before, all.connections_after),
            pair(all.parameters_before, all.parameters_after),
            pair(all.macs_before, all.macs_after),
        ]);
        for line in table.lines() {
            writeln!(f, "{}", line.trim_end())?;
        }
        for (reason, layers) in by_reason(plan) {
            let keep = if layers.len() == 1 { "keeps its" } else { "keep their" };
            writeln!(f, "{} {keep} filters: {reason}", layers.join(", "))?;
        }
        for path in &plan.unreached {
            writeln!(
                f,
                "warning: `{path}` is not reached: add the forward pass that runs it (`Planner::also`), or exclude what feeds it"
            )?;
        }
        for operation in &plan.uncounted {
            writeln!(f, "the MACs of {}{} are not known and not counted", operation.name, place(&operation.after))?;
        }
        Ok(())
    }
}

/// The layers that keep their filters, those with the same reason together, in the order in which they run.
fn by_reason(plan: &PrunePlan) -> Vec<(&str, Vec<&str>)> {
    let mut found: Vec<(&str, Vec<&str>)> = Vec::new();
    for layer in &plan.unpruned {
        match found.iter_mut().find(|(reason, _)| *reason == layer.reason) {
            Some((_, layers)) => layers.push(&layer.path),
            None => found.push((&layer.reason, vec![&layer.path])),
        }
    }
    found
}
