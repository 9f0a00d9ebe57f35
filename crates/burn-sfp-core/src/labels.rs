//! Checks of the labels of a batch, and the conversions between labels and tensors.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::SfpError;

/// Checks that a batch has one label per sample. `batch` is its position, for the error.
///
/// # Errors
/// [`SfpError::LabelCount`].
pub fn check_count(batch: usize, samples: usize, labels: &[usize]) -> Result<(), SfpError> {
    if samples == labels.len() {
        return Ok(());
    }
    Err(SfpError::LabelCount { batch, inputs: samples, labels: labels.len() })
}

/// Checks that all labels of a batch are below the number of classes. `batch` is its position, for the error.
///
/// # Errors
/// [`SfpError::LabelOutOfRange`].
pub fn check_range(batch: usize, labels: &[usize], classes: usize) -> Result<(), SfpError> {
    match labels.iter().position(|&label| label >= classes) {
        Some(sample) => Err(SfpError::LabelOutOfRange { batch, sample, label: labels[sample], classes }),
        None => Ok(()),
    }
}

/// Labels as an integer tensor `[samples]`, for Burn's losses and one-hot encoding.
pub fn label_tensor(labels: &[usize], device: &Device) -> Tensor<1, Int> {
    let labels: Vec<i64> = labels.iter().map(|&label| label as i64).collect();
    let samples = labels.len();
    Tensor::from_data(TensorData::new(labels, [samples]), device)
}

/// Top-1 hits: the number of rows of `scores`, `[samples, classes]`, whose largest element is at the label.
pub(crate) fn top1_hits(scores: Tensor<2>, labels: &Tensor<1, Int>) -> usize {
    let samples = scores.dims()[0];
    let hits = scores.argmax(1).reshape([samples]).equal(labels.clone()).int().sum();
    let data = hits.into_data().convert::<i64>();
    data.iter::<i64>().next().unwrap_or_default() as usize
}
