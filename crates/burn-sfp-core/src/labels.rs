//! Checks of the labels of a batch, the conversions between labels and tensors, and scores against labels.

use std::borrow::Cow;
use std::cell::OnceCell;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use burn_sfp_nn::tensor::on_host;

use crate::SfpError;

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

/// The labels of a batch, as the kernels and as Burn's operations take them.
pub(crate) struct BatchLabels<'a> {
    pub list: Cow<'a, [usize]>,
    /// All labels are smaller.
    pub classes: usize,
    /// What went to the device, once for all layers.
    on_device: OnceCell<Tensor<1, Int>>,
}

impl<'a> BatchLabels<'a> {
    /// Of labels that were checked to be below `classes`.
    pub fn new(list: &'a [usize], classes: usize) -> Self {
        Self { list: Cow::Borrowed(list), classes, on_device: OnceCell::new() }
    }

    /// The same label for each sample, under which sums over the labels are sums over all samples.
    pub fn all_alike(samples: usize) -> Self {
        Self { list: Cow::Owned(vec![0; samples]), classes: 1, on_device: OnceCell::new() }
    }

    /// The labels as a tensor of the one device that the batch is on.
    pub fn tensor(&self, device: &Device) -> Tensor<1, Int> {
        self.on_device.get_or_init(|| label_tensor(&self.list, device)).clone()
    }
}

/// Labels as an integer tensor `[samples]`, for Burn's losses and one-hot encoding.
pub fn label_tensor(labels: &[usize], device: &Device) -> Tensor<1, Int> {
    let labels: Vec<i64> = labels.iter().map(|&label| label as i64).collect();
    let samples = labels.len();
    Tensor::from_data(TensorData::new(labels, [samples]), device)
}

/// Labels as `f32` indicators `[samples, classes]`. (Burn's `one_hot` refuses a single class.)
pub(crate) fn one_hot(labels: &Tensor<1, Int>, classes: usize) -> Tensor<2> {
    labels.clone().one_hot_fill::<2>(classes, 1.0, 0.0, -1).float().cast(DType::F32)
}

/// Scores of a batch against its labels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Top1 {
    /// Samples whose largest score, the first one where several are, is at the label.
    pub hits: usize,
    /// Sample, label and value of the first score that is NaN or positive infinity, so that no label is the largest.
    pub undefined: Option<(usize, usize, f64)>,
}

impl Top1 {
    /// Compares scores `[samples, classes]` with one label per sample.
    pub fn of(scores: &Tensor<2>, labels: &[usize]) -> Self {
        let classes = scores.dims()[1];
        on_host(scores, |view| Self::of_rows(view.iter().map(|&score| f64::from(score)), classes, labels))
            .unwrap_or_else(|| Self::of_rows(scores.clone().into_data().iter::<f64>(), classes, labels))
    }

    fn of_rows(mut scores: impl Iterator<Item = f64>, classes: usize, labels: &[usize]) -> Self {
        let mut found = Self::default();
        for (sample, &label) in labels.iter().enumerate() {
            let mut largest = (0, f64::NEG_INFINITY);
            for (at, score) in scores.by_ref().take(classes).enumerate() {
                if score.is_nan() || score == f64::INFINITY {
                    found.undefined.get_or_insert((sample, at, score));
                }
                if score > largest.1 {
                    largest = (at, score);
                }
            }
            found.hits += usize::from(largest.0 == label);
        }
        found
    }

    /// The hits, where all scores are defined.
    ///
    /// # Errors
    /// [`SfpError::NonFiniteLogit`].
    pub fn of_logits(self, batch: usize) -> Result<usize, SfpError> {
        match self.undefined {
            None => Ok(self.hits),
            Some((sample, label, value)) => Err(SfpError::NonFiniteLogit { batch, sample, label, value: value as f32 }),
        }
    }

    /// The hits of a layer's readout, where all scores are defined.
    ///
    /// # Errors
    /// [`SfpError::Readout`].
    pub fn of_readout(self, path: &str) -> Result<usize, SfpError> {
        match self.undefined {
            None => Ok(self.hits),
            Some((_, label, value)) => Err(SfpError::Readout {
                path: path.to_string(),
                message: format!(
                    "its output for label {label} is {value}: clean inputs and weights of NaN and infinite values, and \
                     lower the learning rate where it is fitted by gradient descent"
                ),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_largest_score_counts() {
        let device = Device::flex();
        let scores =
            Tensor::<2>::from_floats([[0.0, 2.0, 2.0], [3.0, 1.0, f32::NEG_INFINITY], [0.0, 0.0, 1.0]], &device);
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
            let scores = scores.clone().cast(dtype);
            assert_eq!(Top1::of(&scores, &[1, 0, 0]), Top1 { hits: 2, undefined: None });
            assert_eq!(Top1::of(&scores, &[2, 1, 2]).hits, 1);
        }
        for value in [f32::NAN, f32::INFINITY] {
            let broken = scores.clone().slice_fill([1..2, 2..3], value);
            let (sample, label, found) = Top1::of(&broken, &[1, 0, 0]).undefined.unwrap();
            assert_eq!((sample, label, found.to_bits()), (1, 2, f64::from(value).to_bits()));
        }
    }

    #[test]
    fn one_class_has_indicators_too() {
        let device = Device::flex();
        let found = one_hot(&label_tensor(&[0, 0], &device), 1);
        assert_eq!(found.into_data().iter::<f32>().collect::<Vec<_>>(), [1.0, 1.0]);
        let found = one_hot(&label_tensor(&[2, 0], &device), 3);
        assert_eq!(found.into_data().iter::<f32>().collect::<Vec<_>>(), [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
    }
}
