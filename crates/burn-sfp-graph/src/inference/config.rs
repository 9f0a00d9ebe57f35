//! [`InferenceConfig`]: how the ways of the layers are chosen.

use super::LayerChoices;
use crate::latency::LatencyConfig;

/// Settings of an [`Inference`](super::Inference).
///
/// ```
/// use burn_sfp_graph::InferenceConfig;
/// use burn_sfp_graph::latency::LatencyConfig;
///
/// // Sums of the products themselves, in order, and a choice by more runs.
/// let config = InferenceConfig::new().winograd(false).latency(LatencyConfig::new().with_runs(20));
/// ```
#[derive(Clone, Debug)]
pub struct InferenceConfig {
    pub(super) latency: LatencyConfig,
    pub(super) winograd: bool,
    pub(super) bfloat16: bool,
    pub(super) measured: bool,
    pub(super) choices: Vec<LayerChoices>,
}

impl Default for InferenceConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl InferenceConfig {
    /// Three runs of each way after one that does not count, with minimal filtering.
    pub fn new() -> Self {
        Self {
            latency: LatencyConfig::new().with_warm_up(1).with_runs(3),
            winograd: true,
            bfloat16: false,
            measured: true,
            choices: Vec::new(),
        }
    }

    /// Sets the runs by which the fastest way of each layer is chosen.
    pub fn latency(mut self, latency: LatencyConfig) -> Self {
        self.latency = latency;
        self
    }

    /// Adds choices that were made before, on the same kind of machine: inputs of their shapes are not measured again, if the layers are still the same;
    /// otherwise they are. Each shape of the input has choices of its own. See [`LayerChoices::save`].
    pub fn choices(mut self, choices: LayerChoices) -> Self {
        self.choices.push(choices);
        self
    }

    /// Sets whether packed weights may be stored in 16 bits (bfloat16), where that is faster: at batch 1, where reading the weights takes the time, linear layers
    /// run 1.5 times as fast. Each weight is rounded to one part in 512 at most, so outputs move by more than the rounding of sums: look at the accuracy.
    /// Sums stay in single precision. Off by default.
    pub fn bfloat16(mut self, bfloat16: bool) -> Self {
        self.bfloat16 = bfloat16;
        self
    }

    /// Sets whether the ways are chosen by measuring, which is the default. Otherwise they follow from the shapes alone: nothing runs before the first
    /// pass, which has the same bits in every process. Layers of one group then run on packed or transformed weights
    /// (`burn_sfp_ndarray::ConvShapes`), sparse layers by their kernels.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::GraphModule;
    /// use burn_sfp_graph::{Inference, InferenceConfig, Way};
    /// # #[derive(Module, Debug)]
    /// # struct Net { a: Linear }
    /// # impl GraphModule for Net {
    /// #     type Inputs = Tensor<2>;
    /// #     type Outputs = Tensor<2>;
    /// #     fn run(&self, x: Tensor<2>) -> Tensor<2> {
    /// #         self.a.forward(x)
    /// #     }
    /// # }
    /// # let device = Device::flex();
    /// # let net = Net { a: LinearConfig::new(4, 8).init(&device) };
    /// let x = Tensor::ones([2, 4], &device);
    /// let fast = Inference::with_config(&net, &x, &InferenceConfig::new().measured(false))?;
    /// assert_eq!(fast.choices().layers[0].way, Way::Packed);
    /// # Ok::<(), burn_sfp_graph::GraphError>(())
    /// ```
    pub fn measured(mut self, measured: bool) -> Self {
        self.measured = measured;
        self
    }

    /// Sets whether convolutions of 3x3 may run with fewer products on transformed weights ([`Way::Winograd`](super::Way::Winograd)). Their
    /// rounding errors are one to two times those of sums in order; see `burn_sfp_ndarray::winograd_conv2d`.
    pub fn winograd(mut self, winograd: bool) -> Self {
        self.winograd = winograd;
        self
    }
}
