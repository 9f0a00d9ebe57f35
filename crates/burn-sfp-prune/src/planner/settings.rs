//! [`Planner`]: the settings of planning, and its steps in order.

use std::sync::Arc;

use burn_sfp_core::Analysis;
use burn_sfp_graph::{ForwardPass, GraphModule, ModuleInput, Network, Omitted};

use super::also::Also;
use super::bias::{BiasCorrection, constant_corrections};
use super::check::{check_analysis, check_earlier, check_not_empty};
use super::close::close;
use super::exclude::Exclude;
use super::held::{self, Report};
use super::layer_rule::{self, LayerRule};
use super::ranked::{Ranked, rank};
use super::write::{Decided, write};
use crate::budget::{Budget, StopRule};
use crate::fit::fit;
use crate::group::{GroupCut, Groups};
use crate::kept::Kept;
use crate::plan::EarlierPruning;
use crate::policy::check_ranking;
use crate::rewrite::PrunedModule;
use crate::score::{Scoring, channel_scores};
use crate::select::{Eligible, candidates, select};
use crate::target::{Rewritten, Target};
use crate::{PolicyContext, PruneError, PrunePlan, RankingPolicy};

/// Makes pruning plans.
///
/// ```
/// use burn_sfp_prune::{Budget, BiasCorrection, Planner};
/// let planner = Planner::new().budget(Budget::Global(0.3)).bias_correction(BiasCorrection::Off).exclude(["stem"]);
/// ```
#[derive(Clone, Debug)]
pub struct Planner {
    budget: Arc<dyn StopRule>,
    bias_correction: BiasCorrection,
    keep_empty: bool,
    group_cut: GroupCut,
    pub(super) scoring: Scoring,
    exclude: Exclude,
    pub(super) layers: Vec<LayerRule>,
    also: Also,
    strict: bool,
    center_layer_norms: bool,
    earlier: Vec<EarlierPruning>,
}

impl Default for Planner {
    fn default() -> Self {
        Self {
            budget: Arc::new(Budget::default()),
            bias_correction: BiasCorrection::default(),
            keep_empty: false,
            group_cut: GroupCut::default(),
            scoring: Scoring::default(),
            exclude: Exclude::default(),
            layers: Vec::new(),
            also: Also::default(),
            strict: false,
            center_layer_norms: true,
            earlier: Vec::new(),
        }
    }
}

impl Planner {
    /// Creates a planner that removes half of the channels of each group and adds the means of removed channels to biases.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many of the scored channels are removed: a [`Budget`], or your own [`StopRule`]. Keep masks over connections
    /// are not affected: every connection that they drop is removed.
    pub fn budget(mut self, rule: impl StopRule + 'static) -> Self {
        self.budget = Arc::new(rule);
        self
    }

    /// Sets what is added to biases in place of removed inputs.
    pub fn bias_correction(mut self, correction: BiasCorrection) -> Self {
        self.bias_correction = correction;
        self
    }

    /// Sets whether filters without a connection left on one side are kept.
    pub fn keep_empty(mut self, keep: bool) -> Self {
        self.keep_empty = keep;
        self
    }

    /// Sets which coordinate is cut first in layers whose filters have two: members of groups and dimensions of heads, or whole ones. If
    /// the module does not follow that cut in some layer, the other one is taken there.
    pub fn group_cut(mut self, cut: GroupCut) -> Self {
        self.group_cut = cut;
        self
    }

    /// Sets whether channels may leave that [`CenteredLayerNorm`](burn_sfp_nn::CenteredLayerNorm)s read, which takes the mean over these
    /// channels out of the parameters that write to them. On by default; without such layers it has no effect.
    ///
    /// ```
    /// use burn_sfp_prune::Planner;
    /// let planner = Planner::new().center_layer_norms(false);
    /// ```
    pub fn center_layer_norms(mut self, center: bool) -> Self {
        self.center_layer_norms = center;
        self
    }

    /// Leaves the layers at these module paths alone, and all layers inside a module: they keep their filters and their incoming
    /// connections, and all layers tied to them (by a residual sum, say) keep their filters too. Their inputs still follow the
    /// layers that produce them. Calls add up.
    ///
    /// A path without a layer makes [`plan`](Planner::plan) return
    /// [`GraphError::UnknownLayer`](burn_sfp_graph::GraphError::UnknownLayer).
    pub fn exclude<S: Into<String>>(mut self, paths: impl IntoIterator<Item = S>) -> Self {
        self.exclude.add_paths(paths);
        self
    }

