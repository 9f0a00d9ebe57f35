//! [`SparseConv2d`], in the place of Burn's `Conv2d`.

use std::sync::Arc;

use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, PaddingConfig2d};
use burn::tensor::Tensor;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn_sfp_ndarray::ConvGeometry;

use super::sparse::{check, form_of, shift_and_scale};
use crate::sparse::call::{Finish, SparseConv};
use crate::sparse::op;
use crate::sparse::{DenseShape, Form, KernelPattern, Sparsity, blocks, gather, replace, scatter};
use crate::{Scope, SfpError, Shrink};

/// A convolution that can leave out the kernels that pruning removed.
///
/// While it is dense it is Burn's [`Conv2d`]: the same parameters under the same names, the same records, the same operations,
/// so it is trained, analysed and pruned like one. In a sparse [`Form`] its weight holds only the kernels that stay,
/// `[rows, 1, kh, kw]`, and only they are computed. A model takes it up by its type in the struct and one `into` where it is
/// made:
///
/// ```
/// use std::sync::Arc;
/// use burn::nn::conv::{Conv2d, Conv2dConfig};
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_sfp_core::nn::SparseConv2d;
/// use burn_sfp_core::sparse::{Form, KernelPattern};
///
/// let device = Device::flex();
/// let conv: SparseConv2d = Conv2dConfig::new([4, 6], [3, 3]).init(&device).into();
///
/// let pattern = KernelPattern::from_fn(6, 4, |output, input| output % 4 == input);
/// let sparse = conv.with_form(Some(Form::Kernels(Arc::new(pattern))))?;
/// assert_eq!(sparse.weight.dims(), [6, 1, 3, 3]);
///
/// let x = Tensor::<4>::random([2, 4, 8, 8], Distribution::Default, &device);
/// let y = sparse.forward(x.clone());
/// let dense: Conv2d = sparse.into();
/// assert!((dense.forward(x) - y).abs().max().into_scalar::<f32>() < 1e-5);
/// # Ok::<(), burn_sfp_core::SfpError>(())
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct SparseConv2d {
    /// `[channels_out, channels_in / groups, kh, kw]`; in a sparse form `[rows, 1, kh, kw]`.
    pub weight: Param<Tensor<4>>,
    /// `[channels_out]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// Which kernels the weight holds.
    pub sparsity: Sparsity,
    /// Stride.
    pub stride: [usize; 2],
    /// Size of the kernels.
    pub kernel_size: [usize; 2],
    /// Distance of the kernels' elements.
    pub dilation: [usize; 2],
    /// Groups of channels.
    pub groups: usize,
    /// Padding.
    #[module(skip)]
    pub padding: PaddingConfig2d,
}

impl From<Conv2d> for SparseConv2d {
    fn from(conv: Conv2d) -> Self {
        Self {
            sparsity: Sparsity::dense(&conv.weight.lazy_device()),
            weight: conv.weight,
            bias: conv.bias,
            stride: conv.stride,
            kernel_size: conv.kernel_size,
            dilation: conv.dilation,
            groups: conv.groups,
            padding: conv.padding,
        }
    }
}

/// The dense layer: zeros where nothing is connected. Kernels that are masked stay masked.
///
/// # Panics
/// As [`forward`](SparseConv2d::forward), where a record was loaded that holds no form.
impl From<SparseConv2d> for Conv2d {
    fn from(conv: SparseConv2d) -> Self {
        let conv = conv.dense();
        Self {
            weight: conv.weight,
            bias: conv.bias,
            stride: conv.stride,
            kernel_size: conv.kernel_size,
            dilation: conv.dilation,
            groups: conv.groups,
            padding: conv.padding,
        }
    }
}

