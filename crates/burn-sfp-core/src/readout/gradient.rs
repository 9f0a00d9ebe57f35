//! Gradient readouts: the paper's stochastic gradient descent, by Burn's optimizer and learning rate scheduler.

use burn::config::Config;
use burn::lr_scheduler::exponential::ExponentialLrSchedulerConfig;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{Optimizer, Sgd, SgdConfig, SgdState};
use burn::tensor::activation::softmax;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use burn_sfp_nn::ConfigError;
use burn_sfp_nn::tensor::to_array3;
use ndarray::Array3;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::SfpError;
use crate::labels::one_hot;

/// Settings of gradient readouts: cross-entropy minimized by stochastic gradient descent with Nesterov momentum.
///
/// The defaults are the paper's (docs/method.md, section 1), for 10 epochs. The mini-batches are the batches of the calibration
/// data.
///
/// ```
/// use burn_sfp_core::{AnalyzeConfig, GradientConfig, Readout};
///
/// let gradient = GradientConfig::new().with_epochs(3).with_learning_rate(0.005);
/// let config = AnalyzeConfig::new().with_readout(Readout::Gradient(gradient)).with_seed(7);
/// assert_eq!(gradient.momentum, 0.975);
/// ```
#[derive(Config, Copy, Debug, PartialEq)]
pub struct GradientConfig {
    /// Passes over the calibration data, at least 1.
    #[config(default = 10)]
    pub epochs: usize,
    /// Learning rate of the first epoch, above 0 and at most 1.
    #[config(default = 0.01)]
    pub learning_rate: f64,
    /// Factor that the learning rate is multiplied by after each epoch, above 0 and at most 1.
    #[config(default = 0.975)]
    pub decay: f64,
    /// Nesterov momentum, at least 0 and below 1.
    #[config(default = 0.975)]
    pub momentum: f64,
    /// L2 penalty on the readout's weights, at least 0.
    #[config(default = 1e-3)]
    pub weight_decay: f64,
}

impl Default for GradientConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl GradientConfig {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let share = |value: f64| value > 0.0 && value <= 1.0;
        let settings = [
            ("readout epochs", self.epochs as f64, self.epochs > 0, "at least 1"),
            ("readout learning rate", self.learning_rate, share(self.learning_rate), "above 0 and at most 1"),
            ("readout decay", self.decay, share(self.decay), "above 0 and at most 1"),
            ("readout momentum", self.momentum, (0.0..1.0).contains(&self.momentum), "at least 0 and below 1"),
            (
                "readout weight decay",
                self.weight_decay,
                self.weight_decay >= 0.0 && (self.weight_decay as f32).is_finite(),
                "finite in single precision and at least 0",
            ),
        ];
        match settings.into_iter().find(|(_, _, allowed, _)| !allowed) {
            Some((name, found, _, expected)) => Err(ConfigError { name, found: found.to_string(), expected }),
            None => Ok(()),
        }
    }

    /// The learning rate of each epoch.
    pub(crate) fn learning_rates(&self) -> Result<Vec<f64>, ConfigError> {
        let scheduler = ExponentialLrSchedulerConfig::new(self.learning_rate, self.decay).init();
        let refused = || ConfigError {
            name: "readout learning rate",
            found: format!("{} with decay {}", self.learning_rate, self.decay),
            expected: "above 0 and at most 1, and so its decay",
        };
        let mut scheduler = scheduler.map_err(|_| refused())?;
        let rates: Vec<f64> = (0..self.epochs).map(|_| scheduler.step().base()).collect();
        // Burn divides the first rate by the decay, and the quotient may overflow.
        if rates.iter().all(|rate| rate.is_finite()) { Ok(rates) } else { Err(refused()) }
    }

    fn optimizer(&self) -> Sgd {
        // Burn dampens gradients by 0.1 unless told otherwise; the method's Nesterov momentum does not.
        let momentum = MomentumConfig::new().with_momentum(self.momentum).with_dampening(0.0).with_nesterov(true);
        SgdConfig::new()
            .with_momentum(Some(momentum))
            .with_weight_decay(Some(WeightDecayConfig::new(self.weight_decay as f32)))
            .build()
    }
}

/// The readout of one layer while it is being fitted, on the device of the activations.
pub(crate) struct GradientReadout {
    optimizer: Sgd,
    weights: Tensor<2>,
    state: Option<SgdState<2>>,
}

