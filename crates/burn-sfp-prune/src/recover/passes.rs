//! Who holds the batches of a recovery: the model's own device, or the devices of a pool.

use std::collections::{BTreeMap, VecDeque};

use burn::tensor::Device;
use burn_sfp_core::checks::{Crew, JobOutcome, check_batch, panicked};
use burn_sfp_core::{Batch, BatchIter, DevicePool, Progress, SfpError, SfpModule};
use burn_sfp_graph::{Network, attempt};

use super::report::RecoveryReport;
use super::run::Start;
use super::share::{Log, Measure, Measured, Share, settled};
use crate::PruneError;

/// Both networks over all batches, step by step.
pub(super) trait Passes {
    /// Number of batches.
    fn batches(&self) -> usize;

    /// Runs both networks up to a step and sums up what is asked for.
    fn measure(&mut self, measure: Measure) -> Result<Measured, PruneError>;

    /// Replaces a parameter of the pruned network in everything that has not run.
    fn set(&mut self, parameter: usize, values: &[f64]);
}

/// All batches on one device.
pub(super) struct Here<M> {
    share: Share<M>,
    log: Log,
    batches: usize,
}

impl<M: SfpModule> Here<M> {
    /// Reads the batches, as many as fit, and runs what comes before the first correction on each.
    pub fn load(
        models: [&M; 2],
        networks: [Network; 2],
        start: Start,
        batches: BatchIter<'_, M::Inputs>,
        report: &mut RecoveryReport,
        progress: &dyn Progress,
    ) -> Result<Self, PruneError> {
        let device = models[1].devices().into_iter().next().unwrap_or_default().without_autodiff();
        let mut share = Share::new(models.map(M::clone), networks, start, device);
        let mut all = 0;
        for (index, batch) in batches.enumerate() {
            let batch = batch.map_err(|source| SfpError::Data { batch: index, source })?;
            check_batch(index, &batch)?;
            let samples = batch.labels.len();
            let is_full = index > 0 && report.samples + samples as u64 > start.samples;
            if is_full || progress.is_cancelled() {
                report.all_samples = false;
                break;
            }
            add(&mut share, 0, &[(index, batch)])?;
            report.samples += samples as u64;
            all += 1;
            progress.advance(samples);
        }
        Ok(Self { share, log: Log::new(), batches: all })
    }
}

impl<M: SfpModule> Passes for Here<M> {
    fn batches(&self) -> usize {
        self.batches
    }

    fn measure(&mut self, measure: Measure) -> Result<Measured, PruneError> {
        let found = self.share.measure(&measure, &self.log, |_| true)?;
        Ok(found.into_iter().next().ok_or(SfpError::NoSamples)?.1)
    }

    fn set(&mut self, parameter: usize, values: &[f64]) {
        self.log.push((parameter, values.into()));
    }
}

/// Consecutive batches, with their places among all.
type Chunk<I> = Vec<(usize, Batch<I>)>;

/// Batches that the devices of a pool share. What is summed of a chunk comes back, and is merged in the order of the data.
pub(super) struct Shared<M: SfpModule> {
    crew: Crew<Share<M>, Vec<(usize, Measured)>, PruneError>,
    /// All chunks: where a device fails, another one loads its own.
    chunks: Vec<Chunk<M::Inputs>>,
    /// Who holds each chunk.
    owners: Vec<usize>,
    log: Log,
    batches: usize,
}

