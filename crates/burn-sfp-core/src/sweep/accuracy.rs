//! One more pass for the accuracy of fitted readouts.

use burn::tensor::{Tensor, TensorData};
use ndarray::{Array3, s};

use super::check::label_tensor;
use super::grid::Pooled;
use super::readout::scores_match;
use super::runner::{Probe, Runner, deduplicate};
use crate::network::Network;
use crate::{Calibration, Progress, SfpError, SfpModule};

/// Accuracy of fitted readouts, by one more pass.
pub(super) fn measure<M: SfpModule, C: Calibration<M::Input> + ?Sized>(
    model: &M,
    data: &C,
    network: &Network,
    fitted: &[(Probe, Option<Pooled>, Array3<f32>)],
    progress: &dyn Progress,
) -> Result<Vec<f64>, SfpError> {
    let probes: Vec<Probe> = fitted.iter().map(|(probe, _, _)| *probe).collect();
    let (probes, receivers) = deduplicate(network, probes);
    let mut runner = Runner::new(model, network.clone(), probes)?;
    let weights: Vec<Tensor<2>> = fitted
        .iter()
        .map(|(_, _, readout)| {
            let (filters, positions, classes) = readout.dim();
            let numbers: Vec<f32> = readout.slice(s![.., .., ..]).iter().copied().collect();
            Tensor::from_data(TensorData::new(numbers, [filters * positions, classes]), runner.device())
        })
        .collect();
    let mut hits = vec![0usize; fitted.len()];
    let mut samples = 0;
    progress.start("readout accuracy", data.samples());
    for (index, batch) in data.batches().enumerate() {
        let batch = batch.map_err(|message| SfpError::Data { batch: index, message })?;
        let labels = label_tensor(&batch.labels, runner.device());
        runner.run(index, &batch, |tap, acts| {
            for &k in &receivers[tap] {
                let acts = match &fitted[k].1 {
                    Some(pooled) => pooled.apply(acts.clone()),
                    None => acts.clone(),
                };
                let [n, f, s] = acts.dims();
                hits[k] += scores_match(acts.reshape([n, f * s]).matmul(weights[k].clone()), &labels)?;
            }
            Ok(())
        })?;
        samples += batch.labels.len();
        progress.advance(batch.labels.len());
    }
    progress.finish();
    Ok(hits.into_iter().map(|hits| hits as f64 / samples.max(1) as f64).collect())
}
