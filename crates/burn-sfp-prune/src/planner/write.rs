//! [`write`]: the plan for a set of removed channels and keep masks over connections.

use std::collections::BTreeSet;

use burn_sfp_core::Analysis;
use burn_sfp_graph::{ChannelId, Fingerprint, Layer, Network, Omitted};

use super::bias::{BiasCorrection, mean_correction};
use super::close::KeepMasks;
use super::exclude::Excluded;
use super::masks::mask;
use super::trainable::Trainable;
use crate::cuts::{cuts, scales, sizes_after, unzeroed};
use crate::kept::Kept;
use crate::plan::{Centered, LayerPlan, PLAN_VERSION, Uncounted};
use crate::{Connections, PrunePlan};

/// What a plan is written from.
pub(super) struct Decided<'a> {
    pub network: &'a Network,
    pub analysis: Option<&'a Analysis>,
    pub policy: &'a str,
    pub excluded: &'a Excluded,
    pub kept: &'a Kept,
    pub masks: &'a KeepMasks,
    /// The channels that are removed, products of them included.
    pub removed: &'a BTreeSet<ChannelId>,
    /// The blocks that are left out.
    pub omitted: &'a Omitted,
    pub correction: BiasCorrection,
}

/// Returns the plan without its list of channels, its groups, its corrections by constants, and what they were measured on; it is not sealed.
pub(super) fn write(decided: &Decided<'_>) -> PrunePlan {
    let &Decided { network, removed, omitted, .. } = decided;
    let (macs_after, layer_macs) = network.all_macs_without(removed, omitted);
    let center = |(index, axis): (usize, usize)| Centered { path: network.parameters()[index].path.clone(), axis };
    let mut plan = PrunePlan {
        version: PLAN_VERSION,
        policy: decided.policy.to_string(),
        model: network.model_shapes(),
        earlier: Vec::new(),
        channels: Vec::new(),
        free_splits: Vec::new(),
        blocks: omitted.parts().to_vec(),
        kept_blocks: Vec::new(),
        cuts: cuts(network, removed),
        masks: Vec::new(),
        bias_corrections: Vec::new(),
        fields: network.field_edits(removed),
        scales: scales(network, removed),
        unzeroed: unzeroed(network, removed),
        centered: network.centered(removed).into_iter().map(center).collect(),
        layers: Vec::new(),
        unpruned: Vec::new(),
        groups: Vec::new(),
        uncounted: network.uncounted().into_iter().map(|op| Uncounted { name: op.name, after: op.after }).collect(),
        unreached: unreached(network),
        trainable: Vec::new(),
        parameters_before: 0,
        parameters_after: 0,
        macs_before: network.macs(),
        macs_after,
        measured_on: Fingerprint::default(),
        digest: 0,
    };
    let mut sizes = sizes_after(network, &plan.cuts);
    sizes.iter_mut().enumerate().filter(|(index, _)| omitted.has_parameter(*index)).for_each(|(_, size)| *size = 0);
    let mut trained = Trainable::default();
    for (index, (layer, macs)) in network.layers().iter().zip(layer_macs).enumerate() {
        if omitted.has_layer(index) {
            plan.layers.push(layer_plan(network, layer, (0, 0, 0), &sizes, None));
        } else {
            decided.write_layer(layer, macs, &sizes, &mut plan, &mut trained);
        }
    }
    // Without a block, all that comes after it has something to learn.
    plan.trainable = if omitted.is_empty() { trained.paths } else { Vec::new() };
    for (index, parameter) in network.parameters().iter().enumerate().filter(|(_, p)| p.is_trained()) {
        plan.parameters_before += parameter.shape.iter().product::<usize>() as u64;
        plan.parameters_after += sizes[index];
    }
    plan
}

impl Decided<'_> {
    /// Adds what happens to a layer.
    fn write_layer(&self, layer: &Layer, macs: u64, sizes: &[u64], plan: &mut PrunePlan, trained: &mut Trainable) {
        let &Self { network, removed, .. } = self;
        let is_removed = |id: &&ChannelId| removed.contains(id);
        let outputs = layer.filters - layer.output_channels().iter().filter(is_removed).count();
        let inputs = layer.inputs - layer.input_channels().iter().flatten().filter(is_removed).count();
        let keep = self.masks.get(&layer.path);
        plan.layers.push(layer_plan(network, layer, (outputs, inputs, macs), sizes, keep));
        if let Some(keep) = keep
            && keep.kept() < outputs * inputs
        {
            plan.masks.push(mask(network, layer, keep));
        }
        let correct = |analysis| mean_correction(self.correction, network, analysis, layer, keep, removed);
        plan.bias_corrections.extend(self.analysis.and_then(correct));
        plan.unpruned.extend(self.excluded.reason(network, layer, self.kept));
        if outputs < layer.filters || inputs < layer.inputs || keep.is_some() {
            trained.add_layer(network, layer);
        }
    }
}

fn layer_plan(
    network: &Network,
    layer: &Layer,
    (filters_after, inputs_after, macs_after): (usize, usize, u64),
    sizes_after: &[u64],
    keep: Option<&Connections>,
) -> LayerPlan {
    let kernel = layer.kernel().iter().product::<usize>().max(1) as u64;
    let path = |parameter: usize| network.parameters()[parameter].path.clone();
    let size = |parameter: usize| size_of(network, parameter);
    let size_after = |parameter: usize| sizes_after[parameter];
    let (connections_before, connections_after) = if layer.is_stored() {
        (size(layer.weight()) / kernel, size_after(layer.weight()) / kernel)
    } else {
        let groups = layer.groups.max(1) as u64;
        ((layer.filters * layer.inputs) as u64 / groups, (filters_after * inputs_after) as u64 / groups)
    };
    LayerPlan {
        path: layer.path.clone(),
        kind: layer.kind,
        weight: path(layer.weight()),
        bias: layer.bias().map(path),
        filters_before: layer.filters,
        filters_after,
        connections_before,
        connections_after: keep.map_or(connections_after, |keep| keep.kept() as u64),
        parameters_before: layer.parameters,
        parameters_after: layer.parameters_of_all().map(size_after).sum(),
        macs_before: layer.macs,
        macs_after,
    }
}

fn size_of(network: &Network, parameter: usize) -> u64 {
    network.parameters()[parameter].shape.iter().product::<usize>() as u64
}

/// Returns the paths of modules with a parameter that no captured forward pass reads; of a parameter without a module its own.
fn unreached(network: &Network) -> Vec<String> {
    let mut paths: Vec<String> = Vec::new();
    for parameter in network.unreached() {
        let module = parameter.path.rsplit_once('.').map_or(parameter.path.as_str(), |(module, _)| module);
        if paths.last().is_none_or(|last| last != module) {
            paths.push(module.to_string());
        }
    }
    paths
}
