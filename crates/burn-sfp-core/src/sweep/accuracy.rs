//! One more pass over the data for the accuracy of fitted readouts.

use burn::tensor::{DType, Tensor, TensorData};
use burn_sfp_graph::Network;
use ndarray::Array3;

use super::grid::Pooled;
use super::probe::{Probe, deduplicate};
use super::runner::Runner;
use crate::checks::{PassCounts, check_batch, on_batch};
use crate::labels::{Top1, check_range};
use crate::{Calibration, Progress, SfpError, SfpModule};

/// A fitted readout whose accuracy is to be measured.
pub(crate) struct Fitted {
    pub probe: Probe,
    pub pooled: Option<Pooled>,
    /// `[F, S, C]`.
    pub readout: Array3<f32>,
    /// Index of its entry in the analysis.
    pub layer: usize,
    /// Path of that entry.
    pub path: String,
}

/// Measures the top-1 of fitted readouts by one more pass over the data, which has to hold what the passes counted in `counts` held.
/// Returns `None` if the work was cancelled.
pub(crate) fn measure<M: SfpModule, C: Calibration<M::Inputs> + ?Sized>(
    model: &M,
    data: &C,
    network: &Network,
    fitted: &[Fitted],
    mut counts: PassCounts,
    progress: &dyn Progress,
) -> Result<Option<Vec<f64>>, SfpError> {
    let _span = tracing::info_span!("readout accuracy").entered();
    let (probes, receivers) = deduplicate(network, fitted.iter().enumerate().map(|(k, fitted)| (fitted.probe, k)));
    let mut runner = Runner::new(model, network.clone(), probes)?;
    let weight = |fitted: &Fitted| {
        let (filters, positions, classes) = fitted.readout.dim();
        let values: Vec<f32> = fitted.readout.iter().copied().collect();
        Tensor::<2>::from_data(TensorData::new(values, [filters * positions, classes]), (runner.device(), DType::F32))
    };
    let weights: Vec<Tensor<2>> = fitted.iter().map(weight).collect();
    let mut hits = vec![0usize; fitted.len()];
    let samples: u64 = counts.of_first_pass().iter().sum();
    progress.start("readout accuracy", data.samples());
    for (index, batch) in data.batches().enumerate() {
        let batch = batch.map_err(|source| SfpError::Data { batch: index, source })?;
        check_batch(index, &batch)?;
        check_range(index, &batch.labels, network.classes())?;
        let tapped = |tap: usize, acts: Tensor<3>| {
            for &k in &receivers[tap] {
                let acts = match &fitted[k].pooled {
                    Some(pooled) => pooled.apply(acts.clone()),
                    None => acts.clone(),
                };
                let [n, f, s] = acts.dims();
                let scores = acts.reshape([n, f * s]).matmul(weights[k].clone());
                hits[k] += Top1::of(&scores, &batch.labels).of_readout(&fitted[k].path)?;
            }
            Ok(())
        };
        on_batch(index, || runner.run(index, &batch, tapped))?;
        counts.add(&batch.labels);
        progress.advance(batch.labels.len());
        if progress.is_cancelled() {
            progress.finish();
            return Ok(None);
        }
    }
    counts.end_pass()?;
    progress.finish();
    Ok(Some(hits.into_iter().map(|hits| hits as f64 / samples.max(1) as f64).collect()))
}
