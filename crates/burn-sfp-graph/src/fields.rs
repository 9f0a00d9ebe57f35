//! What has to change besides the shapes of parameters when channels are removed: plain fields, and the scale of parameters.

use std::collections::{BTreeSet, HashSet};

use burn_sfp_nn::FieldEdit;

use crate::channels::ids::ChannelId;
use crate::network::Network;

impl Network {
    /// Root-mean-square normalisations that lose channels (`removed` closed): index of gamma, operation that adds epsilon, epsilon,
    /// and the ratio of channels before and after.
    pub(crate) fn shrunk_means(&self, removed: &BTreeSet<ChannelId>) -> Vec<(usize, usize, f64, f64)> {
        let shrunk = self.flow.means.iter().filter_map(|norm| {
            let before = self.graph.parameters[norm.gamma].shape.first().copied()? as f64;
            let after = self.parameter_size_without(norm.gamma, removed) as f64;
            (after < before && after > 0.0).then_some((norm.gamma, norm.add, norm.epsilon, before / after))
        });
        shrunk.collect()
    }

    /// The parameters that have to be multiplied by a factor when channels are removed (`removed` closed), by index, and the factor: the
    /// gammas of root-mean-square normalisations.
    pub fn scales(&self, removed: &BTreeSet<ChannelId>) -> Vec<(usize, f64)> {
        self.shrunk_means(removed).into_iter().map(|(gamma, _, _, ratio)| (gamma, ratio.sqrt())).collect()
    }

    /// The plain fields that change when channels are removed (`removed` closed), which the model's
    /// [`Shrink`](burn_sfp_nn::Shrink) has to set.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::conv::{Conv2d, Conv2dConfig};
    /// # use burn_sfp_graph::{GraphModule, Network};
    /// # #[derive(Module, Debug)]
    /// # struct Net { a: Conv2d, depthwise: Conv2d, b: Conv2d }
    /// # impl GraphModule for Net {
    /// #     type Inputs = Tensor<4>;
    /// #     type Outputs = Tensor<4>;
    /// #     fn run(&self, x: Tensor<4>) -> Tensor<4> { self.b.forward(self.depthwise.forward(self.a.forward(x))) }
    /// # }
    /// # let device = Device::flex();
    /// # let conv = |from, to, groups| Conv2dConfig::new([from, to], [3, 3]).with_groups(groups).init(&device);
    /// # let net = Net { a: conv(3, 8, 1), depthwise: conv(8, 8, 8), b: conv(8, 2, 1) };
    /// let network = Network::capture(&net, &Tensor::zeros([1, 3, 9, 9], &device))?;
    /// let removed = network.flow().closed(&[network.layers()[0].output_channels()[0]].into());
    /// let edit = &network.field_edits(&removed)[0];
    /// assert_eq!((edit.path.as_str(), edit.field.as_str(), edit.before, edit.after), ("depthwise", "groups", 8.0, 7.0));
    /// # Ok::<(), burn_sfp_graph::GraphError>(())
    /// ```
    pub fn field_edits(&self, removed: &BTreeSet<ChannelId>) -> Vec<FieldEdit> {
        let edit = |parameter: usize, field: &str, before: f64, after: f64| {
            let parameter = &self.graph.parameters[parameter];
            let (path, container) = (parameter.module().to_string(), parameter.container.clone());
            FieldEdit { path, container, field: field.to_string(), before, after }
        };
        let mut edits: Vec<FieldEdit> = Vec::new();
        let mut seen = HashSet::new();
        for counted in &self.flow.fields {
            let (before, after) = (counted.of.len(), counted.of.iter().filter(|id| !removed.contains(id)).count());
            let module = self.graph.parameters[counted.parameter].module();
            if after != before && seen.insert((module, counted.field)) {
                edits.push(edit(counted.parameter, counted.field, before as f64, after as f64));
            }
        }
        let epsilons = self.shrunk_means(removed).into_iter();
        edits.extend(epsilons.map(|(gamma, _, epsilon, ratio)| edit(gamma, "epsilon", epsilon, epsilon * ratio)));
        edits
    }
}
