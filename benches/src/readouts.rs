//! The analysis with its default readouts, over a plain forward pass.

use burn_sfp::core::ReadoutInfo;
use burn_sfp::prelude::{Analysis, AnalyzeConfig};

use crate::Result;
use crate::measure::Row;
use crate::subject::Session;

/// Name of the row.
pub const NAME: &str = "readouts_vs_forward";
/// What it measures.
pub const ABOUT: &str = "sweep of the VGG-11 with the default readouts (ridge, automatic grid) and their solution over a \
                         plain forward pass; at most 3";

/// Measures the row.
///
/// # Errors
/// As the analysis.
pub fn run(session: &Session) -> Result<Row> {
    let subject = session.subject()?;
    let stage = subject.stage_vs_forward(session.pairs, &AnalyzeConfig::new(), |analysis| {
        analysis.seconds.sweep + analysis.seconds.readout
    })?;
    let (normal, solution) = ridge_macs(&stage.analysis);
    let note = format!(
        "sweep with class sums and normal equations, and their solution (ridge, automatic grid), over the forward pass \
         alone: {}; wanted: at most 3; multiply-adds: normal equations {:.1} G and Cholesky's solution {:.1} G (whatever \
         the number of images) in double precision, the pass {:.1} G in single",
        subject.about(),
        1e-9 * normal,
        1e-9 * solution,
        1e-9 * subject.macs()?
    );
    Ok(stage.row(NAME, note))
}

/// Multiply-adds of the normal equations (one triangle) and of their solution.
fn ridge_macs(analysis: &Analysis) -> (f64, f64) {
    let samples = analysis.samples as f64;
    let classes = analysis.classes as f64;
    let ridge = analysis.layers.iter().filter(|layer| matches!(layer.readout, ReadoutInfo::Ridge { .. }));
    ridge.map(|layer| (layer.filters * layer.positions) as f64).fold((0.0, 0.0), |(normal, solution), k| {
        (normal + samples * k * k / 2.0, solution + k * k * k / 6.0 + k * k * classes)
    })
}
