//! From a policy's ranking to a plan that is closed under the network's dependencies.

use std::collections::{BTreeMap, BTreeSet};

use burn_sfp_core::Analysis;
use burn_sfp_core::network::{ChannelId, Layer, LayerKind, Network};

use crate::group::Groups;
use crate::plan::{AxisCut, Fold, FoldTarget, KeptWhole, LayerPlan, Mask, PLAN_VERSION, ParameterCut};
use crate::{Budget, Connections, PolicyContext, PruneError, PrunePlan, Ranking, RankingPolicy};

/// Which mean activations go into the biases of the layers that read them.
///
/// Exact (the smaller model equals the original with each removed channel held at its mean) for linear layers and
/// for convolutions without padding. Where zero padding cuts kernels off at the border, each element of the kernel
/// counts by the share of positions at which it is inside, which is the mean of the exact correction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FoldMeans {
    /// Nothing: a removed channel counts as zero.
    Off,
    /// Of removed channels (METHOD section 4).
    #[default]
    Channels,
    /// Of every removed connection too. Not from the paper.
    Connections,
}

/// Makes plans.
///
/// ```
/// use burn_sfp_prune::{Budget, FoldMeans, Planner};
/// let planner = Planner::new().budget(Budget::Global(0.3)).fold(FoldMeans::Off);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Planner {
    budget: Budget,
    fold: FoldMeans,
    keep_empty: bool,
}

impl Planner {
    /// Half of each layer's scored filters, means of removed channels folded.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many of the scored filters go. Verdicts on connections are carried out whole.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// Which mean activations are folded into biases.
    pub fn fold(mut self, fold: FoldMeans) -> Self {
        self.fold = fold;
        self
    }

    /// Keeps filters that have no connection left on one side.
    pub fn keep_empty(mut self, keep: bool) -> Self {
        self.keep_empty = keep;
        self
    }

    /// Makes the plan.
    ///
    /// # Errors
    /// [`PruneError::OtherModel`] where the analysis is of another model, [`PruneError::WouldEmpty`] where a layer would
    /// lose all filters, [`PruneError::BadRanking`] where the policy's ranking does not fit, and the policy's own.
    pub fn plan(
        &self,
        network: &Network,
        analysis: &Analysis,
        policy: &dyn RankingPolicy,
    ) -> Result<PrunePlan, PruneError> {
        if network.model_shapes() != analysis.model {
            return Err(PruneError::OtherModel { what: "its parameters are not those of the analysis".into() });
        }
        let mut ranking = policy.rank(&PolicyContext { network, analysis })?;
        check(network, &policy.name(), &ranking)?;
        let groups = Groups::of(network);
        let mut removed = if ranking.filters.is_empty() {
            BTreeSet::new()
        } else {
            self.budget.choose(network, &groups, &ranking)?
        };
        let mut verdicts = std::mem::take(&mut ranking.connections);
        close(network, &groups, &mut verdicts, &mut removed, self.keep_empty)?;
        for layer in network.layers() {
            let all =
                !layer.output_channels().is_empty() && layer.output_channels().iter().all(|id| removed.contains(id));
            if all {
                return Err(PruneError::WouldEmpty {
                    path: layer.path.clone(),
                    filters: layer.filters,
                    asked: format!("policy {}", policy.name()),
                });
            }
        }
        Ok(self.write(network, analysis, &policy.name(), &verdicts, &removed))
    }

