//! The sweep with class sums alone, over a plain forward pass.

use burn_sfp::prelude::Analysis;

use crate::Result;
use crate::measure::{Kind, Row, Unit};
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
    let subject = session.subject()?;
    let (pairs, analysis) =
        subject.stage_vs_forward(session.pairs, subject.without_fitting()?, |analysis| analysis.seconds.sweep)?;
    let (features, classes) = (features(&analysis), analysis.classes as f64);
    let note = format!(
        "sweep with class sums of all layers (every position, readouts given; capture, once an analysis, not counted) \
         over the forward pass alone: {}; wanted: at most 1.15; floor: {:.2} GB of activations read and {:.2} GB of sums \
         written beside the pass's {:.1} G multiply-adds",
        subject.about(),
        4e-9 * features * IMAGES as f64,
        8e-9 * features * classes,
        1e-9 * subject.macs()?
    );
    Ok(pairs.row(NAME, Kind::Cost, Unit::Seconds, note))
}

/// Filters times positions, over all layers.
pub fn features(analysis: &Analysis) -> f64 {
    analysis.layers.iter().map(|layer| (layer.filters * layer.positions) as f64).sum()
}
