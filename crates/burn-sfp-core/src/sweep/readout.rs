//! Readouts: ridge regression from the normal equations, and the paper's gradient descent (METHOD section 1).

use burn::tensor::activation::softmax;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use ndarray::{Array2, Array3};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::GradientConfig;
use crate::SfpError;

/// Solves `(X'X + shift I) R = X' (Y - mean Y)` with Y the class indicators, from sums alone.
///
/// `sums` are the class sums `[C, F, S]`, `gram` the lower triangle of X'X; the shift is `strength` times the mean
/// diagonal element. Returns R as `[F, S, C]`.
pub(crate) fn ridge_readout(
    path: &str,
    sums: &Array3<f64>,
    counts: &[u64],
    gram: Array2<f64>,
    strength: f64,
) -> Result<Array3<f32>, SfpError> {
    let (classes, filters, positions) = sums.dim();
    let features = filters * positions;
    let total: u64 = counts.iter().sum();
    let all = sums.sum_axis(ndarray::Axis(0));
    let mut rhs = Array2::<f64>::zeros((features, classes));
    for (class, &count) in counts.iter().enumerate() {
        let share = count as f64 / total as f64;
        for f in 0..filters {
            for s in 0..positions {
                rhs[[f * positions + s, class]] = sums[[class, f, s]] - share * all[[f, s]];
            }
        }
    }
    let mean_diagonal = gram.diag().sum() / features as f64;
    // A layer whose output is zero on all samples has a zero readout.
    let shift = if mean_diagonal > 0.0 { strength * mean_diagonal } else { 1.0 };
    let weights = burn_sfp_ndarray::cholesky_solve(gram, shift, rhs)
        .map_err(|error| SfpError::Readout { path: path.to_string(), message: error.to_string() })?;
    let weights = weights.mapv(|weight| weight as f32).into_shape_with_order((filters, positions, classes));
    weights.map_err(|error| SfpError::Readout { path: path.to_string(), message: error.to_string() })
}

/// A readout on its way: weights and momentum, on the device of the activations.
pub(crate) struct GradientReadout {
    config: GradientConfig,
    weights: Tensor<2>,
    velocity: Tensor<2>,
    rate: f64,
}

impl GradientReadout {
    /// Uniform in ±1/sqrt(F·S), from a stream of its own so that the layers' order does not matter.
    pub(crate) fn new(
        config: GradientConfig,
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
        let weights = Tensor::from_data(TensorData::new(start, [features, classes]), device);
        Self { config, velocity: weights.zeros_like(), weights, rate: config.learning_rate }
    }

    /// One mini-batch; returns how many samples it recognised before the step.
    pub(crate) fn step(&mut self, acts: &Tensor<3>, labels: &Tensor<1, Int>) -> Result<usize, SfpError> {
        let [samples, filters, positions] = acts.dims();
        let x = acts.clone().cast(DType::F32).reshape([samples, filters * positions]);
        let classes = self.weights.dims()[1];
        let logits = x.clone().matmul(self.weights.clone());
        let hits = scores_match(logits.clone(), labels)?;
        let target = labels.clone().one_hot::<2>(classes).float();
        let error = (softmax(logits, 1) - target) / samples as f64;
        let gradient = x.transpose().matmul(error) + self.weights.clone() * self.config.weight_decay;
        let momentum = self.config.momentum;
        self.velocity = self.velocity.clone() * momentum + gradient.clone();
        // Nesterov: look ahead along the new velocity.
        self.weights = self.weights.clone() - (gradient + self.velocity.clone() * momentum) * self.rate;
        Ok(hits)
    }

    pub(crate) fn next_epoch(&mut self) {
        self.rate *= self.config.decay;
    }

    pub(crate) fn into_readout(self, filters: usize) -> Result<Array3<f32>, SfpError> {
        let [features, classes] = self.weights.dims();
        let positions = features / filters.max(1);
        crate::backend::to_array3(&self.weights.reshape([filters, positions, classes]))
    }
}

/// How many rows have their largest score at the label.
pub(crate) fn scores_match(scores: Tensor<2>, labels: &Tensor<1, Int>) -> Result<usize, SfpError> {
    let samples = scores.dims()[0];
    let hits = scores.argmax(1).reshape([samples]).equal(labels.clone()).int().sum();
    let data = hits.into_data().convert::<i64>();
    Ok(data.iter::<i64>().next().unwrap_or_default() as usize)
}
