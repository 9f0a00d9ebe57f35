//! Capture: one or more forward passes of a module, recorded without running them, as a [`Network`].
//!
//! `pass` describes a forward pass, `device` puts a copy of the module on Burn's capture device, `devices` lends these out, `record` records passes there and joins
//! operations and parameters by module path, `reads` computes values that a forward pass reads while it is recorded, `plain` names tensors that are no
//! parameters. `training` records a pass in training mode.

mod device;
mod devices;
mod pass;
mod plain;
mod reads;
mod record;
mod training;

pub use pass::ForwardPass;
pub(crate) use training::{SparseAt, TrainingPass};

use crate::blocks::Omitted;
use crate::graph::Graph;
use crate::network::Network;
use crate::{ChannelId, GraphError, GraphModule, ModuleInput, ScalarChange};
use pass::{Borrowed, Pass};
use plain::described;
use record::{Recording, record};
use std::collections::BTreeSet;

use burn::tensor::Device;

impl Network {
    /// Captures `model.run(input)`. The input's values are not used, only its shapes.
    ///
    /// A forward pass may read the values of tensors that do not depend on its input (the target of a reshape, say): they are computed.
    ///
    /// # Errors
    /// [`GraphError::Forward`] where the forward pass panics on this input, [`GraphError::ReadsValues`] where it reads values that depend on
    /// the input, [`GraphError::NoLayers`] where no parameterised layer is used.
    pub fn capture<M: GraphModule>(model: &M, input: &M::Inputs) -> Result<Self, GraphError> {
        Self::capture_with(model, input, M::run)
    }

    /// [`capture`](Network::capture) of another forward pass of the same module, for example the logits alone.
    ///
    /// # Errors
    /// As [`capture`](Network::capture).
    pub fn capture_with<M: GraphModule, I: ModuleInput, O: ModuleInput>(
        model: &M,
        input: &I,
        forward: impl Fn(&M, I) -> O,
    ) -> Result<Self, GraphError> {
        Self::with_layers(Self::record(model, input, forward)?)
    }

    /// [`capture`](Network::capture) of `model.run(input)` and of other forward passes of the same module, as one network: what any of
    /// them needs is part of it. Costs are those of `model.run(input)` alone.
    ///
    /// ```
    /// use burn::prelude::*;
    /// use burn::nn::{Linear, LinearConfig};
    /// use burn_sfp_graph::{ForwardPass, GraphModule, Network};
    ///
    /// #[derive(Module, Debug)]
    /// struct Net { trunk: Linear, head: Linear, auxiliary: Linear }
    ///
    /// impl GraphModule for Net {
    ///     type Inputs = Tensor<2>;
    ///     type Outputs = Tensor<2>;
    ///     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.head.forward(self.trunk.forward(x)) }
    /// }
    /// # let device = Device::flex();
    /// # let linear = |from, to| LinearConfig::new(from, to).init(&device);
    /// # let net = Net { trunk: linear(4, 8), head: linear(8, 3), auxiliary: linear(8, 3) };
    /// let x = Tensor::zeros([2, 4], &device);
    /// let training = ForwardPass::new(x.clone(), |net: &Net, x| net.auxiliary.forward(net.trunk.forward(x)));
    /// let network = Network::capture_passes(&net, &x, &[training])?;
    /// assert!(network.layer("auxiliary").is_some() && network.unreached().is_empty());
    /// assert_eq!(network.macs(), Network::capture(&net, &x)?.macs());
    /// # Ok::<(), burn_sfp_graph::GraphError>(())
    /// ```
    ///
    /// # Errors
    /// As [`capture`](Network::capture).
    pub fn capture_passes<M: GraphModule>(
        model: &M,
        input: &M::Inputs,
        also: &[ForwardPass<M>],
    ) -> Result<Self, GraphError> {
        let main = Borrowed::new(input, M::run);
        let recording = record(model, &all(&main, also))?;
        Self::with_layers(Self::whole(model, recording)?)
    }

