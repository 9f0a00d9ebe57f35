//! [`RankingPolicy`], the trait of all policies, and the [`Ranking`] that they return.

use std::collections::BTreeMap;

use burn_sfp_graph::Layer;

use super::connections::Connections;
use super::context::PolicyContext;
use crate::PruneError;
use crate::evidence::Needs;
use crate::normalize::Normalizer;

/// A pruning policy: decides what is worth keeping, from the analysis, the graph and the weights.
///
/// To add a policy, implement this trait for a struct with the policy's settings. [`PolicyContext`] holds what a policy can
/// consult, [`Ranking`] what it returns: a score for each filter of each layer that may be pruned, a keep mask over connections,
/// or both. Which filters are removed then, and how many, is no concern of the policy.
///
/// This policy scores a filter by how many labels it recognises:
///
/// ```
/// use burn_sfp_prune::{PolicyContext, PruneError, Ranking, RankingPolicy};
///
/// struct MostLabels;
///
/// impl RankingPolicy for MostLabels {
///     fn name(&self) -> String { "most labels".into() }
///     fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
///         let mut ranking = Ranking::default();
///         for layer in context.prunable_layers() {
///             if let Some(found) = context.analysis_of(layer) {
///                 let scores = found.performance.iter().map(|filter| filter.labels().len() as f64).collect();
///                 ranking.filters.insert(layer.path.clone(), scores);
///             }
///         }
///         Ok(ranking)
///     }
/// }
/// ```
///
/// A policy with errors of its own returns them by [`PruneError::policy`]. They come back unchanged as the source of
/// [`PruneError::Policy`]:
///
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::prelude::*;
/// use burn_sfp_graph::GraphModule;
/// use burn_sfp_prune::{Planner, PolicyContext, PruneError, Ranking, RankingPolicy};
///
/// /// Scores from a text such as `1.5, 0.2, 3`.
/// struct FromText(&'static str);
///
/// impl RankingPolicy for FromText {
///     fn name(&self) -> String { "from text".into() }
///     fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
///         let mut ranking = Ranking::default();
///         for layer in context.prunable_layers() {
///             let scores = self.0.split(',').map(|score| score.trim().parse::<f64>()).collect::<Result<Vec<f64>, _>>();
///             let scores = scores.map_err(|error| PruneError::policy(self.name(), error))?;
///             ranking.filters.insert(layer.path.clone(), scores);
///         }
///         Ok(ranking)
///     }
/// }
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> {
/// #         self.b.forward(burn::tensor::activation::relu(self.a.forward(x)))
/// #     }
/// # }
/// # let device = Device::flex();
/// # let mlp = Mlp { a: LinearConfig::new(4, 3).init(&device), b: LinearConfig::new(3, 2).init(&device) };
/// let x = Tensor::zeros([1, 4], &device);
/// assert_eq!(Planner::new().prune(&mlp, &x, &FromText("1.5, 0.2, 3"))?.model.a.weight.dims(), [4, 2]);
///
/// let Err(PruneError::Policy { policy, source }) = Planner::new().prune(&mlp, &x, &FromText("1.5, none, 3")) else {
///     panic!("`none` is no score");
/// };
/// assert_eq!(policy, "from text");
/// assert!(source.is::<std::num::ParseFloatError>());
/// # Ok::<(), PruneError>(())
/// ```
pub trait RankingPolicy {
    /// Returns the name of the policy for plans, reports and errors.
    fn name(&self) -> String;

    /// Returns which passes over the calibration data the policy needs besides the analysis; none by default.
    ///
    /// [`Pruner`](crate::Pruner) makes them before it calls [`rank`](RankingPolicy::rank), and [`Evidence::gather`](crate::Evidence::gather)
    /// does for a [`Planner`](crate::Planner). A policy around another one passes on what that one needs.
    ///
    /// This policy scores a filter by the mean of its output:
    /// ```
    /// use burn_sfp_prune::{Needs, PolicyContext, PruneError, Ranking, RankingPolicy};
    ///
    /// struct LargestMean;
    ///
    /// impl RankingPolicy for LargestMean {
    ///     fn name(&self) -> String { "largest mean".into() }
    ///     fn needs(&self) -> Needs { Needs::none().outputs() }
    ///     fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
    ///         let evidence = context.require_evidence(&self.name(), self.needs())?;
    ///         let mut ranking = Ranking::default();
    ///         for layer in context.prunable_layers() {
    ///             if let Some(found) = evidence.outputs.get(&layer.path) {
    ///                 ranking.filters.insert(layer.path.clone(), found.mean.clone());
    ///             }
    ///         }
    ///         Ok(ranking)
    ///     }
    /// }
    /// ```
    fn needs(&self) -> Needs {
        Needs::none()
    }

    /// Scores filters, makes keep masks over connections, or both.
    ///
    /// # Errors
    /// [`PruneError::NeedsAnalysis`] or [`PruneError::NotAnalyzed`] if the policy lacks an analysis,
    /// [`GraphError::UnknownLayer`](burn_sfp_graph::GraphError::UnknownLayer) if it was told a layer that does not exist, and
    /// any error of the policy's own as [`PruneError::Policy`].
    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError>;
}

impl<P: RankingPolicy + ?Sized> RankingPolicy for &P {
    fn name(&self) -> String {
        (**self).name()
    }
    fn needs(&self) -> Needs {
        (**self).needs()
    }
    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        (**self).rank(context)
    }
}

