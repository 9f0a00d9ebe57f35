//! The format of one layer.

use burn_sfp_graph::{Layer, LayerKind};
use burn_sfp_nn::sparse::{Block, Blocks, KernelPattern, WeightFormat};

use super::config::{SparseConfig, SparseFormat};
use super::cost::Size;
use super::regroup::Groups;
use super::report::ChosenFormat;

/// Returns the format of a layer whose connections `keep` holds, output by output, for a batch of `samples`; no [`WeightFormat`]
/// where the layer stays dense.
pub(super) fn choose(
    layer: &Layer,
    keep: &[bool],
    samples: usize,
    config: &SparseConfig,
) -> (Option<WeightFormat>, ChosenFormat) {
    let inputs = layer.inputs / layer.groups.max(1);
    let outputs = keep.len() / inputs.max(1);
    let kernel = layer.kernel_elements();
    let positions = samples as f64 * layer.macs as f64 / (keep.len() * kernel).max(1) as f64;
    let size = Size { outputs, inputs, kernel, positions };
    let kept = keep.iter().filter(|keep| **keep).count();
    let groups =
        (layer.groups == 1 && config.format != SparseFormat::Kernels).then(|| Groups::of(keep, &size, &config.cost));
    let kernels = || {
        let pattern = KernelPattern::from_fn(outputs, inputs, |output, input| keep[output * inputs + input]);
        (Some(WeightFormat::Kernels(pattern.into())), ChosenFormat::Kernels)
    };
    let blocks = |groups: Groups| {
        let blocks = groups.into_blocks(keep);
        let count = blocks.blocks.len();
        (Some(WeightFormat::Blocks(blocks.into())), ChosenFormat::Blocks(count))
    };
    match (config.format, groups) {
        (SparseFormat::Kernels, _) => kernels(),
        (SparseFormat::Blocks, Some(groups)) => blocks(groups),
        (SparseFormat::Blocks, None) => {
            dense_because("the filters of a grouped convolution cannot be regrouped".into())
        }
        (SparseFormat::Auto, groups) => {
            let dense = config.cost.dense(&size);
            let one_by_one = config.cost.kernels(&size, kept);
            let gathered = groups.as_ref().map_or(f64::INFINITY, |groups| config.cost.blocks(&size, groups.iter()));
            match groups {
                Some(groups) if gathered < one_by_one && gathered < dense => blocks(groups),
                _ if one_by_one < dense => kernels(),
                _ if config.pack && layer.groups == 1 => {
                    (Some(WeightFormat::Blocks(whole(keep, &size).into())), ChosenFormat::Blocks(1))
                }
                _ => (None, ChosenFormat::Dense { reason: None }),
            }
        }
    }
}

/// Returns the format of a layer that lacks no connection, where its weights are packed.
pub(super) fn whole_if_packed(layer: &Layer, config: &SparseConfig) -> Option<WeightFormat> {
    let is_packed = config.pack && layer.groups == 1 && layer.inputs > 0;
    // Too large for that: it stays dense.
    is_packed.then(|| WeightFormat::packed(layer.filters, layer.inputs).ok()).flatten()
}

/// All connections of a layer as one block.
fn whole(keep: &[bool], size: &Size) -> Blocks {
    let [outputs, inputs] = [size.outputs, size.inputs].map(|count| (0..count as u32).collect());
    let block = Block { outputs, inputs, keep: keep.to_vec() };
    Blocks { outputs: size.outputs, inputs: size.inputs, blocks: vec![block] }
}

/// Returns the format of a layer whose type has no sparse formats, with what to do about it. `container` is the layer's type.
pub(super) fn stays_dense(layer: &Layer, container: &str) -> (Option<WeightFormat>, ChosenFormat) {
    let advice = |ours: &str| {
        format!("its type `{container}` computes all connections: make it a `{ours}`, from Burn's layer with `.into()`")
    };
    dense_because(match layer.kind {
        LayerKind::Conv2d => advice("SparseConv2d"),
        LayerKind::Linear => advice("SparseLinear"),
        kind => format!("there is no sparse format for layers of kind {kind:?}"),
    })
}

fn dense_because(reason: String) -> (Option<WeightFormat>, ChosenFormat) {
    (None, ChosenFormat::Dense { reason: Some(reason) })
}
