//! Splits of a channel axis into unequal parts, which may shrink each by itself.
//!
//! A capture cannot tell where the bounds of a slice come from. Halves that the module computes from the width have to shrink alike; parts
//! whose sizes are the widths of the layers behind them need not. The network itself takes the first for granted. Which of its splits are
//! of the second kind shows only when a smaller module runs: [`Network::with_free_splits`] is the network to plan such an attempt on.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use burn::backend::ir::TensorId;
use burn_sfp_nn::FieldEdit;

use crate::channels::ids::ChannelId;
use crate::graph::Graph;
use crate::network::Network;
use crate::op::indexing::{Part, parts};

impl Network {
    /// The slices, by position of the operation, that cut an axis of channels into unequal parts. Their parts have to shrink alike, by
    /// the common divisor of their bounds, unless the sizes of the smaller module follow from its parameters.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::{GraphModule, Network};
    /// #[derive(Module, Debug)]
    /// struct Net { a: Linear, b: Linear, c: Linear }
    ///
    /// impl GraphModule for Net {
    ///     type Inputs = Tensor<2>;
    ///     type Outputs = Tensor<2>;
    ///     fn run(&self, x: Tensor<2>) -> Tensor<2> {
    ///         let widths = [&self.b, &self.c].map(|layer| layer.weight.dims()[0]);
    ///         let parts = self.a.forward(x).split_with_sizes(widths.to_vec(), 1);
    ///         self.b.forward(parts[0].clone()) + self.c.forward(parts[1].clone())
    ///     }
    /// }
    /// # let device = Device::flex();
    /// # let linear = |from, to| LinearConfig::new(from, to).init(&device);
    /// let net = Net { a: linear(4, 8), b: linear(3, 2), c: linear(5, 2) };
    /// let network = Network::capture(&net, &Tensor::zeros([2, 4], &device))?;
    /// let uneven = network.uneven_splits();
    /// assert_eq!(uneven.len(), 2);
    ///
    /// // 3 + 5 have no common divisor: all filters of `a` would leave together.
    /// let channels = |network: &Network| network.layers()[0].output_channels().to_vec();
    /// assert!(channels(&network).iter().all(|channel| *channel == channels(&network)[0]));
    /// let free = network.with_free_splits(&uneven);
    /// assert!(free.layers()[0].not_prunable.is_none() && channels(&free)[0] != channels(&free)[1]);
    /// # Ok::<(), burn_sfp_graph::GraphError>(())
    /// ```
    pub fn uneven_splits(&self) -> BTreeSet<usize> {
        let mut of_axis: BTreeMap<(TensorId, usize), Vec<(usize, Part)>> = BTreeMap::new();
        let mut made: Option<HashSet<ChannelId>> = None;
        for (operation, op) in self.graph.operations.iter().enumerate() {
            for (tensor, axis, part) in parts(op) {
                // Filters of layers alone are removed.
                let made = made.get_or_insert_with(|| self.made_by_layers());
                let ids =
                    self.flow.tensors.get(&tensor).and_then(|axes| axes.get(axis)?.as_ref()).into_iter().flatten();
                if ids.flat_map(|id| self.flow.atoms_of(id)).any(|atom| made.contains(atom)) {
                    of_axis.entry((tensor, axis)).or_default().push((operation, part));
                }
            }
        }
        let uneven = of_axis.into_values().filter(|slices| {
            let block = slices.iter().fold(0, |block, (_, part)| part.common(block));
            slices.iter().any(|(_, part)| part.length() != block)
        });
        uneven.flatten().map(|(operation, _)| operation).collect()
    }

    /// The same network where the parts of these slices, by position of the operation, shrink each by itself. Channels have other ids
    /// there.
    pub fn with_free_splits(&self, free: &BTreeSet<usize>) -> Network {
        let graph = Graph { free: free.clone(), ..self.graph.clone() };
        let (inputs, outputs) = (self.input_shapes.clone(), self.output_shapes.clone());
        let mut network = Self::assemble(graph, inputs, outputs, self.skipped, self.device.clone());
        network.flow.rescaled.clone_from(&self.flow.rescaled);
        network.flow.mean_factors.clone_from(&self.flow.mean_factors);
        network.fingerprint.clone_from(&self.fingerprint);
        network.removable.clone_from(&self.removable);
        let name = |edit: &FieldEdit| (edit.path.clone(), edit.field.clone());
        let fixed: BTreeSet<(String, String)> = self.fixed.iter().map(|field| name(&field.field)).collect();
        network.fixed = network.plain_fields();
        network.fixed.retain(|field| fixed.contains(&name(&field.field)));
        network
    }

    /// Which of the slices that shrink freely the channels of an operation run through; all of them where there is no operation.
    pub fn free_splits_at(&self, operation: Option<usize>) -> BTreeSet<usize> {
        let free = &self.graph.free;
        let Some(operation) = operation else { return free.clone() };
        let here = self.atoms_of_operation(operation);
        let meets = |slice: &usize| *slice == operation || !self.atoms_of_operation(*slice).is_disjoint(&here);
        free.iter().copied().filter(meets).collect()
    }

    /// The slices that shrink freely through which one of these channels (atoms) runs.
    pub fn free_splits_of(&self, channels: &BTreeSet<ChannelId>) -> BTreeSet<usize> {
        let meets = |slice: &usize| !self.atoms_of_operation(*slice).is_disjoint(channels);
        self.graph.free.iter().copied().filter(meets).collect()
    }

    /// The slices that take the same parts as one of these, wherever they are: those of other blocks.
    pub fn slices_like(&self, slices: &BTreeSet<usize>) -> BTreeSet<usize> {
        let kind = |operation: usize| -> Vec<(usize, Part)> {
            let parts = self.graph.operations.get(operation).map(parts).unwrap_or_default();
            parts.into_iter().map(|(_, axis, part)| (axis, part)).collect()
        };
        let kinds: HashSet<Vec<(usize, Part)>> = slices.iter().map(|&slice| kind(slice)).collect();
        let alike = |other: &usize| {
            let own = kind(*other);
            !own.is_empty() && kinds.contains(&own)
        };
        (0..self.graph.operations.len()).filter(alike).collect()
    }

    /// The channels (atoms) that layers make.
    fn made_by_layers(&self) -> HashSet<ChannelId> {
        let made = self.layers.iter().flat_map(|layer| &layer.output_channels);
        made.flat_map(|id| self.flow.atoms_of(id)).copied().collect()
    }

    fn atoms_of_operation(&self, operation: usize) -> BTreeSet<ChannelId> {
        let tensors = self.graph.operations.get(operation).into_iter().flat_map(|op| op.inputs().chain(op.outputs()));
        tensors.flat_map(|tensor| self.atoms_along(tensor)).collect()
    }
}
