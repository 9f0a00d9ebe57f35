//! An analysis as a printed table.

use std::fmt;

use comfy_table::{CellAlignment, Table, presets};

use super::layer::LayerAnalysis;
use super::result::Analysis;

/// The columns, and whether their values are numeric.
const COLUMNS: [(&str, bool); 10] = [
    ("layer", false),
    ("filters", true),
    ("positions", true),
    ("readout", false),
    ("acc %", true),
    ("silent", true),
    ("N_c", true),
    ("C_s", true),
    ("noise", true),
    ("SNR", true),
];

fn row(layer: &LayerAnalysis) -> [String; COLUMNS.len()] {
    let optional = |value: Option<f64>, digits: usize| value.map_or("-".into(), |value| format!("{value:.digits$}"));
    let summary = &layer.summary;
    [
        layer.path.clone(),
        layer.filters.to_string(),
        layer.positions.to_string(),
        layer.readout.name().to_string(),
        optional(layer.readout.accuracy().map(|accuracy| 100.0 * accuracy), 1),
        summary.silent.to_string(),
        format!("{:.2}", summary.clusters_per_filter),
        format!("{:.2}", summary.cluster_size),
        format!("{:.1}", summary.noise),
        optional(summary.snr, 2),
    ]
}

impl fmt::Display for Analysis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (samples, classes, top1) = (self.samples, self.classes, 100.0 * self.top1);
        writeln!(f, "{samples} samples, {classes} classes, top-1 {top1:.2} %, threshold {}", self.threshold)?;
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(COLUMNS.map(|(name, _)| name));
        table.add_rows(self.layers.iter().map(row));
        for (column, (_, numeric)) in table.column_iter_mut().zip(COLUMNS) {
            column.set_padding((0, 2));
            if numeric {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        writeln!(f, "{}", table.trim_fmt())?;
        let near: usize = self.layers.iter().map(|layer| layer.near_threshold().len()).sum();
        if near > 0 {
            writeln!(
                f,
                "{near} filters have elements within 1e-5 of the threshold: another device may round these to the other side"
            )?;
        }
        Ok(())
    }
}
