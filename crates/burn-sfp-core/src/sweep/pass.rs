//! One sweep: the targets and input sums that batches are added to.

use burn::tensor::Device;
use burn_sfp_graph::Network;

use super::input_mean::InputMeans;
use super::probe::deduplicate;
use super::runner::{Runner, device_of};
use super::target::{AnalysisTarget, Pass, choose_targets};
use crate::checks::{PassCounts, check_batch, on_device};
use crate::config::AnalyzeConfig;
use crate::labels::{BatchLabels, Top1, check_range};
use crate::{Batch, Calibration, SfpError, SfpModule};

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
    pub counts: PassCounts,
    /// Top-1 hits of the network.
    pub hits: usize,
    /// The first logit that no top-1 can be taken of. A layer before it whose activations are not finite says more.
    pub undefined: Option<SfpError>,
    /// Whether the work was cancelled before the last pass ended.
    pub is_cancelled: bool,
    classes: usize,
    receivers: Vec<Vec<Receiver>>,
}

impl<'a, M: SfpModule> Sweep<'a, M> {
    /// Captures the model on the first batch and chooses what is analyzed.
    pub fn prepare<C>(model: &'a M, data: &C, config: &AnalyzeConfig) -> Result<Self, SfpError>
    where
        C: Calibration<M::Inputs> + ?Sized,
    {
        Self::of_network(model, capture(model, data)?, config, device_of(model))
    }

    /// The sweep of a captured network on a device, perhaps another one than the model's.
    pub fn of_network(
        model: &'a M,
        network: Network,
        config: &AnalyzeConfig,
        device: Device,
    ) -> Result<Self, SfpError> {
        let targets = on_device("starting the readouts", || choose_targets(&network, config, &device))?;
        let inputs = InputMeans::choose(&network, &targets);
        let of_targets = targets.iter().enumerate().map(|(k, target)| (target.probe, Receiver::Target(k)));
        let of_inputs = inputs.probes().enumerate().map(|(k, probe)| (probe, Receiver::Input(k)));
        let (probes, receivers) = deduplicate(&network, of_targets.chain(of_inputs));
        let classes = network.classes();
        let (runner, counts) = (Runner::on(device, model, network, probes)?, PassCounts::new(classes));
        Ok(Self { runner, targets, inputs, counts, hits: 0, undefined: None, is_cancelled: false, classes, receivers })
    }

    /// Adds a batch, on which the pass is `index` batches in.
    pub fn run_batch(&mut self, index: usize, batch: &Batch<M::Inputs>, pass: Pass) -> Result<(), SfpError> {
        check_batch(index, batch)?;
        check_range(index, &batch.labels, self.classes)?;
        self.counts.add(&batch.labels);
        let labels = BatchLabels::new(&batch.labels, self.classes);
        let alike = BatchLabels::all_alike(batch.labels.len());
        let (targets, inputs, receivers) = (&mut self.targets, &mut self.inputs.own, &self.receivers);
        let logits = self.runner.run(index, batch, |tap, acts| {
            for receiver in &receivers[tap] {
                match *receiver {
                    Receiver::Target(k) => targets[k].receive(&acts, &labels, pass)?,
                    Receiver::Input(k) if pass.is_first => inputs[k].receive(&acts, &alike)?,
                    Receiver::Input(_) => {}
                }
            }
            Ok(())
        })?;
        if pass.is_first {
            match Top1::of(&logits, &batch.labels).of_logits(index) {
                Ok(hits) => self.hits += hits,
                Err(error) => {
                    self.undefined.get_or_insert(error);
                }
            }
        }
        Ok(())
    }

    /// N: samples of a pass.
    pub fn samples(&self) -> u64 {
        self.counts.of_first_pass().iter().sum()
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
    check_batch(0, &first)?;
    let network = Network::capture_with(model, &first.input, M::logits)?;
    if network.classes() == 0 {
        let found = network.output_shapes().first().cloned().unwrap_or_default();
        return Err(SfpError::LogitsShape { found, samples: network.batch() });
    }
    Ok(network)
}
