//! The sweep itself.

use std::time::Instant;

use burn::tensor::{Int, Tensor, TensorData};
use ndarray::{Array2, Array3, ArrayView3, Axis, s};

use super::grid::Pooled;
use super::readout::{GradientReadout, scores_match};
use super::runner::{Probe, Runner};
use super::{AnalyzeConfig, Readout};
use crate::analysis::{LayerState, ReadoutInfo, Seconds, finish_layer};
use crate::backend::{ClassSums, Gram};
use crate::network::{Layer, LayerKind, Network};
use crate::{Analysis, Batch, Calibration, Progress, SfpError, SfpModule};

/// Most features of a readout whose normal equations are solved directly (a Gram matrix of 2 GiB).
const MOST_FEATURES: usize = 16384;

#[allow(clippy::large_enum_variant)] // one a layer
enum Fit {
    /// The network's own classifier.
    Classifier,
    Ridge(f64),
    Gradient(Option<GradientReadout>),
    Given(Array3<f32>, ReadoutInfo),
}

/// A layer under analysis.
struct Subject {
    layer: usize,
    pooled: Option<Pooled>,
    fit: Fit,
    sums: Option<ClassSums>,
    gram: Option<Gram>,
    hits: usize,
}

/// The mean of a layer's input: from the sums of a tap that is that input, or from a probe of its own.
struct InputMean {
    layer: usize,
    sums: Option<ClassSums>,
}

