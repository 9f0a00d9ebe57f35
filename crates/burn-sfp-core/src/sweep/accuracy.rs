//! One more pass over the data for the accuracy of fitted readouts.

use burn::tensor::{Tensor, TensorData};
use burn_sfp_graph::Network;
use ndarray::Array3;

use super::grid::Pooled;
use super::probe::{Probe, deduplicate};
use super::runner::Runner;
use crate::labels::{label_tensor, top1_hits};
use crate::{Calibration, Progress, SfpError, SfpModule};

/// A fitted readout whose accuracy is to be measured.
pub(super) struct Fitted {
    pub probe: Probe,
    pub pooled: Option<Pooled>,
    /// `[F, S, C]`.
    pub readout: Array3<f32>,
    /// Index of its entry in the analysis.
    pub layer: usize,
}

/// Measures the top-1 of fitted readouts by one more pass over the data.
pub(super) fn measure<M: SfpModule, C: Calibration<M::Inputs> + ?Sized>(
    model: &M,
    data: &C,
    network: &Network,
    fitted: &[Fitted],
    progress: &dyn Progress,
) -> Result<Vec<f64>, SfpError> {
    let (probes, receivers) = deduplicate(network, fitted.iter().enumerate().map(|(k, fitted)| (fitted.probe, k)));
    let mut runner = Runner::new(model, network.clone(), probes)?;
    let weight = |fitted: &Fitted| {
        let (filters, positions, classes) = fitted.readout.dim();
        let values: Vec<f32> = fitted.readout.iter().copied().collect();
        Tensor::<2>::from_data(TensorData::new(values, [filters * positions, classes]), runner.device())
    };
    let weights: Vec<Tensor<2>> = fitted.iter().map(weight).collect();
    let mut hits = vec![0usize; fitted.len()];
    let mut samples = 0;
    progress.start("readout accuracy", data.samples());
    for (index, batch) in data.batches().enumerate() {
        let batch = batch.map_err(|source| SfpError::Data { batch: index, source })?;
        let labels = label_tensor(&batch.labels, runner.device());
        runner.run(index, &batch, |tap, acts| {
            for &k in &receivers[tap] {
                let acts = match &fitted[k].pooled {
                    Some(pooled) => pooled.apply(acts.clone()),
                    None => acts.clone(),
                };
                let [n, f, s] = acts.dims();
                hits[k] += top1_hits(acts.reshape([n, f * s]).matmul(weights[k].clone()), &labels);
            }
            Ok(())
        })?;
        samples += batch.labels.len();
        progress.advance(batch.labels.len());
    }
    progress.finish();
    Ok(hits.into_iter().map(|hits| hits as f64 / samples.max(1) as f64).collect())
}
