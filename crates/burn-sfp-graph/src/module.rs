//! [`GraphModule`], the trait over Burn modules whose graph can be captured.

use burn::module::Module;
use burn::tensor::Device;
use burn_sfp_nn::Shrink;

use crate::input::ModuleInput;

/// A Burn module whose graph can be captured and pruned, whatever it takes and returns.
///
/// This is the one trait that a user's model implements. A classifier, whose only output is its logits (`Outputs = Tensor<2>`),
/// can be analysed too (`SfpModule` in `burn-sfp-core`); every other network (segmentation, several outputs) can be pruned by
/// the policies that ask for no analysis.
///
/// ```
/// use burn::prelude::*;
/// use burn::nn::conv::{Conv2d, Conv2dConfig};
/// use burn_sfp_graph::{GraphModule, Network};
///
/// #[derive(Module, Debug)]
/// struct TwoMaps { stem: Conv2d, a: Conv2d, b: Conv2d }
///
/// impl GraphModule for TwoMaps {
///     type Inputs = Tensor<4>;
///     type Outputs = (Tensor<4>, Tensor<4>);
///     fn run(&self, x: Tensor<4>) -> Self::Outputs {
///         let x = self.stem.forward(x);
///         (self.a.forward(x.clone()), self.b.forward(x))
///     }
/// }
/// let device = Device::flex();
/// let conv = |from, to| Conv2dConfig::new([from, to], [3, 3]).init(&device);
/// let model = TwoMaps { stem: conv(3, 8), a: conv(8, 2), b: conv(8, 4) };
/// let network = Network::capture(&model, &Tensor::zeros([1, 3, 8, 8], &device))?;
/// assert!(network.layer("a").is_some_and(|layer| layer.not_prunable.is_some()));
/// # Ok::<(), burn_sfp_graph::GraphError>(())
/// ```
pub trait GraphModule: Module + 'static {
    /// Input of the forward pass: a tensor, a tuple of them, or a struct of the user's own that implements [`ModuleInput`].
    type Inputs: ModuleInput;
    /// Output of the forward pass, whose channels stay. A classifier returns `Tensor<2>`, `[samples, classes]` before any softmax.
    type Outputs: ModuleInput;

    /// Runs the forward pass.
    fn run(&self, inputs: Self::Inputs) -> Self::Outputs;

    /// Returns the module as a [`Shrink`], `Some(self)` where it derives that. Networks with depthwise convolutions, group normalisations and
    /// other layers that count in plain fields need it; without it these layers keep their channels, and the plan names them.
    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        None
    }

    /// Builds the module anew on a device, `None` where that is not needed. The values of its parameters do not matter: those of this
    /// module are put in afterwards.
    ///
    /// Only a module that stores its device and makes tensors on it in the forward pass needs this, for example one that burn-onnx
    /// generates: moving such a module moves its parameters and not the stored device.
    ///
    /// ```
    /// use burn::prelude::*;
    /// use burn::nn::{Linear, LinearConfig};
    /// use burn_sfp_graph::{GraphModule, Network};
    ///
    /// #[derive(Module, Debug)]
    /// struct Generated { layer: Linear, last: Linear, #[module(skip)] device: Device }
    ///
    /// impl Generated {
    ///     fn new(device: &Device) -> Self {
    ///         let linear = |from, to| LinearConfig::new(from, to).init(device);
    ///         Self { layer: linear(4, 8), last: linear(8, 3), device: device.clone() }
    ///     }
    ///     fn forward(&self, x: Tensor<2>) -> Tensor<2> {
    ///         let positions = Tensor::<1, Int>::arange(0..4, &self.device).float();
    ///         self.last.forward(self.layer.forward(x + positions.unsqueeze()))
    ///     }
    /// }
    ///
    /// #[derive(Module, Debug)]
    /// struct Net { net: Generated }
    ///
    /// impl GraphModule for Net {
    ///     type Inputs = Tensor<2>;
    ///     type Outputs = Tensor<2>;
    ///     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.net.forward(x) }
    ///     fn rebuild(&self, device: &Device) -> Option<Self> { Some(Net { net: Generated::new(device) }) }
    /// }
    /// let device = Device::flex();
    /// let network = Network::capture(&Net { net: Generated::new(&device) }, &Tensor::zeros([2, 4], &device))?;
    /// assert_eq!(network.layers().len(), 2);
    /// # Ok::<(), burn_sfp_graph::GraphError>(())
    /// ```
    fn rebuild(&self, device: &Device) -> Option<Self> {
        let _ = device;
        None
    }
}
