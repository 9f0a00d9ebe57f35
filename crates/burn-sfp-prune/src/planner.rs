//! From a policy's ranking to a plan that is closed under the network's dependencies.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use burn_sfp_core::network::{ChannelId, Layer, Network, Parameter};
use burn_sfp_core::{Analysis, GraphModule};

use crate::group::{Blocks, Groups};
use crate::plan::{AxisCut, Fold, FoldTarget, KeptWhole, LayerPlan, Mask, PLAN_VERSION, ParameterCut, Scale};
use crate::rewrite::{Smaller, carry_out};
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
    /// Needs no samples: a removed filter counts as silenced, weights and bias at zero, and what its normalisation and activation
    /// make of that, a constant, goes into the biases of the layers that read it, where that is exact: not where zero padding
    /// cuts kernels off at the border (unless the constant is zero). Elsewhere it counts as zero, and everywhere in networks with
    /// root-mean-square normalisations that lose channels. Not from the paper.
    Constants,
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
    blocks: Blocks,
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

    /// Which coordinate of filters goes where they have two (members of groups, dimensions of heads; or whole ones).
    pub fn blocks(mut self, blocks: Blocks) -> Self {
        self.blocks = blocks;
        self
    }

    /// Makes the plan. Policies that rank by weights alone need no analysis: `None` will do for them.
    ///
    /// Layers whose filters have to stay are no error: they stand in [`PrunePlan::kept_whole`] with the reason. Where that goes
    /// for all layers (every channel is an output of the network, say) the plan removes nothing.
    ///
    /// # Errors
    /// [`PruneError::OtherModel`] where the analysis is of another model, [`PruneError::WouldEmpty`] where a layer would
    /// lose all filters, [`PruneError::BadRanking`] where the policy's ranking does not fit, and the policy's own.
    pub fn plan<'a>(
        &self,
        network: &'a Network,
        analysis: impl Into<Option<&'a Analysis>>,
        policy: &dyn RankingPolicy,
    ) -> Result<PrunePlan, PruneError> {
        let analysis = analysis.into();
        if analysis.is_some_and(|analysis| network.model_shapes() != analysis.model) {
            return Err(PruneError::OtherModel { what: "its parameters are not those of the analysis".into() });
        }
        let mut ranking = policy.rank(&PolicyContext { network, analysis })?;
        check(network, &policy.name(), &ranking)?;
        let groups = Groups::of(network);
        let mut atoms = if ranking.filters.is_empty() {
            BTreeSet::new()
        } else {
            self.budget.choose(network, &groups, &ranking, self.blocks)?
        };
        let mut verdicts = std::mem::take(&mut ranking.connections);
        close(network, &groups, &mut verdicts, &mut atoms, self.keep_empty)?;
        let removed = network.flow().closed(&atoms);
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
        let constants = match self.fold {
            // A root-mean-square normalisation counts removed channels as zero, so everything does.
            FoldMeans::Constants if network.scales(&removed).is_empty() => network.constants(&removed)?,
            _ => BTreeMap::new(),
        };
        let mut plan = self.write(network, analysis, &policy.name(), &verdicts, &removed);
        plan.folds.extend(constants.into_iter().filter_map(|(layer, inputs)| {
            let layer = &network.layers()[layer];
            Some(Fold {
                coverage: vec![1.0; layer.kernel().iter().product::<usize>().max(1)],
                constants: true,
                ..empty_fold(network, layer, inputs)?
            })
        }));
        plan.channels = atoms.into_iter().collect();
        Ok(plan)
    }

    /// Captures a module, plans without an analysis and rewrites: one call for policies that rank by weights alone, and for
    /// modules that are no classifiers. The smaller module is captured once more, on the same input, to make sure that it
    /// runs the graph that the plan foresaw. Of a module that runs other operations on other inputs (by the size of the batch, or
    /// whether an input is there) only the graph of these inputs is known.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_core::GraphModule;
    /// # use burn_sfp_prune::{Budget, Magnitude, Planner};
    /// #[derive(Module, Debug)]
    /// struct Mlp { a: Linear, b: Linear }
    /// impl GraphModule for Mlp {
    ///     type Inputs = Tensor<2>;
    ///     type Outputs = Tensor<2>;
    ///     fn run(&self, x: Tensor<2>) -> Tensor<2> {
    ///         self.b.forward(burn::tensor::activation::relu(self.a.forward(x)))
    ///     }
    /// }
    /// let device = Device::flex();
    /// let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
    /// let planner = Planner::new().budget(Budget::PerLayer(0.25));
    /// let smaller = planner.prune(&mlp, &Tensor::zeros([1, 4], &device), &Magnitude::l2())?;
    /// assert_eq!(smaller.model.a.weight.dims(), [4, 6]);
    /// # Ok::<(), burn_sfp_prune::PruneError>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Network::capture`], [`plan`](Planner::plan) and [`PrunePlan::apply`], and
    /// [`SfpError::NotAsPlanned`](burn_sfp_core::SfpError::NotAsPlanned) where a number in the module does not follow its
    /// shapes.
    pub fn prune<M: GraphModule>(
        &self,
        model: &M,
        inputs: &M::Inputs,
        policy: &dyn RankingPolicy,
    ) -> Result<Smaller<M>, PruneError> {
        let network = Network::capture(model, inputs)?;
        let plan = self.plan(&network, None, policy)?;
        carry_out(&network, plan, model, inputs)
    }

    fn write(
        &self,
        network: &Network,
        analysis: Option<&Analysis>,
        policy: &str,
        verdicts: &BTreeMap<String, Connections>,
        removed: &BTreeSet<ChannelId>,
    ) -> PrunePlan {
        let gone = |id: &ChannelId| removed.contains(id);
        let (macs_after, layer_macs) = network.all_macs_without(removed);
        let mut plan = PrunePlan {
            version: PLAN_VERSION,
            policy: policy.to_string(),
            model: network.model_shapes(),
            channels: Vec::new(),
            cuts: cuts(network, removed),
            masks: Vec::new(),
            folds: Vec::new(),
            fields: network.field_edits(removed),
            scales: network
                .scales(removed)
                .into_iter()
                .map(|(index, factor)| Scale { path: network.parameters()[index].path.clone(), factor })
                .collect(),
            layers: Vec::new(),
            kept_whole: Vec::new(),
            trainable: Vec::new(),
            parameters_before: 0,
            parameters_after: 0,
            macs_before: network.macs(),
            macs_after,
        };
        let sizes_after = sizes_after(network, &plan.cuts);
        let mut trained = Trainable::default();
        for (layer, layer_macs) in network.layers().iter().zip(layer_macs) {
            let kept_outputs = layer.filters - layer.output_channels().iter().filter(|id| gone(id)).count();
            let kept_inputs = layer.inputs - layer.input_channels().iter().flatten().filter(|id| gone(id)).count();
            let kernel = layer.kernel().iter().product::<usize>().max(1) as u64;
            let size = |parameter: usize| network.parameters()[parameter].shape.iter().product::<usize>() as u64;
            let size_after = |parameter: usize| sizes_after[parameter];
            let verdict = verdicts.get(&layer.path);
            plan.layers.push(LayerPlan {
                path: layer.path.clone(),
                kind: layer.kind,
                weight: network.parameters()[layer.weight()].path.clone(),
                bias: layer.bias().map(|bias| network.parameters()[bias].path.clone()),
                filters_before: layer.filters,
                filters_after: kept_outputs,
                connections_before: size(layer.weight()) / kernel,
                connections_after: verdict.map_or(size_after(layer.weight()) / kernel, |verdict| verdict.kept() as u64),
                parameters_before: layer.parameters,
                parameters_after: size_after(layer.weight()) + layer.bias().map_or(0, size_after),
                macs_before: layer.macs,
                macs_after: layer_macs,
            });
            if let Some(verdict) = verdict
                && verdict.kept() < kept_outputs * kept_inputs
            {
                plan.masks.push(mask(network, layer, verdict));
            }
            let fold = analysis.and_then(|analysis| self.fold_of(network, analysis, layer, verdict, removed));
            plan.folds.extend(fold);
            if let Some(reason) = &layer.not_prunable {
                plan.kept_whole.push(KeptWhole { path: layer.path.clone(), reason: reason.clone() });
            }
            if kept_outputs < layer.filters || kept_inputs < layer.inputs || verdict.is_some() {
                trained.add_layer(network, layer);
            }
        }
        plan.trainable = trained.paths;
        for (index, parameter) in network.parameters().iter().enumerate().filter(|(_, p)| is_trained(&p.path)) {
            plan.parameters_before += parameter.shape.iter().product::<usize>() as u64;
            plan.parameters_after += sizes_after[index];
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
            FoldMeans::Off | FoldMeans::Constants => return None,
            FoldMeans::Connections if verdict.is_some() => means.iter().copied().enumerate().collect(),
            _ => means.iter().copied().enumerate().filter(|(input, _)| gone(*input)).collect(),
        };
        if inputs.is_empty() || layer.groups > 1 || layer.calls > 1 {
            return None;
        }
        Some(Fold {
            coverage: coverage(layer),
            removed_connections_only: self.fold == FoldMeans::Connections,
            ..empty_fold(network, layer, inputs)?
        })
    }
}

