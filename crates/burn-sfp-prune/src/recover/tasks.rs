//! What is done at each layer and normalisation, decided from the graphs before any sample is read.

use std::collections::{BTreeMap, HashSet};

use burn_sfp_core::Regression;
use burn_sfp_graph::{BatchNormalization, Layer, Network, Step, StepKind};

use super::affected::affected;
use super::config::{Recover, RecoveryStep};
use super::counterpart::Original;
use super::report::RecoveryReport;
use crate::mask::KeepMasks;

/// What is done at a step of the pruned network.
pub(super) struct Task {
    /// Index of the step.
    pub step: usize,
    pub path: String,
    pub kind: TaskKind,
}

pub(super) enum TaskKind {
    Layer(Box<LayerTask>),
    /// Statistics of a batch normalisation are measured; indices of mean and variance among the parameters.
    Norm {
        mean: usize,
        variance: usize,
        channels: usize,
    },
}

/// The correction of a layer.
pub(super) struct LayerTask {
    /// Index of the step of the original that returns the targets.
    pub original: usize,
    pub regression: Regression,
    /// Index of the weight among the parameters of the pruned network.
    pub weight: usize,
    /// Its values before the correction.
    pub current: Vec<f64>,
    /// Which pairs of indices of its first two axes stay, or which of its elements.
    pub keep: Option<Vec<bool>>,
    pub intercept: Option<Intercept>,
    pub matches_means: bool,
}

/// Where the mean of a layer's output is set.
pub(super) struct Intercept {
    /// Index among the parameters of the pruned network.
    pub parameter: usize,
    /// What the original adds, or subtracts, besides.
    pub base: Vec<f64>,
    /// Whether it is a running mean, which is subtracted.
    pub is_subtracted: bool,
}

/// Plans the tasks, in the order in which they run.
pub(super) fn tasks(
    original: &Original<'_>,
    pruned: &Network,
    steps: &[Step],
    masks: &KeepMasks,
    config: &Recover,
    report: &mut RecoveryReport,
) -> Vec<Task> {
    let affected = affected(original, pruned, steps);
    let measured = |step: &Step| match &step.kind {
        StepKind::Norm(norm) if step.tied.is_none() && config.has(RecoveryStep::Statistics) => Some(norm.mean),
        _ => None,
    };
    let context = Context {
        original,
        pruned,
        masks,
        config,
        measured: steps.iter().zip(&affected).filter(|(_, is)| **is).filter_map(|(step, _)| measured(step)).collect(),
        free_means: steps.iter().filter(|step| step.tied.is_none()).filter_map(norm_of).map(|norm| norm.mean).collect(),
    };
    let mut tasks = Vec::new();
    for (index, step) in steps.iter().enumerate().filter(|(index, _)| affected[*index]) {
        let kind = match &step.kind {
            StepKind::Layer(layer) => context.layer(&pruned.layers()[*layer], step, report),
            StepKind::Norm(norm) => context.norm(norm, step, report),
            _ => None,
        };
        tasks.extend(kind.map(|kind| Task { step: index, path: step.path.clone(), kind }));
    }
    tasks
}

fn norm_of(step: &Step) -> Option<&BatchNormalization> {
    match &step.kind {
        StepKind::Norm(norm) => Some(norm),
        _ => None,
    }
}

struct Context<'a> {
    original: &'a Original<'a>,
    pruned: &'a Network,
    masks: &'a KeepMasks,
    config: &'a Recover,
    /// Running means that are measured.
    measured: HashSet<usize>,
    /// Running means that one normalisation alone reads, once.
    free_means: HashSet<usize>,
}

