//! What the command line prints.

mod budgets;
mod list;
mod prune;
mod ship;

pub use budgets::{BudgetRow, budget_table, budgets, write_budgets};
pub use list::listed;
pub use prune::pruned;
pub use ship::{Compared, Shipped, load_all, save_all};

use crate::figure::grouped;
use comfy_table::{CellAlignment, Table, presets};

/// A row for each saved network: parameters, multiply-adds and bytes before and after.
pub fn shipped(rows: &[Shipped]) -> String {
    let header = ["network", "parameters", "after", "multiply-adds", "after", "bytes", "after", "bytes / parameters"];
    let mut table = empty(&header, 7);
    for row in rows {
        let counts = [row.parameters.0, row.parameters.1, row.macs.0, row.macs.1, row.bytes.0, row.bytes.1];
        let numbers = counts.map(grouped).into_iter().chain([format!("{:.4}", row.excess())]);
        table.add_row(std::iter::once(row.name.to_string()).chain(numbers));
    }
    table.to_string()
}

/// An empty table whose columns behind the first are numeric, `numeric` of them.
fn empty(header: &[&str], numeric: usize) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(header);
    for column in table.column_iter_mut().skip(1).take(numeric) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