impl<M: SfpModule> Shared<M> {
    /// Reads the batches, as many as fit into the memory of all devices, and has them loaded by whoever is free.
    pub fn load(
        models: [&M; 2],
        networks: [Network; 2],
        start: Start,
        pool: &DevicePool,
        batches: BatchIter<'_, M::Inputs>,
        report: &mut RecoveryReport,
        progress: &dyn Progress,
    ) -> Result<Self, PruneError> {
        let own = models.map(M::clone);
        let crew = Crew::new(pool, |device: &Device| {
            let (own, networks, device) = (own.clone(), networks.clone(), device.clone());
            move || Ok(Share::new(own, networks, start, device))
        });
        let mut all = Self { crew, chunks: Vec::new(), owners: Vec::new(), log: Log::new(), batches: 0 };
        let mut reader = Reader::new(batches, pool.batches(), start.samples, pool.devices().len());
        // Chunks that nobody has, and those that are being loaded, by their devices.
        let (mut waiting, mut loading) = (VecDeque::new(), BTreeMap::new());
        let mut is_read = false;
        loop {
            while let Some(device) = all.next_device(reader.of_device) {
                if waiting.is_empty() && !is_read {
                    match reader.next()? {
                        Some(_) if progress.is_cancelled() => (is_read, reader.is_complete) = (true, false),
                        Some(chunk) => {
                            waiting.push_back(all.chunks.len());
                            all.chunks.push(chunk);
                            all.owners.push(device);
                        }
                        None => is_read = true,
                    }
                }
                let Some(chunk) = waiting.pop_front() else { break };
                all.owners[chunk] = device;
                loading.insert(device, chunk);
                let batches = all.chunks[chunk].clone();
                all.crew.give(device, move |share| add(share, chunk, &batches).map(|()| Vec::new()));
            }
            match all.crew.wait()? {
                None => break,
                Some(JobOutcome::Done(device, _)) => {
                    let loaded = loading.remove(&device).map_or(&[][..], |chunk| &all.chunks[chunk]);
                    progress.advance(loaded.iter().map(|(_, batch)| batch.labels.len()).sum());
                }
                Some(JobOutcome::Lost(device)) => {
                    loading.remove(&device);
                    waiting.extend((0..all.chunks.len()).filter(|&chunk| all.owners[chunk] == device));
                }
            }
        }
        let batches = all.chunks.iter().flatten();
        (all.batches, report.samples) =
            batches.fold((0, 0), |(count, samples), (_, batch)| (count + 1, samples + batch.labels.len() as u64));
        report.all_samples = reader.is_complete;
        Ok(all)
    }

    /// The device with the fewest chunks, of those without a job that have room for one more; where nobody works and nobody has room, the
    /// chunks are those of devices that were left out, and any takes them.
    fn next_device(&self, room: Option<u64>) -> Option<usize> {
        let device = self.crew.free().min_by_key(|&device| self.held(device))?;
        let is_full = room.is_some_and(|room| self.held(device) as u64 >= room);
        (!is_full || self.crew.free().count() == self.crew.alive().len()).then_some(device)
    }

    /// Chunks that a device holds.
    fn held(&self, device: usize) -> usize {
        self.owners.iter().filter(|owner| **owner == device).count()
    }

    /// Has a device measure those of its chunks that are not in `parts`, after loading some.
    fn ask(&mut self, device: usize, measure: &Measure, parts: &BTreeMap<usize, Measured>, new: &[usize]) {
        let owned = (0..self.chunks.len()).filter(|&chunk| self.owners[chunk] == device);
        let wanted: Vec<usize> = owned.filter(|chunk| !parts.contains_key(chunk)).collect();
        if wanted.is_empty() && new.is_empty() {
            return;
        }
        let new: Vec<(usize, Chunk<M::Inputs>)> =
            new.iter().map(|&chunk| (chunk, self.chunks[chunk].clone())).collect();
        let (measure, log) = (measure.empty(), self.log.clone());
        self.crew.give(device, move |share| {
            if !new.is_empty() {
                share.begin()?;
            }
            for (chunk, batches) in &new {
                add(share, *chunk, batches)?;
            }
            Ok(settled(share.measure(&measure, &log, |chunk| wanted.contains(&chunk))?)?)
        });
    }
}

