//! The sweep with class sums alone, over a plain forward pass.

use crate::Result;
use crate::measure::Row;
use crate::subject::{IMAGES, Session};

/// Name of the row.
pub const NAME: &str = "sweep_vs_forward";
/// What it measures.
pub const ABOUT: &str = "sweep of the VGG-11 (class sums of ten layers, every position, no readout fitted) over a plain \
                         forward pass; at most 1.15";

/// Measures the row.
///
/// # Errors
/// As the analysis.
pub fn run(session: &Session) -> Result<Row> {
    let stage = session.subject()?.full_stage_vs_forward(session.pairs, |analysis| analysis.seconds.sweep)?;
    let note = format!(
        "sweep with class sums of all layers (every position, readouts given; capture, once an analysis, not counted) \
         over the forward pass alone: {}; wanted: at most 1.15; floor: {:.2} GB of activations read and {:.2} GB of sums \
         written beside the pass's {:.1} G multiply-adds",
        stage.subject.about(),
        4e-9 * stage.features() * IMAGES as f64,
        8e-9 * stage.features() * stage.classes(),
        1e-9 * stage.subject.macs()?
    );
    Ok(stage.row(NAME, note))
}
