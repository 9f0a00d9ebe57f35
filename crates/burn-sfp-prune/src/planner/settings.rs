//! [`Planner`]: the settings of planning, and its steps in order.

use std::collections::BTreeSet;
use std::sync::Arc;

use burn_sfp_core::Analysis;
use burn_sfp_graph::{ChannelId, GraphModule, Network};

use super::bias::{BiasCorrection, constant_corrections};
use super::check::{check_analysis, check_ranking};
use super::close::close;
use super::exclude::Exclude;
use super::write::{Decided, write};
use crate::budget::{Budget, StopRule};
use crate::group::{GroupCut, Groups};
use crate::rewrite::{PrunedModule, carry_out};
use crate::score::channel_scores;
use crate::select::{Eligible, select};
use crate::{PolicyContext, PruneError, PrunePlan, Ranking, RankingPolicy};

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
    exclude: Exclude,
}

impl Default for Planner {
    fn default() -> Self {
        Self {
            budget: Arc::new(Budget::default()),
            bias_correction: BiasCorrection::default(),
            keep_empty: false,
            group_cut: GroupCut::default(),
            exclude: Exclude::default(),
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

    /// Sets which coordinate is cut in layers whose filters have two: members of groups and dimensions of heads, or whole ones.
    pub fn group_cut(mut self, cut: GroupCut) -> Self {
        self.group_cut = cut;
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

    /// Makes the plan. Policies that rank by weights alone need no analysis and accept `None`.
    ///
    /// A layer whose filters have to stay is no error: it is listed in [`PrunePlan::unpruned`] with the reason. If all layers have
    /// to stay (every channel is an output of the network, say), the plan removes nothing.
    ///
    /// The network may be that of the logits, which [`analyze_network`](burn_sfp_core::analyze_network) returns, or a capture of the
    /// whole forward pass of a module that returns more.
    ///
    /// # Errors
    /// - [`PruneError::Config`] if a setting of the budget is out of range.
    /// - [`PruneError::ModelMismatch`] if the analysis is of another model.
    /// - [`GraphError::UnknownLayer`](burn_sfp_graph::GraphError::UnknownLayer) or [`PruneError::NothingExcluded`] if an excluded
    ///   layer does not exist.
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
        self.budget.check()?;
        if let Some(analysis) = analysis {
            check_analysis(network, analysis)?;
        }
        let ranking = policy.rank(&PolicyContext { network, analysis })?;
        self.plan_ranked(network, analysis, &policy.name(), ranking)
    }

    /// Makes the plan from a ranking, which may come from the network of the logits alone.
    pub(crate) fn plan_ranked(
        &self,
        network: &Network,
        analysis: Option<&Analysis>,
        policy: &str,
        mut ranking: Ranking,
    ) -> Result<PrunePlan, PruneError> {
        self.budget.check()?;
        check_ranking(network, policy, &ranking)?;
        let excluded = self.exclude.resolve(network)?;
        let stays = excluded.channels();
        let groups = Groups::of(network);
        let scores = channel_scores(network, &groups, &ranking);
        let eligible = Eligible { scores: &scores, cut: self.group_cut, excluded: &stays };
        let mut channels = select(network, &groups, &eligible, &*self.budget)?;
        let mut masks = std::mem::take(&mut ranking.connections);
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
            masks: &masks,
            removed: &removed,
            correction,
        });
        plan.bias_corrections.extend(constant_corrections(correction, network, &removed)?);
        plan.channels = channels.into_iter().collect();
        Ok(plan)
    }

    /// Captures a module, plans without an analysis and rewrites: one call for policies that rank by weights alone, and for
    /// modules that are no classifiers.
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
    /// Those of [`Network::capture`], [`plan`](Planner::plan) and [`PrunePlan::apply`], and
    /// [`GraphError::GraphMismatch`](burn_sfp_graph::GraphError::GraphMismatch) if a size or factor in the module does not follow
    /// its shapes.
    pub fn prune<M: GraphModule>(
        &self,
        model: &M,
        inputs: &M::Inputs,
        policy: &dyn RankingPolicy,
    ) -> Result<PrunedModule<M>, PruneError> {
        let network = Network::capture(model, inputs)?;
        let plan = self.plan(&network, None, policy)?;
        carry_out(&network, plan, model, inputs)
    }
}

fn check_not_empty(network: &Network, policy: &str, removed: &BTreeSet<ChannelId>) -> Result<(), PruneError> {
    let emptied = network.layers().iter().find(|layer| {
        !layer.output_channels().is_empty() && layer.output_channels().iter().all(|id| removed.contains(id))
    });
    match emptied {
        None => Ok(()),
        Some(layer) => Err(PruneError::WouldEmpty {
            path: layer.path.clone(),
            filters: layer.filters,
            asked: format!("policy {policy}"),
        }),
    }
}
