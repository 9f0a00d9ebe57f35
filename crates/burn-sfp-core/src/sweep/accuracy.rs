//! One more pass over the data for the accuracy of fitted readouts.

use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_sfp_graph::Network;
use ndarray::Array3;

use super::grid::Pooled;
use super::probe::{Probe, deduplicate};
use super::runner::{Runner, device_of};
use crate::checks::{PassCounts, check_batch, each_batch};
use crate::labels::{Top1, check_range};
use crate::pool::{ChunkWork, Members, Merged, in_chunks};
use crate::{Batch, Calibration, Progress, SfpError, SfpModule};

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
struct Accuracy<'a, M: SfpModule> {
    pub runner: Runner<'a, M>,
    pub fitted: Arc<[Fitted]>,
    /// Which readouts read each tapped tensor.
    receivers: Vec<Vec<usize>>,
    weights: Vec<Tensor<2>>,
    counts: PassCounts,
    hits: Vec<usize>,
}

/// Hits of each readout, and the samples of each label that they are of.
struct Hits {
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

/// Measures the top-1 of fitted readouts by one more pass over the data, which has to hold what the passes counted in `counts` held: on the
/// model's device, or on the devices of a pool. Returns `None` if the work was cancelled.
pub(crate) fn measure<M: SfpModule, C: Calibration<M::Inputs> + ?Sized>(
    model: &M,
    data: &C,
    network: &Network,
    fitted: Arc<[Fitted]>,
    mut counts: PassCounts,
    members: Option<&mut Members>,
    progress: &dyn Progress,
) -> Result<Option<Vec<f64>>, SfpError> {
    let _span = tracing::info_span!("readout accuracy").entered();
    let samples: u64 = counts.of_first_pass().iter().sum();
    let mut all = Accuracy::new(model, device_of(model), network, fitted.clone())?;
    progress.start("readout accuracy", data.samples());
    let is_cancelled = match members {
        None => each_batch(data, progress, |index, batch| all.run_batch(index, batch))?,
        Some(members) => {
            let work = AccuracyWork { network: network.clone(), fitted };
            let add = |part| {
                all.add(&part);
                Ok(())
            };
            in_chunks(members, model, data.batches(), Merged::default(), work, add, progress)?
        }
    };
    progress.finish();
    if is_cancelled {
        return Ok(None);
    }
    let Hits { counts: seen, hits } = all.take();
    counts.add_counts(&seen);
    counts.end_pass()?;
    Ok(Some(hits.into_iter().map(|hits| hits as f64 / samples.max(1) as f64).collect()))
}

/// The accuracy of readouts on each device.
struct AccuracyWork {
    network: Network,
    fitted: Arc<[Fitted]>,
}

impl<M: SfpModule> ChunkWork<M> for AccuracyWork {
    type State<'m>
        = Accuracy<'m, M>
    where
        M: 'm;
    type Part = Hits;
    type Error = SfpError;

    fn start<'m>(&'m self, model: &'m M, device: &Device) -> Result<Accuracy<'m, M>, SfpError> {
        Accuracy::new(model, device.clone(), &self.network, self.fitted.clone())
    }

    fn run(&self, accuracy: &mut Accuracy<'_, M>, index: usize, batch: &Batch<M::Inputs>) -> Result<(), SfpError> {
        accuracy.run_batch(index, batch)
    }

    fn take(&self, accuracy: &mut Accuracy<'_, M>) -> Result<Self::Part, SfpError> {
        Ok(accuracy.take())
    }
}