impl GradientReadout {
    /// Starts uniformly in ±1/sqrt(F·S) (docs/method.md, section 1), from a random stream of its own so that the order of the
    /// layers does not matter.
    pub(crate) fn new(
        config: &GradientConfig,
        features: usize,
        classes: usize,
        seed: u64,
        stream: u64,
        device: &Device,
    ) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        let bound = 1.0 / (features as f32).sqrt();
        let start: Vec<f32> = (0..features * classes).map(|_| rng.random_range(-bound..bound)).collect();
        let weights = Tensor::from_data(TensorData::new(start, [features, classes]), (device, DType::F32));
        Self { optimizer: config.optimizer(), weights, state: None }
    }

    /// Takes one step on a mini-batch `[N, F, S]`; returns its logits `[N, C]` before the step.
    ///
    /// The gradient of the mean cross-entropy of a softmax is `X' (softmax(X R) - Y) / N`, so no graph has to be recorded.
    pub(crate) fn step(&mut self, acts: &Tensor<3>, labels: &Tensor<1, Int>, learning_rate: f64) -> Tensor<2> {
        let [samples, filters, positions] = acts.dims();
        let x = acts.clone().cast(DType::F32).reshape([samples, filters * positions]);
        let classes = self.weights.dims()[1];
        let logits = x.clone().matmul(self.weights.clone());
        let target = one_hot(labels, classes);
        let gradient = x.transpose().matmul((softmax(logits.clone(), 1) - target) / samples as f64);
        let (weights, state) = self.optimizer.step(learning_rate, self.weights.clone(), gradient, self.state.take());
        self.weights = weights;
        self.state = state;
        logits
    }

    /// The readout as `[F, S, C]`.
    pub(crate) fn into_readout(self, filters: usize) -> Result<Array3<f32>, SfpError> {
        let [features, classes] = self.weights.dims();
        let positions = features / filters.max(1);
        Ok(to_array3(&self.weights.reshape([filters, positions, classes]))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::label_tensor;

    fn values(tensor: Tensor<2>) -> Vec<f64> {
        tensor.into_data().iter::<f64>().collect()
    }

    /// Ten steps of `v <- m v + g`, `w <- w - rate (g + m v)` with `g` the gradient plus the L2 penalty, in double precision.
    #[test]
    fn steps_are_those_of_the_method() {
        let config = GradientConfig::new();
        let device = Device::flex();
        let (samples, features, classes) = (6, 4, 3);
        let x: Vec<f64> = (0..samples * features).map(|k| f64::from(((k * 37 % 19) as f32).sin())).collect();
        let acts: Vec<f32> = x.iter().map(|&value| value as f32).collect();
        let acts = Tensor::<3>::from_data(TensorData::new(acts, [samples, 2, 2]), &device);
        let labels = [0, 1, 2, 2, 1, 0];
        let mut readout = GradientReadout::new(&config, features, classes, 3, 1, &device);
        let mut w = values(readout.weights.clone());
        assert!(w.iter().all(|weight| weight.abs() <= 0.5) && w.iter().any(|weight| weight.abs() > 0.25));
        let mut v = vec![0.0; w.len()];
        for (epoch, rate) in config.learning_rates().unwrap().into_iter().enumerate() {
            let expected = 0.01 * 0.975_f64.powi(epoch as i32);
            assert!((rate - expected).abs() < 1e-15);
            let mut gradient: Vec<f64> = w.iter().map(|weight| 1e-3 * weight).collect();
            for (row, &label) in x.chunks(features).zip(&labels) {
                let logit = |c: usize| (0..features).map(|k| row[k] * w[k * classes + c]).sum::<f64>();
                let total: f64 = (0..classes).map(|c| logit(c).exp()).sum();
                for c in 0..classes {
                    let error = logit(c).exp() / total - f64::from(u8::from(c == label));
                    (0..features).for_each(|k| gradient[k * classes + c] += row[k] * error / samples as f64);
                }
            }
            for ((w, v), g) in w.iter_mut().zip(&mut v).zip(&gradient) {
                *v = 0.975 * *v + g;
                *w -= expected * (g + 0.975 * *v);
            }
            readout.step(&acts, &label_tensor(&labels, &device), rate);
            for (found, expected) in values(readout.weights.clone()).iter().zip(&w) {
                assert!((found - expected).abs() < 1e-6, "epoch {epoch}: {found} {expected}");
            }
        }
    }
}
