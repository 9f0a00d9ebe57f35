//! [`SparseConv2d`], in the place of Burn's `Conv2d`.

use std::sync::Arc;

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, Initializer, PaddingConfig2d};
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor};
use burn_sfp_ndarray::ConvGeometry;

use crate::NnError;
use crate::bodies::{Task, ran_on_host};
use crate::recognize::{Marker, NnLayer};
use crate::shrink::{Scope, Shrink};
use crate::sparse::call::{Finish, SparseConv};
use crate::sparse::layer::{check, format_of, with_format};
use crate::sparse::{Blocks, KernelPattern, Sparsity, WeightFormat, blocks, op, packed};
use crate::tensor::on_host;
use crate::training;

/// Axis of the outputs in the dense weight.
const OUTPUT_AXIS: usize = 0;

/// Configuration of a [`SparseConv2d`], with the fields and defaults of Burn's [`Conv2dConfig`].
///
/// ```
/// use burn::nn::PaddingConfig2d;
/// use burn::tensor::Device;
/// use burn_sfp_nn::SparseConv2dConfig;
///
/// let conv = SparseConv2dConfig::new([4, 6], [3, 3]).with_padding(PaddingConfig2d::Same).init(&Device::flex());
/// assert_eq!(conv.weight.dims(), [6, 4, 3, 3]);
/// ```
#[derive(Config, Debug)]
pub struct SparseConv2dConfig {
    /// Channels of the input and of the output.
    pub channels: [usize; 2],
    /// Height and width of the kernels.
    pub kernel_size: [usize; 2],
    /// Stride. Default: 1
    #[config(default = "[1, 1]")]
    pub stride: [usize; 2],
    /// Spacing of kernel elements. Default: 1
    #[config(default = "[1, 1]")]
    pub dilation: [usize; 2],
    /// Groups of channels. Default: 1
    #[config(default = "1")]
    pub groups: usize,
    /// Padding. Default: none
    #[config(default = "PaddingConfig2d::Valid")]
    pub padding: PaddingConfig2d,
    /// Whether the layer has a bias. Default: true
    #[config(default = true)]
    pub bias: bool,
    /// Initializer of the parameters.
    #[config(default = "Initializer::KaimingUniform{gain:1.0/f64::sqrt(3.0),fan_out_only:false}")]
    pub initializer: Initializer,
}

impl SparseConv2dConfig {
    /// Initializes the layer, dense.
    ///
    /// # Panics
    /// As Burn's: where `groups` does not divide the channels.
    pub fn init(&self, device: &Device) -> SparseConv2d {
        let Self { channels, kernel_size, stride, dilation, groups, padding, bias, initializer } = self.clone();
        Conv2dConfig { channels, kernel_size, stride, dilation, groups, padding, bias, initializer }.init(device).into()
    }
}

/// 2D convolution that can leave out the kernels that pruning removed.
///
/// While it is dense it is Burn's [`Conv2d`]: the same parameters under the same names, the same records, the same operations,
/// so that it is trained, analysed and pruned like one. In a sparse [`WeightFormat`] it stores only the kernels that stay,
/// `[rows, 1, kh, kw]`, and computes only those. It is made by its [configuration](SparseConv2dConfig) or, with `into`, from a
/// [`Conv2d`].
///
/// ```
/// use std::sync::Arc;
/// use burn::nn::conv::Conv2d;
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_sfp_nn::SparseConv2dConfig;
/// use burn_sfp_nn::sparse::{KernelPattern, WeightFormat};
///
/// let device = Device::flex();
/// let conv = SparseConv2dConfig::new([4, 6], [3, 3]).init(&device);
///
/// let pattern = KernelPattern::from_fn(6, 4, |output, input| output % 4 == input);
/// let sparse = conv.with_format(Some(WeightFormat::Kernels(Arc::new(pattern))))?;
/// assert_eq!(sparse.weight.dims(), [6, 1, 3, 3]);
///
/// let x = Tensor::<4>::random([2, 4, 8, 8], Distribution::Default, &device);
/// let y = sparse.forward(x.clone());
/// let dense: Conv2d = sparse.into();
/// assert!((dense.forward(x) - y).abs().max().into_scalar::<f32>() < 1e-5);
/// # Ok::<(), burn_sfp_nn::NnError>(())
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct SparseConv2d {
    /// Weight, `[channels_out, channels_in / groups, kh, kw]`; in a sparse format `[rows, 1, kh, kw]`.
    pub weight: Param<Tensor<4>>,
    /// Bias, `[channels_out]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// Format of the weight.
    pub sparsity: Sparsity,
    /// Stride.
    pub stride: [usize; 2],
    /// Height and width of the kernels.
    pub kernel_size: [usize; 2],
    /// Spacing of kernel elements.
    pub dilation: [usize; 2],
    /// Groups of channels.
    pub groups: usize,
    /// Padding.
    #[module(skip)]
    pub padding: PaddingConfig2d,
    marker: Marker,
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
            marker: Marker::new(NnLayer::SparseConv2d),
        }
    }
}