    /// Captures a smaller module on the same inputs as this network and compares the two, as
    /// [`compare_without`](Network::compare_without) does. Where the smaller forward pass panics, the error names the operation at which it
    /// stopped.
    ///
    /// # Errors
    /// [`GraphError::GraphMismatch`] where another operation, shape, slice or group count turns up, or where the pass fails.
    pub fn check_smaller<M: GraphModule>(
        &self,
        removed: &BTreeSet<ChannelId>,
        omitted: &Omitted,
        smaller: &M,
        input: &M::Inputs,
        also: &[ForwardPass<M>],
    ) -> Result<Vec<ScalarChange>, GraphError> {
        let main = Borrowed::new(input, M::run);
        let recording = record(smaller, &all(&main, also))?;
        match &recording.panicked {
            Some(message) => Err(self.stopped(removed, omitted, &recording.graph, message)),
            None => self.compare_graph(removed, omitted, &recording.graph),
        }
    }

    /// [`capture_with`](Network::capture_with) of a module that may have no layer.
    pub(crate) fn record<M: GraphModule, I: ModuleInput, O: ModuleInput>(
        model: &M,
        input: &I,
        forward: impl Fn(&M, I) -> O,
    ) -> Result<Self, GraphError> {
        Self::whole(model, record(model, &[&Borrowed::new(input, forward)])?)
    }

    /// The network of a recording, unless the forward pass panicked.
    fn whole<M: GraphModule>(model: &M, recording: Recording) -> Result<Self, GraphError> {
        let device = model.devices().into_iter().next().unwrap_or_default().without_autodiff();
        let network = Self::of_recording(recording, device, &|| format!("{model:?}"))?;
        Ok(network.with_access(model.valid().shrinkable()))
    }

    /// `printed` prints the module for debugging, where its tensors are named that are no parameters.
    fn of_recording(recording: Recording, device: Device, printed: &dyn Fn() -> String) -> Result<Self, GraphError> {
        let Recording { mut graph, input_shapes, output_shapes, skipped, panicked, plain, .. } = recording;
        if let Some(message) = panicked {
            let shape = input_shapes.into_iter().next().unwrap_or_default();
            return Err(GraphError::Forward { shape, after: last_layer(&graph), message });
        }
        // Costs, and constants that biases take over, are those of a sample.
        if let Some(shape) = input_shapes.first().filter(|shape| shape.first() == Some(&0)) {
            return Err(GraphError::NoSamples { shape: shape.clone() });
        }
        if graph.outputs.is_empty() {
            return Err(GraphError::Capture("the forward pass returns no tensor".into()));
        }
        if !plain.is_empty() {
            graph.constants = described(&graph, &plain, &printed());
        }
        Ok(Self::assemble(graph, input_shapes, output_shapes, skipped, device))
    }

    fn with_layers(network: Self) -> Result<Self, GraphError> {
        if network.layers.is_empty() { Err(GraphError::NoLayers) } else { Ok(network) }
    }
}

fn all<'a, M>(main: &'a dyn Pass<M>, also: &'a [ForwardPass<M>]) -> Vec<&'a dyn Pass<M>> {
    std::iter::once(main).chain(also.iter().map(ForwardPass::pass)).collect()
}

/// Path of the layer (or bare parameter) that the last operation to read a parameter belongs to.
fn last_layer(graph: &Graph) -> Option<String> {
    graph.layer_before(graph.operations.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::Module;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::{Device, Tensor};

    #[derive(Module, Debug)]
    struct Twice {
        layer: Linear,
    }

    impl GraphModule for Twice {
        type Inputs = Tensor<2>;
        type Outputs = (Tensor<2>, Tensor<2>);
        fn run(&self, x: Tensor<2>) -> Self::Outputs {
            let x = self.layer.forward(x);
            (x.clone(), x)
        }
    }

    #[test]
    fn a_tensor_may_be_returned_twice() {
        let device = Device::flex();
        let model = Twice { layer: LinearConfig::new(3, 2).init(&device) };
        let network = Network::capture(&model, &Tensor::zeros([1, 3], &device)).unwrap();
        assert_eq!((network.graph.outputs.len(), network.output_shapes.len()), (1, 2));
    }
}