pub(crate) fn sweep<M: SfpModule, C: Calibration<M::Input> + ?Sized>(
    model: &M,
    data: &C,
    config: &AnalyzeConfig,
    progress: &dyn Progress,
) -> Result<(Network, Analysis), SfpError> {
    config.check()?;
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
    let mut subjects = choose_subjects(&network, config)?;
    let direct: Vec<Option<usize>> =
        network.layers().iter().map(|layer| direct_mean(&network, layer, &subjects)).collect();
    let mut inputs: Vec<InputMean> = (0..network.layers().len())
        .filter(|&k| direct[k].is_none())
        .map(|layer| InputMean { layer, sums: None })
        .collect();
    let probes: Vec<Probe> = subjects
        .iter()
        .map(|subject| Probe::Output(subject.layer))
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
                            let path = &paths[subject.layer];
                            let acts = match &subject.pooled {
                                Some(pooled) => pooled.apply(acts.clone()),
                                None => acts.clone(),
                            };
                            if epoch == 0 {
                                ClassSums::add(&mut subject.sums, &acts, &batch.labels, classes, path)?;
                                if let Fit::Ridge(_) = subject.fit {
                                    Gram::add(&mut subject.gram, &acts, path)?;
                                }
                            }
                            if let Fit::Gradient(state) = &mut subject.fit {
                                let Readout::Gradient(gradient) = &config.readout else { continue };
                                let [_, filters, positions] = acts.dims();
                                let readout = state.get_or_insert_with(|| {
                                    GradientReadout::new(
                                        *gradient,
                                        filters * positions,
                                        classes,
                                        config.seed,
                                        subject.layer,
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
    let mut fitted: Vec<(usize, Option<Pooled>, Array3<f32>)> = Vec::new();
    for subject in subjects {
        let layer = &runner.network.layers()[subject.layer];
        let Some(sums) = subject.sums else { continue };
        let sums = sums.into_host()?;
        check_finite(&layer.path, &sums, &counts)?;
        let (_, filters, positions) = sums.dim();
        let accuracy = Some(subject.hits as f64 / samples as f64);
        let gram = subject.gram.map(Gram::into_host).transpose()?;
        let (given, readout) = match subject.fit {
            Fit::Classifier => (
                Some(classifier_readout(&runner.network, filters, positions)?),
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
            path: layer.path.clone(),
            kind: layer.kind,
            grid: subject.pooled.as_ref().map(|pooled| pooled.to.clone()),
            sums,
            gram,
            readout: given,
            info: readout,
        };
        let (done, readout) = finish_layer(state, &counts, config.threshold, config.keep_state, &mut seconds)?;
        if config.accuracy && matches!(done.readout, ReadoutInfo::Ridge { .. } | ReadoutInfo::Given { .. }) {
            fitted.push((subject.layer, subject.pooled, readout));
        }
        layers.push(done);
        progress.advance(1);
    }
    progress.finish();
    if !fitted.is_empty() {
        let started = Instant::now();
        let accuracies = measure(model, data, &runner.network, &fitted, progress)?;
        for ((layer, _, _), accuracy) in fitted.iter().zip(accuracies) {
            let path = &runner.network.layers()[*layer].path;
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
        runner.network.clone_description(),
        seconds,
    );
    Ok((runner.network, analysis))
}

fn choose_subjects(network: &Network, config: &AnalyzeConfig) -> Result<Vec<Subject>, SfpError> {
    let available = || network.layers().iter().map(|layer| layer.path.clone()).collect::<Vec<_>>();
    if let Some(wanted) = &config.layers
        && let Some(unknown) = wanted.iter().find(|path| network.layer(path).is_none())
    {
        return Err(SfpError::UnknownLayer { path: unknown.clone(), available: available() });
    }
    let mut subjects = Vec::new();
    for (index, layer) in network.layers().iter().enumerate() {
        let wanted = config.layers.as_ref().is_none_or(|wanted| wanted.contains(&layer.path));
        // The classifier's output units are the labels themselves: there is nothing to read out.
        if layer.is_classifier || !wanted {
            continue;
        }
        let (fit, pooled) = if layer.feeds_classifier {
            (Fit::Classifier, None)
        } else {
            let pooled = Pooled::choose(config.grid, layer.kind, &layer.tap);
            let fit = match &config.readout {
                Readout::Ridge { strength } => Fit::Ridge(*strength),
                Readout::Gradient(_) => Fit::Gradient(None),
                Readout::Given(analysis) => given(analysis, layer, &pooled, network.classes())?,
            };
            (fit, pooled)
        };
        let features = layer.filters * pooled.as_ref().map_or(layer.tap.positions, Pooled::positions);
        if matches!(fit, Fit::Ridge(_)) && features > MOST_FEATURES {
            return Err(SfpError::Readout {
                path: layer.path.clone(),
                message: format!(
                    "its {features} features (filters times positions) are more than the {MOST_FEATURES} that a direct \
                     solver takes; set a grid (`Grid::Auto`) or analyse other layers"
                ),
            });
        }
        subjects.push(Subject { layer: index, pooled, fit, sums: None, gram: None, hits: 0 });
    }
    Ok(subjects)
}

fn given(analysis: &Analysis, layer: &Layer, pooled: &Option<Pooled>, classes: usize) -> Result<Fit, SfpError> {
    let positions = pooled.as_ref().map_or(layer.tap.positions, Pooled::positions);
    let expected = (layer.filters, positions, classes);
    let refuse = |message: String| Err(SfpError::Readout { path: layer.path.clone(), message });
    match analysis.readout(&layer.path) {
        Some((readout, info)) if readout.dim() == expected => Ok(Fit::Given(readout, info)),
        Some((readout, _)) => refuse(format!(
            "the readout handed over has shape {:?}, the layer needs {expected:?}; use the same model and grid",
            readout.dim()
        )),
        None => refuse("the analysis handed over holds no readout for it; analyse with `with_state(true)`".into()),
    }
}

/// The subject whose tap is this layer's input, where its sums give the input's mean.
fn direct_mean(network: &Network, layer: &Layer, subjects: &[Subject]) -> Option<usize> {
    subjects.iter().position(|subject| {
        let producer = &network.layers()[subject.layer];
        let same = producer.tap.tensor == layer.input;
        let flattened = layer.is_classifier && producer.feeds_classifier;
        match &subject.pooled {
            None => same || flattened,
            Some(pooled) => same && pooled.even() && layer.kind != LayerKind::Linear,
        }
    })
}

fn input_means(
    network: &Network,
    direct: &[Option<usize>],
    subjects: &[Subject],
    inputs: Vec<InputMean>,
    samples: u64,
) -> Result<Vec<Option<Vec<f32>>>, SfpError> {
    let mut means: Vec<Option<Vec<f32>>> = vec![None; network.layers().len()];
    let mean_of = |sums: ArrayView3<f64>, each_position: bool| -> Vec<f32> {
        let total = sums.sum_axis(Axis(0)) / samples as f64;
        if each_position {
            total.iter().map(|&mean| mean as f32).collect()
        } else {
            let positions = total.ncols().max(1) as f64;
            total.sum_axis(Axis(1)).iter().map(|&mean| (mean / positions) as f32).collect()
        }
    };
    for (k, source) in direct.iter().enumerate() {
        let Some(source) = source else { continue };
        let layer = &network.layers()[k];
        let each_position =
            layer.kind == LayerKind::Linear && layer.inputs != network.layers()[subjects[*source].layer].filters;
        means[k] = match &subjects[*source].sums {
            Some(ClassSums::Host(sums)) => Some(mean_of(sums.view(), each_position)),
            Some(ClassSums::Device(sums)) => {
                Some(mean_of(crate::backend::to_array3(sums)?.mapv(f64::from).view(), each_position))
            }
            None => None,
        };
    }
    for input in inputs {
        if let Some(sums) = input.sums {
            means[input.layer] = Some(mean_of(sums.into_host()?.view(), false));
        }
    }
    Ok(means)
}

/// Lists each tapped tensor once, with everyone who waits for it.
fn deduplicate(network: &Network, probes: Vec<Probe>) -> (Vec<Probe>, Vec<Vec<usize>>) {
    let mut kept: Vec<Probe> = Vec::new();
    let mut receivers: Vec<Vec<usize>> = Vec::new();
    let tensor = |probe: &Probe| match probe {
        Probe::Output(layer) => network.layers()[*layer].tap.tensor,
        Probe::Input(layer) => network.layers()[*layer].input,
    };
    for (k, probe) in probes.into_iter().enumerate() {
        let computed = !network.inputs.contains(&tensor(&probe));
        match kept.iter().position(|other| tensor(other) == tensor(&probe)) {
            Some(at) => receivers[at].push(k),
            // The network's input is no operation's output; its mean is never needed.
            None if computed => {
                kept.push(probe);
                receivers.push(vec![k]);
            }
            None => {}
        }
    }
    (kept, receivers)
}

fn check_labels<I: crate::ModuleInput>(index: usize, batch: &Batch<I>, classes: usize) -> Result<(), SfpError> {
    let inputs = batch.input.samples();
    if inputs == 0 && batch.labels.is_empty() {
        return Err(SfpError::NoSamples);
    }
    if inputs != batch.labels.len() {
        return Err(SfpError::LabelCount { batch: index, inputs, labels: batch.labels.len() });
    }
    match batch.labels.iter().position(|&label| label >= classes) {
        Some(sample) => Err(SfpError::LabelOutOfRange { batch: index, sample, label: batch.labels[sample], classes }),
        None => Ok(()),
    }
}

fn check_finite(path: &str, sums: &Array3<f64>, counts: &[u64]) -> Result<(), SfpError> {
    match sums.indexed_iter().find(|(_, sum)| !sum.is_finite()) {
        Some(((label, filter, _), &sum)) => {
            Err(SfpError::NonFinite { path: path.to_string(), label, filter, value: sum / counts[label].max(1) as f64 })
        }
        None => Ok(()),
    }
}

fn label_tensor(labels: &[usize], device: &burn::tensor::Device) -> Tensor<1, Int> {
    let labels: Vec<i64> = labels.iter().map(|&label| label as i64).collect();
    let count = labels.len();
    Tensor::from_data(TensorData::new(labels, [count]), device)
}

/// The classifier's weight `[F·S, C]` as a readout `[F, S, C]`.
fn classifier_readout(network: &Network, filters: usize, positions: usize) -> Result<Array3<f32>, SfpError> {
    let layer = network.layers().iter().find(|layer| layer.is_classifier);
    let weight = layer.and_then(|layer| {
        let path = &network.parameters()[layer.weight()].path;
        super::config::floats(network.parameter_data(path)?)
    });
    let classes = network.classes();
    weight
        .and_then(|weight| Array2::from_shape_vec((filters * positions, classes), weight).ok())
        .and_then(|weight| weight.into_shape_with_order((filters, positions, classes)).ok())
        .ok_or_else(|| SfpError::Readout {
            path: layer.map(|layer| layer.path.clone()).unwrap_or_default(),
            message: "the classifier's weight could not be read as [features, classes]".into(),
        })
}

/// Accuracy of fitted readouts, by one more pass.
fn measure<M: SfpModule, C: Calibration<M::Input> + ?Sized>(
    model: &M,
    data: &C,
    network: &Network,
    fitted: &[(usize, Option<Pooled>, Array3<f32>)],
    progress: &dyn Progress,
) -> Result<Vec<f64>, SfpError> {
    let probes: Vec<Probe> = fitted.iter().map(|(layer, _, _)| Probe::Output(*layer)).collect();
    let (probes, receivers) = deduplicate(network, probes);
    let mut runner = Runner::new(model, network.clone(), probes)?;
    let weights: Vec<Tensor<2>> = fitted
        .iter()
        .map(|(_, _, readout)| {
            let (filters, positions, classes) = readout.dim();
            let numbers: Vec<f32> = readout.slice(s![.., .., ..]).iter().copied().collect();
            Tensor::from_data(TensorData::new(numbers, [filters * positions, classes]), runner.device())
        })
        .collect();
    let mut hits = vec![0usize; fitted.len()];
    let mut samples = 0;
    progress.start("readout accuracy", data.samples());
    for (index, batch) in data.batches().enumerate() {
        let batch = batch.map_err(|message| SfpError::Data { batch: index, message })?;
        let labels = label_tensor(&batch.labels, runner.device());
        runner.run(index, &batch, |tap, acts| {
            for &k in &receivers[tap] {
                let acts = match &fitted[k].1 {
                    Some(pooled) => pooled.apply(acts.clone()),
                    None => acts.clone(),
                };
                let [n, f, s] = acts.dims();
                hits[k] += scores_match(acts.reshape([n, f * s]).matmul(weights[k].clone()), &labels)?;
            }
            Ok(())
        })?;
        samples += batch.labels.len();
        progress.advance(batch.labels.len());
    }
    progress.finish();
    Ok(hits.into_iter().map(|hits| hits as f64 / samples.max(1) as f64).collect())
}