    /// Leaves the layers whose module path meets a condition alone, as [`exclude`](Planner::exclude) does.
    ///
    /// A condition that no layer meets makes [`plan`](Planner::plan) return [`PruneError::NothingExcluded`].
    ///
    /// ```
    /// use burn::store::PathFilter;
    /// use burn_sfp_prune::Planner;
    /// let filter = PathFilter::new().with_regex(r"^blocks\.\d+\.shortcut$");
    /// let planner = Planner::new().exclude_where(move |path| filter.matches(path));
    /// ```
    pub fn exclude_where(mut self, condition: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.exclude.add_condition(condition);
        self
    }

    /// Turns what a module does not follow into an error. By default such layers are left alone, and the plan says why
    /// ([`PrunePlan::unpruned`]).
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::GraphModule;
    /// # use burn_sfp_prune::{Magnitude, Planner};
    /// #[derive(Module, Debug)]
    /// struct Net { a: Linear, b: Linear, c: Linear, width: usize }
    ///
    /// impl GraphModule for Net {
    ///     type Inputs = Tensor<2>;
    ///     type Outputs = Tensor<2>;
    ///     fn run(&self, x: Tensor<2>) -> Tensor<2> {
    ///         let x = self.b.forward(self.a.forward(x));
    ///         // A stored width: `b` cannot lose nodes.
    ///         let samples = x.dims()[0];
    ///         self.c.forward(x.reshape([samples, 2, self.width]).flatten(1, 2))
    ///     }
    /// }
    /// # let device = Device::flex();
    /// # let linear = |from, to| LinearConfig::new(from, to).init(&device);
    /// let net = Net { a: linear(4, 6), b: linear(6, 8), c: linear(8, 3), width: 4 };
    /// let x = Tensor::zeros([2, 4], &device);
    /// assert!(Planner::new().strict().prune(&net, &x, &Magnitude::l2()).is_err());
    ///
    /// let smaller = Planner::new().prune(&net, &x, &Magnitude::l2())?;
    /// assert_eq!(smaller.model.b.weight.dims(), [3, 8]);
    /// assert!(smaller.plan.unpruned.iter().any(|layer| layer.path == "b" && layer.reason.contains("Reshape")));
    /// # Ok::<(), burn_sfp_prune::PruneError>(())
    /// ```
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Adds a forward pass that the smaller module has to run too: of a training path, of an auxiliary head. `prune` captures it into the
    /// same network as the main one, so that what it needs shrinks with the rest. Calls add up.
    ///
    /// A pass of another type than that of the pruned model makes [`prune`](Planner::prune) return [`PruneError::OtherModel`].
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::GraphModule;
    /// # use burn_sfp_prune::{Magnitude, Planner};
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
    /// let alone = Planner::new().prune(&net, &x, &Magnitude::l2())?;
    /// assert_eq!(alone.plan.unreached, ["auxiliary"]);
    ///
    /// let planner = Planner::new().also(x.clone(), |net: &Net, x| net.auxiliary.forward(net.trunk.forward(x)));
    /// let smaller = planner.prune(&net, &x, &Magnitude::l2())?.model;
    /// assert_eq!((smaller.trunk.weight.dims(), smaller.auxiliary.weight.dims()), ([4, 4], [4, 3]));
    /// # Ok::<(), burn_sfp_prune::PruneError>(())
    /// ```
    pub fn also<M: GraphModule, I, O>(mut self, input: I, forward: impl Fn(&M, I) -> O + Send + Sync + 'static) -> Self
    where
        I: ModuleInput + Send + Sync + 'static,
        O: ModuleInput + 'static,
    {
        self.also.add(ForwardPass::new(input, forward));
        self
    }

    /// Says that the model has been pruned before, by this plan. The new plan then knows how the model came to its shapes, and
    /// [`load_pruned`](crate::load_pruned) can make the model from a freshly built original. It changes nothing else.
    ///
    /// A model with other shapes than the plan leaves makes [`plan`](Planner::plan) return [`PruneError::ModelMismatch`].
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::GraphModule;
    /// # use burn_sfp_prune::{Magnitude, Planner};
    /// # #[derive(Module, Debug)]
    /// # struct Mlp { a: Linear, b: Linear }
    /// # impl GraphModule for Mlp {
    /// #     type Inputs = Tensor<2>;
    /// #     type Outputs = Tensor<2>;
    /// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.b.forward(self.a.forward(x)) }
    /// # }
    /// # let device = Device::flex();
    /// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
    /// # let x = Tensor::<2>::ones([1, 4], &device);
    /// let first = Planner::new().prune(&mlp, &x, &Magnitude::l2())?;
    /// // Train `first.model`, then prune it once more:
    /// let second = Planner::new().after(&first.plan).prune(&first.model, &x, &Magnitude::l2())?;
    /// assert_eq!(second.model.a.weight.dims(), [4, 2]);
    /// assert_eq!(second.plan.earlier.len(), 1);
    /// # Ok::<(), burn_sfp_prune::PruneError>(())
    /// ```
    pub fn after(mut self, plan: &PrunePlan) -> Self {
        self.earlier = plan.with_earlier();
        self
    }

    /// Makes the plan. Policies that rank by weights alone need no analysis and accept `None`.
    ///
    /// A layer whose filters have to stay is no error: it is listed in [`PrunePlan::unpruned`] with the reason. If all layers have
    /// to stay (every channel is an output of the network, say), the plan removes nothing.
    ///
    /// Unequal parts of a split shrink alike in such a plan; [`prune`](Planner::prune), which has the module, finds out whether each can
    /// shrink by itself.
    ///
    /// The network may be that of the logits, which [`analyze_network`](burn_sfp_core::analyze_network) returns, or a capture of the
    /// whole forward pass of a module that returns more.
    ///
    /// # Errors
    /// - [`PruneError::Config`] if a setting of the budget is out of range.
    /// - [`PruneError::ModelMismatch`] if the analysis is of another model.
    /// - [`GraphError::UnknownLayer`](burn_sfp_graph::GraphError::UnknownLayer) or [`PruneError::NothingExcluded`] if an excluded
    ///   layer does not exist.
    /// - [`PruneError::BudgetNotMet`] if too much has to stay for a budget in units of cost.
    /// - [`PruneError::BadRanking`] if the policy's ranking does not fit the network.
    /// - [`PruneError::WouldEmpty`] if a layer would lose all its filters.
    /// - Any error of the policy or of the stop rule.
    pub fn plan<'a>(
        &self,
        network: &'a Network,
        analysis: impl Into<Option<&'a Analysis>>,
        policy: &dyn RankingPolicy,
    ) -> Result<PrunePlan, PruneError> {
        let analysis = analysis.into();
        self.check()?;
        if let Some(analysis) = analysis {
            check_analysis(network, analysis)?;
        }
        let ranking = policy.rank(&PolicyContext::new(network, analysis))?;
        let kept = if self.strict { Kept::default() } else { Kept::of(network) };
        self.plan_ranked(network, analysis, &Ranked { policy: &policy.name(), ranking: &ranking }, &kept)
    }

