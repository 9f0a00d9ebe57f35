//! [`gather_activations`]: the pass over the calibration data.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use burn::backend::ir::TensorId;
use burn::tensor::Device;
use burn_sfp_graph::Network;

use super::gram::{GramPart, GramSums, InputGram};
use super::outputs::{OutputPart, OutputStatistics, OutputSums};
use crate::checks::{check_batch, each_batch, on_device};
use crate::parts::{Parts, in_smaller_batches};
use crate::pool::{ChunkWork, Members, Merged, in_chunks};
use crate::sweep::{Probe, Runner, device_of};
use crate::{Batch, Calibration, DevicePool, Progress, SfpError, SfpModule};

/// What a pass over the activations sums.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActivationNeeds {
    /// Means and zeros of the outputs of filters.
    pub outputs: bool,
    /// Gram matrices of the inputs of layers, with a column for each element of each channel where these are at most so
    /// many columns; beyond, with a column for each channel ([`InputGram`]).
    pub inputs: Option<usize>,
    /// Module paths of the layers whose Gram matrices are summed; all where this is `None`.
    pub layers: Option<BTreeSet<String>>,
}

/// Sums over the activations of a network, by the module path of each layer.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ActivationEvidence {
    /// N: samples seen.
    pub samples: u64,
    /// Statistics of the outputs, of each layer whose output an operation computes.
    pub outputs: BTreeMap<String, OutputStatistics>,
    /// Gram matrices of the inputs, of each layer that reads channels of other layers. Not of embeddings, whose inputs
    /// are indices, nor of convolutions with one input for each filter, whose filters leave with their inputs.
    pub inputs: BTreeMap<String, InputGram>,
}

/// Sums statistics of the activations of a classifier in one pass over calibration data, in evaluation mode. The model
/// is not changed; labels are not read.
///
/// `network` is the capture of the model's logits on any batch. A layer that is called several times counts with its
/// first call. On flex and ndarray all sums are in double precision and do not depend on the number of threads; other
/// devices sum in their `f32`, and only sums are read back. Batches are cut smaller where a device lacks memory.
///
/// Memory: 24 bytes for each filter, and `8 n^2` bytes for each Gram matrix of n columns (32 MiB for 2,048), which all
/// stay in memory until the pass is over; besides the activations of a batch, 16 MiB of rows at a time, on
/// devices with memory of their own a few times 64 MiB.
///
/// If `progress` cancels, the result is that of the samples seen by then.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::{GraphModule, Network};
/// use burn_sfp_core::{ActivationNeeds, NoProgress, SfpModule, TensorCalibration, gather_activations};
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.b.forward(burn::tensor::activation::relu(self.a.forward(x))) }
/// # }
/// # let device = Device::flex();
/// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
/// let samples = Tensor::<2>::from_floats([[1., 0., 0., 1.], [0., 1., 1., 0.]], &device);
/// let network = Network::capture_with(&mlp, &samples, Mlp::logits)?;
/// let calibration = TensorCalibration::new(samples, vec![0, 1], 2);
/// let needs = ActivationNeeds { outputs: true, inputs: Some(2048), layers: None };
/// let found = gather_activations(&mlp, &network, &calibration, needs, &NoProgress)?;
/// assert_eq!(found.outputs["a"].mean_absolute.len(), 8);
/// assert_eq!(found.inputs["b"].columns(), [8]);
/// # Ok::<(), burn_sfp_core::SfpError>(())
/// ```
///
/// # Errors
/// [`SfpError::NoSamples`] and the errors of batches that do not hold together; [`SfpError::NonFiniteOutput`] and
/// [`SfpError::NonFiniteInput`] where activations are NaN or infinite; [`SfpError::Graph`] where the forward pass
/// fails.
pub fn gather_activations<M: SfpModule, C: Calibration<M::Inputs> + ?Sized>(
    model: &M,
    network: &Network,
    calibration: &C,
    needs: ActivationNeeds,
    progress: &dyn Progress,
) -> Result<ActivationEvidence, SfpError> {
    let _span = tracing::info_span!("activations").entered();
    in_smaller_batches(false, |parts| {
        let mut all = Gathering::new(model, device_of(model), network, &needs)?;
        progress.start("activations", calibration.samples());
        each_batch(&Parts::new(calibration, parts), progress, |index, batch| all.run_batch(index, batch))?;
        progress.finish();
        on_device("reading the sums", || all.finish())
    })
}

