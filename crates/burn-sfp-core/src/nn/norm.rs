//! Batch normalisation that costs nothing once a layer does its work (Ioffe and Szegedy, "Batch Normalization: Accelerating Deep
//! Network Training by Reducing Internal Covariate Shift", 2015, arXiv 1502.03167).

use burn::module::{Flag, Module, Param, RunningState};
use burn::nn::BatchNorm;
use burn::tensor::Tensor;

use crate::{Scope, Shrink};

/// Burn's `BatchNorm`, with the same parameters under the same names, until `fold_batch_norms` of `burn-sfp-prune` folds it into the
/// layer before it. Then gamma and the running statistics have no numbers left, nor has beta where the layer took the shift
/// in, and the forward pass leaves out what is not there: it returns its input, or adds beta. That is so in training too.
///
/// What is left out shows in the shapes of the parameters and nowhere else, so it follows the module through records and devices. To load
/// a folded model, fold a freshly built one and load the record into the result. (Burn's adapter for PyTorch weights renames parameters of
/// its own layers only: load those into Burn's, then make this one from it.)
///
/// ```
/// use burn::nn::BatchNormConfig;
/// use burn::tensor::{Device, Tensor};
/// use burn_sfp_core::nn::FoldBatchNorm;
///
/// let device = Device::flex();
/// let norm = FoldBatchNorm::from(BatchNormConfig::new(8).init(&device));
/// assert_eq!(norm.forward(Tensor::<4>::ones([1, 8, 2, 2], &device)).dims(), [1, 8, 2, 2]);
/// ```
#[derive(Module, Debug)]
pub struct FoldBatchNorm {
    /// Scale, `[channels]`, or `[0]` once it is folded.
    pub gamma: Param<Tensor<1>>,
    /// Shift, `[channels]`, or `[0]` once a bias has taken it in.
    pub beta: Param<Tensor<1>>,
    /// Whether it takes the statistics of the batch in training.
    pub training: Param<Flag>,
    /// `[channels]`, or `[0]` once it is folded.
    pub running_mean: RunningState<Tensor<1>>,
    /// `[channels]`, or `[0]` once it is folded.
    pub running_var: RunningState<Tensor<1>>,
    /// Share of a batch in the running statistics.
    pub momentum: f64,
    /// Added to the variance.
    pub epsilon: f64,
}

impl From<BatchNorm> for FoldBatchNorm {
    fn from(burns: BatchNorm) -> Self {
        let BatchNorm { gamma, beta, training, running_mean, running_var, momentum, epsilon } = burns;
        Self { gamma, beta, training, running_mean, running_var, momentum, epsilon }
    }
}

impl FoldBatchNorm {
    /// `[samples, channels, ..]` to the same.
    ///
    /// # Panics
    /// As Burn's: where `x` has fewer than two axes or other channels than the layer.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        if self.gamma.lazy_shape().num_elements() > 0 {
            // The copies share parameters and running statistics.
            let Self { gamma, beta, training, running_mean, running_var, momentum, epsilon } = self.clone();
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

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::BatchNormConfig;
    use burn::tensor::{Device, Distribution};

    fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().iter().collect()
    }

    #[test]
    fn it_is_burns_until_it_is_folded() {
        for device in [Device::flex(), Device::flex().autodiff()] {
            let x = Tensor::<3>::random([4, 3, 5], Distribution::Uniform(-1.0, 2.0), &device);
            let burns = BatchNormConfig::new(3).init(&device);
            let ours = FoldBatchNorm::from(BatchNormConfig::new(3).init(&device));
            for _ in 0..3 {
                assert_eq!(numbers(ours.forward(x.clone())), numbers(burns.forward(x.clone())));
            }
            // In training both have moved their statistics.
            let means = [ours.running_mean.value_sync(), burns.running_mean.value_sync()].map(numbers);
            assert_eq!(means[0], means[1]);
            assert_eq!(means[0] != [0.0; 3], device.is_autodiff());
            if device.is_autodiff() {
                let loss = ours.forward(x.clone()).powi_scalar(3).sum();
                assert!(ours.gamma.val().grad(&loss.backward()).is_some());
            }
        }
    }

    #[test]
    fn what_has_no_numbers_is_left_out() {
        let device = Device::flex();
        let x = Tensor::<3>::random([2, 3, 5], Distribution::Default, &device);
        let mut norm = FoldBatchNorm::from(BatchNormConfig::new(3).init(&device));
        norm.gamma = Param::from_tensor(Tensor::zeros([0], &device));
        norm.beta = Param::from_tensor(Tensor::from_floats([1.0, 2.0, 3.0], &device));
        let shifted = x.clone() + Tensor::<1>::from_floats([1.0, 2.0, 3.0], &device).reshape([1, 3, 1]);
        assert_eq!(numbers(norm.forward(x.clone())), numbers(shifted));
        norm.beta = Param::from_tensor(Tensor::zeros([0], &device));
        assert_eq!(numbers(norm.valid().forward(x.clone())), numbers(x.clone()));
        let trained = norm.train().forward(Tensor::from_inner(x.clone()));
        assert_eq!(numbers(trained), numbers(x));
    }
}