/// A fold of these inputs into the layer's bias or the running mean behind it, `None` where it has neither.
fn empty_fold(network: &Network, layer: &Layer, inputs: Vec<(usize, f32)>) -> Option<Fold> {
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
        coverage: Vec::new(),
        constants: false,
        removed_connections_only: false,
    })
}

/// Whether a parameter is trained; running statistics are not.
fn is_trained(path: &str) -> bool {
    !(path.ends_with("running_mean") || path.ends_with("running_var"))
}

fn check(network: &Network, policy: &str, ranking: &Ranking) -> Result<(), PruneError> {
    let layers: HashMap<&str, &Layer> = network.layers().iter().map(|layer| (layer.path.as_str(), layer)).collect();
    let unknown = |path: &String| PruneError::UnknownLayer {
        path: path.clone(),
        available: network.layers().iter().map(|layer| layer.path.clone()).collect(),
    };
    let find = |path: &String| layers.get(path.as_str()).copied().ok_or_else(|| unknown(path));
    let bad =
        |path: &String, what: String| Err(PruneError::BadRanking { policy: policy.into(), path: path.clone(), what });
    for (path, scores) in &ranking.filters {
        let units = match network.heads_at(path) {
            Some(heads) => heads.heads,
            None => find(path)?.filters,
        };
        if scores.len() != units {
            return bad(path, format!("{} scores for {units} filters", scores.len()));
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
    if verdicts.is_empty() {
        return Ok(());
    }
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
        if keep_empty {
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
            .map(|axis| AxisCut {
                axis: axis.axis,
                length: axis.channels.len(),
                keep: (0..axis.channels.len()).filter(|&k| !removed.contains(&axis.channels[k])).collect(),
            })
            .filter(|cut| cut.keep.len() < cut.length)
            .collect();
        if !axes.is_empty() {
            cuts.push(ParameterCut { path: parameter.path.clone(), axes });
        }
    }
    cuts
}

/// Numbers in each parameter after the cuts, which are in the order of the parameters.
fn sizes_after(network: &Network, cuts: &[ParameterCut]) -> Vec<u64> {
    let mut cuts = cuts.iter().peekable();
    let size = |parameter: &Parameter| {
        let mut shape = parameter.shape.clone();
        let cut = cuts.next_if(|cut| cut.path == parameter.path);
        cut.into_iter().flat_map(|cut| &cut.axes).for_each(|axis| shape[axis.axis] = axis.keep.len());
        shape.iter().product::<usize>() as u64
    };
    network.parameters().iter().map(size).collect()
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
    if layer.kernel().is_empty() {
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

/// Paths of everything that learns with pruned layers.
#[derive(Default)]
struct Trainable {
    paths: Vec<String>,
    seen: HashSet<String>,
}

impl Trainable {
    fn add(&mut self, path: String) {
        if self.seen.insert(path.clone()) {
            self.paths.push(path);
        }
    }

    /// Weight, bias and the batch normalisation that follows directly.
    fn add_layer(&mut self, network: &Network, layer: &Layer) {
        let path = |index: usize| network.parameters()[index].path.clone();
        self.add(path(layer.weight()));
        if let Some(bias) = layer.bias() {
            self.add(path(bias));
        }
        let norm = layer.running_mean.map(path);
        if let Some(norm) = norm.as_deref().and_then(|mean| mean.strip_suffix("running_mean")) {
            for field in ["gamma", "beta", "training"] {
                self.add(format!("{norm}{field}"));
            }
        }
    }
}
