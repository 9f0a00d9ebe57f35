//! One more pass over the data for the accuracy of fitted readouts.

use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_sfp_graph::Network;
use ndarray::Array3;

use super::grid::Pooled;
use super::probe::{Probe, deduplicate};
use super::runner::Runner;
use crate::checks::{PassCounts, check_batch};
use crate::labels::{Top1, check_range};
use crate::{Batch, SfpError, SfpModule};

/// A fitted readout whose accuracy is to be measured.
pub(crate) struct Fitted {
    pub probe: Probe,
    pub pooled: Option<Pooled>,
    /// `[F, S, C]`.
    pub readout: Array3<f32>,
    /// Index of its entry in the analysis.
    pub layer: usize,
    /// Path of that entry.
    pub path: String,
}

/// Counts the top-1 hits of fitted readouts.
pub(super) struct Accuracy<'a, M: SfpModule> {
    pub runner: Runner<'a, M>,
    pub fitted: Arc<[Fitted]>,
    /// Which readouts read each tapped tensor.
    receivers: Vec<Vec<usize>>,
    weights: Vec<Tensor<2>>,
    counts: PassCounts,
    hits: Vec<usize>,
}

/// Hits of each readout, and the samples of each label that they are of.
pub(super) struct Hits {
    pub counts: Vec<u64>,
    pub hits: Vec<usize>,
}

impl<'a, M: SfpModule> Accuracy<'a, M> {
    /// Readouts of a captured network on a device.
    pub fn new(model: &'a M, device: Device, network: &Network, fitted: Arc<[Fitted]>) -> Result<Self, SfpError> {
        let (probes, receivers) = deduplicate(network, fitted.iter().enumerate().map(|(k, fitted)| (fitted.probe, k)));
        let runner = Runner::on(device, model, network.clone(), probes)?;
        let weight = |fitted: &Fitted| {
            let (filters, positions, classes) = fitted.readout.dim();
            let values: Vec<f32> = fitted.readout.iter().copied().collect();
            let data = TensorData::new(values, [filters * positions, classes]);
            Tensor::<2>::from_data(data, (runner.device(), DType::F32))
        };
        let weights = fitted.iter().map(weight).collect();
        let (counts, hits) = (PassCounts::new(network.classes()), vec![0; fitted.len()]);
        Ok(Self { runner, fitted, receivers, weights, counts, hits })
    }

    pub fn run_batch(&mut self, index: usize, batch: &Batch<M::Inputs>) -> Result<(), SfpError> {
        check_batch(index, batch)?;
        check_range(index, &batch.labels, self.runner.network.classes())?;
        let Self { runner, fitted, receivers, weights, counts, hits } = self;
        runner.run(index, batch, |tap, acts| {
            for &k in &receivers[tap] {
                let acts = match &fitted[k].pooled {
                    Some(pooled) => pooled.apply(acts.clone()),
                    None => acts.clone(),
                };
                let [n, f, s] = acts.dims();
                let scores = acts.reshape([n, f * s]).matmul(weights[k].clone());
                hits[k] += Top1::of(&scores, &batch.labels).of_readout(&fitted[k].path)?;
            }
            Ok(())
        })?;
        counts.add(&batch.labels);
        Ok(())
    }

    /// Takes the hits, after which they begin at zero again.
    pub fn take(&mut self) -> Hits {
        let hits = std::mem::replace(&mut self.hits, vec![0; self.fitted.len()]);
        Hits { counts: self.counts.take_current(), hits }
    }

    /// Adds the hits on another part of the data.
    pub fn add(&mut self, part: &Hits) {
        self.counts.add_counts(&part.counts);
        self.hits.iter_mut().zip(&part.hits).for_each(|(all, part)| *all += part);
    }
}
