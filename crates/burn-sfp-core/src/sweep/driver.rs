//! Who passes over the data: the model's own device, or the devices of a pool.

use burn::tensor::Device;
use burn_sfp_graph::Network;

use super::accuracy::{Accuracy, Fitted};
use super::partial::Partial;
use super::pass::Sweep;
use super::saved::Saved;
use super::target::Pass;
use crate::checks::on_batch;
use crate::config::AnalyzeConfig;
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
        let network = all.runner.network.clone();
        let (work, model) = (SweepWork { network: &network, config: self.config, pass }, all.runner.model());
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
        let done = in_chunks(&mut self.members, model, data.batches(), first, &work, add, progress);
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
        let network = all.runner.network.clone();
        let (work, model) = (AccuracyWork { network: &network, fitted: all.fitted }, all.runner.model());
        in_chunks(
            &mut self.members,
            model,
            data.batches(),
            Merged::default(),
            &work,
            |part| {
                all.add(&part);
                Ok(())
            },
            progress,
        )
    }
}

/// The sweep on each device.
struct SweepWork<'a> {
    network: &'a Network,
    config: &'a AnalyzeConfig,
    pass: Pass,
}

impl<M: SfpModule> ChunkWork<M> for SweepWork<'_> {
    type State<'m>
        = Sweep<'m, M>
    where
        M: 'm;
    type Part = Partial;
    type Error = SfpError;

    fn start<'m>(&'m self, model: &'m M, device: &Device) -> Result<Sweep<'m, M>, SfpError> {
        Sweep::of_network(model, self.network.clone(), self.config, device.clone())
    }

    fn run(&self, sweep: &mut Sweep<'_, M>, chunk: &Chunk<M::Inputs>) -> Result<(), SfpError> {
        for (batch, index) in chunk.batches.iter().zip(chunk.first..) {
            on_batch(index, || sweep.run_batch(index, batch, self.pass))?;
        }
        Ok(())
    }

    fn take(&self, sweep: &mut Sweep<'_, M>) -> Result<Partial, SfpError> {
        sweep.take()
    }
}

/// The accuracy of readouts on each device.
struct AccuracyWork<'a> {
    network: &'a Network,
    fitted: &'a [Fitted],
}

impl<M: SfpModule> ChunkWork<M> for AccuracyWork<'_> {
    type State<'m>
        = Accuracy<'m, M>
    where
        M: 'm;
    type Part = super::accuracy::Hits;
    type Error = SfpError;

    fn start<'m>(&'m self, model: &'m M, device: &Device) -> Result<Accuracy<'m, M>, SfpError> {
        Accuracy::new(model, device.clone(), self.network, self.fitted)
    }

    fn run(&self, accuracy: &mut Accuracy<'_, M>, chunk: &Chunk<M::Inputs>) -> Result<(), SfpError> {
        for (batch, index) in chunk.batches.iter().zip(chunk.first..) {
            on_batch(index, || accuracy.run_batch(index, batch))?;
        }
        Ok(())
    }

    fn take(&self, accuracy: &mut Accuracy<'_, M>) -> Result<Self::Part, SfpError> {
        Ok(accuracy.take())
    }
}
