//! [`SparseLinear`], in the place of Burn's `Linear`.

use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::nn::Linear;
use burn::tensor::Tensor;
use burn_sfp_ndarray::ConvGeometry;

use super::sparse::{check, form_of};
use crate::sparse::call::SparseConv;
use crate::sparse::op;
use crate::sparse::{DenseShape, Form, Sparsity, blocks, gather, replace, scatter};
use crate::{Scope, SfpError, Shrink};

/// A linear layer that can leave out the weights that pruning removed.
///
/// While it is dense it is Burn's [`Linear`]: the same parameters under the same names, the same records, the same operation.
/// In a sparse [`Form`] its weight holds only the weights that stay, `[rows, 1]`, and only they are computed.
///
/// ```
/// use std::sync::Arc;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_sfp_core::nn::SparseLinear;
/// use burn_sfp_core::sparse::{Form, KernelPattern};
///
/// let device = Device::flex();
/// let layer: SparseLinear = LinearConfig::new(8, 4).init(&device).into();
/// let pattern = KernelPattern::from_fn(4, 8, |output, input| input / 2 == output);
/// let sparse = layer.with_form(Some(Form::Kernels(Arc::new(pattern))))?;
///
/// let x = Tensor::<3>::random([2, 5, 8], Distribution::Default, &device);
/// let y = sparse.forward(x.clone());
/// let dense: Linear = sparse.into();
/// assert!((dense.forward(x) - y).abs().max().into_scalar::<f32>() < 1e-5);
/// # Ok::<(), burn_sfp_core::SfpError>(())
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct SparseLinear {
    /// `[d_input, d_output]`; in a sparse form `[rows, 1]`.
    pub weight: Param<Tensor<2>>,
    /// `[d_output]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// Which weights there are.
    pub sparsity: Sparsity,
}

impl From<Linear> for SparseLinear {
    fn from(layer: Linear) -> Self {
        Self { sparsity: Sparsity::dense(&layer.weight.lazy_device()), weight: layer.weight, bias: layer.bias }
    }
}

/// The dense layer: zeros where nothing is connected. Weights that are masked stay masked.
///
/// # Panics
/// As [`forward`](SparseLinear::forward), where a record was loaded that holds no form.
impl From<SparseLinear> for Linear {
    fn from(layer: SparseLinear) -> Self {
        let layer = layer.dense();
        Self { weight: layer.weight, bias: layer.bias }
    }
}

impl SparseLinear {
    /// The forward pass, `[.., d_input]` to `[.., d_output]`.
    ///
    /// # Panics
    /// Where the input does not fit the layer, as Burn's `Linear` does, and where the layer was loaded from a record whose
    /// integers are no form ([`check`](SparseLinear::check) says so before).
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let Some(form) = form_of(&self.sparsity) else {
            return Linear::from(self.clone()).forward(input);
        };
        let weight = self.weight.val();
        if let Err(error) = check(&self.sparsity, weight.dims()) {
            panic!("{error}");
        }
        let mut shape = input.dims();
        let inputs = form.inputs();
        assert_eq!(shape[D - 1], inputs, "a sparse linear layer of {inputs} inputs on an input of shape {shape:?}");
        let samples = shape[..D - 1].iter().product::<usize>();
        let rows = input.reshape([samples, inputs]);
        let out = match form {
            Form::Kernels(pattern) => {
                let geometry = ConvGeometry { stride: [1, 1], padding: [[0, 0], [0, 0]], dilation: [1, 1], groups: 1 };
                let kernels = weight.dims()[0];
                let call = SparseConv { pattern: pattern.clone(), geometry, kernel: [1, 1] };
                let out = op::convolve(rows.reshape([samples, inputs, 1, 1]), weight.reshape([kernels, 1, 1]), &call);
                out.reshape([samples, form.outputs()])
            }
            Form::Blocks(of) => blocks::run(rows, weight, of, |x, weight| x.matmul(weight.transpose())),
        };
        shape[D - 1] = form.outputs();
        let out = out.reshape(shape);
        match &self.bias {
            Some(bias) => out + bias.val().unsqueeze(),
            None => out,
        }
    }

    /// The same layer in another form: dense, or holding the weights of a form. Weights that the form does not connect are
    /// dropped; a mask over the weight is folded in.
    ///
    /// # Errors
    /// [`SfpError::Sparsity`] where the form does not fit the layer.
    pub fn with_form(self, form: Option<Form>) -> Result<Self, SfpError> {
        self.check()?;
        let dense = self.dense();
        let Some(form) = form else { return Ok(dense) };
        let of = DenseShape { shape: dense.weight.dims(), output_axis: 1 };
        form.fits(&of)?;
        let sparsity = Sparsity::of(form.clone(), &dense.weight.lazy_device());
        let weight = replace(dense.weight, |weight| gather(weight, &form, &of));
        Ok(Self { weight, sparsity, ..dense })
    }

    /// Whether the layer can run: its weight holds what its form says.
    ///
    /// # Errors
    /// [`SfpError::Sparsity`] where it was loaded from a record that does not hold together.
    pub fn check(&self) -> Result<(), SfpError> {
        check(&self.sparsity, self.weight.lazy_shape().dims::<2>())
    }

    fn dense(self) -> Self {
        let Some(form) = form_of(&self.sparsity).cloned() else { return self };
        let of = DenseShape { shape: [form.inputs(), form.outputs()], output_axis: 1 };
        let sparsity = Sparsity::dense(&self.weight.lazy_device());
        let weight = replace(self.weight, |weight| scatter(weight, &form, &of));
        Self { weight, sparsity, ..self }
    }
}

impl Shrink for SparseLinear {
    fn shrink(&mut self, _scope: &mut Scope<'_>) {}
}

impl ModuleDisplay for SparseLinear {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new().with_new_line_after_attribute(false).optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        content
            .add("weight", &format!("{:?}", self.weight.lazy_shape()))
            .add("sparsity", &self.sparsity.to_string())
            .optional()
    }
}
