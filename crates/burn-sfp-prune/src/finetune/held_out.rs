//! Accuracy and loss on held-out data.

use burn_sfp_core::checks::{check_batch, panicked};
use burn_sfp_core::labels::{check_range, label_tensor};
use burn_sfp_core::{Calibration, SfpModule};
use burn_sfp_graph::{ModuleInput, attempt};
use serde::{Deserialize, Serialize};

use super::loss::cross_entropy;
use super::step::{hits, run};
use crate::PruneError;

/// How good a model is on held-out data.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// Share of the samples whose largest logit is at the label.
    pub accuracy: f64,
    /// Mean cross-entropy.
    pub loss: f64,
}

/// Evaluates a model in evaluation mode.
pub(super) fn evaluate<M: SfpModule>(model: &M, data: &dyn Calibration<M::Inputs>) -> Result<HeldOut, PruneError> {
    let model = model.valid();
    let device = model.devices().into_iter().next().unwrap_or_default().without_autodiff();
    let (mut right, mut loss, mut samples) = (0, 0.0, 0);
    for (index, batch) in data.batches().enumerate() {
        let batch = batch.map_err(|source| PruneError::Data { batch: index, source })?;
        check_batch(index, &batch)?;
        let logits = run(&batch.input, index, |input| model.logits(input.to_device(&device)))?;
        check_range(index, &batch.labels, logits.dims()[1])?;
        let count = batch.labels.len();
        let mean = attempt(|| {
            right += hits(&logits, &batch.labels);
            let mean = cross_entropy(logits, label_tensor(&batch.labels, &device), 0.0).into_data();
            mean.iter::<f64>().next().unwrap_or(f64::NAN)
        });
        loss += mean.map_err(|message| panicked(index, message))? * count as f64;
        samples += count;
    }
    if samples == 0 {
        return Err(PruneError::NothingTrained { why: "the held-out data holds no sample".into() });
    }
    Ok(HeldOut { accuracy: right as f64 / samples as f64, loss: loss / samples as f64 })
}
