//! What a batch and its sums must be.

use burn::tensor::{Int, Tensor, TensorData};
use ndarray::Array3;

use crate::{Batch, SfpError};

pub(super) fn check_labels<I: crate::ModuleInput>(
    index: usize,
    batch: &Batch<I>,
    classes: usize,
) -> Result<(), SfpError> {
    let inputs = batch.input.samples();
    if inputs == 0 && batch.labels.is_empty() {
        return Err(SfpError::NoSamples);
    }
    if inputs != batch.labels.len() {
        return Err(SfpError::LabelCount { batch: index, inputs, labels: batch.labels.len() });
    }
    match batch.labels.iter().position(|&label| label >= classes) {
        Some(sample) => Err(SfpError::LabelOutOfRange { batch: index, sample, label: batch.labels[sample], classes }),
        None => Ok(()),
    }
}

pub(super) fn check_finite(path: &str, sums: &Array3<f64>, counts: &[u64]) -> Result<(), SfpError> {
    match sums.indexed_iter().find(|(_, sum)| !sum.is_finite()) {
        Some(((label, filter, _), &sum)) => {
            Err(SfpError::NonFinite { path: path.to_string(), label, filter, value: sum / counts[label].max(1) as f64 })
        }
        None => Ok(()),
    }
}

pub(super) fn label_tensor(labels: &[usize], device: &burn::tensor::Device) -> Tensor<1, Int> {
    let labels: Vec<i64> = labels.iter().map(|&label| label as i64).collect();
    let count = labels.len();
    Tensor::from_data(TensorData::new(labels, [count]), device)
}
