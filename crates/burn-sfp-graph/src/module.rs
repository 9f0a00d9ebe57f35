//! [`GraphModule`], the trait over Burn modules whose graph can be captured.

use burn::module::Module;
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
pub trait GraphModule: Module {
    /// Input of the forward pass: a tensor, a tuple of them, or a struct of the user's own that implements [`ModuleInput`].
    type Inputs: ModuleInput;
    /// Output of the forward pass, whose channels stay. A classifier returns `Tensor<2>`, `[samples, classes]` before any softmax.
    type Outputs: ModuleInput;

    /// Runs the forward pass.
    fn run(&self, inputs: Self::Inputs) -> Self::Outputs;

    /// Returns the module as a [`Shrink`], `Some(self)` where it derives that. Networks with depthwise convolutions, group normalisations and
    /// other layers that count in plain fields need it; without it their pruning ends in an error that names the layer.
    fn shrinkable(&mut self) -> Option<&mut dyn Shrink> {
        None
    }
}