impl<P: RankingPolicy + ?Sized> RankingPolicy for Box<P> {
    fn name(&self) -> String {
        (**self).name()
    }
    fn needs(&self) -> Needs {
        (**self).needs()
    }
    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        (**self).rank(context)
    }
}

/// What a policy returns: scores of filters, keep masks over connections, or both. Start from
/// `Ranking::default()`, so that fields added later do no harm.
#[derive(Clone, Debug, Default)]
pub struct Ranking {
    /// For each layer by module path, a finite score for each of its filters; filters with the lowest scores are removed first.
    ///
    /// Scores of different layers are compared after division by the mean of their layer (see [`Normalizer`] for other ways), and
    /// filters that are tied together (by a residual sum, say) by the mean of theirs (see [`Reduction`](crate::Reduction)). A layer
    /// without scores keeps its filters, and so do all layers tied to them.
    ///
    /// The path of [`Heads`](burn_sfp_graph::Heads) may have a score for each head. When whole heads are removed
    /// ([`GroupCut::WholeGroups`](crate::GroupCut::WholeGroups)), these scores alone rank them; without them a head is compared
    /// by its nodes in the layers of queries, keys and values, tied together as above.
    pub filters: BTreeMap<String, Vec<f64>>,
    /// For each layer by module path, which of its incoming connections stay. A layer without a keep mask keeps them all.
    pub connections: BTreeMap<String, Connections>,
    /// How scores of different layers are made comparable, unless the user says otherwise
    /// ([`Planner::normalizer`](crate::Planner::normalizer)). `None` is [`Normalizer::Mean`]; a policy whose scores are comparable
    /// as they are says `Some(Normalizer::None)`.
    pub normalizer: Option<Normalizer>,
    /// What whole residual blocks are worth beside each other, by module path ([`Network::blocks`](burn_sfp_graph::Network::blocks));
    /// blocks with the lowest scores are left out first. A block without a score stays. See [`WithBlocks`](crate::WithBlocks) for how
    /// blocks and channels are compared.
    pub blocks: BTreeMap<String, f64>,
}

impl Ranking {
    /// Ranks the prunable layers by the scores of their filters. Layers without scores, or with another number of them than filters, are left
    /// out.
    pub(super) fn of_layers(context: &PolicyContext<'_>, scores: impl Fn(&Layer) -> Option<Vec<f64>>) -> Self {
        let mut ranking = Self::default();
        for layer in context.prunable_layers() {
            if let Some(scores) = scores(layer).filter(|scores| scores.len() == layer.filters) {
                ranking.filters.insert(layer.path.clone(), scores);
            }
        }
        ranking
    }
}