impl Context<'_> {
    fn norm(&self, norm: &BatchNormalization, step: &Step, report: &mut RecoveryReport) -> Option<TaskKind> {
        if !self.config.has(RecoveryStep::Statistics) {
            return None;
        }
        if let Some(reason) = &step.tied {
            report.leave_out(&step.path, RecoveryStep::Statistics, reason.clone());
            return None;
        }
        let [_, channels, _] = step.input.shape;
        Some(TaskKind::Norm { mean: norm.mean, variance: norm.variance, channels })
    }

    fn layer(&self, layer: &Layer, step: &Step, report: &mut RecoveryReport) -> Option<TaskKind> {
        let solves = self.config.has(RecoveryStep::LeastSquares);
        // Behind the layer a normalisation takes the mean out that is measured anyway.
        let is_measured = layer.running_mean.is_some_and(|mean| self.measured.contains(&mean));
        let means = self.config.has(RecoveryStep::Means) && !is_measured;
        let asked = [(RecoveryStep::LeastSquares, solves), (RecoveryStep::Means, means)];
        let asked = asked.into_iter().filter(|(_, asked)| *asked).map(|(step, _)| step);
        let task = match self.prepare(layer, step) {
            Ok(task) => task,
            Err(reason) => {
                asked.for_each(|asked| report.leave_out(&layer.path, asked, reason.clone()));
                return None;
            }
        };
        let is_solved = task.regression.is_summed();
        if solves && !is_solved {
            let (columns, limit) = (task.regression.columns(), self.config.columns);
            let reason = format!("its Gram matrix would have {columns} columns, more than the {limit} allowed");
            report.leave_out(&layer.path, RecoveryStep::LeastSquares, reason);
        }
        if means && !is_solved && task.intercept.is_none() {
            let reason = "it has neither a bias nor a batch normalisation directly behind it";
            report.leave_out(&layer.path, RecoveryStep::Means, reason);
        }
        let matches_means = means && task.intercept.is_some();
        (is_solved || matches_means).then(|| TaskKind::Layer(Box::new(LayerTask { matches_means, ..task })))
    }

    /// Finds what a layer is fitted to, and what can be set; or why it cannot be fitted.
    fn prepare(&self, layer: &Layer, step: &Step) -> Result<LayerTask, String> {
        if let Some(reason) = &step.tied {
            return Err(reason.clone());
        }
        let path = |parameter: usize| self.pruned.parameters()[parameter].path.as_str();
        let plan = self.original.plan;
        let of_plan: BTreeMap<&str, &str> = (plan.scales.iter().map(|scale| (scale.path.as_str(), "a factor")))
            .chain(plan.centered.iter().map(|center| (center.path.as_str(), "its mean")))
            .collect();
        for parameter in std::iter::once(layer.weight()).chain(layer.bias()) {
            if let Some(what) = of_plan.get(plan.path_before(path(parameter)).as_str()) {
                return Err(format!(
                    "the plan takes {what} into `{}`, so that it returns something else",
                    path(parameter)
                ));
            }
        }
        let counterpart = self.original.counterpart(self.pruned, layer)?;
        let solves = self.config.has(RecoveryStep::LeastSquares);
        let columns = if solves { self.config.columns } else { 0 };
        let regression = Regression::new(self.pruned, layer, counterpart.filters, columns)?;
        let data = self.pruned.parameter_data_at(layer.weight()).filter(|data| data.dtype().is_float());
        let data = data.ok_or_else(|| format!("its weight `{}` holds no float values", path(layer.weight())))?;
        let adds_bias = self.original.steps[counterpart.step].adds_bias;
        let current: Vec<f64> = data.iter::<f64>().collect();
        let pairs = self.masks.get(path(layer.weight())).map(|mask| mask.keep.clone());
        let keep = if self.config.keeps_zeros { Some(without_zeros(&current, pairs.as_deref())) } else { pairs };
        Ok(LayerTask {
            original: counterpart.step,
            regression,
            weight: layer.weight(),
            current,
            keep,
            intercept: self.intercept(layer, adds_bias),
            matches_means: false,
        })
    }

    /// Where the mean of a layer's output can be set. What the plan has added there for removed inputs is replaced.
    fn intercept(&self, layer: &Layer, adds_bias: bool) -> Option<Intercept> {
        let value = |parameter: usize| self.original.value(&self.pruned.parameters()[parameter].path);
        match (layer.bias(), layer.running_mean) {
            (Some(parameter), _) => {
                let base = value(parameter)?;
                // The targets hold the bias where the same operation adds it.
                let base = if adds_bias { vec![0.0; base.len()] } else { base };
                Some(Intercept { parameter, base, is_subtracted: false })
            }
            (None, Some(parameter)) if self.free_means.contains(&parameter) => {
                Some(Intercept { parameter, base: value(parameter)?, is_subtracted: true })
            }
            _ => None,
        }
        .filter(|intercept| intercept.base.len() == layer.filters)
    }
}

/// Which elements of a weight stay where its zeros do; `pairs` says it for the elements of a kernel together.
fn without_zeros(weight: &[f64], pairs: Option<&[bool]>) -> Vec<bool> {
    let of_pair = pairs.map_or(1, |pairs| (weight.len() / pairs.len().max(1)).max(1));
    let is_kept = |at: usize| pairs.is_none_or(|pairs| pairs.get(at / of_pair).copied().unwrap_or(true));
    weight.iter().enumerate().map(|(at, &value)| value != 0.0 && is_kept(at)).collect()
}
