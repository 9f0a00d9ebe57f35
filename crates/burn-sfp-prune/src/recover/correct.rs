//! The corrections: a layer or a normalisation at a time, each on what the corrected ones before it return.

use std::collections::BTreeMap;

use burn_sfp_core::{ChannelMoments, Layerwise, Progress, SfpError};

use super::config::{Recover, RecoveryStep};
use super::report::{Corrected, RecoveryReport};
use super::tasks::{LayerTask, Task, TaskKind};
use crate::PruneError;

/// The two networks, loaded with the same batches; the original only where something is fitted to it.
pub(super) struct Passes {
    pub original: Option<Layerwise>,
    pub pruned: Layerwise,
}

/// New values, by the index of the parameter of the pruned network.
pub(super) type Values = BTreeMap<usize, Vec<f64>>;

/// Carries out all tasks; if `progress` cancels, those done by then.
pub(super) fn correct(
    passes: &mut Passes,
    tasks: Vec<Task>,
    config: &Recover,
    report: &mut RecoveryReport,
    progress: &dyn Progress,
) -> Result<Values, PruneError> {
    let mut values = Values::new();
    progress.start("recovery", Some(tasks.len()));
    for task in tasks {
        if progress.is_cancelled() {
            break;
        }
        passes.pruned.run_before(task.step)?;
        let set = match task.kind {
            TaskKind::Norm { mean, variance } => norm(passes, task.step, &task.path, [mean, variance], report)?,
            TaskKind::Layer(layer) => fit(passes, task.step, &task.path, *layer, config, report)?,
        };
        for (parameter, new) in set {
            passes.pruned.set(parameter, &new)?;
            values.insert(parameter, new);
        }
        progress.advance(1);
    }
    progress.finish();
    Ok(values)
}

/// Measures the statistics of a normalisation.
fn norm(
    passes: &mut Passes,
    step: usize,
    path: &str,
    [mean, variance]: [usize; 2],
    report: &mut RecoveryReport,
) -> Result<Values, PruneError> {
    let [_, channels, _] = passes.pruned.steps()[step].input.shape;
    let mut moments = ChannelMoments::new(path, channels);
    for batch in 0..passes.pruned.batches() {
        moments.add(&passes.pruned.input(batch, step)?);
    }
    if moments.count() < 2 {
        report.leave_out(
            path,
            RecoveryStep::Statistics,
            "there is a single value of each channel, which has no variance",
        );
        return Ok(Values::new());
    }
    let (new_mean, new_variance) = moments.finish()?;
    report.corrected.push(Corrected { path: path.into(), step: RecoveryStep::Statistics, error: None });
    Ok(Values::from([(mean, new_mean), (variance, new_variance)]))
}

/// Fits a layer to the original.
fn fit(
    passes: &mut Passes,
    step: usize,
    path: &str,
    mut task: LayerTask,
    config: &Recover,
    report: &mut RecoveryReport,
) -> Result<Values, PruneError> {
    let Some(original) = &mut passes.original else { return Ok(Values::new()) };
    original.run_through(task.original)?;
    let patches = config.patches_of(task.regression.columns(), passes.pruned.batches());
    for batch in 0..passes.pruned.batches() {
        let (input, target) = (passes.pruned.input(batch, step)?, original.output(batch, task.original)?);
        task.regression.add(batch, &input, &target, patches)?;
    }
    let mut values = Values::new();
    let mut weight = None;
    if task.regression.is_summed() {
        let solved = task.regression.solve(&task.current, task.keep.as_deref(), config.ridge, task.intercept.is_some());
        match solved {
            Ok(solution) if solution.weight.iter().all(|value| (*value as f32).is_finite()) => {
                let error = Some((solution.error_before, solution.error_after));
                report.corrected.push(Corrected { path: path.into(), step: RecoveryStep::LeastSquares, error });
                weight = Some(solution.weight);
            }
            Ok(_) => report.leave_out(path, RecoveryStep::LeastSquares, "the solution is not finite: raise the ridge"),
            Err(SfpError::Kernel { source, .. }) => {
                report.leave_out(path, RecoveryStep::LeastSquares, format!("{source}: raise the ridge"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    // With new weights goes the bias that belongs to them.
    if let Some(intercept) = task.intercept.filter(|_| task.matches_means || weight.is_some()) {
        let added = task.regression.intercept(weight.as_deref().unwrap_or(&task.current))?;
        let sign = if intercept.is_subtracted { -1.0 } else { 1.0 };
        let new = intercept.base.iter().zip(added).map(|(base, added)| base + sign * added).collect();
        values.insert(intercept.parameter, new);
        if task.matches_means {
            report.corrected.push(Corrected { path: path.into(), step: RecoveryStep::Means, error: None });
        }
    }
    values.extend(weight.map(|weight| (task.weight, weight)));
    Ok(values)
}
