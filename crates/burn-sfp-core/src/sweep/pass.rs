//! One sweep: the targets and input sums that batches are added to.

use burn_sfp_graph::{ModuleInput, Network};

use super::input_mean::InputMeans;
use super::probe::deduplicate;
use super::runner::{Runner, device_of};
use super::target::{AnalysisTarget, BatchLabels, Fit, Pass, choose_targets};
use crate::config::{AnalyzeConfig, Readout};
use crate::labels::{check_count, check_range, top1_hits};
use crate::{Batch, Calibration, Progress, SfpError, SfpModule};

/// Who receives a tapped tensor.
#[derive(Clone, Copy)]
enum Receiver {
    Target(usize),
    Input(usize),
}

/// The network of a sweep and everything that its batches are added to.
pub(super) struct Sweep<'a, M: SfpModule> {
    pub runner: Runner<'a, M>,
    pub targets: Vec<AnalysisTarget>,
    pub inputs: InputMeans,
    /// Samples of each label.
    pub counts: Vec<u64>,
    /// Top-1 hits of the network.
    pub hits: usize,
    receivers: Vec<Vec<Receiver>>,
}

impl<'a, M: SfpModule> Sweep<'a, M> {
    /// Captures the model on the first batch and chooses what is analyzed.
    pub fn prepare<C>(model: &'a M, data: &C, config: &AnalyzeConfig) -> Result<Self, SfpError>
    where
        C: Calibration<M::Inputs> + ?Sized,
    {
        let network = capture(model, data)?;
        let targets = choose_targets(&network, config, &device_of(model))?;
        let inputs = InputMeans::choose(&network, &targets);
        let of_targets = targets.iter().enumerate().map(|(k, target)| (target.probe, Receiver::Target(k)));
        let of_inputs = inputs.probes().enumerate().map(|(k, probe)| (probe, Receiver::Input(k)));
        let (probes, receivers) = deduplicate(&network, of_targets.chain(of_inputs));
        let counts = vec![0; network.classes()];
        Ok(Self { runner: Runner::new(model, network, probes)?, targets, inputs, counts, hits: 0, receivers })
    }

    /// Passes over the data: once, or once per epoch where gradient readouts are fitted.
    pub fn run<C>(&mut self, data: &C, config: &AnalyzeConfig, progress: &dyn Progress) -> Result<(), SfpError>
    where
        C: Calibration<M::Inputs> + ?Sized,
    {
        let is_gradient = self.targets.iter().any(|target| matches!(target.fit, Fit::Gradient(..)));
        let rates = match &config.readout {
            Readout::Gradient(gradient) if is_gradient => gradient.learning_rates()?,
            _ => Vec::new(),
        };
        let passes = rates.len().max(1);
        for number in 0..passes {
            let pass = Pass {
                is_first: number == 0,
                is_last: number + 1 == passes,
                learning_rate: rates.get(number).copied(),
            };
            self.run_pass(data, pass, progress)?;
        }
        let missing: Vec<usize> = (0..self.counts.len()).filter(|&label| self.counts[label] == 0).collect();
        if missing.is_empty() { Ok(()) } else { Err(SfpError::ClassWithoutSamples { missing }) }
    }

    fn run_pass<C>(&mut self, data: &C, pass: Pass, progress: &dyn Progress) -> Result<(), SfpError>
    where
        C: Calibration<M::Inputs> + ?Sized,
    {
        progress.start(if pass.is_first { "sweep" } else { "readouts" }, data.samples());
        for (index, batch) in data.batches().enumerate() {
            let batch = batch.map_err(|source| SfpError::Data { batch: index, source })?;
            self.run_batch(index, &batch, pass)?;
            progress.advance(batch.labels.len());
        }
        progress.finish();
        Ok(())
    }

    fn run_batch(&mut self, index: usize, batch: &Batch<M::Inputs>, pass: Pass) -> Result<(), SfpError> {
        check_samples(index, batch)?;
        check_range(index, &batch.labels, self.counts.len())?;
        let labels = BatchLabels::new(&batch.labels, self.counts.len(), self.runner.device());
        let (targets, inputs, receivers) = (&mut self.targets, &mut self.inputs.own, &self.receivers);
        let logits = self.runner.run(index, batch, |tap, acts| {
            for receiver in &receivers[tap] {
                match *receiver {
                    Receiver::Target(k) => targets[k].receive(&acts, &labels, pass)?,
                    Receiver::Input(k) if pass.is_first => inputs[k].receive(&acts, &labels)?,
                    Receiver::Input(_) => {}
                }
            }
            Ok(())
        })?;
        if pass.is_first {
            self.hits += top1_hits(logits, &labels.tensor);
            for &label in &batch.labels {
                self.counts[label] += 1;
            }
        }
        Ok(())
    }

    /// N: samples of a pass.
    pub fn samples(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Top-1 of the network.
    pub fn top1(&self) -> f64 {
        self.hits as f64 / self.samples() as f64
    }
}

/// Captures the network of the logits on the first batch.
fn capture<M: SfpModule, C: Calibration<M::Inputs> + ?Sized>(model: &M, data: &C) -> Result<Network, SfpError> {
    let first = data.batches().next().ok_or(SfpError::NoSamples)?;
    let first = first.map_err(|source| SfpError::Data { batch: 0, source })?;
    check_samples(0, &first)?;
    let network = Network::capture_with(model, &first.input, M::logits)?;
    if network.classes() == 0 {
        let found = network.output_shapes().first().cloned().unwrap_or_default();
        return Err(SfpError::LogitsShape { found, samples: network.batch() });
    }
    Ok(network)
}

fn check_samples<I: ModuleInput>(index: usize, batch: &Batch<I>) -> Result<(), SfpError> {
    let samples = batch.input.samples();
    if samples == 0 && batch.labels.is_empty() {
        return Err(SfpError::EmptyBatch { batch: index });
    }
    check_count(index, samples, &batch.labels)
}
