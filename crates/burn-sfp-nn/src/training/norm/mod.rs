//! Batch normalisation by the statistics of the batch, with gradients.

#[cfg(feature = "autodiff")]
mod autodiff;

use burn::tensor::Tensor;
use burn_sfp_ndarray::batch_norm_train;

use crate::bodies::{Task, ran_on_host};
use crate::tensor::{from_array, on_host};

/// The result of [`batch_norm`].
#[derive(Clone, Debug)]
pub struct Normalized {
    /// `[N, C, S]`
    pub output: Tensor<3>,
    /// `[C]`, without gradients.
    pub mean: Tensor<1>,
    /// `[C]`, of the batch as a whole population, without gradients.
    pub variance: Tensor<1>,
}

/// Normalises the channels of `x`, `[N, C, S]`, by their mean and variance in this batch, multiplies by `gamma`, `[C]`, adds `beta`, `[C]`, and
/// applies ReLU where asked for; with gradients where one of the tensors has autodiff. `None` on devices other than flex and ndarray and for
/// element types other than `f32`.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_sfp_nn::training::batch_norm;
///
/// let device = Device::flex().autodiff();
/// let x = Tensor::<3>::from_floats([[[1.0]], [[3.0]]], &device);
/// let gamma = Tensor::<1>::ones([1], &device).require_grad();
/// let done = batch_norm(&x, &gamma, &Tensor::zeros([1], &device), 0.0, true).expect("flex has the kernels");
/// assert_eq!(done.mean.into_scalar::<f32>(), 2.0);
/// let gradients = done.output.sum().backward();
/// assert_eq!(gamma.grad(&gradients).unwrap().into_scalar::<f32>(), 1.0);
/// ```
pub fn batch_norm(x: &Tensor<3>, gamma: &Tensor<1>, beta: &Tensor<1>, epsilon: f64, relu: bool) -> Option<Normalized> {
    let with_gradients = [x.is_autodiff(), gamma.is_autodiff(), beta.is_autodiff()];
    let run = if with_gradients.contains(&true) { tracked } else { forward };
    run(x, gamma, beta, Options { epsilon, relu })
}

#[derive(Clone, Copy, Debug)]
struct Options {
    epsilon: f64,
    relu: bool,
}

/// Normalises tensors without autodiff.
fn forward(x: &Tensor<3>, gamma: &Tensor<1>, beta: &Tensor<1>, options: Options) -> Option<Normalized> {
    let Options { epsilon, relu } = options;
    let done = on_host(x, |x| {
        on_host(gamma, |gamma| on_host(beta, |beta| batch_norm_train(x, gamma, beta, epsilon, relu)))
    })???;
    let done = ran_on_host(Task::NormForward, done.ok())?;
    let device = x.device();
    let (mean, variance) = (from_array(done.mean, &device), from_array(done.variance, &device));
    Some(Normalized { output: from_array(done.output, &device), mean, variance })
}

#[cfg(feature = "autodiff")]
use autodiff::tracked;

/// Without the feature `autodiff` there are no gradients here.
#[cfg(not(feature = "autodiff"))]
fn tracked(_: &Tensor<3>, _: &Tensor<1>, _: &Tensor<1>, _: Options) -> Option<Normalized> {
    None
}
