//! The table of results.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

/// What was measured of one model.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which model.
    pub name: String,
    /// Top-1 on test images.
    pub top1: f64,
    /// Number of parameters.
    pub parameters: u64,
    /// Kernels of convolutions and weights of linear layers that are left.
    pub connections: u64,
    /// Multiplications with accumulation of one image.
    pub macs: u64,
}

/// Lays the rows out, with the change against the first row.
pub fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    table.set_header(["model", "top-1", "parameters", "connections", "MACs"]);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for row in rows {
        let base = rows.first().unwrap_or(row);
        let share = |part: u64, whole: u64| format!("{:.1} %", 100.0 * part as f64 / whole.max(1) as f64);
        table.add_row([
            row.name.clone(),
            format!("{:.2} %", 100.0 * row.top1),
            format!("{} ({})", row.parameters, share(row.parameters, base.parameters)),
            format!("{} ({})", row.connections, share(row.connections, base.connections)),
            format!("{:.2} M ({})", row.macs as f64 / 1e6, share(row.macs, base.macs)),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_against_the_first_row() {
        let row = |name: &str, scale: u64| Row {
            name: name.into(),
            top1: 0.5,
            parameters: 100 * scale,
            connections: 10 * scale,
            macs: 1_000_000 * scale,
        };
        let text = table(&[row("before", 4), row("after", 1)]).to_string();
        assert!(text.contains("400 (100.0 %)") && text.contains("100 (25.0 %)"), "{text}");
        assert!(text.contains("1.00 M (25.0 %)"), "{text}");
    }
}
