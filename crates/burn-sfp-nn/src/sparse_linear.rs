//! [`SparseLinear`], in the place of Burn's `Linear`.

use std::sync::Arc;

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::nn::{Initializer, Linear, LinearConfig, LinearLayout};
use burn::tensor::{Device, Tensor};
use burn_sfp_ndarray::ConvGeometry;

use crate::NnError;
use crate::bodies::{Task, ran_on_host};
use crate::recognize::{Marker, NnLayer};
use crate::shrink::{Scope, Shrink};
use crate::sparse::call::{Finish, SparseConv};
use crate::sparse::layer::{check, format_of, with_format};
use crate::sparse::{Blocks, Sparsity, WeightFormat, blocks, op, packed};
use crate::tensor::on_host;

/// Axis of the outputs in the dense weight.
const OUTPUT_AXIS: usize = 1;

/// Configuration of a [`SparseLinear`], with the fields and defaults of Burn's [`LinearConfig`].
///
/// ```
/// use burn::tensor::Device;
/// use burn_sfp_nn::SparseLinearConfig;
///
/// let layer = SparseLinearConfig::new(8, 4).with_bias(false).init(&Device::flex());
/// assert_eq!(layer.weight.dims(), [8, 4]);
/// assert!(layer.bias.is_none());
/// ```
#[derive(Config, Debug)]
pub struct SparseLinearConfig {
    /// Size of the input features.
    pub d_input: usize,
    /// Size of the output features.
    pub d_output: usize,
    /// Whether the layer has a bias. Default: true
    #[config(default = true)]
    pub bias: bool,
    /// Initializer of the parameters.
    #[config(default = "Initializer::KaimingUniform{gain:1.0/f64::sqrt(3.0), fan_out_only:false}")]
    pub initializer: Initializer,
    /// Layout in which the dense weight is stored. Default: by rows
    #[config(default = "LinearLayout::Row")]
    pub layout: LinearLayout,
}

impl SparseLinearConfig {
    /// Initializes the layer, dense.
    pub fn init(&self, device: &Device) -> SparseLinear {
        let Self { d_input, d_output, bias, initializer, layout } = self.clone();
        LinearConfig { d_input, d_output, bias, initializer, layout }.init(device).into()
    }
}

/// Linear layer that can leave out the weights that pruning removed.
///
/// While it is dense it is Burn's [`Linear`]: the same parameters under the same names, the same records, the same operation.
/// In a sparse [`WeightFormat`] it stores only the weights that stay, `[rows, 1]`, and computes only those.
///
/// ```
/// use std::sync::Arc;
/// use burn::nn::Linear;
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_sfp_nn::SparseLinearConfig;
/// use burn_sfp_nn::sparse::{KernelPattern, WeightFormat};
///
/// let device = Device::flex();
/// let layer = SparseLinearConfig::new(8, 4).init(&device);
/// let pattern = KernelPattern::from_fn(4, 8, |output, input| input / 2 == output);
/// let sparse = layer.with_format(Some(WeightFormat::Kernels(Arc::new(pattern))))?;
///
/// let x = Tensor::<3>::random([2, 5, 8], Distribution::Default, &device);
/// let y = sparse.forward(x.clone());
/// let dense: Linear = sparse.into();
/// assert!((dense.forward(x) - y).abs().max().into_scalar::<f32>() < 1e-5);
/// # Ok::<(), burn_sfp_nn::NnError>(())
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct SparseLinear {
    /// Weight, `[d_input, d_output]`; in a sparse format `[rows, 1]`.
    pub weight: Param<Tensor<2>>,
    /// Bias, `[d_output]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// Format of the weight.
    pub sparsity: Sparsity,
    marker: Marker,
}

impl From<Linear> for SparseLinear {
    fn from(layer: Linear) -> Self {
        let sparsity = Sparsity::dense(&layer.weight.lazy_device());
        let marker = Marker::new(NnLayer::SparseLinear);
        Self { weight: layer.weight, bias: layer.bias, sparsity, marker }
    }
}

