//! [`RunningLatency`]: what a forward pass takes by a table while channels are removed one by one.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::layers::LayerLatencies;
use crate::blocks::Block;
use crate::channels::ids::ChannelId;
use crate::cost::activations::RunningActivations;
use crate::cost::shapes::RunningShapes;
use crate::network::Network;

/// Seconds of a forward pass by a table of its layers, while channels are removed and put back one by one.
///
/// ```
/// # use std::sync::Arc;
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::{GraphModule, Network};
/// use burn_sfp_graph::latency::{LatencyConfig, LayerLatencies, RunningLatency};
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.b.forward(self.a.forward(x)) }
/// # }
/// # let device = Device::flex();
/// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 3).init(&device) };
/// # let x = Tensor::ones([16, 4], &device);
/// let table = Arc::new(LayerLatencies::measure(&mlp, &x, &LatencyConfig::new().with_runs(5))?);
/// let network = Network::capture(&mlp, &x)?;
/// let mut latency = RunningLatency::of(&network, table.clone());
/// assert!((latency.seconds() / table.whole - 1.0).abs() < 1e-6);
/// latency.remove(network.layers()[0].output_channels()[0]);
/// assert!(latency.seconds() <= table.whole * (1.0 + 1e-6));
/// # Ok::<(), burn_sfp_graph::GraphError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RunningLatency<'a> {
    network: &'a Network,
    table: Arc<LayerLatencies>,
    shapes: RunningShapes<'a>,
    /// The layers whose weight has an axis.
    on_axis: Vec<BTreeSet<usize>>,
    /// Seconds of each layer.
    layers: Vec<f64>,
    activations: RunningActivations<'a>,
    /// Bytes of all activations of the whole network.
    all: f64,
    /// The layers of blocks that are left out.
    gone: BTreeSet<usize>,
}

impl<'a> RunningLatency<'a> {
    /// The whole network, with a table that was measured on it.
    pub fn of(network: &'a Network, table: Arc<LayerLatencies>) -> Self {
        let activations = RunningActivations::of(network);
        let all = activations.total().max(1) as f64;
        let mut latency = Self {
            network,
            table,
            shapes: RunningShapes::new(&network.flow),
            on_axis: Vec::new(),
            layers: vec![0.0; network.layers.len()],
            activations,
            all,
            gone: BTreeSet::new(),
        };
        for (index, layer) in network.layers.iter().enumerate() {
            let axes = latency.shapes.axes_of(layer.applied.id);
            latency.on_axis.resize(latency.shapes.len(), BTreeSet::new());
            for axis in axes {
                latency.on_axis[axis].insert(index);
            }
            latency.recount(index);
        }
        latency
    }

    /// The table.
    pub fn table(&self) -> &Arc<LayerLatencies> {
        &self.table
    }

    /// Removes an atom (see [`Flow`](crate::Flow)), and with it every product that it is part of.
    pub fn remove(&mut self, atom: ChannelId) {
        let shorter = self.shapes.shorten(atom);
        self.activations.remove(atom);
        self.recount_axes(&shorter);
    }

    /// Puts a removed atom back.
    pub fn restore(&mut self, atom: ChannelId) {
        let longer = self.shapes.lengthen(atom);
        self.activations.restore(atom);
        self.recount_axes(&longer);
    }

    /// Leaves a block out.
    pub fn leave_out(&mut self, block: &Block) {
        self.gone.extend(&block.layers);
        self.activations.leave_out(block);
        block.layers.iter().for_each(|&layer| self.recount(layer));
    }

    /// Puts a block back.
    pub fn put_back(&mut self, block: &Block) {
        self.gone.retain(|layer| !block.layers.contains(layer));
        self.activations.put_back(block);
        block.layers.iter().for_each(|&layer| self.recount(layer));
    }

    /// Seconds of a forward pass over the table's batch without the channels removed so far.
    pub fn seconds(&self) -> f64 {
        self.layers.iter().sum::<f64>() + self.table.rest * self.activations.total() as f64 / self.all
    }

    fn recount_axes(&mut self, axes: &BTreeSet<usize>) {
        let changed: BTreeSet<usize> = axes.iter().flat_map(|&axis| &self.on_axis[axis]).copied().collect();
        changed.into_iter().for_each(|layer| self.recount(layer));
    }

    fn recount(&mut self, index: usize) {
        let layer = &self.network.layers[index];
        let shape = self.shapes.shape(layer.applied.id, layer.applied.shape.iter().copied().collect());
        let outputs = shape.get(layer.kind.output_axis()).copied().unwrap_or_default();
        // The weight of a grouped convolution has the inputs of one group. Those of the others go with them, or whole groups go.
        let read = shape.get(layer.kind.input_axis()).copied().unwrap_or_default();
        let groups = layer.groups.max(1);
        let inputs = if groups == layer.inputs { outputs * layer.inputs / layer.filters.max(1) } else { read * groups };
        let gone = self.gone.contains(&index);
        self.layers[index] = if gone { 0.0 } else { self.table.seconds(layer, inputs, outputs) };
    }
}
