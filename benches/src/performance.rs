//! Performance matrices and clusters, over a plain forward pass.

use burn_sfp::core::LayerAnalysis;

use crate::Result;
use crate::measure::Row;
use crate::subject::Session;

/// Name of the row.
pub const NAME: &str = "performance_vs_forward";
/// What it measures.
pub const ABOUT: &str = "performance matrices and clusters of the VGG-11's ten layers (every position) over a plain \
                         forward pass; at most 0.25";

/// Measures the row.
///
/// # Errors
/// As the analysis.
pub fn run(session: &Session) -> Result<Row> {
    let stage = session.subject()?.full_stage_vs_forward(session.pairs, |analysis| analysis.seconds.performance)?;
    let (features, classes) = (stage.features(), stage.classes());
    // Silent filters have no clusters to find: a row over many of them would flatter.
    let count = |of: fn(&LayerAnalysis) -> usize| stage.analysis.layers.iter().map(of).sum::<usize>();
    let note = format!(
        "performance matrices, thresholds and clusters of all layers (every position) over the forward pass alone: {}, \
         readouts of one gradient epoch, {} of {} filters silent; wanted: at most 0.25; floor: {:.2} G multiply-adds of the matrices against the pass's {:.1} G, {:.2} GB of sums \
         and {:.2} GB of readouts read",
        stage.subject.about(),
        count(|layer| layer.summary.silent),
        count(|layer| layer.filters),
        1e-9 * features * classes * classes,
        1e-9 * stage.subject.macs()?,
        8e-9 * features * classes,
        4e-9 * features * classes
    );
    Ok(stage.row(NAME, note))
}
