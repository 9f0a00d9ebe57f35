//! The corrections: a layer or a normalisation at a time, each on what the corrected ones before it return.

use std::collections::BTreeMap;

use burn_sfp_core::{Progress, SfpError};

use super::config::{Recover, RecoveryStep};
use super::passes::Passes;
use super::report::{Corrected, RecoveryReport};
use super::share::{Measure, Measured};
use super::tasks::{LayerTask, Task, TaskKind};
use crate::PruneError;

/// New values, by the index of the parameter of the pruned network.
pub(super) type Values = BTreeMap<usize, Vec<f64>>;

/// Carries out all tasks; if `progress` cancels, those done by then.
pub(super) fn correct(
    passes: &mut dyn Passes,
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
        let Task { step, path, kind } = task;
        let set = match kind {
            TaskKind::Norm { mean, variance, channels } => {
                let measure = Measure::Moments { path: path.clone(), step, channels };
                norm(passes.measure(measure)?, &path, [mean, variance], report)?
            }
            TaskKind::Layer(layer) => fit(passes, step, &path, *layer, config, report)?,
        };
        for (parameter, new) in set {
            passes.set(parameter, &new);
            values.insert(parameter, new);
        }
        progress.advance(1);
    }
    progress.finish();
    Ok(values)
}

/// Takes the statistics of a normalisation.
fn norm(
    measured: Measured,
    path: &str,
    [mean, variance]: [usize; 2],
    report: &mut RecoveryReport,
) -> Result<Values, PruneError> {
    let Measured::Moments(moments) = measured else { return Ok(Values::new()) };
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
    passes: &mut dyn Passes,
    step: usize,
    path: &str,
    mut task: LayerTask,
    config: &Recover,
    report: &mut RecoveryReport,
) -> Result<Values, PruneError> {
    let patches = config.patches_of(task.regression.columns(), passes.batches());
    let measure = Measure::Fit { step, original: task.original, regression: task.regression.empty(), patches };
    let Measured::Fit(regression) = passes.measure(measure)? else { return Ok(Values::new()) };
    task.regression = regression;
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