/// The same on the devices of a pool, which share the data: activations stay on the device that they are computed on.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::{GraphModule, Network};
/// use burn_sfp_core::{ActivationNeeds, DevicePool, NoProgress, SfpModule, TensorCalibration, gather_activations_on};
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.b.forward(burn::tensor::activation::relu(self.a.forward(x))) }
/// # }
/// # let device = Device::flex();
/// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
/// let samples = Tensor::<2>::from_floats([[1., 0., 0., 1.], [0., 1., 1., 0.]], &device);
/// let network = Network::capture_with(&mlp, &samples, Mlp::logits)?;
/// let calibration = TensorCalibration::new(samples, vec![0, 1], 1);
/// let (needs, pool) = (ActivationNeeds { outputs: true, inputs: None, layers: None }, DevicePool::new([Device::flex()]));
/// let found = gather_activations_on(&mlp, &network, &calibration, needs, &pool, &NoProgress)?;
/// assert_eq!((found.samples, found.outputs["a"].mean.len()), (2, 8));
/// # Ok::<(), burn_sfp_core::SfpError>(())
/// ```
///
/// # Errors
/// Those of [`gather_activations`]; [`SfpError::Config`] for a pool without devices, [`SfpError::Devices`] where every device failed.
pub fn gather_activations_on<M: SfpModule, C: Calibration<M::Inputs> + ?Sized>(
    model: &M,
    network: &Network,
    calibration: &C,
    needs: ActivationNeeds,
    devices: &DevicePool,
    progress: &dyn Progress,
) -> Result<ActivationEvidence, SfpError> {
    devices.check()?;
    let _span = tracing::info_span!("activations", devices = devices.devices().len()).entered();
    in_smaller_batches(false, |parts| {
        let mut all = Gathering::new(model, device_of(model), network, &needs)?;
        let data = Parts::new(calibration, parts);
        let work = Work { network: network.clone(), needs: needs.clone() };
        progress.start("activations", calibration.samples());
        let add = |part| {
            all.add(part);
            Ok(())
        };
        in_chunks(&mut Members::new(devices), model, data.batches(), Merged::default(), work, add, progress)?;
        progress.finish();
        on_device("reading the sums", || all.finish())
    })
}

/// Who receives a tapped tensor.
#[derive(Clone, Copy)]
enum Receiver {
    Output(usize),
    Input(usize),
}

/// The sums of all layers, and which tapped tensor goes where.
#[derive(Default)]
struct Sums {
    outputs: Vec<OutputSums>,
    inputs: Vec<GramSums>,
    probes: Vec<Probe>,
    receivers: Vec<Vec<Receiver>>,
    /// Index of the probe of a tensor that is read along an axis.
    places: HashMap<(TensorId, usize), usize>,
}

impl Sums {
    fn new(network: &Network, needs: &ActivationNeeds) -> Self {
        let mut all = Self::default();
        for (index, layer) in network.layers().iter().enumerate() {
            if needs.outputs && layer.tap.shape.len() > 1 && network.is_computed(layer.tap.tensor) {
                all.outputs.push(OutputSums::new(&layer.path, layer.tap.shape[layer.tap.filter_axis]));
                all.tap(network, Probe::Layer(index), Receiver::Output(all.outputs.len() - 1));
            }
            if needs.layers.as_ref().is_some_and(|layers| !layers.contains(&layer.path)) {
                continue;
            }
            let tap = Probe::Input(index).tap(network);
            if let Some(limit) = needs.inputs.filter(|_| tap.shape.len() > 1 && network.is_computed(tap.tensor))
                && let Some(gram) = GramSums::new(network, layer, limit)
            {
                all.inputs.push(gram);
                all.tap(network, Probe::Input(index), Receiver::Input(all.inputs.len() - 1));
            }
        }
        all
    }

