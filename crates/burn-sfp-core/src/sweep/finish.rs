//! From the sums of a sweep to the finished analyses of its targets.

use burn::tensor::Device;
use burn_sfp_graph::Network;
use ndarray::Array3;

use super::accuracy::Fitted;
use super::probe::Probe;
use super::target::{AnalysisTarget, Fit};
use crate::analysis::{LayerAnalysis, LayerState, ReadoutInfo, Seconds, finish_layer};
use crate::config::AnalyzeConfig;
use crate::readout::classifier_readout;
use crate::sums::Gram;
use crate::{Progress, SfpError};

/// What all targets of a sweep have in common.
pub(super) struct Finish<'a> {
    pub network: &'a Network,
    pub device: &'a Device,
    pub config: &'a AnalyzeConfig,
    /// Samples of each label.
    pub counts: &'a [u64],
    /// Top-1 of the network.
    pub top1: f64,
    /// Whether the last pass saw all samples.
    pub is_whole: bool,
}

impl Finish<'_> {
    /// Finishes the targets in their order. Also returns the readouts whose accuracy has still to be measured.
    pub fn targets(
        &self,
        targets: Vec<AnalysisTarget>,
        progress: &dyn Progress,
        seconds: &mut Seconds,
    ) -> Result<(Vec<LayerAnalysis>, Vec<Fitted>), SfpError> {
        let (threshold, keep) = (self.config.threshold, self.config.state);
        let mut layers = Vec::with_capacity(targets.len());
        let mut fitted = Vec::new();
        for target in targets {
            let (probe, pooled) = (target.probe, target.pooled.clone());
            let Some(state) = self.state(target)? else { continue };
            let (layer, readout) = finish_layer(state, self.counts, threshold, keep, Some(self.device), seconds)?;
            let is_unmeasured = matches!(layer.readout, ReadoutInfo::Ridge { .. } | ReadoutInfo::Given { .. });
            if self.config.accuracy && is_unmeasured {
                fitted.push(Fitted { probe, pooled, readout, layer: layers.len(), path: layer.path.clone() });
            }
            layers.push(layer);
            progress.advance(1);
        }
        Ok((layers, fitted))
    }

    /// The sums and the readout of a target on the host; `None` where no operation computes its output.
    fn state(&self, target: AnalysisTarget) -> Result<Option<LayerState>, SfpError> {
        let AnalysisTarget { probe, path, kind, pooled, fit, sums, gram, hits } = target;
        let Some(sums) = sums else { return Ok(None) };
        let sums = sums.into_host(&path)?;
        check_finite(&path, &sums, self.counts)?;
        let gram = gram.map(Gram::into_host).transpose()?;
        let (readout, info) = self.readout(fit, probe, sums.dim().1, hits)?;
        let grid = pooled.map(|pooled| pooled.to);
        Ok(Some(LayerState { path, kind, grid, sums, gram, readout, info }))
    }

    /// The readout, where it need not be solved for, and its provenance.
    fn readout(
        &self,
        fit: Fit,
        probe: Probe,
        filters: usize,
        hits: usize,
    ) -> Result<(Option<Array3<f32>>, ReadoutInfo), SfpError> {
        Ok(match fit {
            Fit::Classifier => {
                let readout = classifier_readout(self.network, &probe.tap(self.network))?;
                (Some(readout), ReadoutInfo::Classifier { accuracy: self.top1 })
            }
            Fit::Ridge(strength) => (None, ReadoutInfo::Ridge { strength, accuracy: None }),
            Fit::Given(readout, info) => (Some(readout), info),
            Fit::Gradient(config, readout) => {
                let accuracy = self.is_whole.then(|| hits as f64 / self.counts.iter().sum::<u64>() as f64);
                let info = ReadoutInfo::Gradient { config, seed: self.config.seed, accuracy };
                (Some(readout.into_readout(filters)?), info)
            }
        })
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
