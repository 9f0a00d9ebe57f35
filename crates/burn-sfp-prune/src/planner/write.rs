//! [`write`]: the plan for a set of removed channels and keep masks over connections.

use std::collections::BTreeSet;

use burn_sfp_core::Analysis;
use burn_sfp_graph::{ChannelId, Layer, Network};

use super::bias::{BiasCorrection, mean_correction};
use super::close::KeepMasks;
use super::exclude::Excluded;
use super::masks::mask;
use super::trainable::Trainable;
use crate::cuts::{cuts, sizes_after};
use crate::kept::Kept;
use crate::plan::{Centered, LayerPlan, PLAN_VERSION, Scale, Uncounted};
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
    pub correction: BiasCorrection,
}

/// Returns the plan without its list of channels and its corrections by constants.
pub(super) fn write(decided: &Decided<'_>) -> PrunePlan {
    let &Decided { network, removed, .. } = decided;
    let (macs_after, layer_macs) = network.all_macs_without(removed);
    let scale = |(index, factor): (usize, f64)| Scale { path: network.parameters()[index].path.clone(), factor };
    let center = |(index, axis): (usize, usize)| Centered { path: network.parameters()[index].path.clone(), axis };
    let mut plan = PrunePlan {
        version: PLAN_VERSION,
        policy: decided.policy.to_string(),
        model: network.model_shapes(),
        channels: Vec::new(),
        cuts: cuts(network, removed),
        masks: Vec::new(),
        bias_corrections: Vec::new(),
        fields: network.field_edits(removed),
        scales: network.scales(removed).into_iter().map(scale).collect(),
        centered: network.centered(removed).into_iter().map(center).collect(),
        layers: Vec::new(),
        unpruned: Vec::new(),
        uncounted: network.uncounted().into_iter().map(|op| Uncounted { name: op.name, after: op.after }).collect(),
        unreached: unreached(network),
        trainable: Vec::new(),
        parameters_before: 0,
        parameters_after: 0,
        macs_before: network.macs(),
        macs_after,
    };
    let sizes = sizes_after(network, &plan.cuts);
    let mut trained = Trainable::default();
    for (layer, macs) in network.layers().iter().zip(layer_macs) {
        decided.write_layer(layer, macs, &sizes, &mut plan, &mut trained);
    }
    plan.trainable = trained.paths;
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
        plan.layers.push(layer_plan(network, layer, (outputs, macs), sizes, keep));
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
    (filters_after, macs_after): (usize, u64),
    sizes_after: &[u64],
    keep: Option<&Connections>,
) -> LayerPlan {
    let kernel = layer.kernel().iter().product::<usize>().max(1) as u64;
    let path = |parameter: usize| network.parameters()[parameter].path.clone();
    let size = |parameter: usize| network.parameters()[parameter].shape.iter().product::<usize>() as u64;
    let size_after = |parameter: usize| sizes_after[parameter];
    LayerPlan {
        path: layer.path.clone(),
        kind: layer.kind,
        weight: path(layer.weight()),
        bias: layer.bias().map(path),
        filters_before: layer.filters,
        filters_after,
        connections_before: size(layer.weight()) / kernel,
        connections_after: keep.map_or(size_after(layer.weight()) / kernel, |keep| keep.kept() as u64),
        parameters_before: layer.parameters,
        parameters_after: size_after(layer.weight()) + layer.bias().map_or(0, size_after),
        macs_before: layer.macs,
        macs_after,
    }
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
