//! [`BiasCorrection`] and the plan's entries for it.

use std::collections::BTreeSet;

use burn_sfp_core::Analysis;
use burn_sfp_graph::{ChannelId, GraphError, Layer, Network, Omitted};

use crate::Connections;
use crate::plan::{CorrectedBias, CorrectionTarget};

/// What is added to the biases of layers that lose inputs, in place of what these inputs contributed.
///
/// The correction by means is exact (the smaller model equals the original with each removed channel held at its mean) for linear
/// layers and for convolutions without padding. If zero padding cuts kernels off at the border, each element of the kernel counts
/// by the share of positions at which it lies inside the input, which is the mean of the exact correction.
///
/// ```
/// use burn_sfp_prune::{BiasCorrection, Planner};
/// let without_samples = Planner::new().bias_correction(BiasCorrection::Constants);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BiasCorrection {
    /// Adds nothing: a removed channel counts as zero.
    Off,
    /// Adds the mean contribution of removed channels over the calibration samples (docs/method.md, section 5).
    #[default]
    Channels,
    /// Adds the mean contribution of every removed connection too. Not from the paper.
    Connections,
    /// Adds what silenced filters leave behind; needs no samples. A removed filter counts as silenced, with its weights and bias at
    /// zero. What its normalisation and activation make of that is a constant, which is added to the biases of its consumers if
    /// that is exact: not if zero padding cuts kernels off at the border (unless the constant is zero). Otherwise it counts as
    /// zero, and so does everything in networks with root-mean-square normalisations or sums over channels that lose some of them. Not
    /// from the paper.
    Constants,
}

/// Returns the corrections by constants; none for other settings.
pub(super) fn constant_corrections(
    setting: BiasCorrection,
    network: &Network,
    removed: &BTreeSet<ChannelId>,
    omitted: &Omitted,
) -> Result<Vec<CorrectedBias>, GraphError> {
    // A root-mean-square normalisation and a sum over channels count removed channels as zero, so everything does.
    if setting != BiasCorrection::Constants || !network.scales(removed).is_empty() || network.sums_shrink(removed) {
        return Ok(Vec::new());
    }
    let corrections = network.constants(removed, omitted)?.into_iter().filter_map(|(layer, inputs)| {
        let layer = &network.layers()[layer];
        Some(CorrectedBias {
            coverage: vec![1.0; layer.kernel().iter().product::<usize>().max(1)],
            constants: true,
            ..without_coverage(network, layer, inputs)?
        })
    });
    Ok(corrections.collect())
}

/// Returns the correction of a layer by means over samples, or `None` if it needs none or has none.
pub(super) fn mean_correction(
    setting: BiasCorrection,
    network: &Network,
    analysis: &Analysis,
    layer: &Layer,
    keep: Option<&Connections>,
    removed: &BTreeSet<ChannelId>,
) -> Option<CorrectedBias> {
    let means = analysis.input_means.get(&layer.path).filter(|means| means.len() == layer.inputs)?;
    let is_removed =
        |input: usize| layer.input_channels().get(input).copied().flatten().is_some_and(|id| removed.contains(&id));
    let inputs: Vec<(usize, f32)> = match setting {
        BiasCorrection::Off | BiasCorrection::Constants => return None,
        BiasCorrection::Connections if keep.is_some() => means.iter().copied().enumerate().collect(),
        _ => means.iter().copied().enumerate().filter(|(input, _)| is_removed(*input)).collect(),
    };
    if inputs.is_empty() || layer.groups > 1 || layer.calls > 1 {
        return None;
    }
    Some(CorrectedBias {
        coverage: coverage(layer),
        removed_connections_only: setting == BiasCorrection::Connections,
        ..without_coverage(network, layer, inputs)?
    })
}

/// Returns a correction for these inputs of the layer's bias or of the running mean behind it; `None` if it has neither.
fn without_coverage(network: &Network, layer: &Layer, inputs: Vec<(usize, f32)>) -> Option<CorrectedBias> {
    // The contribution of an input is computed from the stored weight.
    if !layer.is_stored() {
        return None;
    }
    let path = |index: usize| network.parameters()[index].path.clone();
    let target = match (layer.bias(), layer.running_mean) {
        (Some(bias), _) => CorrectionTarget::Bias(path(bias)),
        (None, Some(mean)) => CorrectionTarget::RunningMean(path(mean)),
        (None, None) => return None,
    };
    Some(CorrectedBias {
        layer: layer.path.clone(),
        weight: path(layer.weight()),
        output_axis: layer.kind.output_axis(),
        target,
        inputs,
        coverage: Vec::new(),
        constants: false,
        removed_connections_only: false,
    })
}

/// Returns for each kernel element the share of output positions at which it lies inside the input.
fn coverage(layer: &Layer) -> Vec<f32> {
    if layer.kernel().is_empty() {
        return vec![1.0];
    }
    // One factor for each axis: the positions are a product of the axes.
    let factors: Vec<Vec<f32>> = (0..layer.kernel().len())
        .map(|axis| {
            let (length, kernel) = (layer.input_shape()[axis + 2], layer.kernel()[axis]);
            let (stride, dilation) = (layer.stride()[axis].max(1), layer.dilation()[axis].max(1));
            let (before, after) = layer.padding[axis];
            let reach = dilation * (kernel.max(1) - 1) + 1;
            let positions = (length + before + after).saturating_sub(reach) / stride + 1;
            (0..kernel)
                .map(|k| {
                    let inside = (0..positions).filter(|p| {
                        let at = p * stride + k * dilation;
                        at >= before && at < length + before
                    });
                    inside.count() as f32 / positions as f32
                })
                .collect()
        })
        .collect();
    factors.iter().fold(vec![1.0], |all, factor| all.iter().flat_map(|a| factor.iter().map(move |b| a * b)).collect())
}
