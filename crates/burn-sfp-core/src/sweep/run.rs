//! The stages of a sweep, in smaller batches where a device lacks the memory for those of the caller.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use burn_sfp_graph::Network;
use burn_sfp_nn::ConfigError;

use super::accuracy::{Fitted, measure};
use super::driver::{Driver, Here, OnDevices};
use super::finish::Finish;
use super::pass::Sweep;
use super::saved::Saved;
use crate::analysis::{Analysis, Seconds};
use crate::checks::on_device;
use crate::config::{AnalyzeConfig, Readout};
use crate::parts::{Parts, in_smaller_batches, in_smaller_batches_from};
use crate::pool::DevicePool;
use crate::{Calibration, Progress, SfpError, SfpModule};

pub(crate) fn sweep<M: SfpModule, C: Calibration<M::Inputs> + ?Sized>(
    model: &M,
    data: &C,
    config: &AnalyzeConfig,
    progress: &dyn Progress,
) -> Result<(Network, Analysis), SfpError> {
    config.check()?;
    let _span = tracing::info_span!("analyze").entered();
    // The mini-batches of a gradient descent are part of the method.
    let is_fixed = matches!(config.readout, Readout::Gradient(_));
    let found =
        in_smaller_batches(is_fixed, |parts| attempt(model, &Parts::new(data, parts), &mut Here, config, progress))?;
    Ok(found.into_result())
}

/// The same on the devices of a pool.
pub(crate) fn sweep_on<M: SfpModule, C: Calibration<M::Inputs> + ?Sized>(
    model: &M,
    data: &C,
    pool: &DevicePool,
    config: &AnalyzeConfig,
    progress: &dyn Progress,
) -> Result<(Network, Analysis), SfpError> {
    config.check()?;
    pool.check()?;
    if let Readout::Gradient(_) = config.readout {
        let expected = "ridge or given where many devices share the data: a gradient descent takes its batches one after the other";
        return Err(ConfigError { name: "readout", found: "gradient".into(), expected }.into());
    }
    let _span = tracing::info_span!("analyze", devices = pool.devices().len()).entered();
    let saves = pool.saves().map(|(path, _)| path);
    let first = saves.map_or(Ok(1), Saved::parts)?;
    let found = in_smaller_batches_from(first, |parts| {
        let mut driver = OnDevices::new(pool, config, parts);
        attempt(model, &Parts::new(data, parts), &mut driver, config, progress)
    });
    // A file whose sums end in an error would end in it each time.
    let is_over = match &found {
        Ok(found) => !found.is_cancelled,
        Err(
            SfpError::Devices { .. }
            | SfpError::Cancelled { .. }
            | SfpError::Data { .. }
            | SfpError::File(_)
            | SfpError::OtherCheckpoint { .. },
        ) => false,
        Err(_) => true,
    };
    if let Some(path) = saves.filter(|_| is_over) {
        Saved::remove(path)?;
    }
    found.map(Attempt::into_result)
}

/// What came of an attempt.
struct Attempt {
    network: Network,
    analysis: Analysis,
    /// Whether a pass was cancelled before its end.
    is_cancelled: bool,
}

impl Attempt {
    fn into_result(self) -> (Network, Analysis) {
        (self.network, self.analysis)
    }
}

/// Captures, passes over the data, finishes the targets and measures readouts, at one size of batches.
fn attempt<M: SfpModule, C: Calibration<M::Inputs> + ?Sized>(
    model: &M,
    data: &C,
    driver: &mut impl Driver<M>,
    config: &AnalyzeConfig,
    progress: &dyn Progress,
) -> Result<Attempt, SfpError> {
    let mut seconds = Seconds::default();
    let started = Instant::now();
    let mut sweep = Sweep::prepare(model, data, config)?;
    seconds.capture = started.elapsed().as_secs_f64();

    let started = Instant::now();
    sweep.run(data, driver, config, progress)?;
    seconds.sweep = started.elapsed().as_secs_f64();

    progress.start("performance", Some(sweep.targets.len()));
    let (samples, top1) = (sweep.samples(), sweep.top1());
    let Sweep { runner, targets, inputs, counts: passes, undefined, mut is_cancelled, .. } = sweep;
    let counts = passes.of_first_pass().to_vec();
    let input_means = on_device("reading the sums", || inputs.finish(&runner.network, &targets, samples))?;
    let (network, device) = (&runner.network, runner.device());
    let finish = Finish { network, device, config, counts: &counts, top1, is_whole: !is_cancelled };
    let performance = tracing::info_span!("performance").entered();
    let (mut layers, fitted) = on_device("finishing the readouts", || finish.targets(targets, progress, &mut seconds))?;
    check_means(&input_means)?;
    if let Some(error) = undefined {
        return Err(error);
    }
    progress.finish();
    drop(performance);

    let fitted: Arc<[Fitted]> = fitted.into();
    if !is_cancelled && !fitted.is_empty() {
        let started = Instant::now();
        let accuracies = measure(model, data, &runner.network, fitted.clone(), passes, driver.members(), progress)?;
        is_cancelled |= accuracies.is_none();
        for (fitted, accuracy) in fitted.iter().zip(accuracies.into_iter().flatten()) {
            layers[fitted.layer].readout.set_accuracy(accuracy);
        }
        seconds.accuracy = started.elapsed().as_secs_f64();
    }
    let model = (runner.network.model_shapes(), runner.network.fingerprint().clone());
    let analysis = Analysis::new(config.threshold, counts, top1, layers, input_means, model, seconds);
    Ok(Attempt { network: runner.network, analysis, is_cancelled })
}

fn check_means(means: &BTreeMap<String, Vec<f32>>) -> Result<(), SfpError> {
    let undefined = means.iter().find_map(|(path, means)| {
        let input = means.iter().position(|mean| !mean.is_finite())?;
        Some(SfpError::NonFiniteInput { path: path.clone(), input, value: means[input] })
    });
    undefined.map_or(Ok(()), Err)
}
