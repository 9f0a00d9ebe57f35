//! From the sums of a layer to its finished analysis: the step that a sweep and a merge share.

use std::time::Instant;

use burn::tensor::Device;
use ndarray::{Array3, ArrayView3, Axis};

use super::info::ReadoutInfo;
use super::layer::{LayerAnalysis, LayerState};
use super::result::Seconds;
use crate::SfpError;
use crate::performance::{FilterPerformance, LayerSummary, performances};
use crate::readout::ridge_readout;

/// The mean activation of each label, `[C, F, S]`, from class sums: `sums[i, f, s] / counts[i]` (docs/method.md, section 2).
/// `convert` chooses the precision of the result.
pub(super) fn class_means<T: Clone + Default>(
    sums: ArrayView3<'_, f64>,
    counts: &[u64],
    convert: impl Fn(f64) -> T,
) -> Array3<T> {
    let mut means = Array3::from_elem(sums.dim(), T::default());
    for ((mut mean, sum), &count) in means.outer_iter_mut().zip(sums.axis_iter(Axis(0))).zip(counts) {
        mean.zip_mut_with(&sum, |mean, sum| *mean = convert(sum / count as f64));
    }
    means
}

/// Solves for the readout where it follows from sums, and computes what the filters recognize, on the device or, without one, on
/// the host. Returns the analysis, with its state where `keep` says so, and the readout.
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
            // The solver works in place, so the matrix is copied only where it is kept.
            let gram = if keep { state.gram.clone() } else { state.gram.take() };
            let Some(gram) = gram else {
                return Err(SfpError::Readout { path: state.path, message: "its normal equations are missing".into() });
            };
            ridge_readout(&state.path, &state.sums, counts, gram, *strength)?
        }
        (_, Some(readout)) => readout.clone(),
        (_, None) => return Err(SfpError::Readout { path: state.path, message: "it was not kept".into() }),
    };
    check_readout(&state, &readout)?;
    seconds.readout += started.elapsed().as_secs_f64();
    let started = Instant::now();
    let performance = performance_of(&state, &readout, counts, threshold, device)?;
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

/// What the filters recognize at a threshold, from class sums and the readout.
pub(super) fn performance_of(
    state: &LayerState,
    readout: &Array3<f32>,
    counts: &[u64],
    threshold: f64,
    device: Option<&Device>,
) -> Result<Vec<FilterPerformance>, SfpError> {
    let means = class_means(state.sums.view(), counts, |mean| mean as f32);
    let mut performance = performances(&state.path, &means, readout, threshold, device)?;
    check_performance(&state.path, &performance)?;
    for (found, readout) in performance.iter_mut().zip(readout.outer_iter()) {
        let squares = |label: usize| readout.column(label).iter().map(|&value| f64::from(value).powi(2)).sum::<f64>();
        found.label_weight = found.labels().into_iter().map(squares).sum();
    }
    Ok(performance)
}

fn check_readout(state: &LayerState, readout: &Array3<f32>) -> Result<(), SfpError> {
    let Some(((filter, position, label), value)) = readout.indexed_iter().find(|(_, value)| !value.is_finite()) else {
        return Ok(());
    };
    let advice = match &state.info {
        ReadoutInfo::Gradient { .. } => "the gradient descent diverged: lower its learning rate or its momentum",
        ReadoutInfo::Ridge { .. } => {
            "the activations are too large or too small for single precision: scale the inputs"
        }
        _ => "clean the weights of NaN and infinite values before analysing",
    };
    let message = format!("its weight of filter {filter}, position {position} for label {label} is {value}; {advice}");
    Err(SfpError::Readout { path: state.path.clone(), message })
}

fn check_performance(path: &str, performance: &[FilterPerformance]) -> Result<(), SfpError> {
    let undefined = performance.iter().position(|filter| !filter.max.is_finite());
    undefined.map_or(Ok(()), |filter| {
        let message = format!(
            "the largest element of the performance matrix of filter {filter} is {}: activations times readout are too large \
             for single precision; scale the inputs",
            performance[filter].max
        );
        Err(SfpError::Readout { path: path.to_string(), message })
    })
}