    /// Makes the plan from a ranking, which may come from the network of the logits alone.
    fn plan_ranked(
        &self,
        network: &Network,
        analysis: Option<&Analysis>,
        &Ranked { policy, ranking }: &Ranked<'_>,
        kept: &Kept,
    ) -> Result<PrunePlan, PruneError> {
        let _span = tracing::info_span!("plan", policy).entered();
        self.check()?;
        check_ranking(network, policy, ranking)?;
        let mut excluded = self.exclude.resolve(network)?;
        if !self.center_layer_norms {
            excluded.add_channels(network.centered_channels());
        }
        let stays = excluded.channels();
        let groups = Groups::of_kept(network, kept);
        let scores = channel_scores(network, &groups, ranking, self.scoring);
        let bounds = layer_rule::bounds(&self.layers, network, &groups)?;
        let is_excluded = |path: &str| excluded.contains(path);
        let normalizer = self.scoring.normalizer.or(ranking.normalizer).unwrap_or_default();
        let (blocks, kept_blocks) = candidates(network, &groups, ranking, normalizer, (&is_excluded, kept));
        let eligible = Eligible {
            scores: &scores,
            cut: self.group_cut,
            excluded: &stays,
            kept,
            bounds: &bounds,
            blocks: &blocks,
            policy,
        };
        let (mut channels, left_out) = select(network, &groups, &eligible, &*self.budget)?;
        let mut omitted = Omitted::default();
        left_out.iter().for_each(|&block| omitted.add(&network.blocks()[block]));
        let mut masks = ranking.connections.clone();
        masks.retain(|path, _| !excluded.contains(path));
        close(network, &groups, &mut masks, &mut channels, &stays, self.keep_empty);
        let removed = network.flow().closed(&channels);
        check_not_empty(network, policy, &removed)?;
        let correction = self.bias_correction;
        let mut plan = write(&Decided {
            network,
            analysis,
            policy,
            excluded: &excluded,
            kept,
            masks: &masks,
            removed: &removed,
            omitted: &omitted,
            correction,
        });
        plan.bias_corrections.extend(constant_corrections(correction, network, &removed, &omitted)?);
        plan.kept_blocks = kept_blocks;
        plan.groups = held::groups(&Report {
            network,
            groups: &groups,
            rule: &*self.budget,
            cut: self.group_cut,
            scores: &scores,
            ranked: &ranking.filters,
            excluded: &excluded,
            kept,
            bounds: &bounds,
            removed: &channels,
        });
        // Nothing is to be said of what is gone.
        plan.groups
            .retain(|group| group.layers.iter().any(|layer| plan.blocks.iter().all(|block| !block.holds(layer))));
        plan.channels = channels.into_iter().collect();
        plan.measured_on = match analysis {
            Some(analysis) if plan.bias_corrections.iter().any(|corrected| !corrected.constants) => {
                analysis.fingerprint.clone()
            }
            _ => network.fingerprint().clone(),
        };
        plan.earlier = self.earlier.clone();
        check_earlier(&plan)?;
        plan.seal();
        Ok(plan)
    }

