//! [`Pruner`]: analysis, plan and rewriting in one call.

use std::time::Instant;

use burn_sfp_core::{Analysis, AnalyzeConfig, Calibration, Progress, SfpError, SfpModule, Silent, analyze_network};

use crate::group::Blocks;
use crate::plan::PlanSummary;
use crate::rewrite::{Smaller, carry_out};
use crate::{
    Afcc, Budget, FoldMeans, Planner, PruneError, PrunePlan, RankingPolicy, Sparse, SparseConfig, SparseLayer, sparsify,
};

/// Analyses a model over calibration data and prunes it; the crate's page has an example.
pub struct Pruner<'a, C: ?Sized> {
    calibration: &'a C,
    policy: Box<dyn RankingPolicy + 'a>,
    config: AnalyzeConfig,
    planner: Planner,
    sparse: Option<SparseConfig>,
    progress: &'a dyn Progress,
}

/// A pruned model and how it came about.
#[derive(Clone, Debug)]
pub struct Pruned<M> {
    /// The smaller model, of the user's own type.
    pub model: M,
    /// What was removed.
    pub plan: PrunePlan,
    /// What became of layers that lack connections, where [`Pruner::sparse`] asked for it.
    pub sparse: Vec<SparseLayer>,
    /// What the filters recognise.
    pub analysis: Analysis,
    /// Seconds for making the plan and for rewriting.
    pub seconds: (f64, f64),
}

impl<M> Pruned<M> {
    /// A table: for each layer filters, connections, parameters and MACs, before and after.
    pub fn summary(&self) -> PlanSummary<'_> {
        self.plan.summary()
    }
}

impl<'a, C: ?Sized> Pruner<'a, C> {
    /// Prunes with AFCC over these labelled batches, until other settings are made.
    pub fn new(calibration: &'a C) -> Self {
        Self {
            calibration,
            policy: Box::new(Afcc::new()),
            config: AnalyzeConfig::new(),
            planner: Planner::new(),
            sparse: None,
            progress: &Silent,
        }
    }

    /// What is worth keeping.
    pub fn policy(mut self, policy: impl RankingPolicy + 'a) -> Self {
        self.policy = Box::new(policy);
        self
    }

    /// The share of each layer's scored filters that goes; short for [`Budget::PerLayer`].
    pub fn ratio(self, ratio: f64) -> Self {
        self.budget(Budget::PerLayer(ratio))
    }

    /// How many of the scored filters go.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.planner = self.planner.budget(budget);
        self
    }

    /// Which mean activations are folded into biases.
    pub fn fold(mut self, fold: FoldMeans) -> Self {
        self.planner = self.planner.fold(fold);
        self
    }

    /// Which coordinate of filters goes where they have two; see [`Planner::blocks`].
    pub fn blocks(mut self, blocks: Blocks) -> Self {
        self.planner = self.planner.blocks(blocks);
        self
    }

    /// Removed connections are not computed any more, as by [`sparsify`], with the first calibration batch as example. Layers of
    /// the types in [`burn_sfp_core::nn`] take part.
    pub fn sparse(mut self, sparse: SparseConfig) -> Self {
        self.sparse = Some(sparse);
        self
    }

    /// Settings of the analysis.
    pub fn config(mut self, config: AnalyzeConfig) -> Self {
        self.config = config;
        self
    }

    /// Shows progress.
    pub fn progress(mut self, progress: &'a dyn Progress) -> Self {
        self.progress = progress;
        self
    }

    /// Analyses the model, plans and rewrites. The model itself is not changed.
    ///
    /// # Errors
    /// Those of [`analyze_network`], [`Planner::plan`], [`PrunePlan::apply`] and [`sparsify`], and [`SfpError::NotAsPlanned`] where a number
    /// stored in the module does not follow its shapes.
    pub fn analyze_and_prune<M: SfpModule>(&self, model: &M) -> Result<Pruned<M>, PruneError>
    where
        C: Calibration<M::Input>,
    {
        let (network, analysis) = analyze_network(model, self.calibration, &self.config, self.progress)?;
        let started = Instant::now();
        let plan = self.planner.plan(&network, &analysis, &self.policy)?;
        let planning = started.elapsed().as_secs_f64();
        let started = Instant::now();
        // The batch that the network was captured on.
        let first = match self.calibration.batches().next() {
            None => return Err(SfpError::NoSamples.into()),
            Some(batch) => batch.map_err(|message| SfpError::Data { batch: 0, message })?,
        };
        let Smaller { model, plan } = carry_out(&network, plan, model, &first.input)?;
        let Sparse { model, layers } = match &self.sparse {
            Some(config) => sparsify(&model, &first.input, config)?,
            None => Sparse { model, layers: Vec::new() },
        };
        Ok(Pruned { model, plan, sparse: layers, analysis, seconds: (planning, started.elapsed().as_secs_f64()) })
    }
}
