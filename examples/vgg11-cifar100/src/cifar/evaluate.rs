//! Top-1 on a set of images.

use burn::tensor::{Device, Tensor};
use burn_sfp::core::{Batch, DataError, SfpModule};

use super::Cifar;
use super::batches::Epoch;

/// Share of the images whose largest logit is at their label, in evaluation mode; 0 where there is no image.
pub fn top1<M: SfpModule<Inputs = Tensor<4>>>(model: &M, cifar: &Cifar, batch_size: usize, device: &Device) -> f64 {
    top1_of(model, Epoch::plain(cifar.clone(), batch_size, device))
}

/// The same of batches of what the model reads.
pub fn top1_of<M: SfpModule<Inputs = Tensor<4>>>(
    model: &M,
    batches: impl Iterator<Item = Result<Batch<Tensor<4>>, DataError>>,
) -> f64 {
    let model = model.valid();
    let (mut hits, mut all) = (0, 0);
    for batch in batches.flatten() {
        let best = model.logits(batch.input).argmax(1).into_data();
        hits += best.iter::<i64>().zip(&batch.labels).filter(|&(best, &label)| best == label as i64).count();
        all += batch.labels.len();
    }
    hits as f64 / all.max(1) as f64
}
