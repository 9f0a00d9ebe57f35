//! [`Pruner`]: analysis, plan, rewriting and recovery in one call.

use std::fmt;
use std::time::Instant;

use burn_sfp_core::{
    Analysis, AnalyzeConfig, Calibration, DevicePool, NoProgress, Progress, SfpError, SfpModule, analyze_network,
    analyze_on,
};
use burn_sfp_graph::{GraphModule, ModuleInput, Network};

use crate::group::GroupCut;
use crate::planner::{Ranked, rank};
use crate::recover::recover_by;
use crate::rewrite::PrunedModule;
use crate::target::Target;
use crate::{
    BiasCorrection, Budget, Evidence, LayerRule, Normalizer, PlanSummary, Planner, PruneError, PrunePlan,
    RankingPolicy, Recover, Recovered, RecoveryReport, Reduction, Sparse, SparseConfig, SparseLayer, StopRule, Taylor,
    sparsify,
};

/// Analyses a model over calibration data and prunes it; the crate's page has an example.
pub struct Pruner<'a, C: ?Sized> {
    calibration: &'a C,
    policy: Box<dyn RankingPolicy + 'a>,
    config: AnalyzeConfig,
    planner: Planner,
    recovery: Option<Recover>,
    sparse: Option<SparseConfig>,
    devices: Option<DevicePool>,
    progress: &'a dyn Progress,
}

impl<C: ?Sized> fmt::Debug for Pruner<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy, config, planner, recovery, sparse, devices, .. } = self;
        let name = policy.name();
        let mut shown = f.debug_struct("Pruner");
        shown.field("policy", &name).field("config", config).field("planner", planner).field("recovery", recovery);
        shown.field("sparse", sparse).field("devices", devices).finish_non_exhaustive()
    }
}

/// A pruned model, and the analysis and the plan that it was made from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pruned<M> {
    /// The smaller model, of the user's own type.
    pub model: M,
    /// What was removed.
    pub plan: PrunePlan,
    /// What was fitted to the original afterwards; `None` after [`Pruner::without_recovery`].
    pub recovery: Option<RecoveryReport>,
    /// The formats of layers that lack connections; empty unless [`Pruner::sparse`] was called.
    pub sparse: Vec<SparseLayer>,
    /// What the filters recognise.
    pub analysis: Analysis,
    /// Seconds spent on ranking, and on planning and rewriting; those of the recovery are in its report.
    pub seconds: (f64, f64),
}

impl<M> Pruned<M> {
    /// Returns the plan as a table: filters, connections, parameters and MACs of each layer, before and after.
    pub fn summary(&self) -> PlanSummary<'_> {
        self.plan.summary()
    }
}

impl<'a, C: ?Sized> Pruner<'a, C> {
    /// Creates a pruner over these labelled batches that ranks by [`Taylor`] and removes half of each layer's filters. Where policies were
    /// compared (docs/results.md), that one kept the highest accuracy without training, and lay within 0.1 points of the highest after it.
    pub fn new(calibration: &'a C) -> Self {
        Self {
            calibration,
            policy: Box::new(Taylor::new()),
            config: AnalyzeConfig::new(),
            planner: Planner::new(),
            recovery: Some(Recover::new()),
            sparse: None,
            devices: None,
            progress: &NoProgress,
        }
    }

    /// Sets the policy, which decides what is worth keeping.
    pub fn policy(mut self, policy: impl RankingPolicy + 'a) -> Self {
        self.policy = Box::new(policy);
        self
    }

    /// Sets the share of each layer's scored filters that is removed; short for [`Budget::PerLayer`].
    pub fn ratio(self, ratio: f64) -> Self {
        self.budget(Budget::PerLayer(ratio))
    }

    /// Sets how many of the scored filters are removed; see [`Planner::budget`].
    pub fn budget(mut self, rule: impl StopRule + 'static) -> Self {
        self.planner = self.planner.budget(rule);
        self
    }

    /// Sets what is added to biases in place of removed inputs.
    pub fn bias_correction(mut self, correction: BiasCorrection) -> Self {
        self.planner = self.planner.bias_correction(correction);
        self
    }

    /// Sets whether filters without a connection left on one side are kept.
    pub fn keep_empty(mut self, keep: bool) -> Self {
        self.planner = self.planner.keep_empty(keep);
        self
    }

