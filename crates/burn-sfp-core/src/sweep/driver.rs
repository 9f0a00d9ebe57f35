//! Who passes over the data: the model's own device, or the devices of a pool.

use burn::tensor::Device;
use burn_sfp_graph::Network;

use super::partial::Partial;
use super::pass::Sweep;
use super::saved::Saved;
use super::target::{Fit, Pass};
use crate::checks::each_batch;
use crate::config::{AnalyzeConfig, Readout};
use crate::pool::{ChunkWork, DevicePool, Members, Merged, in_chunks};
use crate::{Batch, Calibration, Progress, SfpError, SfpModule};

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

    /// Returns the devices of a pool, where it is they that pass over the data.
    fn members(&mut self) -> Option<&mut Members>;
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
        each_batch(data, progress, |index, batch| all.run_batch(index, batch, pass))
    }

    fn members(&mut self) -> Option<&mut Members> {
        None
    }
}

/// Passes on many devices, over batches that are cut into some parts.
pub(super) struct OnDevices<'a> {
    members: Members,
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

    fn members(&mut self) -> Option<&mut Members> {
        Some(&mut self.members)
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

    fn run(&self, sweep: &mut Sweep<'_, M>, index: usize, batch: &Batch<M::Inputs>) -> Result<(), SfpError> {
        sweep.run_batch(index, batch, self.pass)
    }

    fn take(&self, sweep: &mut Sweep<'_, M>) -> Result<Partial, SfpError> {
        sweep.take()
    }
}
