//! What is printed.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, ContentArrangement, Table};

use crate::measure::{Row, Unit};

/// Characters of a line, notes included.
const WIDTH: u16 = 160;

/// The rows as a table.
pub fn table(rows: &[Row]) -> Table {
    let mut table = empty(&["name", "kind", "ours", "against", "ratio", "spread", "note"]);
    for row in rows {
        let amount = |x: f64| match row.unit {
            Unit::Seconds if x < 1e-2 => format!("{:.1} us", 1e6 * x),
            Unit::Seconds => format!("{x:.4} s"),
            Unit::Mebibytes => format!("{x:.1} MiB"),
        };
        table.add_row([
            row.name.to_string(),
            row.kind.name().to_string(),
            amount(row.ours_s),
            amount(row.against_s),
            format!("{:.4}", row.ratio),
            format!("{:.1} %", 100.0 * row.spread),
            row.note.clone(),
        ]);
    }
    for column in table.column_iter_mut().skip(2).take(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Names and what they measure.
pub fn list<'a>(benches: impl Iterator<Item = (&'a str, &'a str)>) -> Table {
    let mut table = empty(&["name", "what"]);
    for (name, about) in benches {
        table.add_row([name, about]);
    }
    table
}

fn empty(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    table.set_header(header);
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Kind;

    #[test]
    fn a_row_in_its_unit() {
        let row = Row {
            name: "memory",
            kind: Kind::Cost,
            unit: Unit::Mebibytes,
            ours_s: 21.0,
            against_s: 20.0,
            ratio: 1.05,
            spread: 0.01,
            note: "MiB".into(),
        };
        let text = table(&[row]).to_string();
        for part in ["21.0 MiB", "20.0 MiB", "1.0500", "1.0 %", "cost"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }
}
