//! Who passes over the data: the model's own device, or the devices of a pool.

use std::sync::Arc;

use burn::tensor::Device;
use burn_sfp_graph::Network;

use super::accuracy::{Accuracy, Fitted, Hits};
use super::partial::Partial;
use super::pass::Sweep;
use super::runner::device_of;
use super::saved::Saved;
use super::target::{Fit, Pass};
use crate::checks::{PassCounts, on_batch};
use crate::config::{AnalyzeConfig, Readout};
use crate::pool::{Chunk, ChunkWork, DevicePool, Members, Merged, in_chunks};
use crate::{Calibration, Progress, SfpError, SfpModule};

/// Runs passes; each returns whether it was cancelled.
pub(super) trait Driver<M: SfpModule> {
    /// Adds all batches to a sweep.
    fn sweep<C>(
        &mut self,
        all: &mut Sweep<'_, M>,
        data: &C,
        pass: Pass,
        progress: &dyn Progress,
    ) -> Result<bool, SfpError>
    where
        C: Calibration<M::Inputs> + ?Sized;

    /// Counts the hits of fitted readouts on all batches.
    fn measure<C>(&mut self, all: &mut Accuracy<'_, M>, data: &C, progress: &dyn Progress) -> Result<bool, SfpError>
    where
        C: Calibration<M::Inputs> + ?Sized;
}

impl<M: SfpModule> Sweep<'_, M> {
    /// Passes over the data: once, or once per epoch where gradient readouts are fitted.
    pub fn run<C>(
        &mut self,
        data: &C,
        driver: &mut impl Driver<M>,
        config: &AnalyzeConfig,
        progress: &dyn Progress,
    ) -> Result<(), SfpError>
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
            self.run_pass(data, driver, pass, progress)?;
            if self.is_cancelled {
                break;
            }
        }
        let counts = self.counts.of_first_pass();
        let missing: Vec<usize> = (0..counts.len()).filter(|&label| counts[label] == 0).collect();
        match missing.is_empty() {
            true => Ok(()),
            false if self.is_cancelled => Err(SfpError::Cancelled { samples: self.samples() }),
            false => Err(SfpError::ClassWithoutSamples { missing }),
        }
    }

    fn run_pass<C>(
        &mut self,
        data: &C,
        driver: &mut impl Driver<M>,
        pass: Pass,
        progress: &dyn Progress,
    ) -> Result<(), SfpError>
    where
        C: Calibration<M::Inputs> + ?Sized,
    {
        let stage = if pass.is_first { "sweep" } else { "readouts" };
        let _span = tracing::info_span!("pass", stage).entered();
        progress.start(stage, data.samples());
        self.is_cancelled = driver.sweep(self, data, pass, progress)?;
        progress.finish();
        if self.is_cancelled {
            self.counts.stop();
        } else {
            self.counts.end_pass()?;
        }
        Ok(())
    }
}

/// Measures the top-1 of fitted readouts on the model's device by one more pass over the data, which has to hold what the passes counted in
/// `counts` held. Returns `None` if the work was cancelled.
pub(crate) fn measure<M: SfpModule, C: Calibration<M::Inputs> + ?Sized>(
    model: &M,
    data: &C,
    network: &Network,
    fitted: Arc<[Fitted]>,
    counts: PassCounts,
    progress: &dyn Progress,
) -> Result<Option<Vec<f64>>, SfpError> {
    measure_by(&mut Here, Accuracy::new(model, device_of(model), network, fitted)?, data, counts, progress)
}

/// The same by a driver.
pub(super) fn measure_by<M: SfpModule, C: Calibration<M::Inputs> + ?Sized>(
    driver: &mut impl Driver<M>,
    mut accuracy: Accuracy<'_, M>,
    data: &C,
    mut counts: PassCounts,
    progress: &dyn Progress,
) -> Result<Option<Vec<f64>>, SfpError> {
    let _span = tracing::info_span!("readout accuracy").entered();
    let samples: u64 = counts.of_first_pass().iter().sum();
    progress.start("readout accuracy", data.samples());
    let is_cancelled = driver.measure(&mut accuracy, data, progress)?;
    progress.finish();
    if is_cancelled {
        return Ok(None);
    }
    let Hits { counts: seen, hits } = accuracy.take();
    counts.add_counts(&seen);
    counts.end_pass()?;
    Ok(Some(hits.into_iter().map(|hits| hits as f64 / samples.max(1) as f64).collect()))
}

/// Passes on the model's device, batch after batch.
pub(super) struct Here;

impl<M: SfpModule> Driver<M> for Here {
    fn sweep<C>(
        &mut self,
        all: &mut Sweep<'_, M>,
        data: &C,
        pass: Pass,
        progress: &dyn Progress,
    ) -> Result<bool, SfpError>
    where
        C: Calibration<M::Inputs> + ?Sized,
    {
        each_batch::<M, C>(data, progress, |index, batch| all.run_batch(index, batch, pass))
    }

