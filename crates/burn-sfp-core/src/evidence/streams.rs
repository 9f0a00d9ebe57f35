//! [`gather_streams`]: what each residual block does to the stream that it adds to.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use burn::backend::ir::TensorId;
use burn::tensor::{Device, Tensor};
use burn_sfp_graph::Network;
use burn_sfp_nn::tensor::on_host;
use ndarray::{Array2, Array3, ArrayView3, Axis};

use crate::analysis::UnitKind;
use crate::checks::{PassCounts, check_batch, each_batch, on_device};
use crate::config::Grid;
use crate::labels::{BatchLabels, check_range};
use crate::parts::{Parts, in_smaller_batches};
use crate::pool::{ChunkWork, Members, Merged, in_chunks};
use crate::readout::ridge_readout;
use crate::sums::{ClassSums, Gram, doubles};
use crate::sweep::{Fitted, Pooled, Probe, Runner, device_of, measure};
use crate::{Batch, Calibration, DevicePool, Progress, SfpError, SfpModule};

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
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::{GraphModule, Network};
/// # use burn_sfp_nn::Shrink;
/// use burn_sfp_core::{NoProgress, SfpModule, TensorCalibration, gather_streams};
/// # #[derive(Module, Debug, Shrink)]
/// # struct Net { first: Linear, blocks: Vec<Linear>, last: Linear }
/// # impl GraphModule for Net {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> {
/// #         let add = |x: Tensor<2>, block: &Linear| x.clone() + burn::tensor::activation::relu(block.forward(x));
/// #         self.last.forward(self.blocks.iter().fold(self.first.forward(x), add))
/// #     }
/// #     fn shrinkable(&mut self) -> Option<&mut dyn Shrink> { Some(self) }
/// # }
/// # let device = Device::flex();
/// # let linear = |from, to| LinearConfig::new(from, to).init(&device);
/// # let net = Net { first: linear(4, 8), blocks: vec![linear(8, 8)], last: linear(8, 2) };
/// let samples = Tensor::<2>::from_floats([[1., 0., 0., 1.], [0., 1., 1., 0.]], &device);
/// let network = Network::capture_with(&net, &samples, Net::logits)?;
/// let calibration = TensorCalibration::new(samples, vec![0, 1], 1);
/// let blocks = gather_streams(&net, &network, &calibration, &NoProgress)?;
/// assert!(blocks["blocks.0"].change >= 0.0);
/// # Ok::<(), burn_sfp_core::SfpError>(())
/// ```
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
    in_smaller_batches(false, |parts| attempt(model, network, &Parts::new(calibration, parts), None, progress))
}