    fn write(
        &self,
        network: &Network,
        analysis: &Analysis,
        policy: &str,
        verdicts: &BTreeMap<String, Connections>,
        removed: &BTreeSet<ChannelId>,
    ) -> PrunePlan {
        let cuts = cuts(network, removed);
        let gone = |id: &ChannelId| removed.contains(id);
        let mut plan = PrunePlan {
            version: PLAN_VERSION,
            policy: policy.to_string(),
            model: network.model_shapes(),
            masks: Vec::new(),
            folds: Vec::new(),
            layers: Vec::new(),
            kept_whole: Vec::new(),
            trainable: Vec::new(),
            parameters_before: 0,
            parameters_after: 0,
            cuts,
        };
        for layer in network.layers() {
            let kept_outputs = layer.filters - layer.output_channels().iter().filter(|id| gone(id)).count();
            let kept_inputs = layer.inputs - layer.input_channels().iter().flatten().filter(|id| gone(id)).count();
            let inputs = layer.inputs / layer.groups.max(1);
            let connections_after = match verdicts.get(&layer.path) {
                Some(verdict) => verdict.kept() as u64,
                None if layer.groups > 1 => (layer.filters * inputs) as u64,
                None => (kept_outputs * kept_inputs) as u64,
            };
            let share = |whole: u64| {
                let parts = (layer.filters * layer.inputs) as u128;
                (u128::from(whole) * (kept_outputs * kept_inputs) as u128 / parts.max(1)) as u64
            };
            let bias = layer.bias().map_or(0, |_| layer.filters) as u64;
            let kept_bias = layer.bias().map_or(0, |_| kept_outputs) as u64;
            plan.layers.push(LayerPlan {
                path: layer.path.clone(),
                kind: layer.kind,
                filters_before: layer.filters,
                filters_after: kept_outputs,
                connections_before: (layer.filters * inputs) as u64,
                connections_after,
                parameters_before: layer.parameters,
                parameters_after: share(layer.parameters - bias) + kept_bias,
                macs_before: layer.macs,
                macs_after: share(layer.macs),
            });
            if let Some(verdict) = verdicts.get(&layer.path)
                && verdict.kept() < kept_outputs * kept_inputs
            {
                plan.masks.push(mask(network, layer, verdict));
            }
            if let Some(fold) = self.fold_of(network, analysis, layer, verdicts.get(&layer.path), removed) {
                plan.folds.push(fold);
            }
            if let Some(reason) = &layer.not_prunable {
                plan.kept_whole.push(KeptWhole { path: layer.path.clone(), reason: reason.clone() });
            }
            let touched =
                kept_outputs < layer.filters || kept_inputs < layer.inputs || verdicts.contains_key(&layer.path);
            if touched {
                trainable(network, layer, &mut plan.trainable);
            }
        }
        for parameter in network.parameters().iter().filter(|parameter| is_trained(&parameter.path)) {
            let before: u64 = parameter.shape.iter().product::<usize>() as u64;
            let cut = plan.cuts.iter().find(|cut| cut.path == parameter.path);
            let after = cut.map_or(before, |cut| {
                cut.axes.iter().fold(before, |size, axis| size / axis.length.max(1) as u64 * axis.keep.len() as u64)
            });
            plan.parameters_before += before;
            plan.parameters_after += after;
        }
        plan
    }

    fn fold_of(
        &self,
        network: &Network,
        analysis: &Analysis,
        layer: &Layer,
        verdict: Option<&Connections>,
        removed: &BTreeSet<ChannelId>,
    ) -> Option<Fold> {
        let means = analysis.input_means.get(&layer.path).filter(|means| means.len() == layer.inputs)?;
        let gone =
            |input: usize| layer.input_channels().get(input).copied().flatten().is_some_and(|id| removed.contains(&id));
        let inputs: Vec<(usize, f32)> = match self.fold {
            FoldMeans::Off => return None,
            FoldMeans::Connections if verdict.is_some() => means.iter().copied().enumerate().collect(),
            _ => means.iter().copied().enumerate().filter(|(input, _)| gone(*input)).collect(),
        };
        if inputs.is_empty() || layer.groups > 1 || layer.calls > 1 {
            return None;
        }
        let path = |index: usize| network.parameters()[index].path.clone();
        let target = match (layer.bias(), layer.running_mean) {
            (Some(bias), _) => FoldTarget::Bias(path(bias)),
            (None, Some(mean)) => FoldTarget::RunningMean(path(mean)),
            (None, None) => return None,
        };
        Some(Fold {
            layer: layer.path.clone(),
            weight: path(layer.weight()),
            output_axis: layer.kind.output_axis(),
            target,
            inputs,
            coverage: coverage(layer),
            removed_connections_only: self.fold == FoldMeans::Connections,
        })
    }
}

/// Whether a parameter is trained; running statistics are not.
fn is_trained(path: &str) -> bool {
    !(path.ends_with("running_mean") || path.ends_with("running_var"))
}

fn check(network: &Network, policy: &str, ranking: &Ranking) -> Result<(), PruneError> {
    let find = |path: &String| {
        network.layer(path).ok_or_else(|| PruneError::UnknownLayer {
            path: path.clone(),
            available: network.layers().iter().map(|layer| layer.path.clone()).collect(),
        })
    };
    let bad =
        |path: &String, what: String| Err(PruneError::BadRanking { policy: policy.into(), path: path.clone(), what });
    for (path, scores) in &ranking.filters {
        let layer = find(path)?;
        if scores.len() != layer.filters {
            return bad(path, format!("{} scores for {} filters", scores.len(), layer.filters));
        }
        if let Some(at) = scores.iter().position(|score| !score.is_finite()) {
            return bad(path, format!("the score of filter {at} is {}", scores[at]));
        }
    }
    for (path, verdict) in &ranking.connections {
        let layer = find(path)?;
        if layer.groups > 1 {
            return bad(path, "a verdict on the connections of a grouped convolution".into());
        }
        if verdict.shape() != (layer.filters, layer.inputs) {
            return bad(
                path,
                format!("a verdict of shape {:?} for {:?}", verdict.shape(), (layer.filters, layer.inputs)),
            );
        }
    }
    Ok(())
}

