//! [`SfpModule`], the trait of the classifiers that can be analyzed.

use burn::tensor::Tensor;
use burn_sfp_graph::GraphModule;

/// A classifier whose filters can be analyzed: a [`GraphModule`] with logits.
///
/// Modules whose only output is their logits (`Outputs = Tensor<2>`) implement it already. A module that returns more implements
/// this trait beside [`GraphModule`] and selects the logits: the analysis runs on these, pruning keeps all outputs of
/// [`run`](GraphModule::run).
///
/// ```
/// use burn::prelude::*;
/// use burn::nn::{Linear, LinearConfig};
/// use burn_sfp_core::SfpModule;
/// use burn_sfp_graph::GraphModule;
///
/// #[derive(Module, Debug)]
/// struct Classifier { fc: Linear }
///
/// impl GraphModule for Classifier {
///     type Inputs = Tensor<2>;
///     type Outputs = Tensor<2>;
///     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.fc.forward(x) }
/// }
/// let model = Classifier { fc: LinearConfig::new(4, 3).init(&Device::flex()) };
/// assert_eq!(model.logits(Tensor::zeros([2, 4], &Device::flex())).dims(), [2, 3]);
///
/// /// A second output, for training.
/// #[derive(Module, Debug)]
/// struct Embedding { hidden: Linear, fc: Linear }
///
/// impl GraphModule for Embedding {
///     type Inputs = Tensor<2>;
///     type Outputs = (Tensor<2>, Tensor<2>);
///     fn run(&self, x: Tensor<2>) -> Self::Outputs {
///         let hidden = self.hidden.forward(x);
///         (hidden.clone(), self.fc.forward(hidden))
///     }
/// }
///
/// impl SfpModule for Embedding {
///     fn logits(&self, x: Tensor<2>) -> Tensor<2> { self.run(x).1 }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no logits to analyze",
    note = "implement `GraphModule` with `type Outputs = Tensor<2>`, or `SfpModule` beside it where it returns more"
)]
pub trait SfpModule: GraphModule {
    /// Runs the forward pass and returns the logits, `[samples, classes]`, before any softmax.
    fn logits(&self, inputs: Self::Inputs) -> Tensor<2>;

    /// Returns whether the logits are all that [`run`](GraphModule::run) returns. True for modules with `Outputs = Tensor<2>`;
    /// otherwise pruning captures `run` beside `logits`, so that the other outputs are kept too.
    fn returns_logits_only(&self) -> bool {
        false
    }
}

impl<M: GraphModule<Outputs = Tensor<2>>> SfpModule for M {
    fn logits(&self, inputs: M::Inputs) -> Tensor<2> {
        self.run(inputs)
    }

    fn returns_logits_only(&self) -> bool {
        true
    }
}
