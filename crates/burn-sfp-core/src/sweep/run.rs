//! The sweep itself, in smaller batches where a device lacks the memory for those of the caller.

use std::time::Instant;

use ndarray::Array3;

use super::accuracy::measure;
use super::check::{check_finite, check_labels, label_tensor};
use super::grid::Pooled;
use super::input_mean::{InputMean, direct_mean, has_mean, input_means};
use super::parts::{Parts, in_smaller_batches};
use super::readout::{GradientReadout, scores_match};
use super::runner::{Probe, Runner, deduplicate};
use super::subject::{Fit, choose_subjects, classifier_readout};
use super::{AnalyzeConfig, Readout};
use crate::analysis::{LayerState, ReadoutInfo, Seconds, finish_layer};
use crate::backend::{ClassSums, Gram};
use crate::network::Network;
use crate::{Analysis, Calibration, Progress, SfpError, SfpModule};

pub(crate) fn sweep<M: SfpModule, C: Calibration<M::Input> + ?Sized>(
    model: &M,
    data: &C,
    config: &AnalyzeConfig,
    progress: &dyn Progress,
) -> Result<(Network, Analysis), SfpError> {
    config.check()?;
    // The mini-batches of a gradient descent are part of the method.
    let fixed = matches!(config.readout, Readout::Gradient(_));
    in_smaller_batches(fixed, |parts| attempt(model, &Parts::new(data, parts), config, progress))
}