impl SparseConv2d {
    /// The forward pass, `[batch, channels_in, height, width]` to `[batch, channels_out, height', width']`.
    ///
    /// # Panics
    /// Where the input does not fit the layer, as Burn's `Conv2d` does, and where the layer was loaded from a record whose
    /// integers are no form ([`check`](SparseConv2d::check) says so before).
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let Some(form) = form_of(&self.sparsity) else {
            return Conv2d::from(self.clone()).forward(input);
        };
        let out = match form {
            Form::Kernels(pattern) => op::convolve(input.clone(), self.values(), &self.call(pattern, &input)),
            Form::Blocks(of) => {
                let options = self.options(&input, 1);
                blocks::run(input, self.rows(), of, |x, weight| conv2d(x, weight, None, options.clone()))
            }
        };
        match &self.bias {
            Some(bias) => out + bias.val().reshape([1, form.outputs() as i32, 1, 1]),
            None => out,
        }
    }

    /// The forward pass, then a batch normalisation and a rectifier, each if asked for. Where the layer is sparse, runs on the
    /// CPU, and neither it nor the normalisation is in training, all of it is one pass over the output; elsewhere it is the
    /// same one after another.
    ///
    /// # Panics
    /// As [`forward`](SparseConv2d::forward).
    pub fn forward_fused(&self, input: Tensor<4>, norm: Option<&BatchNorm>, relu: bool) -> Tensor<4> {
        let fused = match form_of(&self.sparsity) {
            // Neither training nor a recording can read the numbers of the normalisation.
            Some(Form::Kernels(pattern)) if op::is_on_host(&input) && !self.weight.lazy_device().is_autodiff() => {
                let (scale, shift) = shift_and_scale(self.bias.as_ref(), norm);
                let finish = Finish { scale, shift, relu };
                op::convolve_and(&input, &self.values(), &self.call(pattern, &input), &finish)
            }
            _ => None,
        };
        fused.unwrap_or_else(|| {
            let out = self.forward(input);
            let out = match norm {
                Some(norm) => norm.forward(out),
                None => out,
            };
            if relu { burn::tensor::activation::relu(out) } else { out }
        })
    }

    /// The same layer in another form: dense, or holding the kernels of a form. Kernels that the form does not connect are
    /// dropped; a mask over the weight is folded in.
    ///
    /// # Errors
    /// [`SfpError::Sparsity`] where the form does not fit the layer.
    pub fn with_form(self, form: Option<Form>) -> Result<Self, SfpError> {
        self.check()?;
        let dense = self.dense();
        let Some(form) = form else { return Ok(dense) };
        let of = DenseShape { shape: dense.weight.dims(), output_axis: 0 };
        form.fits(&of)?;
        if dense.groups > 1 && matches!(form, Form::Blocks(_)) {
            let groups = dense.groups;
            return Err(SfpError::Sparsity(format!("blocks for a convolution of {groups} groups: take kernels")));
        }
        let sparsity = Sparsity::of(form.clone(), &dense.weight.lazy_device());
        let weight = replace(dense.weight, |weight| gather(weight, &form, &of));
        Ok(Self { weight, sparsity, ..dense })
    }

    /// Whether the layer can run: its weight holds what its form says.
    ///
    /// # Errors
    /// [`SfpError::Sparsity`] where it was loaded from a record that does not hold together.
    pub fn check(&self) -> Result<(), SfpError> {
        check(&self.sparsity, self.weight.lazy_shape().dims::<4>())
    }

    fn dense(self) -> Self {
        let Some(form) = form_of(&self.sparsity).cloned() else { return self };
        let [height, width] = self.kernel_size;
        let of = DenseShape { shape: [form.outputs(), form.inputs(), height, width], output_axis: 0 };
        let sparsity = Sparsity::dense(&self.weight.lazy_device());
        let weight = replace(self.weight, |weight| scatter(weight, &form, &of));
        Self { weight, sparsity, ..self }
    }

    /// The weight of a sparse form.
    fn rows(&self) -> Tensor<4> {
        let weight = self.weight.val();
        if let Err(error) = check(&self.sparsity, weight.dims()) {
            panic!("{error}");
        }
        weight
    }

    /// The kernels that stay, `[K, kh, kw]`.
    fn values(&self) -> Tensor<3> {
        let [height, width] = self.kernel_size;
        let weight = self.rows();
        let rows = weight.dims()[0];
        weight.reshape([rows, height, width])
    }

    /// As Burn's `Conv2d`, which keeps its own to itself.
    fn pads(&self, input: &Tensor<4>) -> [(usize, usize); 2] {
        match self.padding {
            PaddingConfig2d::Valid => [(0, 0); 2],
            PaddingConfig2d::Explicit(top, left, bottom, right) => [(top, bottom), (left, right)],
            PaddingConfig2d::Same => std::array::from_fn(|axis| {
                let (length, stride) = (input.dims()[2 + axis], self.stride[axis].max(1));
                let read = length.div_ceil(stride).saturating_sub(1) * stride + self.kernel_size[axis];
                let missing = read.saturating_sub(length);
                (missing / 2, missing - missing / 2)
            }),
        }
    }

    fn options(&self, input: &Tensor<4>, groups: usize) -> ConvOptions<2> {
        ConvOptions::new_with_padding(self.stride, self.pads(input), self.dilation, groups)
    }

    fn call(&self, pattern: &Arc<KernelPattern>, input: &Tensor<4>) -> SparseConv {
        let padding = self.pads(input).map(|(before, after)| [before, after]);
        let geometry = ConvGeometry { stride: self.stride, padding, dilation: self.dilation, groups: self.groups };
        SparseConv { pattern: pattern.clone(), geometry, kernel: self.kernel_size }
    }
}

impl Shrink for SparseConv2d {
    fn shrink(&mut self, scope: &mut Scope<'_>) {
        if let Some(groups) = scope.count("groups") {
            self.groups = groups;
        }
    }
}

impl ModuleDisplay for SparseConv2d {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new().with_new_line_after_attribute(false).optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let [height, width] = self.kernel_size;
        content
            .add("kernels", &format!("{height}x{width}"))
            .add("stride", &format!("{:?}", self.stride))
            .add("dilation", &format!("{:?}", self.dilation))
            .add("groups", &self.groups)
            .add("sparsity", &self.sparsity.to_string())
            .optional()
    }
}
