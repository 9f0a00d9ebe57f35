//! What the sparse layers share.

use burn::module::Param;
use burn::nn::BatchNorm;
use burn::tensor::Tensor;

use crate::SfpError;
use crate::sparse::{Form, Sparsity};

/// The layer's form, `None` of a dense layer.
///
/// # Panics
/// Where the layer was loaded from integers that are no form: a forward pass has no way to return an error.
pub(super) fn form_of(sparsity: &Sparsity) -> Option<&Form> {
    sparsity.form().unwrap_or_else(|what| panic!("{}", broken(what)))
}

fn broken(what: &str) -> SfpError {
    SfpError::Sparsity(format!("the record that the layer was loaded from holds no form: {what}; save it again"))
}

/// Whether a weight holds what the form says.
pub(super) fn check<const D: usize>(sparsity: &Sparsity, shape: [usize; D]) -> Result<(), SfpError> {
    match sparsity.form().map_err(broken)? {
        Some(form) if shape[0] != form.rows() || shape[1] != 1 => Err(SfpError::Sparsity(format!(
            "a weight of shape {shape:?} under a form of {} kernels: load weight and sparsity from one record",
            form.rows()
        ))),
        _ => Ok(()),
    }
}

/// What normalisation and bias do to each filter's sum: `y = scale * sum + shift`.
pub(super) fn shift_and_scale(
    bias: Option<&Param<Tensor<1>>>,
    norm: Option<&BatchNorm>,
) -> (Option<Vec<f32>>, Option<Vec<f32>>) {
    let bias = bias.map(|bias| bias.val().without_autodiff());
    let numbers = |tensor: Tensor<1>| tensor.into_data().convert::<f32>().iter::<f32>().collect::<Vec<_>>();
    match norm {
        None => (None, bias.map(numbers)),
        Some(norm) => {
            let deviation = (norm.running_var.value_sync() + norm.epsilon).sqrt();
            let scale = norm.gamma.val().without_autodiff() / deviation.without_autodiff();
            let mean = norm.running_mean.value_sync().without_autodiff();
            let from = bias.map_or_else(|| -mean.clone(), |bias| bias - mean.clone());
            let shift = norm.beta.val().without_autodiff() + from * scale.clone();
            (Some(numbers(scale)), Some(numbers(shift)))
        }
    }
}