/// One sweep over the data.
fn attempt<M: SfpModule, C: Calibration<M::Input> + ?Sized>(
    model: &M,
    data: &C,
    config: &AnalyzeConfig,
    progress: &dyn Progress,
) -> Result<(Network, Analysis), SfpError> {
    let mut seconds = Seconds::default();
    let started = Instant::now();
    let first = match data.batches().next() {
        None => return Err(SfpError::NoSamples),
        Some(batch) => batch.map_err(|message| SfpError::Data { batch: 0, message })?,
    };
    check_labels(0, &first, usize::MAX)?;
    let network = Network::capture(model, &first.input)?;
    drop(first);
    let classes = network.classes();
    if classes == 0 {
        let found = network.output_shapes().first().cloned().unwrap_or_default();
        return Err(SfpError::LogitsShape { found, samples: network.batch() });
    }
    let mut subjects = choose_subjects(&network, config)?;
    let direct: Vec<Option<usize>> =
        network.layers().iter().map(|layer| direct_mean(&network, layer, &subjects)).collect();
    let mut inputs: Vec<InputMean> = (0..network.layers().len())
        .filter(|&k| direct[k].is_none() && has_mean(&network, &network.layers()[k]))
        .map(|layer| InputMean { layer, sums: None })
        .collect();
    let probes: Vec<Probe> = subjects
        .iter()
        .map(|subject| subject.probe)
        .chain(inputs.iter().map(|input| Probe::Input(input.layer)))
        .collect();
    // Two probes may name one tensor; the replay hands a tensor out once, so each tensor is listed once.
    let (probes, receivers) = deduplicate(&network, probes);
    let mut runner = Runner::new(model, network, probes)?;
    seconds.capture = started.elapsed().as_secs_f64();

    let started = Instant::now();
    let epochs = match &config.readout {
        Readout::Gradient(gradient) if subjects.iter().any(|s| matches!(s.fit, Fit::Gradient(_))) => gradient.epochs,
        _ => 1,
    };
    let mut counts = vec![0u64; classes];
    let mut hits = 0;
    for epoch in 0..epochs {
        progress.start(if epoch == 0 { "sweep" } else { "readouts" }, data.samples());
        for (index, batch) in data.batches().enumerate() {
            let batch = batch.map_err(|message| SfpError::Data { batch: index, message })?;
            check_labels(index, &batch, classes)?;
            let labels = label_tensor(&batch.labels, runner.device());
            let zeros = vec![0; batch.labels.len()];
            let paths: Vec<String> = runner.network.layers().iter().map(|layer| layer.path.clone()).collect();
            let logits = runner.run(index, &batch, |tap, acts| {
                for &receiver in &receivers[tap] {
                    match receiver.checked_sub(subjects.len()) {
                        None => {
                            let subject = &mut subjects[receiver];
                            let acts = match &subject.pooled {
                                Some(pooled) => pooled.apply(acts.clone()),
                                None => acts.clone(),
                            };
                            if epoch == 0 {
                                ClassSums::add(&mut subject.sums, &acts, &batch.labels, classes, &subject.path)?;
                                if let Fit::Ridge(_) = subject.fit {
                                    Gram::add(&mut subject.gram, &acts, &subject.path)?;
                                }
                            }
                            let stream = subject.stream();
                            if let Fit::Gradient(state) = &mut subject.fit {
                                let Readout::Gradient(gradient) = &config.readout else { continue };
                                let [_, filters, positions] = acts.dims();
                                let readout = state.get_or_insert_with(|| {
                                    GradientReadout::new(
                                        *gradient,
                                        filters * positions,
                                        classes,
                                        config.seed,
                                        stream,
                                        &acts.device(),
                                    )
                                });
                                let recognised = readout.step(&acts, &labels)?;
                                if epoch + 1 == epochs {
                                    subject.hits += recognised;
                                }
                            }
                        }
                        Some(k) if epoch == 0 => {
                            let input = &mut inputs[k];
                            ClassSums::add(&mut input.sums, &acts, &zeros, 1, &paths[input.layer])?;
                        }
                        Some(_) => {}
                    }
                }
                Ok(())
            })?;
            if epoch == 0 {
                hits += scores_match(logits, &labels)?;
                for &label in &batch.labels {
                    counts[label] += 1;
                }
            }
            progress.advance(batch.labels.len());
        }
        for subject in &mut subjects {
            if let Fit::Gradient(Some(readout)) = &mut subject.fit {
                readout.next_epoch();
            }
        }
        progress.finish();
    }
    seconds.sweep = started.elapsed().as_secs_f64();
    let missing: Vec<usize> = (0..classes).filter(|&label| counts[label] == 0).collect();
    if !missing.is_empty() {
        return Err(SfpError::ClassWithoutSamples { missing });
    }

    let samples: u64 = counts.iter().sum();
    progress.start("performance", Some(subjects.len()));
    let mut means = input_means(&runner.network, &direct, &subjects, inputs, samples)?;
    let mut layers = Vec::with_capacity(subjects.len());
    let mut fitted: Vec<(Probe, Option<Pooled>, Array3<f32>)> = Vec::new();
    let mut fitted_paths = Vec::new();
    for subject in subjects {
        let Some(sums) = subject.sums else { continue };
        let sums = sums.into_host()?;
        check_finite(&subject.path, &sums, &counts)?;
        let (_, filters, _) = sums.dim();
        let accuracy = Some(subject.hits as f64 / samples as f64);
        let gram = subject.gram.map(Gram::into_host).transpose()?;
        let (given, readout) = match subject.fit {
            Fit::Classifier => (
                Some(classifier_readout(&runner.network, &subject.probe.tap(&runner.network))?),
                ReadoutInfo::Classifier { accuracy: hits as f64 / samples as f64 },
            ),
            Fit::Ridge(strength) => (None, ReadoutInfo::Ridge { strength, accuracy: None }),
            Fit::Given(readout, info) => (Some(readout), info),
            Fit::Gradient(state) => {
                let Readout::Gradient(gradient) = &config.readout else { continue };
                let Some(state) = state else { continue };
                (
                    Some(state.into_readout(filters)?),
                    ReadoutInfo::Gradient { config: *gradient, seed: config.seed, accuracy },
                )
            }
        };
        let state = LayerState {
            path: subject.path.clone(),
            kind: subject.kind,
            grid: subject.pooled.as_ref().map(|pooled| pooled.to.clone()),
            sums,
            gram,
            readout: given,
            info: readout,
        };
        let device = Some(runner.device());
        let (done, readout) = finish_layer(state, &counts, config.threshold, config.keep_state, device, &mut seconds)?;
        if config.accuracy && matches!(done.readout, ReadoutInfo::Ridge { .. } | ReadoutInfo::Given { .. }) {
            fitted.push((subject.probe, subject.pooled, readout));
            fitted_paths.push(subject.path);
        }
        layers.push(done);
        progress.advance(1);
    }
    progress.finish();
    if !fitted.is_empty() {
        let started = Instant::now();
        let accuracies = measure(model, data, &runner.network, &fitted, progress)?;
        for (path, accuracy) in fitted_paths.iter().zip(accuracies) {
            if let Some(found) = layers.iter_mut().find(|found| found.path == *path) {
                found.readout.set_accuracy(accuracy);
            }
        }
        seconds.accuracy = started.elapsed().as_secs_f64();
    }
    let input_means = runner
        .network
        .layers()
        .iter()
        .enumerate()
        .filter_map(|(k, layer)| Some((layer.path.clone(), means[k].take()?)))
        .collect();
    let analysis = Analysis::new(
        config.threshold,
        counts,
        hits as f64 / samples as f64,
        layers,
        input_means,
        runner.network.model_shapes(),
        seconds,
    );
    Ok((runner.network, analysis))
}
