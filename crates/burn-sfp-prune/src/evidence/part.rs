//! What is summed over gradients: [`ParameterGradients`] and [`FilterGradients`].

use std::collections::BTreeMap;

/// Gradients of a parameter, element by element in the order of its memory, row-major. `n` is the number of samples of
/// a batch, `g` the gradient of the batch's mean cross-entropy, N the number of all samples.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ParameterGradients {
    /// The gradient of the mean cross-entropy of all samples: sum of `n g / N` over the batches.
    pub mean: Vec<f64>,
    /// The diagonal of the empirical Fisher matrix, as batches estimate it: sum of `(n g)^2 / N` over the batches. For
    /// batches of one sample it is exact; for larger ones its expectation is, where the mean gradient is zero.
    pub fisher: Vec<f64>,
}

/// What gradients say of the filters of a layer. `n` is the number of samples of a batch, `g` the gradient of the
/// batch's mean cross-entropy, N the number of all samples; `w` and `g` run over the elements of the filter's weight,
/// without biases.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FilterGradients {
    /// For each filter the sum of `n / N (sum of g w)^2` over the batches.
    pub whole: Vec<f64>,
    /// For each filter the sum of `n / N (sum of (g w)^2)` over the batches.
    pub elements: Vec<f64>,
}

impl FilterGradients {
    pub(super) fn zeros(filters: usize) -> Self {
        Self { whole: vec![0.0; filters], elements: vec![0.0; filters] }
    }
}

/// The sums over a part of the data.
pub(super) struct GradientPart {
    pub samples: u64,
    pub parameters: BTreeMap<String, ParameterGradients>,
    pub layers: Vec<FilterGradients>,
}
