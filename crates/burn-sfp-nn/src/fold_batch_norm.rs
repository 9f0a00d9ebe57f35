//! [`FoldBatchNorm`], in the place of Burn's `BatchNorm`.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Flag, Module, ModuleDisplay, Param, RunningState};
use burn::nn::{BatchNorm, BatchNormConfig};
use burn::tensor::{Device, Tensor};

use crate::recognize::{Marker, NnLayer};
use crate::shrink::{Scope, Shrink};

/// Configuration of a [`FoldBatchNorm`], with the fields and defaults of Burn's [`BatchNormConfig`].
///
/// ```
/// use burn::tensor::Device;
/// use burn_sfp_nn::FoldBatchNormConfig;
///
/// let norm = FoldBatchNormConfig::new(8).with_epsilon(1e-3).init(&Device::flex());
/// assert_eq!((norm.gamma.dims(), norm.epsilon), ([8], 1e-3));
/// ```
#[derive(Config, Debug)]
pub struct FoldBatchNormConfig {
    /// Number of channels, at least 1.
    pub num_features: usize,
    /// Positive value added to the variance. Default: 1e-5
    #[config(default = 1e-5)]
    pub epsilon: f64,
    /// Share of a batch in the running statistics, in `[0, 1]`. Default: 0.1
    #[config(default = 0.1)]
    pub momentum: f64,
}

impl FoldBatchNormConfig {
    /// Initializes the layer.
    ///
    /// # Panics
    /// As Burn's: where `num_features` is 0, `epsilon` is not finite and positive, or `momentum` is not in `[0, 1]`.
    pub fn init(&self, device: &Device) -> FoldBatchNorm {
        let burns = BatchNormConfig::new(self.num_features).with_epsilon(self.epsilon).with_momentum(self.momentum);
        burns.init(device).into()
    }
}

/// Batch normalisation that can be folded into the layer before it, and then costs nothing (Ioffe and Szegedy, "Batch
/// Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift", 2015, arXiv 1502.03167).
///
/// Until `fold_batch_norms` of `burn-sfp-prune` folds it, it is Burn's [`BatchNorm`], with the same parameters under the same
/// names. Afterwards gamma and the running statistics are empty, and beta too where the bias of the layer before took it in. The
/// forward pass then returns its input, or adds beta. That is so in training too.
///
/// The shapes of the parameters alone say what is folded, so it follows the module through records and devices. To load a folded
/// model, fold a freshly built one and load the record into the result. (Burn's adapter for PyTorch weights renames the parameters
/// of its own layers only: load those into Burn's layer, then make this one from it.)
///
/// ```
/// use burn::nn::BatchNormConfig;
/// use burn::tensor::{Device, Tensor};
/// use burn_sfp_nn::FoldBatchNorm;
///
/// let device = Device::flex();
/// let norm = FoldBatchNorm::from(BatchNormConfig::new(8).init(&device));
/// assert_eq!(norm.forward(Tensor::<4>::ones([1, 8, 2, 2], &device)).dims(), [1, 8, 2, 2]);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct FoldBatchNorm {
    /// Scale, `[channels]`, or `[0]` once it is folded.
    pub gamma: Param<Tensor<1>>,
    /// Shift, `[channels]`, or `[0]` once a bias has taken it in.
    pub beta: Param<Tensor<1>>,
    /// Whether it normalises by the statistics of the batch in training.
    pub training: Param<Flag>,
    /// Running mean, `[channels]`, or `[0]` once it is folded.
    pub running_mean: RunningState<Tensor<1>>,
    /// Running variance, `[channels]`, or `[0]` once it is folded.
    pub running_var: RunningState<Tensor<1>>,
    /// Share of a batch in the running statistics.
    pub momentum: f64,
    /// Added to the variance.
    pub epsilon: f64,
    marker: Marker,
}

impl From<BatchNorm> for FoldBatchNorm {
    fn from(burns: BatchNorm) -> Self {
        let BatchNorm { gamma, beta, training, running_mean, running_var, momentum, epsilon } = burns;
        let marker = Marker::new(NnLayer::FoldBatchNorm);
        Self { gamma, beta, training, running_mean, running_var, momentum, epsilon, marker }
    }
}

impl FoldBatchNorm {
    /// Normalises `x`, `[batch_size, channels, ..]` to the same.
    ///
    /// # Panics
    /// As Burn's: where `x` has fewer than two axes or other channels than the layer.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        if self.gamma.lazy_shape().num_elements() > 0 {
            // The copies share parameters and running statistics.
            let Self { gamma, beta, training, running_mean, running_var, momentum, epsilon, .. } = self.clone();
            return BatchNorm { gamma, beta, training, running_mean, running_var, momentum, epsilon }.forward(x);
        }
        let [channels] = self.beta.dims();
        if channels == 0 {
            return x;
        }
        let mut shape = [1; D];
        shape[1] = channels;
        x + self.beta.val().reshape(shape)
    }
}

impl Shrink for FoldBatchNorm {
    fn shrink(&mut self, _scope: &mut Scope<'_>) {}
}

impl ModuleDisplay for FoldBatchNorm {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new().with_new_line_after_attribute(false).optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        content
            .add("gamma", &format!("{:?}", self.gamma.lazy_shape()))
            .add("beta", &format!("{:?}", self.beta.lazy_shape()))
            .add("momentum", &self.momentum)
            .add("epsilon", &self.epsilon)
            .optional()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Distribution;

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().iter().collect()
    }

    #[test]
    fn it_is_burns_until_it_is_folded() {
        for device in [Device::flex(), Device::flex().autodiff()] {
            let x = Tensor::<3>::random([4, 3, 5], Distribution::Uniform(-1.0, 2.0), &device);
            let burns = BatchNormConfig::new(3).init(&device);
            let ours = FoldBatchNorm::from(BatchNormConfig::new(3).init(&device));
            for _ in 0..3 {
                assert_eq!(values(ours.forward(x.clone())), values(burns.forward(x.clone())));
            }
            // In training both have moved their statistics.
            let means = [ours.running_mean.value_sync(), burns.running_mean.value_sync()].map(values);
            assert_eq!(means[0], means[1]);
            assert_eq!(means[0] != [0.0; 3], device.is_autodiff());
            if device.is_autodiff() {
                let loss = ours.forward(x.clone()).powi_scalar(3).sum();
                assert!(ours.gamma.val().grad(&loss.backward()).is_some());
            }
        }
    }

    #[test]
    fn empty_parameters_are_left_out() {
        let device = Device::flex();
        let x = Tensor::<3>::random([2, 3, 5], Distribution::Default, &device);
        let mut norm = FoldBatchNorm::from(BatchNormConfig::new(3).init(&device));
        norm.gamma = Param::from_tensor(Tensor::zeros([0], &device));
        norm.beta = Param::from_tensor(Tensor::from_floats([1.0, 2.0, 3.0], &device));
        let shifted = x.clone() + Tensor::<1>::from_floats([1.0, 2.0, 3.0], &device).reshape([1, 3, 1]);
        assert_eq!(values(norm.forward(x.clone())), values(shifted));
        norm.beta = Param::from_tensor(Tensor::zeros([0], &device));
        assert_eq!(values(norm.valid().forward(x.clone())), values(x.clone()));
        let trained = norm.train().forward(Tensor::from_inner(x.clone()));
        assert_eq!(values(trained), values(x));
    }
}
