//! [`PlanSummary`]: a plan printed as a table.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use burn_sfp_graph::place;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use crate::PrunePlan;
use crate::plan::{GroupPlan, Held};

impl PrunePlan {
    /// Returns the plan as a table: filters, connections, parameters and MACs of each layer, before and after.
    pub fn summary(&self) -> PlanSummary<'_> {
        PlanSummary(self)
    }
}

/// Prints a plan as a table with a row for each layer, followed by the blocks that are left out or stay, the layers that keep all their filters, the groups that lost
/// less than was asked for and why, and the operations whose
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
        if !plan.blocks.is_empty() {
            let paths: Vec<&str> = plan.blocks.iter().map(|block| block.path.as_str()).collect();
            writeln!(f, "left out whole: {}", paths.join(", "))?;
        }
        for block in &plan.kept_blocks {
            writeln!(f, "block {} stays: {}", block.path, block.reason)?;
        }
        for (reason, layers) in by_reason(plan) {
            let keep = if layers.len() == 1 { "keeps its" } else { "keep their" };
            writeln!(f, "{} {keep} filters: {reason}", layers.join(", "))?;
        }
        for (group, held) in short(plan) {
            let layers = group.layers.join(", ");
            let asked = group.asked.map(|asked| format!("{asked} of {} filters asked for, ", group.filters));
            let asked = asked.unwrap_or_default();
            writeln!(f, "{layers}: {asked}{} removed; {} stay: {}", group.removed, held.filters, held.reason)?;
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

/// What holds filters of groups that lost less than was asked for, unless all their layers are listed with a reason already.
fn short(plan: &PrunePlan) -> impl Iterator<Item = (&GroupPlan, &Held)> {
    let listed: BTreeSet<&str> = plan.unpruned.iter().map(|layer| layer.path.as_str()).collect();
    let told = move |group: &&GroupPlan| !group.layers.iter().all(|layer| listed.contains(layer.as_str()));
    plan.groups.iter().filter(told).flat_map(|group| group.held.iter().map(move |held| (group, held)))
}

/// The layers that keep their filters, those with the same reason together, in the order in which they run.
fn by_reason(plan: &PrunePlan) -> Vec<(&str, Vec<&str>)> {
    let mut found: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut known: HashMap<&str, usize> = HashMap::new();
    for layer in &plan.unpruned {
        let at = *known.entry(&layer.reason).or_insert(found.len());
        match found.get_mut(at) {
            Some((_, layers)) => layers.push(&layer.path),
            None => found.push((&layer.reason, vec![&layer.path])),
        }
    }
    found
}
