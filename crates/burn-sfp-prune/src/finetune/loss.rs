//! The loss of training: cross-entropy with label smoothing, and distillation.

use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{DType, Int, Tensor};
use burn_sfp_nn::ConfigError;

use super::config::out_of_range;

/// Distillation from another network, usually the original of the pruned one: the loss of a sample is
/// `(1 - a) CE + a T² KL(softmax(t / T) ‖ softmax(z / T))`, with the logits `t` of the teacher and `z` of the model (Hinton, Vinyals and
/// Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv 1503.02531).
///
/// The default temperature T is 4, the default weight a is 0.7.
///
/// ```
/// use burn_sfp_prune::Distillation;
///
/// let distillation = Distillation::new().temperature(2.0).weight(0.5);
/// assert_eq!(distillation, Distillation::new().weight(0.5).temperature(2.0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distillation {
    temperature: f32,
    weight: f32,
}

impl Default for Distillation {
    fn default() -> Self {
        Self::new()
    }
}

impl Distillation {
    /// Creates the settings with their defaults.
    pub fn new() -> Self {
        Self { temperature: 4.0, weight: 0.7 }
    }

    /// Sets the temperature T, above 0.
    pub fn temperature(mut self, temperature: f32) -> Self {
        self.temperature = temperature;
        self
    }

    /// Sets the weight a of the teacher, in `[0, 1]`.
    pub fn weight(mut self, weight: f32) -> Self {
        self.weight = weight;
        self
    }

    /// Refuses settings that are out of range.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return Err(out_of_range("temperature of the distillation", self.temperature, "finite and above 0"));
        }
        if !(0.0..=1.0).contains(&self.weight) {
            return Err(out_of_range("weight of the distillation", self.weight, "in [0, 1]"));
        }
        Ok(())
    }

    /// The loss of a batch, from its cross-entropy.
    pub(super) fn loss(&self, cross_entropy: Tensor<1>, logits: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
        let Self { temperature, weight } = *self;
        let logits = in_single(logits);
        let teacher = in_single(teacher).cast(logits.dtype()) / temperature;
        let samples = logits.dims()[0];
        let (targets, log_targets) = (softmax(teacher.clone(), 1), log_softmax(teacher, 1));
        let logs = log_softmax(logits / temperature, 1);
        let divergence = ((log_targets - logs) * targets).sum() / samples as f32;
        cross_entropy * (1.0 - weight) + divergence * (weight * temperature * temperature)
    }
}

/// In single precision, or in double where the logits are. Half precision would lose small losses.
fn in_single(logits: Tensor<2>) -> Tensor<2> {
    if matches!(logits.dtype(), DType::F32 | DType::F64) { logits } else { logits.cast(DType::F32) }
}

/// The mean cross-entropy `-(1 - a) log p[label] - a mean_c log p[c]` with label smoothing `a`, in single precision, or in double where
/// the logits are. (Burn's own loss makes smoothed targets in the device's default type.)
pub(crate) fn cross_entropy(logits: Tensor<2>, labels: Tensor<1, Int>, smoothing: f32) -> Tensor<1> {
    let logits = in_single(logits);
    let samples = logits.dims()[0];
    let logs = log_softmax(logits, 1);
    let own = logs.clone().gather(1, labels.reshape([samples, 1])).reshape([samples]).mean().neg();
    if smoothing == 0.0 { own } else { own * (1.0 - smoothing) + logs.mean().neg() * smoothing }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::loss::CrossEntropyLossConfig;
    use burn::tensor::Device;

    #[test]
    fn the_loss_is_burns() {
        let device = Device::flex();
        let logits = Tensor::<2>::from_floats([[0.5, -1.0, 2.0], [1.0, 1.5, -0.5]], &device);
        let labels = Tensor::<1, Int>::from_ints([2, 0], &device);
        for smoothing in [0.0, 0.1, 0.9] {
            let burns = CrossEntropyLossConfig::new().with_smoothing((smoothing > 0.0).then_some(smoothing));
            let expected: f32 = burns.init(&device).forward(logits.clone(), labels.clone()).into_scalar();
            for (dtype, most) in [(DType::F32, 1e-6), (DType::F64, 1e-6), (DType::F16, 1e-3), (DType::BF16, 1e-2)] {
                let loss = cross_entropy(logits.clone().cast(dtype), labels.clone(), smoothing);
                let found = loss.into_data().iter::<f32>().next().unwrap();
                assert!((found - expected).abs() < most, "{dtype:?}: {found} for {expected}");
            }
        }
    }

    #[test]
    fn distillation_follows_its_formula() {
        let device = Device::flex();
        let (z, t) = ([[0.5, -1.0, 2.0], [1.0, 1.5, -0.5]], [[1.0, 0.0, 3.0], [-2.0, 0.5, 0.25]]);
        let softened = |row: [f64; 3], temperature: f64| {
            let powers = row.map(|x| (x / temperature).exp());
            powers.map(|x| x / powers.iter().sum::<f64>())
        };
        for (temperature, weight) in [(1.0, 0.3), (4.0, 0.7), (2.5, 1.0), (3.0, 0.0)] {
            let divergence = (0..2)
                .map(|k| {
                    let (p, q) = (softened(t[k], temperature), softened(z[k], temperature));
                    (0..3).map(|c| p[c] * (p[c] / q[c]).ln()).sum::<f64>()
                })
                .sum::<f64>()
                / 2.0;
            let expected = (1.0 - weight) * 0.8 + weight * temperature * temperature * divergence;
            let distillation = Distillation::new().temperature(temperature as f32).weight(weight as f32);
            let floats = |rows: [[f64; 3]; 2]| Tensor::<2>::from_floats(rows.map(|row| row.map(|x| x as f32)), &device);
            let ce = Tensor::<1>::from_floats([0.8], &device);
            let found: f32 = distillation.loss(ce, floats(z), floats(t)).into_scalar();
            assert!((f64::from(found) - expected).abs() < 1e-5, "{found} for {expected}");
        }
        for wrong in [Distillation::new().temperature(0.0), Distillation::new().weight(1.5)] {
            assert!(wrong.check().is_err());
        }
    }
}