/// Loads a chunk.
fn add<M: SfpModule>(
    share: &mut Share<M>,
    chunk: usize,
    batches: &[(usize, Batch<M::Inputs>)],
) -> Result<(), PruneError> {
    for (index, batch) in batches {
        let done = attempt(|| share.add(chunk, *index, batch));
        done.unwrap_or_else(|message| Err(panicked(*index, message)))?;
    }
    Ok(())
}

impl<M: SfpModule> Passes for Shared<M> {
    fn batches(&self) -> usize {
        self.batches
    }

    fn measure(&mut self, measure: Measure) -> Result<Measured, PruneError> {
        let mut parts = BTreeMap::new();
        // Chunks that devices have taken over from others and not loaded yet.
        let mut new: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for device in self.crew.alive().to_vec() {
            self.ask(device, &measure, &parts, &[]);
        }
        while let Some(outcome) = self.crew.wait()? {
            match outcome {
                JobOutcome::Done(_, found) => parts.extend(found),
                JobOutcome::Lost(lost) => {
                    // It owns those, too, that it had not loaded yet.
                    new.remove(&lost);
                    let without: Vec<usize> =
                        (0..self.chunks.len()).filter(|&chunk| self.owners[chunk] == lost).collect();
                    for chunk in without {
                        let alive = self.crew.alive().iter().copied();
                        let Some(device) = alive.min_by_key(|&device| self.held(device)) else { continue };
                        self.owners[chunk] = device;
                        new.entry(device).or_default().push(chunk);
                    }
                }
            }
            for device in self.crew.free().collect::<Vec<_>>() {
                if let Some(new) = new.remove(&device) {
                    self.ask(device, &measure, &parts, &new);
                }
            }
        }
        let mut parts = parts.into_values();
        let mut all = parts.next().ok_or(SfpError::NoSamples)?;
        for part in parts {
            all.merge(part)?;
        }
        Ok(all)
    }

    fn set(&mut self, parameter: usize, values: &[f64]) {
        self.log.push((parameter, values.into()));
    }
}

/// Reads chunks that fit into the memory of a device, as many as all devices have memory for: by the sizes of the batches alone.
struct Reader<'a, I> {
    batches: std::iter::Peekable<std::iter::Enumerate<BatchIter<'a, I>>>,
    /// Batches of a chunk, samples that a device has memory for.
    most: (usize, u64),
    devices: usize,
    /// Chunks that a device has memory for, once the first one was read.
    of_device: Option<u64>,
    read: u64,
    /// Whether nothing was left out.
    is_complete: bool,
}

impl<'a, I> Reader<'a, I> {
    fn new(batches: BatchIter<'a, I>, most: usize, samples: u64, devices: usize) -> Self {
        let batches = batches.enumerate().peekable();
        Self { batches, most: (most, samples), devices, of_device: None, read: 0, is_complete: true }
    }
}

