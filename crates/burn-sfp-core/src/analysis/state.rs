//! A layer's sums, and the step from sums to the finished analysis that a sweep and a merge share.

use std::time::Instant;

use burn::tensor::Device;
use ndarray::{Array2, Array3, Axis};

use super::{LayerAnalysis, ReadoutInfo, Seconds, UnitKind};
use crate::SfpError;
use crate::performance::{LayerSummary, performances};
use crate::sweep::ridge_readout;

/// What merging needs of a layer.
#[derive(Clone, Debug)]
pub(crate) struct LayerState {
    pub path: String,
    pub kind: UnitKind,
    pub grid: Option<Vec<usize>>,
    /// Class sums `[C, F, S]`.
    pub sums: Array3<f64>,
    /// Lower triangle of the Gram matrix, for ridge readouts.
    pub gram: Option<Array2<f64>>,
    /// The readout `[F, S, C]`; to be solved for where it is missing or a Gram matrix is there.
    pub readout: Option<Array3<f32>>,
    pub info: ReadoutInfo,
}

/// Solves for the readout where it follows from sums, and finds what the filters recognise: on a device, or on the host.
pub(crate) fn finish_layer(
    mut state: LayerState,
    counts: &[u64],
    threshold: f64,
    keep: bool,
    device: Option<&Device>,
    seconds: &mut Seconds,
) -> Result<(LayerAnalysis, Array3<f32>), SfpError> {
    let started = Instant::now();
    let readout = match (&state.info, &state.readout) {
        (ReadoutInfo::Ridge { strength, .. }, _) => {
            // The solver works in place; the copy is made only where the matrix is still needed.
            let gram = if keep { state.gram.clone() } else { state.gram.take() };
            let Some(gram) = gram else {
                return Err(SfpError::Readout { path: state.path, message: "its normal equations are missing".into() });
            };
            ridge_readout(&state.path, &state.sums, counts, gram, *strength)?
        }
        (_, Some(readout)) => readout.clone(),
        (_, None) => return Err(SfpError::Readout { path: state.path, message: "it was not kept".into() }),
    };
    seconds.readout += started.elapsed().as_secs_f64();
    let started = Instant::now();
    let mut means = Array3::<f32>::zeros(state.sums.dim());
    for ((mut mean, sum), &count) in means.outer_iter_mut().zip(state.sums.axis_iter(Axis(0))).zip(counts) {
        mean.zip_mut_with(&sum, |mean, sum| *mean = (sum / count as f64) as f32);
    }
    let performance = performances(&state.path, &means, &readout, threshold, device)?;
    let (classes, filters, positions) = state.sums.dim();
    let summary = LayerSummary::of(&performance, classes);
    seconds.performance += started.elapsed().as_secs_f64();
    let mut analysis = LayerAnalysis {
        path: state.path.clone(),
        kind: state.kind,
        filters,
        positions,
        grid: state.grid.clone(),
        classes,
        samples: counts.iter().sum(),
        readout: state.info.clone(),
        performance,
        summary,
        state: None,
    };
    if keep {
        state.readout = Some(readout.clone());
        analysis.state = Some(state);
    }
    Ok((analysis, readout))
}