/// The dense layer, with zeros where nothing is connected. Weights that are masked stay masked.
///
/// # Panics
/// As [`forward`](SparseLinear::forward), where the layer was loaded from a record that does not hold together.
impl From<SparseLinear> for Linear {
    fn from(layer: SparseLinear) -> Self {
        let dense = with_format(layer.weight, layer.sparsity, None, OUTPUT_AXIS);
        let (weight, _) = dense.unwrap_or_else(|error| panic!("{error}"));
        Self { weight, bias: layer.bias }
    }
}

impl SparseLinear {
    /// Applies the layer to `input`, `[.., d_input]` to `[.., d_output]`.
    ///
    /// # Panics
    /// Where the last axis of `input` is not `d_input`, as Burn's `Linear` does, and where the layer was loaded from a record that
    /// does not hold together ([`check`](SparseLinear::check) says so without a panic).
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let Some(format) = format_of(&self.sparsity) else {
            return Linear::from(self.clone()).forward(input);
        };
        let weight = self.weight.val();
        if let Err(error) = check(&self.sparsity, weight.dims()) {
            panic!("{error}");
        }
        let mut shape = input.dims();
        let inputs = format.inputs();
        assert_eq!(shape[D - 1], inputs, "a sparse linear layer of {inputs} inputs on an input of shape {shape:?}");
        let samples = shape[..D - 1].iter().product::<usize>();
        let rows = input.reshape([samples, inputs]);
        let out = match format {
            WeightFormat::Kernels(pattern) => {
                let geometry = ConvGeometry { stride: [1, 1], padding: [[0, 0], [0, 0]], dilation: [1, 1], groups: 1 };
                let kernels = weight.dims()[0];
                let call = SparseConv { pattern: pattern.clone(), geometry, kernel: [1, 1] };
                let out = op::convolve(rows.reshape([samples, inputs, 1, 1]), weight.reshape([kernels, 1, 1]), &call);
                out.reshape([samples, format.outputs()])
            }
            WeightFormat::Blocks(of) => {
                if let Some(out) = self.packed(&rows, &weight, of) {
                    shape[D - 1] = format.outputs();
                    return out.reshape(shape);
                }
                blocks::run(rows, weight, of, |x, weight| x.matmul(weight.transpose()))
            }
        };
        shape[D - 1] = format.outputs();
        let out = out.reshape(shape);
        match &self.bias {
            Some(bias) => out + bias.val().unsqueeze(),
            None => out,
        }
    }

    /// The output by packed kernels; `None` where there are none, or gradients are needed.
    fn packed(&self, rows: &Tensor<2>, weight: &Tensor<2>, of: &Arc<Blocks>) -> Option<Tensor<2>> {
        if on_host(rows, |_| ()).is_none() || weight.is_autodiff() {
            return None;
        }
        let finish = Finish::new(self.bias.as_ref(), None, false);
        ran_on_host(Task::SparseForward, packed::multiply(rows, weight, of, &finish, self.sparsity.packing()))
    }

    /// Converts the weight to another format, `None` for dense. Weights that the format does not connect are dropped; a mask over
    /// the weight is folded in.
    ///
    /// # Errors
    /// [`NnError::FormatMismatch`] where the format is for a layer of another size, and the errors of
    /// [`check`](SparseLinear::check).
    pub fn with_format(self, format: Option<WeightFormat>) -> Result<Self, NnError> {
        let (weight, sparsity) = with_format(self.weight, self.sparsity, format, OUTPUT_AXIS)?;
        Ok(Self { weight, sparsity, ..self })
    }

    /// Checks that the layer can run: that its weight holds what its format says.
    ///
    /// # Errors
    /// [`NnError::InvalidFormat`] or [`NnError::WeightShape`] where it was loaded from a record that does not hold together.
    pub fn check(&self) -> Result<(), NnError> {
        check(&self.sparsity, self.weight.lazy_shape().dims::<2>())
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
