//! [`Share`]: the batches that a device holds, of both networks, and what is summed of them at a step.

use std::sync::Arc;

use burn::tensor::Device;
use burn_sfp_core::{Batch, ChannelMoments, Layerwise, Regression, SfpError, SfpModule};
use burn_sfp_graph::Network;

use super::run::Start;

/// What is summed at a step of the pruned network.
#[allow(clippy::large_enum_variant)] // one per layer
#[derive(Debug)]
pub(super) enum Measure {
    /// Mean and variance of the channels of what it reads.
    Moments { path: String, step: usize, channels: usize },
    /// What it reads, and what a step of the original returns; of each batch so many rows at the most.
    Fit { step: usize, original: usize, regression: Regression, patches: usize },
}

impl Measure {
    /// The same without samples.
    pub fn empty(&self) -> Self {
        match self {
            Self::Moments { path, step, channels } => {
                Self::Moments { path: path.clone(), step: *step, channels: *channels }
            }
            Self::Fit { step, original, regression, patches } => {
                Self::Fit { step: *step, original: *original, regression: regression.empty(), patches: *patches }
            }
        }
    }
}

/// The sums.
#[allow(clippy::large_enum_variant)] // one per layer and chunk
pub(super) enum Measured {
    Moments(ChannelMoments),
    Fit(Regression),
}

impl Measured {
    fn of(measure: &Measure) -> Self {
        match measure {
            Measure::Moments { path, channels, .. } => Self::Moments(ChannelMoments::new(path, *channels)),
            Measure::Fit { regression, .. } => Self::Fit(regression.empty()),
        }
    }

    /// Takes the sums from the device.
    fn settle(&mut self) -> Result<(), SfpError> {
        match self {
            Self::Moments(moments) => moments.settle(),
            Self::Fit(regression) => regression.settle(),
        }
    }

    /// Adds those of later batches.
    pub fn merge(&mut self, other: Self) -> Result<(), SfpError> {
        match (self, other) {
            (Self::Moments(all), Self::Moments(own)) => all.merge(own),
            (Self::Fit(all), Self::Fit(own)) => all.merge(own),
            // Both are of one measure.
            _ => Ok(()),
        }
    }
}

/// New values of parameters, in the order in which they were set.
pub(super) type Log = Vec<(usize, Arc<[f64]>)>;

/// Both networks on a device, with the batches that it holds, chunk by chunk.
pub(super) struct Share<M> {
    models: [M; 2],
    networks: [Network; 2],
    start: Start,
    device: Device,
    /// Those that were loaded together, and are as far.
    units: Vec<Unit>,
}

/// The two networks, loaded with the same batches; the original only where something is fitted to it.
struct Unit {
    original: Option<Layerwise>,
    pruned: Layerwise,
    /// For each batch its chunk, and its place among all batches.
    places: Vec<(usize, usize)>,
    /// Entries of the log that are set.
    set: usize,
}

impl<M: SfpModule> Share<M> {
    /// Without batches. `models` and `networks` are the original and the pruned one.
    pub fn new(models: [M; 2], networks: [Network; 2], start: Start, device: Device) -> Self {
        Self { models, networks, start, device, units: Vec::new() }
    }

    /// Begins with batches that are not as far as those before.
    pub fn begin(&mut self) -> Result<(), SfpError> {
        let [before, after] = &self.networks;
        let on_device = |network: &Network| Layerwise::on(self.device.clone(), network.clone());
        let original = self.start.original.map(|_| on_device(before)).transpose()?;
        self.units.push(Unit { original, pruned: on_device(after)?, places: Vec::new(), set: 0 });
        Ok(())
    }

    /// Adds a batch of a chunk, the `index`-th of all, and runs what comes before the first correction on it.
    pub fn add(&mut self, chunk: usize, index: usize, batch: &Batch<M::Inputs>) -> Result<(), SfpError> {
        if self.units.is_empty() {
            self.begin()?;
        }
        let Self { models: [original, pruned], start, units, .. } = self;
        let Some(unit) = units.last_mut() else { return Ok(()) };
        if let (Some(step), Some(pass)) = (start.original, &mut unit.original) {
            pass.load(original, index, batch, step)?;
        }
        unit.pruned.load(pruned, index, batch, start.pruned)?;
        unit.places.push((chunk, index));
        Ok(())
    }

    /// Sums up the batches of each of the wanted chunks; what the log sets is set before.
    pub fn measure(
        &mut self,
        measure: &Measure,
        log: &Log,
        is_wanted: impl Fn(usize) -> bool,
    ) -> Result<Vec<(usize, Measured)>, SfpError> {
        let mut found: Vec<(usize, Measured)> = Vec::new();
        for unit in &mut self.units {
            unit.run(measure, log)?;
            for at in 0..unit.places.len() {
                let chunk = unit.places[at].0;
                if !is_wanted(chunk) {
                    continue;
                }
                if found.last().is_none_or(|(last, _)| *last != chunk) {
                    settle_last(&mut found)?;
                    found.push((chunk, Measured::of(measure)));
                }
                if let Some((_, sums)) = found.last_mut() {
                    unit.add_to(sums, measure, at)?;
                }
            }
        }
        Ok(found)
    }
}

/// Takes the last sums from the device, since no more batches are added.
fn settle_last(found: &mut [(usize, Measured)]) -> Result<(), SfpError> {
    found.last_mut().map_or(Ok(()), |(_, sums)| sums.settle())
}

/// Takes the last sums from the device.
pub(super) fn settled(mut found: Vec<(usize, Measured)>) -> Result<Vec<(usize, Measured)>, SfpError> {
    settle_last(&mut found)?;
    Ok(found)
}

impl Unit {
    /// Runs both networks up to what is measured.
    fn run(&mut self, measure: &Measure, log: &Log) -> Result<(), SfpError> {
        for (parameter, values) in &log[self.set.min(log.len())..] {
            self.pruned.set(*parameter, values)?;
        }
        self.set = log.len();
        match measure {
            Measure::Moments { step, .. } => self.pruned.run_before(*step),
            Measure::Fit { step, original, .. } => {
                self.pruned.run_before(*step)?;
                self.original.as_mut().map_or(Ok(()), |pass| pass.run_through(*original))
            }
        }
    }

    /// Adds a batch to the sums.
    fn add_to(&mut self, sums: &mut Measured, measure: &Measure, at: usize) -> Result<(), SfpError> {
        match (sums, measure) {
            (Measured::Moments(moments), Measure::Moments { step, .. }) => {
                moments.add(&self.pruned.input(at, *step)?);
            }
            (Measured::Fit(regression), Measure::Fit { step, original, patches, .. }) => {
                let Some(pass) = &mut self.original else { return Ok(()) };
                let (input, target) = (self.pruned.input(at, *step)?, pass.output(at, *original)?);
                regression.add(self.places[at].1, &input, &target, *patches)?;
            }
            _ => {}
        }
        Ok(())
    }
}