    fn measure<C>(&mut self, all: &mut Accuracy<'_, M>, data: &C, progress: &dyn Progress) -> Result<bool, SfpError>
    where
        C: Calibration<M::Inputs> + ?Sized,
    {
        each_batch::<M, C>(data, progress, |index, batch| all.run_batch(index, batch))
    }
}

fn each_batch<M: SfpModule, C: Calibration<M::Inputs> + ?Sized>(
    data: &C,
    progress: &dyn Progress,
    mut run: impl FnMut(usize, &crate::Batch<M::Inputs>) -> Result<(), SfpError>,
) -> Result<bool, SfpError> {
    for (index, batch) in data.batches().enumerate() {
        let batch = batch.map_err(|source| SfpError::Data { batch: index, source })?;
        on_batch(index, || run(index, &batch))?;
        progress.advance(batch.labels.len());
        if progress.is_cancelled() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Passes on many devices, over batches that are cut into some parts.
pub(super) struct OnDevices<'a> {
    members: Members<'a>,
    config: &'a AnalyzeConfig,
    saved: Option<Saved<'a>>,
}

impl<'a> OnDevices<'a> {
    pub fn new(pool: &'a DevicePool, config: &'a AnalyzeConfig, parts: usize) -> Self {
        Self { members: Members::new(pool), config, saved: Saved::new(pool, config, parts) }
    }
}

impl<M: SfpModule> Driver<M> for OnDevices<'_> {
    fn sweep<C>(
        &mut self,
        all: &mut Sweep<'_, M>,
        data: &C,
        pass: Pass,
        progress: &dyn Progress,
    ) -> Result<bool, SfpError>
    where
        C: Calibration<M::Inputs> + ?Sized,
    {
        let (network, model) = (all.runner.network.clone(), all.runner.model());
        let work = SweepWork { network, config: self.config.clone(), pass };
        let saved = self.saved.as_ref();
        let first = saved.map_or(Ok(0), |saved| saved.load(all))?;
        let samples: u64 = all.counts.of_current_pass().iter().sum();
        progress.advance(samples as usize);
        let mut chunks = first;
        let add = |part| {
            all.add(part)?;
            chunks += 1;
            saved.filter(|saved| saved.is_due(chunks)).map_or(Ok(()), |saved| saved.save(all, chunks))
        };
        let first = Merged { chunks: first, samples };
        let done = in_chunks(&mut self.members, model, data.batches(), first, work, add, progress);
        match (saved, &done) {
            (Some(saved), Ok(_)) => saved.save(all, chunks)?,
            // Without memory the work starts over, with other batches.
            (Some(saved), Err(SfpError::Devices { out_of_memory: false, .. })) => {
                if let Err(error) = saved.save(all, chunks) {
                    tracing::warn!("{error}: the sums of {chunks} chunks are lost");
                }
            }
            _ => {}
        }
        done
    }

    fn measure<C>(&mut self, all: &mut Accuracy<'_, M>, data: &C, progress: &dyn Progress) -> Result<bool, SfpError>
    where
        C: Calibration<M::Inputs> + ?Sized,
    {
        let (network, model) = (all.runner.network.clone(), all.runner.model());
        let work = AccuracyWork { network, fitted: all.fitted.clone() };
        in_chunks(
            &mut self.members,
            model,
            data.batches(),
            Merged::default(),
            work,
            |part| {
                all.add(&part);
                Ok(())
            },
            progress,
        )
    }
}

/// The sweep on each device.
struct SweepWork {
    network: Network,
    config: AnalyzeConfig,
    pass: Pass,
}

impl<M: SfpModule> ChunkWork<M> for SweepWork {
    type State<'m>
        = Sweep<'m, M>
    where
        M: 'm;
    type Part = Partial;
    type Error = SfpError;

    fn start<'m>(&'m self, model: &'m M, device: &Device) -> Result<Sweep<'m, M>, SfpError> {
        Sweep::of_network(model, self.network.clone(), &self.config, device.clone())
    }

    fn run(&self, sweep: &mut Sweep<'_, M>, chunk: &Chunk<M::Inputs>) -> Result<(), SfpError> {
        for (index, batch) in chunk.batches() {
            on_batch(index, || sweep.run_batch(index, batch, self.pass))?;
        }
        Ok(())
    }

    fn take(&self, sweep: &mut Sweep<'_, M>) -> Result<Partial, SfpError> {
        sweep.take()
    }
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

    fn run(&self, accuracy: &mut Accuracy<'_, M>, chunk: &Chunk<M::Inputs>) -> Result<(), SfpError> {
        for (index, batch) in chunk.batches() {
            on_batch(index, || accuracy.run_batch(index, batch))?;
        }
        Ok(())
    }

    fn take(&self, accuracy: &mut Accuracy<'_, M>) -> Result<Self::Part, SfpError> {
        Ok(accuracy.take())
    }
}
