//! [`gather_streams`]: what each residual block does to the stream that it adds to.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use burn::backend::ir::TensorId;
use burn::tensor::Tensor;
use burn_sfp_graph::Network;
use burn_sfp_nn::tensor::on_host;
use ndarray::{ArrayView3, Axis};

use crate::analysis::UnitKind;
use crate::checks::{PassCounts, check_batch, on_batch, on_device};
use crate::config::Grid;
use crate::labels::{BatchLabels, check_range};
use crate::parts::{Parts, in_smaller_batches};
use crate::readout::ridge_readout;
use crate::sums::{ClassSums, Gram, doubles};
use crate::sweep::{Fitted, Pooled, Probe, Runner, measure};
use crate::{Calibration, Progress, SfpError, SfpModule};

/// Strength of the readouts' ridge regression, as in the analysis.
const STRENGTH: f64 = 0.01;

/// What a residual block does to the stream that it adds to.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct BlockStream {
    /// Top-1 over the calibration samples of a readout of the stream in front of the block, from 0 to 1.
    pub accuracy_before: f64,
    /// The same of the stream behind it.
    pub accuracy_after: f64,
    /// How much the block changes the stream: the root of the sum of squares of what it changes over that of the stream in front of it.
    pub change: f64,
}

/// Reads the streams in front of all blocks that can be left out, and behind them ([`Network::blocks`]), in two passes over the calibration
/// data: readouts by ridge regression as in the analysis (docs/method.md, section 1, with at most 2,048 features), and their accuracy.
///
/// `network` is the capture of the model's logits on any batch. Blocks whose stream has channels along no single axis are left out. The
/// result does not depend on the number of threads. If `progress` cancels, nothing is returned for any block.
///
/// Memory: `8 n^2` bytes for the readout of each stream of n features, and the activations of the streams of a batch.
///
/// # Errors
/// [`SfpError::NoSamples`] and the errors of batches that do not hold together; [`SfpError::NonFiniteOutput`] where a stream is NaN or
/// infinite; [`SfpError::Graph`] where the forward pass fails.
pub fn gather_streams<M: SfpModule, C: Calibration<M::Inputs> + ?Sized>(
    model: &M,
    network: &Network,
    calibration: &C,
    progress: &dyn Progress,
) -> Result<BTreeMap<String, BlockStream>, SfpError> {
    let _span = tracing::info_span!("streams").entered();
    in_smaller_batches(false, |parts| attempt(model, network, &Parts::new(calibration, parts), progress))
}

/// The streams and the blocks between them.
#[derive(Default)]
struct Streams {
    /// Each tensor once.
    sums: Vec<StreamSums>,
    blocks: Vec<Between>,
    places: HashMap<TensorId, usize>,
}

/// A block between two streams.
struct Between {
    path: String,
    before: usize,
    after: usize,
    /// Sums of squares of the change and of the stream in front.
    squares: [f64; 2],
    /// The same on another device than the CPU.
    on_device: Option<[Tensor<1>; 2]>,
}

/// The sums for the readout of a stream.
struct StreamSums {
    probe: Probe,
    /// The block next to it, for messages.
    path: String,
    pooled: Option<Pooled>,
    sums: Option<ClassSums>,
    gram: Option<Gram>,
}

impl Streams {
    fn of(network: &Network) -> Self {
        let mut all = Self::default();
        for (index, block) in network.blocks().iter().enumerate() {
            let taps = network.stream_taps(block).filter(|_| block.not_removable.is_none());
            if !taps.is_some_and(|taps| taps.iter().all(|tap| tap.shape[0] == network.batch())) {
                continue;
            }
            let [before, after] = [Probe::Before(index), Probe::Behind(index)].map(|probe| {
                let tap = probe.tap(network);
                *all.places.entry(tap.tensor).or_insert_with(|| {
                    // The grid of activations of layers with positions.
                    let pooled = Pooled::choose(Grid::Auto, UnitKind::Layer(network.layers()[0].kind), &tap);
                    let path = block.path().to_string();
                    all.sums.push(StreamSums { probe, path, pooled, sums: None, gram: None });
                    all.sums.len() - 1
                })
            });
            all.blocks.push(Between { path: block.path().into(), before, after, squares: [0.0; 2], on_device: None });
        }
        all
    }
}

impl StreamSums {
    fn add(&mut self, acts: &Tensor<3>, labels: &BatchLabels<'_>) -> Result<(), SfpError> {
        let acts = match &self.pooled {
            Some(pooled) => pooled.apply(acts.clone()),
            None => acts.clone(),
        };
        ClassSums::add(&mut self.sums, &acts, labels, &self.path)?;
        Gram::add(&mut self.gram, &acts, &self.path)
    }

    /// Solves for the readout; `None` if there was no sample.
    fn solve(self, layer: usize, counts: &[u64]) -> Result<Option<Fitted>, SfpError> {
        let (Some(sums), Some(gram)) = (self.sums, self.gram) else { return Ok(None) };
        let sums = sums.into_host(&self.path)?;
        if let Some(((_, filter, _), &value)) = sums.indexed_iter().find(|(_, sum)| !sum.is_finite()) {
            return Err(SfpError::NonFiniteOutput { path: self.path, filter, value });
        }
        let readout = ridge_readout(&self.path, &sums, counts, gram.into_host()?, STRENGTH)?;
        Ok(Some(Fitted { probe: self.probe, pooled: self.pooled, readout, layer, path: self.path }))
    }
}