    /// Checks the settings of the budget and of the rules for layers.
    pub(crate) fn check(&self) -> Result<(), PruneError> {
        self.budget.check()?;
        layer_rule::check(&self.layers)
    }

    /// Returns the forward passes besides the main one.
    pub(crate) fn passes<M: GraphModule>(&self) -> Result<Vec<ForwardPass<M>>, PruneError> {
        self.also.of()
    }

    /// Plans from a ranking and rewrites. What the module does not follow is left alone, unless the planner is strict.
    pub(crate) fn prune_ranked<M: GraphModule>(
        &self,
        network: &Network,
        mut target: Target<'_, M>,
        analysis: Option<&Analysis>,
        ranked: &Ranked<'_>,
    ) -> Result<PrunedModule<M>, PruneError> {
        let plan = self.fitting_plan(network, &mut target, analysis, ranked)?;
        Ok(PrunedModule { model: target.into_smaller()?, plan })
    }

    /// Returns a plan that the module follows, with the smaller module made.
    fn fitting_plan(
        &self,
        network: &Network,
        module: &mut dyn Rewritten,
        analysis: Option<&Analysis>,
        ranked: &Ranked<'_>,
    ) -> Result<PrunePlan, PruneError> {
        fit(network, module, self.strict, &|network, kept| self.plan_ranked(network, analysis, ranked, kept))
    }

    /// Captures a module, plans without an analysis and rewrites: one call for policies that rank by weights alone, and for
    /// modules that are no classifiers.
    ///
    /// Layers that the module does not follow (a width that it stores, a plain field that cannot be set) are left alone with what is tied
    /// to them; [`PrunePlan::unpruned`] names them and the reason. [`strict`](Planner::strict) makes them an error.
    ///
    /// The smaller module is captured once more on the same input, to make sure that it runs the graph that the plan expects. If a
    /// module runs other operations on other inputs (by the size of the batch, or by whether an input is there), only the graph of
    /// these inputs is known.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::GraphModule;
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
    /// Those of [`Network::capture`] and [`plan`](Planner::plan), and [`PruneError::OtherModel`]. A strict planner also returns those of
    /// [`PrunePlan::apply`] and [`PrunePlan::verify`].
    pub fn prune<M: GraphModule>(
        &self,
        model: &M,
        inputs: &M::Inputs,
        policy: &dyn RankingPolicy,
    ) -> Result<PrunedModule<M>, PruneError> {
        self.check()?;
        let also = self.passes()?;
        let network = Network::capture_passes(model, inputs, &also)?;
        let ranking = rank(policy, &network, None)?;
        let ranked = Ranked { policy: &policy.name(), ranking: &ranking };
        self.prune_ranked(&network, Target::new(model, inputs, &also), None, &ranked)
    }
}
