//! The analysis with its default readouts, over a plain forward pass.

use burn_sfp::core::ReadoutInfo;
use burn_sfp::prelude::{Analysis, AnalyzeConfig};

use crate::Result;
use crate::measure::{Kind, Pairs, Row, Unit};
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
    let config = AnalyzeConfig::new();
    let mut last = None;
    let ours = || {
        let analysis = subject.analyze(&config)?;
        let seconds = analysis.seconds.sweep + analysis.seconds.readout;
        last = Some(analysis);
        Ok(seconds)
    };
    let pairs = Pairs::in_turn(session.pairs, ours, || subject.forward())?;
    let (normal, solution) = last.as_ref().map_or((0.0, 0.0), ridge_macs);
    let note = format!(
        "sweep with class sums and normal equations, and their solution (ridge, automatic grid), over the forward pass \
         alone: {}; wanted: at most 3; multiply-adds: normal equations {:.1} G and Cholesky's solution {:.1} G (whatever \
         the number of images) in double precision, the pass {:.1} G in single",
        subject.about(),
        1e-9 * normal,
        1e-9 * solution,
        1e-9 * subject.macs()?
    );
    Ok(pairs.row(NAME, Kind::Cost, Unit::Seconds, note))
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