    /// Sets which coordinate is cut in layers whose filters have two; see [`Planner::group_cut`].
    pub fn group_cut(mut self, cut: GroupCut) -> Self {
        self.planner = self.planner.group_cut(cut);
        self
    }

    /// Sets what is made of the scores of filters that are tied together; see [`Planner::reduction`].
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.planner = self.planner.reduction(reduction);
        self
    }

    /// Sets how the scores of different layers are made comparable; see [`Planner::normalizer`].
    pub fn normalizer(mut self, normalizer: Normalizer) -> Self {
        self.planner = self.planner.normalizer(normalizer);
        self
    }

    /// Sets whether channels may leave that layer normalisations read; see [`Planner::center_layer_norms`].
    pub fn center_layer_norms(mut self, center: bool) -> Self {
        self.planner = self.planner.center_layer_norms(center);
        self
    }

    /// Leaves the layers at these module paths alone; see [`Planner::exclude`].
    pub fn exclude<S: Into<String>>(mut self, paths: impl IntoIterator<Item = S>) -> Self {
        self.planner = self.planner.exclude(paths);
        self
    }

    /// Leaves the layers whose module path meets a condition alone; see [`Planner::exclude_where`].
    pub fn exclude_where(mut self, condition: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.planner = self.planner.exclude_where(condition);
        self
    }

    /// Sets what holds for some layers beside the budget; see [`Planner::layers`].
    pub fn layers(mut self, rule: LayerRule) -> Self {
        self.planner = self.planner.layers(rule);
        self
    }

    /// Makes what the model does not follow an error; see [`Planner::strict`].
    pub fn strict(mut self) -> Self {
        self.planner = self.planner.strict();
        self
    }

    /// Adds a forward pass that the smaller model has to run too; see [`Planner::also`]. Layers that only it runs are not ranked: they
    /// keep their filters and follow the layers before them.
    pub fn also<M: GraphModule, I, O>(mut self, input: I, forward: impl Fn(&M, I) -> O + Send + Sync + 'static) -> Self
    where
        I: ModuleInput + Send + Sync + 'static,
        O: ModuleInput + 'static,
    {
        self.planner = self.planner.also(input, forward);
        self
    }

    /// Says that the model has been pruned before, by this plan; see [`Planner::after`].
    pub fn after(mut self, plan: &PrunePlan) -> Self {
        self.planner = self.planner.after(plan);
        self
    }

    /// Sets how what is left is fitted to the original afterwards, on the calibration data and without training; see [`recover`](crate::recover()). By
    /// default all steps are made.
    pub fn recovery(mut self, recovery: Recover) -> Self {
        self.recovery = Some(recovery);
        self
    }

    /// Leaves parameters as the plan leaves them: the outputs are those of the original with the removed channels at zero, or at their
    /// means. Better where training follows: on VGG-11 the fitted weights cost a point or two of what five epochs reach (docs/results.md).
    pub fn without_recovery(mut self) -> Self {
        self.recovery = None;
        self
    }

    /// Makes layers skip removed connections, as [`sparsify`] does with the first calibration batch as example. Applies to the
    /// sparse layers of [`burn_sfp_nn`].
    pub fn sparse(mut self, sparse: SparseConfig) -> Self {
        self.sparse = Some(sparse);
        self
    }

    /// Sets devices, of this machine or remote, that share the passes of the analysis ([`analyze_on`]), those that the policy needs
    /// ([`Evidence::gather_on`]) and those of the recovery ([`recover_on`](crate::recover_on)).
    ///
    /// ```
    /// # use burn::tensor::{Device, Tensor};
    /// # use burn_sfp_core::{DevicePool, TensorCalibration};
    /// # use burn_sfp_prune::Pruner;
    /// # let calibration = TensorCalibration::new(Tensor::<2>::ones([2, 4], &Device::flex()), vec![0, 1], 2);
    /// let pruner = Pruner::new(&calibration).devices(DevicePool::new([Device::flex(), Device::flex()]));
    /// ```
    pub fn devices(mut self, devices: DevicePool) -> Self {
        self.devices = Some(devices);
        self
    }

    /// Sets the settings of the analysis.
    pub fn config(mut self, config: AnalyzeConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets where progress is reported.
    pub fn progress(mut self, progress: &'a dyn Progress) -> Self {
        self.progress = progress;
        self
    }

    /// Makes the further passes that the policy needs.
    fn evidence<M: SfpModule>(&self, model: &M, network: &Network) -> Result<Option<Evidence>, PruneError>
    where
        C: Calibration<M::Inputs>,
    {
        let needs = self.policy.needs();
        if needs.is_none() {
            return Ok(None);
        }
        let devices = self.devices.as_ref();
        Evidence::of_network(model, network, self.calibration, needs, devices, self.progress).map(Some)
    }

    /// Analyses the model, makes the further passes that the policy needs, plans, rewrites and fits what is left to the original. The model
    /// itself is not changed.
    ///
    /// If the module returns more than its logits, all outputs are kept: the policy ranks the layers of the logits, and the plan is
    /// made for the whole forward pass. Layers that the logits do not run are not ranked and keep their filters.
    ///
    /// # Errors
    /// Those of [`analyze_network`], [`Evidence::gather`], [`Planner::prune`], [`recover`](crate::recover()) and [`sparsify`]; [`PruneError::Cancelled`] if the progress cancels before the
    /// model is planned, with the analysis of the samples seen by then.
    pub fn analyze_and_prune<M: SfpModule>(&self, model: &M) -> Result<Pruned<M>, PruneError>
    where
        C: Calibration<M::Inputs>,
    {
        let (network, analysis) = match &self.devices {
            Some(devices) => analyze_on(model, self.calibration, devices, &self.config, self.progress)?,
            None => analyze_network(model, self.calibration, &self.config, self.progress)?,
        };
        // The batch that the network was captured on.
        let first = match self.calibration.batches().next() {
            None => return Err(SfpError::NoSamples.into()),
            Some(batch) => batch.map_err(|source| SfpError::Data { batch: 0, source })?,
        };
        if self.progress.is_cancelled() {
            return Err(PruneError::Cancelled { analysis: Box::new(analysis) });
        }
        self.planner.check()?;
        self.recovery.as_ref().map_or(Ok(()), Recover::check)?;
        let evidence = self.evidence(model, &network)?;
        if evidence.is_some() && self.progress.is_cancelled() {
            return Err(PruneError::Cancelled { analysis: Box::new(analysis) });
        }
        let started = Instant::now();
        self.progress.start("planning and rewriting", None);
        let ranking = match &evidence {
            Some(evidence) => rank(&evidence.policy(&*self.policy), &network, Some(&analysis))?,
            None => rank(&*self.policy, &network, Some(&analysis))?,
        };
        let also = self.planner.passes::<M>()?;
        let network = if model.returns_logits_only() && also.is_empty() {
            network
        } else {
            Network::capture_passes(model, &first.input, &also)?
        };
        let planning = started.elapsed().as_secs_f64();
        let started = Instant::now();
        let target = Target::new(model, &first.input, &also);
        let ranked = Ranked { policy: &self.policy.name(), ranking: &ranking };
        let pruned = self.planner.prune_ranked(&network, target, Some(&analysis), &ranked)?;
        let rewriting = started.elapsed().as_secs_f64();
        self.progress.finish();
        let (PrunedModule { model, plan }, recovery) = self.recovered(model, pruned)?;
        let Sparse { model, layers } = match &self.sparse {
            Some(config) => sparsify(&model, &first.input, config)?,
            None => Sparse { model, layers: Vec::new() },
        };
        Ok(Pruned { model, plan, recovery, sparse: layers, analysis, seconds: (planning, rewriting) })
    }

    /// Fits what is left to the original, unless that is switched off.
    fn recovered<M: SfpModule>(
        &self,
        original: &M,
        pruned: PrunedModule<M>,
    ) -> Result<(PrunedModule<M>, Option<RecoveryReport>), PruneError>
    where
        C: Calibration<M::Inputs>,
    {
        let Some(config) = &self.recovery else { return Ok((pruned, None)) };
        let PrunedModule { model, plan } = pruned;
        let devices = self.devices.as_ref();
        let found = recover_by([original, &model], &plan, self.calibration, config, devices, self.progress)?;
        let Recovered { model, report } = found;
        Ok((PrunedModule { model, plan }, Some(report)))
    }
}
