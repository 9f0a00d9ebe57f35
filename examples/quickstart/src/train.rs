//! Training with Burn alone, and top-1.

use burn::grad_clipping::GradientClippingConfig;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{GradientsParams, SgdConfig};
use burn::prelude::*;
use burn_sfp::prelude::{Calibration, DataError, Progress, SfpModule};

use crate::glyphs::GlyphSet;

/// Settings of [`train`].
#[derive(Config, Debug)]
pub struct TrainConfig {
    /// Passes.
    #[config(default = 5)]
    pub epochs: usize,
    /// New images a pass.
    #[config(default = 6000)]
    pub samples: usize,
    /// Images a step.
    #[config(default = 32)]
    pub batch_size: usize,
    /// Learning rate at the start; it falls to zero along half a cosine.
    #[config(default = 0.02)]
    pub learning_rate: f64,
}

/// Trains a model by stochastic gradient descent with Nesterov momentum on cross-entropy.
///
/// Takes the model on a plain device and gives it back there, in evaluation mode.
///
/// # Errors
/// A loss that is not finite: the learning rate is too high.
pub fn train<M: SfpModule<Inputs = Tensor<4>>>(
    model: M,
    set: &GlyphSet,
    config: &TrainConfig,
    device: &Device,
    progress: &dyn Progress,
) -> Result<M, DataError> {
    let device = device.clone().autodiff();
    let loss = CrossEntropyLossConfig::new().init(&device);
    let mut optimizer = SgdConfig::new()
        .with_momentum(Some(MomentumConfig::new().with_momentum(0.9).with_dampening(0.0).with_nesterov(true)))
        .with_weight_decay(Some(WeightDecayConfig::new(5e-4)))
        .with_gradient_clipping(Some(GradientClippingConfig::Norm(5.0)))
        .init();
    let steps = (config.epochs * config.samples.div_ceil(config.batch_size.max(1))).max(1);
    let mut step = 0;
    let mut model = model.train();
    for epoch in 0..config.epochs {
        progress.start(&format!("epoch {} of {}", epoch + 1, config.epochs), Some(config.samples));
        for batch in set.epoch(epoch, config.samples, config.batch_size, &device) {
            let batch = batch.map_err(|error| error.to_string())?;
            let samples = batch.labels.len();
            let error = loss.forward(model.logits(batch.input), targets(&batch.labels, &device));
            let value: f32 = error.clone().into_scalar();
            if !value.is_finite() {
                return Err(format!("the loss is {value} in epoch {}: lower the learning rate", epoch + 1).into());
            }
            let gradients = GradientsParams::from_grads(error.backward(), &model);
            let cosine = (std::f64::consts::PI * f64::from(step) / steps as f64).cos();
            model = optimizer.step(config.learning_rate * 0.5 * (1.0 + cosine), model, gradients);
            step += 1;
            progress.advance(samples);
        }
        progress.finish();
    }
    Ok(model.valid())
}

/// Share of the samples whose largest logit is that of their label.
///
/// # Errors
/// A batch that cannot be read, or no samples at all.
pub fn top1<M: SfpModule>(model: &M, data: &impl Calibration<M::Inputs>) -> Result<f64, DataError> {
    let (mut right, mut samples) = (0, 0);
    for batch in data.batches() {
        let batch = batch.map_err(|error| error.to_string())?;
        let predicted = model.logits(batch.input).argmax(1).into_data();
        right += predicted.iter::<i64>().zip(&batch.labels).filter(|(a, b)| *a == **b as i64).count();
        samples += batch.labels.len();
    }
    if samples == 0 {
        return Err("no samples to measure top-1 on".into());
    }
    Ok(right as f64 / samples as f64)
}

fn targets(labels: &[usize], device: &Device) -> Tensor<1, Int> {
    let labels: Vec<i32> = labels.iter().map(|&label| label as i32).collect();
    Tensor::from_data(TensorData::from(labels.as_slice()), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::font::CLASSES;
    use crate::model::{Pixels, VggConfig};
    use burn_sfp::prelude::NoProgress;

    #[test]
    fn training_is_deterministic_and_learns() {
        let device = Device::flex();
        let set = GlyphSet::new(1);
        let config = TrainConfig::new().with_epochs(4).with_samples(480).with_batch_size(24);
        // The device's random numbers are those of all tests: one start for both runs.
        let start = VggConfig::new().with_widths(vec![8, 8, 16, 16]).init(&device);
        let run = || train(start.valid(), &set, &config, &device, &NoProgress).unwrap();
        let (a, b) = (run(), run());
        let images = set.batch(0..10, &device).input;
        assert_eq!(a.logits(images.clone()).into_data(), b.logits(images).into_data());
        let found = top1(&a, &set.test(480, 48, &device)).unwrap();
        assert!(found > 2.0 / CLASSES as f64, "{found}");
    }

    #[test]
    fn no_samples_are_an_error() {
        let device = Device::flex();
        assert!(top1(&Pixels::new(&device), &GlyphSet::new(1).test(0, 8, &device)).is_err());
    }
}