impl<I: burn_sfp_graph::ModuleInput> Reader<'_, I> {
    fn next(&mut self) -> Result<Option<Chunk<I>>, SfpError> {
        if self.of_device.is_some_and(|room| self.read >= room.saturating_mul(self.devices as u64)) {
            self.is_complete &= self.batches.peek().is_none();
            return Ok(None);
        }
        let (mut chunk, mut samples) = (Chunk::new(), 0);
        while chunk.len() < self.most.0 {
            let fits = |batch: &Batch<I>| chunk.is_empty() || samples + batch.labels.len() as u64 <= self.most.1;
            if matches!(self.batches.peek(), Some((_, Ok(batch))) if !fits(batch)) {
                break;
            }
            let Some((index, batch)) = self.batches.next() else { break };
            let batch = batch.map_err(|source| SfpError::Data { batch: index, source })?;
            check_batch(index, &batch)?;
            samples += batch.labels.len() as u64;
            chunk.push((index, batch));
        }
        if chunk.is_empty() {
            return Ok(None);
        }
        self.read += 1;
        self.of_device.get_or_insert((self.most.1 / samples.max(1)).max(1));
        Ok(Some(chunk))
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::{Tensor, TensorData};
    use burn_sfp_core::{Calibration, NoProgress, Regression, Ridge, TensorCalibration};
    use burn_sfp_graph::GraphModule;

    use super::*;

    #[derive(Module, Debug)]
    struct Mlp {
        a: Linear,
        b: Linear,
        c: Linear,
    }

    impl GraphModule for Mlp {
        type Inputs = Tensor<2>;
        type Outputs = Tensor<2>;
        fn run(&self, x: Tensor<2>) -> Tensor<2> {
            self.c.forward(self.b.forward(self.a.forward(x)))
        }
    }

    fn numbers(rows: usize, columns: usize, step: usize) -> Tensor<2> {
        let values: Vec<f32> = (0..rows * columns).map(|k| ((k * step + 3) % 17) as f32 / 8.0 - 1.0).collect();
        Tensor::from_data(TensorData::new(values, [rows, columns]), &Device::flex())
    }

    fn mlp() -> Mlp {
        let linear = |from, to, step| Linear {
            weight: burn::module::Param::from_tensor(numbers(from, to, step)),
            ..LinearConfig::new(from, to).with_bias(false).init(&Device::flex())
        };
        Mlp { a: linear(3, 5, 5), b: linear(5, 4, 7), c: linear(4, 2, 11) }
    }

    /// Seven batches on a pool, whose devices that `loses` names after a measure fail; what is measured at each layer, all but the first
    /// after another one was set anew.
    fn sums(devices: usize, loses: &[&[usize]]) -> Vec<Vec<f64>> {
        let (net, x) = (mlp(), numbers(13, 3, 13));
        let data = TensorCalibration::new(x.clone(), vec![0; 13], 2);
        let network = Network::capture_with(&net, &x, Mlp::logits).unwrap();
        let pool = DevicePool::new((0..devices).map(|_| Device::flex())).chunk(2);
        let start = Start { pruned: 0, original: Some(0), samples: 100 };
        let (networks, mut report) = ([network.clone(), network.clone()], RecoveryReport::default());
        let batches = data.batches();
        let mut passes = Shared::load([&net; 2], networks, start, &pool, batches, &mut report, &NoProgress).unwrap();
        assert_eq!((passes.batches(), report.samples), (7, 13));
        let mut found = Vec::new();
        for (step, layer) in network.layers().iter().enumerate() {
            for &device in loses.get(step).copied().unwrap_or_default() {
                passes.crew.give(device, |_| panic!("the connection is gone"));
            }
            let (path, channels) = (layer.path.clone(), layer.inputs);
            let measured = passes.measure(Measure::Moments { path, step, channels }).unwrap();
            let Measured::Moments(moments) = measured else { panic!("moments") };
            let (mean, variance) = moments.finish().unwrap();
            let regression = Regression::new(&network, layer, (0..layer.filters).collect(), 100).unwrap();
            let measured = passes.measure(Measure::Fit { step, original: step, regression, patches: 100 }).unwrap();
            let Measured::Fit(mut regression) = measured else { panic!("a regression") };
            let current = vec![0.5; layer.inputs * layer.filters];
            let solution = regression.solve(&current, None, Ridge::OfChange(0.1), false).unwrap();
            found.push([mean, variance, solution.weight.clone()].concat());
            passes.set(layer.weight(), &solution.weight);
        }
        found
    }

    #[test]
    fn chunks_of_devices_that_fail_between_layers_are_loaded_again() {
        let expected = sums(1, &[]);
        assert!(expected.iter().flatten().all(|value| value.is_finite()));
        assert_eq!(sums(3, &[]), expected);
        for loses in [&[&[1][..]][..], &[&[], &[0]], &[&[], &[], &[2]], &[&[0, 2]], &[&[2], &[1]], &[&[], &[0], &[1]]] {
            assert_eq!(sums(3, loses), expected, "{loses:?}");
        }
    }
}