fn attempt<M: SfpModule, C: Calibration<M::Inputs> + ?Sized>(
    model: &M,
    network: &Network,
    data: &C,
    progress: &dyn Progress,
) -> Result<BTreeMap<String, BlockStream>, SfpError> {
    let Streams { mut sums, mut blocks, .. } = Streams::of(network);
    let mut found = BTreeMap::new();
    if blocks.is_empty() {
        return Ok(found);
    }
    let classes = network.classes();
    let mut counts = PassCounts::new(classes);
    let mut runner = Runner::new(model, network.clone(), sums.iter().map(|stream| stream.probe).collect())?;
    // Which blocks read a stream as the one in front of them.
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); sums.len()];
    blocks.iter().enumerate().for_each(|(index, block)| readers[block.before].push(index));
    progress.start("streams", data.samples());
    for (index, batch) in data.batches().enumerate() {
        let batch = batch.map_err(|source| SfpError::Data { batch: index, source })?;
        check_batch(index, &batch)?;
        check_range(index, &batch.labels, classes)?;
        let labels = BatchLabels::new(&batch.labels, classes);
        let mut open: HashMap<usize, Tensor<3>> = HashMap::new();
        let tapped = |stream: usize, acts: Tensor<3>| {
            sums[stream].add(&acts, &labels)?;
            for block in blocks.iter_mut().filter(|block| block.after == stream) {
                if let Some(before) = open.get(&block.before) {
                    block.add(before, &acts);
                }
            }
            // What nothing is compared with any more.
            open.retain(|before, _| readers[*before].iter().any(|&reader| blocks[reader].after != stream));
            if !readers[stream].is_empty() {
                open.insert(stream, acts);
            }
            Ok(())
        };
        on_batch(index, || runner.run(index, &batch, tapped))?;
        counts.add(&batch.labels);
        progress.advance(batch.labels.len());
        if progress.is_cancelled() {
            progress.finish();
            return Ok(found);
        }
    }
    progress.finish();
    counts.end_pass()?;
    if counts.of_first_pass().iter().sum::<u64>() == 0 {
        return Err(SfpError::NoSamples);
    }
    let solved = on_device("the readouts of streams", || {
        let of = |(layer, stream): (usize, StreamSums)| stream.solve(layer, counts.of_first_pass());
        sums.into_iter().enumerate().map(of).collect::<Result<Vec<Option<Fitted>>, _>>()
    })?;
    let fitted: Arc<[Fitted]> = solved.into_iter().flatten().collect();
    let places: Vec<usize> = fitted.iter().map(|fitted| fitted.layer).collect();
    let Some(accuracies) = measure(model, data, network, fitted, counts, progress)? else { return Ok(found) };
    let accuracies: HashMap<usize, f64> = places.into_iter().zip(accuracies).collect();
    for mut block in blocks {
        on_device("reading the sums", || block.read())?;
        let [Some(accuracy_before), Some(accuracy_after)] =
            [block.before, block.after].map(|stream| accuracies.get(&stream).copied())
        else {
            continue;
        };
        let change = (block.squares[0] / block.squares[1].max(f64::MIN_POSITIVE)).sqrt();
        found.insert(block.path, BlockStream { accuracy_before, accuracy_after, change });
    }
    Ok(found)
}

impl Between {
    /// Adds the squares of a batch.
    fn add(&mut self, before: &Tensor<3>, after: &Tensor<3>) {
        let host = on_host(before, |before| on_host(after, |after| self.add_views(before, after)));
        if host.flatten().is_none() {
            self.add_on_device(before, after);
        }
    }

    fn add_on_device(&mut self, before: &Tensor<3>, after: &Tensor<3>) {
        let own = [after.clone() - before.clone(), before.clone()].map(|values| values.square().sum());
        self.on_device = Some(match self.on_device.take() {
            None => own,
            Some([change, all]) => {
                let [own_change, own] = own;
                [change + own_change, all + own]
            }
        });
    }

    /// Takes the squares from the device.
    fn read(&mut self) -> Result<(), SfpError> {
        if let Some(squares) = self.on_device.take() {
            for (sum, own) in self.squares.iter_mut().zip(squares) {
                *sum += doubles(own)?.iter().sum::<f64>();
            }
        }
        Ok(())
    }

    /// Sample by sample.
    fn add_views(&mut self, before: ArrayView3<'_, f32>, after: ArrayView3<'_, f32>) {
        for (before, after) in before.axis_iter(Axis(0)).zip(after.axis_iter(Axis(0))) {
            for (&before, &after) in before.iter().zip(after.iter()) {
                let (before, after) = (f64::from(before), f64::from(after));
                self.squares[0] += (after - before) * (after - before);
                self.squares[1] += before * before;
            }
        }
    }
}