    fn tap(&mut self, network: &Network, probe: Probe, receiver: Receiver) {
        let tap = probe.tap(network);
        let at = *self.places.entry((tap.tensor, tap.filter_axis)).or_insert_with(|| {
            self.probes.push(probe);
            self.receivers.push(Vec::new());
            self.probes.len() - 1
        });
        self.receivers[at].push(receiver);
    }
}

/// The running sums on one device.
struct Gathering<'m, M: SfpModule> {
    runner: Runner<'m, M>,
    outputs: Vec<OutputSums>,
    inputs: Vec<GramSums>,
    receivers: Vec<Vec<Receiver>>,
    samples: u64,
}

/// The sums over a part of the data.
struct Part {
    outputs: Vec<OutputPart>,
    inputs: Vec<GramPart>,
    samples: u64,
}

impl<'m, M: SfpModule> Gathering<'m, M> {
    fn new(model: &'m M, device: Device, network: &Network, needs: &ActivationNeeds) -> Result<Self, SfpError> {
        let Sums { outputs, inputs, probes, receivers, .. } = Sums::new(network, needs);
        let runner = Runner::on(device, model, network.clone(), probes)?;
        Ok(Self { runner, outputs, inputs, receivers, samples: 0 })
    }

    fn run_batch(&mut self, index: usize, batch: &Batch<M::Inputs>) -> Result<(), SfpError> {
        check_batch(index, batch)?;
        let Self { runner, outputs, inputs, receivers, samples } = self;
        runner.run(index, batch, |tap, acts| {
            for receiver in &receivers[tap] {
                match *receiver {
                    Receiver::Output(k) => outputs[k].add(&acts)?,
                    Receiver::Input(k) => inputs[k].add(&acts)?,
                }
            }
            Ok(())
        })?;
        *samples += batch.labels.len() as u64;
        Ok(())
    }

    /// Takes the sums, after which they begin at zero again.
    fn take(&mut self) -> Result<Part, SfpError> {
        Ok(Part {
            outputs: self.outputs.iter_mut().map(OutputSums::take).collect::<Result<_, _>>()?,
            inputs: self.inputs.iter_mut().map(GramSums::take).collect::<Result<_, _>>()?,
            samples: std::mem::take(&mut self.samples),
        })
    }

    /// Adds what was taken on another device.
    fn add(&mut self, part: Part) {
        self.outputs.iter_mut().zip(part.outputs).for_each(|(all, own)| all.merge(own));
        self.inputs.iter_mut().zip(part.inputs).for_each(|(all, own)| all.merge(own));
        self.samples += part.samples;
    }

    fn finish(self) -> Result<ActivationEvidence, SfpError> {
        let samples = self.samples;
        if samples == 0 {
            return Err(SfpError::NoSamples);
        }
        let outputs = self.outputs.into_iter().map(OutputSums::finish).collect::<Result<_, _>>()?;
        let inputs = self.inputs.into_iter().map(|gram| gram.finish(samples)).collect::<Result<_, _>>()?;
        Ok(ActivationEvidence { samples, outputs, inputs })
    }
}

/// The sums on each device of a pool.
struct Work {
    network: Network,
    needs: ActivationNeeds,
}

impl<M: SfpModule> ChunkWork<M> for Work {
    type State<'m>
        = Gathering<'m, M>
    where
        M: 'm;
    type Part = Part;
    type Error = SfpError;

    fn start<'m>(&'m self, model: &'m M, device: &Device) -> Result<Gathering<'m, M>, SfpError> {
        Gathering::new(model, device.clone(), &self.network, &self.needs)
    }

    fn run(&self, all: &mut Gathering<'_, M>, index: usize, batch: &Batch<M::Inputs>) -> Result<(), SfpError> {
        all.run_batch(index, batch)
    }

    fn take(&self, all: &mut Gathering<'_, M>) -> Result<Part, SfpError> {
        all.take()
    }
}
