//! Every network under budgets in units of cost: what was asked for, and what is left.

use std::path::Path;
use std::time::Instant;

use burn::tensor::Device;
use burn_sfp::core::DataError;
use burn_sfp::prelude::{GraphModule, Keep, LayerRule, Magnitude, Network, Planner, PruneError, RemovalOrder};
use comfy_table::Table;
use serde::Serialize;
use serde_json::Value;
use support::write_rows;

use crate::random::randomise;
use crate::values::{difference, values};
use crate::zoo::{Entry, Size, Visit, visit_all};

/// What came of one network under one budget.
#[derive(Clone, Debug, Serialize)]
pub struct BudgetRow {
    /// Name of the network.
    pub network: &'static str,
    /// What is counted: `macs` or `parameters`.
    pub unit: &'static str,
    /// Which layers are compared with each other.
    pub order: &'static str,
    /// Filters that stay are a multiple of this.
    pub multiple_of: usize,
    /// The share of the original that was asked for.
    pub asked: f64,
    /// The share that is left; `None` if the budget could not be met.
    pub got: Option<f64>,
    /// Largest difference of an output to that of the original with the removed channels at zero, over the largest output.
    pub difference: Option<f64>,
    /// Seconds for the plan and the smaller network, over those of a forward pass of the original.
    pub seconds_over_pass: Option<f64>,
    /// Why the budget could not be met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A budget to try.
#[derive(Clone, Copy)]
struct Asked {
    unit: &'static str,
    share: f64,
    multiple: usize,
    order: (&'static str, RemovalOrder),
}

impl Asked {
    fn budget(&self) -> Keep {
        let keep = if self.unit == "macs" { Keep::macs(self.share) } else { Keep::parameters(self.share) };
        keep.order(self.order.1)
    }

    fn planner(&self) -> Planner {
        let planner = Planner::new().budget(self.budget());
        if self.multiple > 1 { planner.layers(LayerRule::all().multiple_of(self.multiple)) } else { planner }
    }
}

/// Half of the multiply-adds and 30 % of the parameters, all layers alike and by score alone, with filters in multiples of 8 too.
fn asked() -> Vec<Asked> {
    let mut all = Vec::new();
    for order in [("even", RemovalOrder::EvenPerGroup), ("global", RemovalOrder::Global)] {
        for (unit, share) in [("macs", 0.5), ("parameters", 0.3)] {
            for multiple in [1, 8] {
                all.push(Asked { unit, share, multiple, order });
            }
        }
    }
    all
}

/// Prunes each network by magnitude under each budget.
///
/// # Errors
/// What pruning ends in, other than a budget that cannot be met.
pub fn budgets(size: Size, device: &Device) -> Result<Vec<BudgetRow>, PruneError> {
    let mut rows = Rows { rows: Vec::new(), failed: None };
    visit_all(size, device, &mut rows);
    rows.failed.map_or(Ok(rows.rows), Err)
}

/// The rows as a table.
pub fn budget_table(rows: &[BudgetRow]) -> Table {
    let header = ["network", "unit", "order", "multiple of", "asked", "got", "difference", "seconds / pass", "why not"];
    let mut table = super::empty(&header, 7);
    let number =
        |value: Option<f64>, digits: usize| value.map_or_else(String::new, |value| format!("{value:.digits$}"));
    for row in rows {
        table.add_row([
            row.network.to_string(),
            row.unit.to_string(),
            row.order.to_string(),
            row.multiple_of.to_string(),
            row.asked.to_string(),
            number(row.got, 4),
            row.difference.map_or_else(String::new, |value| format!("{value:.0e}")),
            number(row.seconds_over_pass, 2),
            row.error.clone().unwrap_or_default(),
        ]);
    }
    table
}

/// Writes the rows under `budgets` into a JSON file in place of earlier ones; rows in other units, and other entries of the file, stay.
///
/// # Errors
/// Those of reading and writing the file.
pub fn write_budgets(rows: &[BudgetRow], path: &Path) -> Result<(), DataError> {
    let is_own = |row: &Value| matches!(row["unit"].as_str(), Some("macs" | "parameters"));
    write_rows(path, "budgets", rows, is_own)
}

struct Rows {
    rows: Vec<BudgetRow>,
    failed: Option<PruneError>,
}

impl Rows {
    fn add<M: GraphModule>(&mut self, entry: &Entry, model: &M, input: &M::Inputs) -> Result<(), PruneError> {
        let network = Network::capture(model, input)?;
        let started = Instant::now();
        let _ = values(model.run(input.clone()));
        let pass = started.elapsed().as_secs_f64();
        for asked in asked() {
            let started = Instant::now();
            let pruned = asked.planner().prune(model, input, &Magnitude::l2());
            let seconds = started.elapsed().as_secs_f64();
            let mut row = BudgetRow {
                network: entry.name,
                unit: asked.unit,
                order: asked.order.0,
                multiple_of: asked.multiple,
                asked: asked.share,
                got: None,
                difference: None,
                seconds_over_pass: None,
                error: None,
            };
            match pruned {
                Ok(pruned) => {
                    let totals = pruned.plan.totals();
                    row.got = Some(match asked.unit {
                        "macs" => totals.macs_after as f64 / network.macs() as f64,
                        _ => totals.parameters_after as f64 / totals.parameters_before as f64,
                    });
                    row.seconds_over_pass = Some(seconds / pass);
                    row.difference = Some(difference(
                        &values(pruned.model.run(input.clone())),
                        &values(pruned.plan.zeroed(model)?.run(input.clone())),
                    ));
                }
                Err(error @ PruneError::BudgetNotMet { .. }) => row.error = Some(error.to_string()),
                Err(error) => return Err(error),
            }
            self.rows.push(row);
        }
        Ok(())
    }
}

impl Visit for Rows {
    fn visit<M: GraphModule>(&mut self, entry: &Entry, model: M, input: M::Inputs) {
        if let Err(error) = self.add(entry, &randomise(&model, 1), &input) {
            self.failed = self.failed.take().or(Some(error));
        }
    }
}
