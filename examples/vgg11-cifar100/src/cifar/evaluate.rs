//! Top-1 on a set of images.

use burn::tensor::{Device, Tensor};
use burn_sfp::core::SfpModule;

use super::Cifar;
use super::batches::Epoch;

/// Share of the images whose largest logit is at their label, in evaluation mode; 0 where there is no image.
pub fn top1<M: SfpModule<Inputs = Tensor<4>>>(model: &M, cifar: &Cifar, batch_size: usize, device: &Device) -> f64 {
    let model = model.valid();
    let mut hits = 0;
    for batch in Epoch::plain(cifar.clone(), batch_size, device).flatten() {
        let best = model.logits(batch.input).argmax(1).into_data();
        hits += best.iter::<i64>().zip(&batch.labels).filter(|&(best, &label)| best == label as i64).count();
    }
    hits as f64 / cifar.len().max(1) as f64
}