/// The same on the devices of a pool, which share the data: streams stay on the device that they are computed on, and their sums come back
/// after each chunk of batches. The readouts are solved for on this machine.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::{GraphModule, Network};
/// # use burn_sfp_nn::Shrink;
/// use burn_sfp_core::{DevicePool, NoProgress, SfpModule, TensorCalibration, gather_streams_on};
/// # #[derive(Module, Debug, Shrink)]
/// # struct Net { first: Linear, blocks: Vec<Linear>, last: Linear }
/// # impl GraphModule for Net {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> {
/// #         let add = |x: Tensor<2>, block: &Linear| x.clone() + burn::tensor::activation::relu(block.forward(x));
/// #         self.last.forward(self.blocks.iter().fold(self.first.forward(x), add))
/// #     }
/// #     fn shrinkable(&mut self) -> Option<&mut dyn Shrink> { Some(self) }
/// # }
/// # let device = Device::flex();
/// # let linear = |from, to| LinearConfig::new(from, to).init(&device);
/// # let net = Net { first: linear(4, 8), blocks: vec![linear(8, 8)], last: linear(8, 2) };
/// let samples = Tensor::<2>::from_floats([[1., 0., 0., 1.], [0., 1., 1., 0.]], &device);
/// let network = Network::capture_with(&net, &samples, Net::logits)?;
/// let calibration = TensorCalibration::new(samples, vec![0, 1], 1);
/// let pool = DevicePool::new([Device::flex(), Device::flex()]).chunk(1);
/// let blocks = gather_streams_on(&net, &network, &calibration, &pool, &NoProgress)?;
/// assert!(blocks["blocks.0"].change >= 0.0);
/// # Ok::<(), burn_sfp_core::SfpError>(())
/// ```
///
/// # Errors
/// Those of [`gather_streams`]; [`SfpError::Config`] for a pool without devices, [`SfpError::Devices`] where every device failed.
pub fn gather_streams_on<M: SfpModule, C: Calibration<M::Inputs> + ?Sized>(
    model: &M,
    network: &Network,
    calibration: &C,
    devices: &DevicePool,
    progress: &dyn Progress,
) -> Result<BTreeMap<String, BlockStream>, SfpError> {
    devices.check()?;
    let _span = tracing::info_span!("streams", devices = devices.devices().len()).entered();
    in_smaller_batches(false, |parts| {
        let data = Parts::new(calibration, parts);
        attempt(model, network, &data, Some(&mut Members::new(devices)), progress)
    })
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

/// Class sums and Gram matrix of a stream, on the host.
type TakenSums = (Option<Array3<f64>>, Option<Array2<f64>>);

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

    /// Takes the class sums and the Gram matrix, after which they begin at zero again.
    fn take(&mut self) -> Result<TakenSums, SfpError> {
        let sums = self.sums.take().map(|sums| sums.into_host(&self.path)).transpose()?;
        Ok((sums, self.gram.take().map(Gram::into_host).transpose()?))
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

/// The running sums of streams and blocks on one device.
struct Gathering<'m, M: SfpModule> {
    runner: Runner<'m, M>,
    sums: Vec<StreamSums>,
    blocks: Vec<Between>,
    /// Which blocks read a stream as the one in front of them.
    readers: Vec<Vec<usize>>,
    counts: PassCounts,
}

/// The sums over a part of the data.
struct Part {
    streams: Vec<TakenSums>,
    squares: Vec<[f64; 2]>,
    counts: Vec<u64>,
}

impl<'m, M: SfpModule> Gathering<'m, M> {
    fn new(model: &'m M, device: Device, network: &Network) -> Result<Self, SfpError> {
        let Streams { sums, blocks, .. } = Streams::of(network);
        let runner = Runner::on(device, model, network.clone(), sums.iter().map(|stream| stream.probe).collect())?;
        let mut readers: Vec<Vec<usize>> = vec![Vec::new(); sums.len()];
        blocks.iter().enumerate().for_each(|(index, block)| readers[block.before].push(index));
        Ok(Self { runner, sums, blocks, readers, counts: PassCounts::new(network.classes()) })
    }

    fn run_batch(&mut self, index: usize, batch: &Batch<M::Inputs>) -> Result<(), SfpError> {
        let Self { runner, sums, blocks, readers, counts } = self;
        let classes = runner.network.classes();
        check_batch(index, batch)?;
        check_range(index, &batch.labels, classes)?;
        let labels = BatchLabels::new(&batch.labels, classes);
        let mut open: HashMap<usize, Tensor<3>> = HashMap::new();
        runner.run(index, batch, |stream, acts| {
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
        })?;
        counts.add(&batch.labels);
        Ok(())
    }

    /// Takes the sums, after which they begin at zero again.
    fn take(&mut self) -> Result<Part, SfpError> {
        Ok(Part {
            streams: self.sums.iter_mut().map(StreamSums::take).collect::<Result<_, _>>()?,
            squares: self.blocks.iter_mut().map(Between::take).collect::<Result<_, _>>()?,
            counts: self.counts.take_current(),
        })
    }

    /// Adds what was taken on another device.
    fn add(&mut self, part: Part) -> Result<(), SfpError> {
        for (stream, (sums, gram)) in self.sums.iter_mut().zip(part.streams) {
            ClassSums::merge(&mut stream.sums, sums, &stream.path)?;
            Gram::merge(&mut stream.gram, gram)?;
        }
        for (block, own) in self.blocks.iter_mut().zip(part.squares) {
            block.squares.iter_mut().zip(own).for_each(|(all, own)| *all += own);
        }
        self.counts.add_counts(&part.counts);
        Ok(())
    }
}

/// The sums on each device of a pool.
struct Work {
    network: Network,
}

impl<M: SfpModule> ChunkWork<M> for Work {
    type State<'m>
        = Gathering<'m, M>
    where
        M: 'm;
    type Part = Part;
    type Error = SfpError;

    fn start<'m>(&'m self, model: &'m M, device: &Device) -> Result<Gathering<'m, M>, SfpError> {
        Gathering::new(model, device.clone(), &self.network)
    }

    fn run(&self, all: &mut Gathering<'_, M>, index: usize, batch: &Batch<M::Inputs>) -> Result<(), SfpError> {
        all.run_batch(index, batch)
    }

    fn take(&self, all: &mut Gathering<'_, M>) -> Result<Part, SfpError> {
        all.take()
    }
}

fn attempt<M: SfpModule, C: Calibration<M::Inputs> + ?Sized>(
    model: &M,
    network: &Network,
    data: &C,
    mut members: Option<&mut Members>,
    progress: &dyn Progress,
) -> Result<BTreeMap<String, BlockStream>, SfpError> {
    let mut found = BTreeMap::new();
    let mut all = Gathering::new(model, device_of(model), network)?;
    if all.blocks.is_empty() {
        return Ok(found);
    }
    progress.start("streams", data.samples());
    let is_cancelled = match members.as_deref_mut() {
        None => each_batch(data, progress, |index, batch| all.run_batch(index, batch))?,
        Some(members) => {
            let work = Work { network: network.clone() };
            in_chunks(members, model, data.batches(), Merged::default(), work, |part| all.add(part), progress)?
        }
    };
    progress.finish();
    if is_cancelled {
        return Ok(found);
    }
    let Gathering { sums, blocks, mut counts, .. } = all;
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
    let accuracies = measure(model, data, network, fitted, counts, members, progress)?;
    let Some(accuracies) = accuracies else { return Ok(found) };
    let accuracies: HashMap<usize, f64> = places.into_iter().zip(accuracies).collect();
    for mut block in blocks {
        let squares = on_device("reading the sums", || block.take())?;
        let [Some(accuracy_before), Some(accuracy_after)] =
            [block.before, block.after].map(|stream| accuracies.get(&stream).copied())
        else {
            continue;
        };
        let change = (squares[0] / squares[1].max(f64::MIN_POSITIVE)).sqrt();
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

    /// Takes the squares, from the device where they are on one, after which they begin at zero again.
    fn take(&mut self) -> Result<[f64; 2], SfpError> {
        let mut squares = std::mem::take(&mut self.squares);
        if let Some(own) = self.on_device.take() {
            for (sum, own) in squares.iter_mut().zip(own) {
                *sum += doubles(own)?.iter().sum::<f64>();
            }
        }
        Ok(squares)
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