/// The dense layer, with zeros where nothing is connected. Kernels that are masked stay masked.
///
/// # Panics
/// As [`forward`](SparseConv2d::forward), where the layer was loaded from a record that does not hold together.
impl From<SparseConv2d> for Conv2d {
    fn from(conv: SparseConv2d) -> Self {
        let dense = with_format(conv.weight, conv.sparsity, None, OUTPUT_AXIS);
        let (weight, _) = dense.unwrap_or_else(|error| panic!("{error}"));
        Self {
            weight,
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
    /// Applies the layer to `input`, `[batch_size, channels_in, height_in, width_in]` to
    /// `[batch_size, channels_out, height_out, width_out]`.
    ///
    /// # Panics
    /// Where `input` does not fit the layer, as Burn's `Conv2d` does, and where the layer was loaded from a record that does not
    /// hold together ([`check`](SparseConv2d::check) says so without a panic).
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let Some(format) = format_of(&self.sparsity) else {
            return Conv2d::from(self.clone()).forward(input);
        };
        let out = match format {
            WeightFormat::Kernels(pattern) => op::convolve(input.clone(), self.values(), &self.call(pattern, &input)),
            WeightFormat::Blocks(of) => {
                let geometry = self.geometry(&input);
                let finish = || Finish::new(self.bias.as_ref(), None, false);
                if let Some(out) = self.packed(&input, of, &geometry, finish) {
                    return out;
                }
                let options = self.options(&input, 1);
                blocks::run(input, self.rows(), of, |x, weight| {
                    training::conv2d(&x, &weight, None, &geometry)
                        .unwrap_or_else(|| conv2d(x, weight, None, options.clone()))
                })
            }
        };
        match &self.bias {
            Some(bias) => out + bias.val().reshape([1, format.outputs() as i32, 1, 1]),
            None => out,
        }
    }

    /// Applies the layer, then a batch normalisation and a ReLU, each if asked for.
    ///
    /// A sparse layer on the CPU that is not in training does all of it in one pass over the output; elsewhere one follows the
    /// other, with the same result.
    ///
    /// ```
    /// use burn::nn::BatchNormConfig;
    /// use burn::tensor::{Device, Tensor};
    /// use burn_sfp_nn::SparseConv2dConfig;
    ///
    /// let device = Device::flex();
    /// let conv = SparseConv2dConfig::new([3, 8], [3, 3]).init(&device);
    /// let norm = BatchNormConfig::new(8).init(&device);
    /// let y = conv.forward_fused(Tensor::<4>::ones([1, 3, 6, 6], &device), Some(&norm), true);
    /// assert_eq!(y.dims(), [1, 8, 4, 4]);
    /// ```
    ///
    /// # Panics
    /// As [`forward`](SparseConv2d::forward).
    pub fn forward_fused(&self, input: Tensor<4>, norm: Option<&BatchNorm>, relu: bool) -> Tensor<4> {
        let finish = || Finish::new(self.bias.as_ref(), norm, relu);
        let fused = match format_of(&self.sparsity) {
            // The values of the normalisation can be read neither in training nor in a capture.
            Some(WeightFormat::Kernels(pattern)) if self.without_gradients(&input) => {
                op::convolve_and(&input, &self.values(), &self.call(pattern, &input), &finish())
            }
            Some(WeightFormat::Blocks(of)) => self.packed(&input, of, &self.geometry(&input), finish),
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

    /// Converts the weight to another format, `None` for dense. Kernels that the format does not connect are dropped; a mask over
    /// the weight is folded in.
    ///
    /// # Errors
    /// [`NnError::FormatMismatch`] where the format is for a layer of another size, [`NnError::GroupedBlocks`] for blocks on a
    /// grouped convolution, and the errors of [`check`](SparseConv2d::check).
    pub fn with_format(self, format: Option<WeightFormat>) -> Result<Self, NnError> {
        self.check_groups(format.as_ref())?;
        let (weight, sparsity) = with_format(self.weight, self.sparsity, format, OUTPUT_AXIS)?;
        Ok(Self { weight, sparsity, ..self })
    }

    /// Checks that the layer can run: that its weight holds what its format says.
    ///
    /// # Errors
    /// [`NnError::InvalidFormat`], [`NnError::WeightShape`] or [`NnError::GroupedBlocks`] where it was loaded from a record that
    /// does not hold together or is not of this layer.
    pub fn check(&self) -> Result<(), NnError> {
        check(&self.sparsity, self.weight.lazy_shape().dims::<4>())?;
        self.check_groups(self.sparsity.format()?)
    }

    /// Whether the input lives in host memory and nothing has gradients.
    fn without_gradients(&self, input: &Tensor<4>) -> bool {
        on_host(input, |_| ()).is_some() && !self.weight.lazy_device().is_autodiff()
    }

    /// The output by packed kernels, what `finish` says applied to it; `None` where there are none, or gradients are needed.
    fn packed(
        &self,
        input: &Tensor<4>,
        of: &Arc<Blocks>,
        geometry: &ConvGeometry,
        finish: impl FnOnce() -> Finish,
    ) -> Option<Tensor<4>> {
        let weight = self.without_gradients(input).then(|| self.rows())?;
        let found = packed::convolve(input, &weight, of, geometry, &finish(), self.sparsity.packing());
        ran_on_host(Task::SparseForward, found)
    }

    fn check_groups(&self, format: Option<&WeightFormat>) -> Result<(), NnError> {
        match format {
            Some(WeightFormat::Blocks(_)) if self.groups > 1 => Err(NnError::GroupedBlocks { groups: self.groups }),
            _ => Ok(()),
        }
    }

    /// The weight in a sparse format.
    fn rows(&self) -> Tensor<4> {
        let weight = self.weight.val();
        if let Err(error) = self.check() {
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

    /// Padding before and after each axis, as Burn's `Conv2d` computes it in private.
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

    fn geometry(&self, input: &Tensor<4>) -> ConvGeometry {
        let padding = self.pads(input).map(|(before, after)| [before, after]);
        ConvGeometry { stride: self.stride, padding, dilation: self.dilation, groups: self.groups }
    }

    fn call(&self, pattern: &Arc<KernelPattern>, input: &Tensor<4>) -> SparseConv {
        SparseConv { pattern: pattern.clone(), geometry: self.geometry(input), kernel: self.kernel_size }
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
