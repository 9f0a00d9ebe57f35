//! The arguments of a sparse convolution beside its tensors.

use std::sync::Arc;

use burn::module::Param;
use burn::nn::BatchNorm;
use burn::tensor::Tensor;
use burn_sfp_ndarray::{ConvGeometry, KernelPattern};

/// What a sparse convolution needs to know beside its tensors.
#[derive(Clone, Debug)]
pub(crate) struct SparseConv {
    pub pattern: Arc<KernelPattern>,
    pub geometry: ConvGeometry,
    pub kernel: [usize; 2],
}

/// What is applied to each filter's sum before it is stored: `scale * sum + shift`, then ReLU. Without gradients only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Finish {
    pub scale: Option<Vec<f32>>,
    pub shift: Option<Vec<f32>>,
    pub relu: bool,
}

impl Finish {
    /// A bias, a batch normalisation in evaluation mode and a ReLU, each if there is one.
    pub(crate) fn new(bias: Option<&Param<Tensor<1>>>, norm: Option<&BatchNorm>, relu: bool) -> Self {
        let bias = bias.map(|bias| bias.val().without_autodiff());
        let values = |tensor: Tensor<1>| tensor.into_data().convert::<f32>().iter::<f32>().collect::<Vec<_>>();
        let Some(norm) = norm else { return Self { scale: None, shift: bias.map(values), relu } };
        let deviation = (norm.running_var.value_sync() + norm.epsilon).sqrt();
        let scale = norm.gamma.val().without_autodiff() / deviation.without_autodiff();
        let mean = norm.running_mean.value_sync().without_autodiff();
        let from = bias.map_or_else(|| -mean.clone(), |bias| bias - mean.clone());
        let shift = norm.beta.val().without_autodiff() + from * scale.clone();
        Self { scale: Some(values(scale)), shift: Some(values(shift)), relu }
    }
}