/// Removes the connections of removed channels, and the channels without a connection on one side, until nothing changes.
fn close(
    network: &Network,
    groups: &Groups,
    verdicts: &mut BTreeMap<String, Connections>,
    removed: &mut BTreeSet<ChannelId>,
    keep_empty: bool,
) -> Result<(), PruneError> {
    let path = |layer: usize| network.layers()[layer].path.as_str();
    let mut fresh: Vec<ChannelId> = removed.iter().copied().collect();
    loop {
        for id in fresh.drain(..) {
            let Some(channel) = groups.channels.get(&id) else { continue };
            for &(layer, filter) in &channel.made_by {
                if let Some(verdict) = verdicts.get_mut(path(layer)) {
                    (0..verdict.shape().1).for_each(|input| verdict.remove(filter, input));
                }
            }
            for &(layer, input) in &channel.read_by {
                if let Some(verdict) = verdicts.get_mut(path(layer)) {
                    (0..verdict.shape().0).for_each(|output| verdict.remove(output, input));
                }
            }
        }
        if keep_empty || verdicts.is_empty() {
            return Ok(());
        }
        let used: BTreeMap<&str, (Vec<bool>, Vec<bool>)> = verdicts
            .iter()
            .map(|(path, verdict)| {
                let (outputs, inputs) = verdict.shape();
                let mut used = (vec![false; outputs], vec![false; inputs]);
                for output in 0..outputs {
                    for input in 0..inputs {
                        if verdict.keeps(output, input) {
                            used.0[output] = true;
                            used.1[input] = true;
                        }
                    }
                }
                (path.as_str(), used)
            })
            .collect();
        for (&id, channel) in &groups.channels {
            if removed.contains(&id) || channel.pinned.is_some() {
                continue;
            }
            let unfed = channel
                .made_by
                .iter()
                .all(|&(layer, filter)| used.get(path(layer)).is_some_and(|used| !used.0[filter]));
            let unread = !channel.read_by.is_empty()
                && channel
                    .read_by
                    .iter()
                    .all(|&(layer, input)| used.get(path(layer)).is_some_and(|used| !used.1[input]));
            if unfed || unread {
                fresh.push(id);
            }
        }
        if fresh.is_empty() {
            return Ok(());
        }
        removed.extend(fresh.iter().copied());
    }
}

fn cuts(network: &Network, removed: &BTreeSet<ChannelId>) -> Vec<ParameterCut> {
    let mut cuts = Vec::new();
    for (index, parameter) in network.parameters().iter().enumerate() {
        let axes: Vec<AxisCut> = network
            .flow()
            .parameter(index)
            .iter()
            .filter(|axis| axis.channels.iter().any(|id| removed.contains(id)))
            .map(|axis| AxisCut {
                axis: axis.axis,
                length: axis.channels.len(),
                keep: (0..axis.channels.len()).filter(|&k| !removed.contains(&axis.channels[k])).collect(),
            })
            .collect();
        if !axes.is_empty() {
            cuts.push(ParameterCut { path: parameter.path.clone(), axes });
        }
    }
    cuts
}

fn mask(network: &Network, layer: &Layer, verdict: &Connections) -> Mask {
    let (outputs, inputs) = verdict.shape();
    Mask {
        layer: layer.path.clone(),
        parameter: network.parameters()[layer.weight()].path.clone(),
        output_axis: layer.kind.output_axis(),
        inputs,
        keep: (0..outputs)
            .map(|output| (0..inputs).filter(|&input| verdict.keeps(output, input)).map(|input| input as u32).collect())
            .collect(),
    }
}

/// For each kernel element the share of output positions at which it reads inside the input.
fn coverage(layer: &Layer) -> Vec<f32> {
    if layer.kind == LayerKind::Linear {
        return vec![1.0];
    }
    // One factor an axis: the positions are a product of the axes.
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

/// Paths of everything that learns with the layer: weight, bias and the batch normalisation that follows directly.
fn trainable(network: &Network, layer: &Layer, paths: &mut Vec<String>) {
    let path = |index: usize| network.parameters()[index].path.clone();
    let mut add = |path: String| {
        if !paths.contains(&path) {
            paths.push(path);
        }
    };
    add(path(layer.weight()));
    if let Some(bias) = layer.bias() {
        add(path(bias));
    }
    if let Some(mean) = layer.running_mean {
        let norm = path(mean);
        if let Some(norm) = norm.strip_suffix("running_mean") {
            for field in ["gamma", "beta", "training"] {
                add(format!("{norm}{field}"));
            }
        }
    }
}
