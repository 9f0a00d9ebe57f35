//! What the command line prints.

mod list;
mod prune;

pub use list::listed;
pub use prune::pruned;

use comfy_table::{CellAlignment, Table, presets};

/// An empty table whose columns behind the first are numeric, `numeric` of them.
fn empty(header: &[&str], numeric: usize) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(header);
    for column in table.column_iter_mut().skip(1).take(numeric) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
