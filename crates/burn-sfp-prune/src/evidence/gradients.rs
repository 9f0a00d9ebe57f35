//! The pass over the calibration data that sums gradients.

use std::collections::BTreeMap;

use burn::module::{Flag, Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use burn_sfp_core::checks::{Chunk, ChunkWork, Members, Merged, check_batch, check_shapes, in_chunks, panicked};
use burn_sfp_core::labels::{check_range, label_tensor};
use burn_sfp_core::{Batch, Calibration, DevicePool, Progress, SfpError, SfpModule};
use burn_sfp_graph::{ModuleInput, Network, attempt};
use burn_sfp_nn::tensor::to_vec;
use burn_sfp_nn::walk::{ParamPath, ParamVisitor, visit_params};

use super::sums::{GradientPart, GradientSums};
use crate::PruneError;
use crate::finetune::{cross_entropy, run};
use crate::rewrite::guarded;

/// Sums the gradients of the cross-entropy of the logits, batch by batch, on a copy of the model.
pub(super) fn gather_gradients<M: SfpModule, C: Calibration<M::Inputs> + ?Sized>(
    model: &M,
    network: &Network,
    calibration: &C,
    progress: &dyn Progress,
) -> Result<GradientSums, PruneError> {
    let _span = tracing::info_span!("gradients").entered();
    let model = guarded(|| Ok(with_gradients(model)))?;
    let device = model.devices().into_iter().next().unwrap_or_default().without_autodiff().autodiff();
    let mut all = Gradients { model, device, network, sums: GradientSums::new(network) };
    progress.start("gradients", calibration.samples());
    for (index, batch) in calibration.batches().enumerate() {
        let batch = batch.map_err(|source| SfpError::Data { batch: index, source })?;
        progress.advance(all.add(index, batch)?);
        if progress.is_cancelled() {
            break;
        }
    }
    progress.finish();
    if all.sums.samples == 0 { Err(SfpError::NoSamples.into()) } else { Ok(all.sums) }
}

/// The same on the devices of a pool, which share the batches.
pub(super) fn gather_gradients_on<M: SfpModule, C: Calibration<M::Inputs> + ?Sized>(
    model: &M,
    network: &Network,
    calibration: &C,
    devices: &DevicePool,
    progress: &dyn Progress,
) -> Result<GradientSums, PruneError> {
    devices.check()?;
    let _span = tracing::info_span!("gradients", devices = devices.devices().len()).entered();
    let mut sums = GradientSums::new(network);
    progress.start("gradients", calibration.samples());
    let add = |part| {
        sums.merge(part);
        Ok(())
    };
    in_chunks(
        &mut Members::new(devices),
        model,
        calibration.batches(),
        Merged::default(),
        &Work { network },
        add,
        progress,
    )?;
    progress.finish();
    if sums.samples == 0 { Err(SfpError::NoSamples.into()) } else { Ok(sums) }
}

/// The sums on one device.
struct Gradients<'a, M> {
    /// A copy of the model there.
    model: M,
    device: Device,
    network: &'a Network,
    sums: GradientSums,
}

impl<M: SfpModule> Gradients<'_, M> {
    fn add(&mut self, index: usize, batch: Batch<M::Inputs>) -> Result<usize, PruneError> {
        check_batch(index, &batch)?;
        check_shapes(index, &batch.input, self.network.input_shapes())?;
        check_range(index, &batch.labels, self.network.classes())?;
        let samples = batch.labels.len();
        self.sums.add(samples, &gradients_of(&self.model, index, batch, &self.device)?);
        Ok(samples)
    }
}

/// The sums on each device of a pool.
struct Work<'a> {
    network: &'a Network,
}

impl<M: SfpModule> ChunkWork<M> for Work<'_> {
    type State<'m>
        = Gradients<'m, M>
    where
        M: 'm;
    type Part = GradientPart;
    type Error = PruneError;

    fn start<'m>(&'m self, model: &'m M, device: &Device) -> Result<Gradients<'m, M>, PruneError> {
        // A clone shares its running statistics, and `fork` would move them.
        let model = guarded(|| Ok(with_gradients(&model.valid().fork(device))))?;
        let (device, sums) = (device.clone().autodiff(), GradientSums::new(self.network));
        Ok(Gradients { model, device, network: self.network, sums })
    }

    fn run(&self, all: &mut Gradients<'_, M>, chunk: &Chunk<M::Inputs>) -> Result<(), PruneError> {
        for (index, batch) in chunk.batches() {
            all.add(index, batch.clone())?;
        }
        Ok(())
    }

    fn take(&self, all: &mut Gradients<'_, M>) -> Result<GradientPart, PruneError> {
        Ok(all.sums.take())
    }
}

/// A copy of the model whose parameters all have gradients, those too that were frozen, and whose dropouts and batch
/// normalisations work as in evaluation. It shares no running statistics with the model.
fn with_gradients<M: Module>(model: &M) -> M {
    struct Track;
    impl ModuleMapper for Track {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if param.base().dtype().is_float() { param.set_require_grad(true) } else { param }
        }
        fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
            flag.with_value(false)
        }
    }
    model.valid().map(&mut Track).train()
}

/// The gradients of the mean cross-entropy of a batch, by the path of the parameter; of those that the logits depend
/// on.
fn gradients_of<M: SfpModule>(
    model: &M,
    index: usize,
    batch: Batch<M::Inputs>,
    device: &Device,
) -> Result<BTreeMap<String, Vec<f32>>, PruneError> {
    let Batch { input, labels } = batch;
    let logits = run(&input, index, |input| model.logits(input.to_device(device)))?;
    if logits.dims()[0] != labels.len() {
        return Err(SfpError::LogitsShape { found: logits.dims().to_vec(), samples: labels.len() }.into());
    }
    let work = || {
        let loss = cross_entropy(logits, label_tensor(&labels, device), 0.0);
        let value = loss.clone().into_data().iter::<f64>().next().unwrap_or(f64::NAN);
        if !value.is_finite() {
            return Err(PruneError::NonFiniteLoss { batch: index, value });
        }
        if !loss.is_tracked() {
            return Ok(BTreeMap::new());
        }
        let gradients = GradientsParams::from_grads(loss.backward(), model);
        let mut read = Read { gradients: &gradients, found: BTreeMap::new(), error: None };
        visit_params(model, &mut read);
        match read.error {
            Some(error) => Err(error.into()),
            None => Ok(read.found),
        }
    };
    let found = attempt(work).unwrap_or_else(|message| Err(panicked(index, message).into()))?;
    for (path, gradient) in &found {
        if let Some(value) = gradient.iter().find(|value| !value.is_finite()) {
            let value = f64::from(*value);
            return Err(PruneError::NonFiniteGradient { path: path.clone(), batch: index, value });
        }
    }
    Ok(found)
}

/// Reads the gradients in single precision.
struct Read<'a> {
    gradients: &'a GradientsParams,
    found: BTreeMap<String, Vec<f32>>,
    error: Option<burn_sfp_nn::NnError>,
}

impl ParamVisitor for Read<'_> {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
        let Some(gradient) = self.gradients.get::<D>(param.id) else { return };
        match to_vec(gradient.into_data()) {
            Ok(values) => {
                self.found.insert(path.join(), values);
            }
            Err(error) => self.error = Some(error),
        }
    }
}
