//! The pass over the calibration data that sums gradients.

use std::collections::BTreeMap;

use burn::module::{Flag, Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor};
use burn_sfp_core::checks::{ChunkWork, Members, Merged, check_batch, check_shapes, in_chunks, panicked};
use burn_sfp_core::labels::{check_range, label_tensor};
use burn_sfp_core::{Batch, Calibration, DevicePool, Progress, SfpError, SfpModule};
use burn_sfp_graph::{ModuleInput, Network, attempt};
use burn_sfp_nn::tensor::{on_host, to_vec};
use burn_sfp_nn::walk::{ParamPath, ParamVisitor, visit_params};

use super::part::GradientPart;
use super::sums::GradientSums;
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
    guarded(|| all.sums.gather())?;
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
        Work { network: network.clone() },
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
        let gradients = gradients_of(&self.model, index, batch, &self.device)?;
        let sums = &mut self.sums;
        let add = || {
            match is_on_host(&gradients) {
                true => sums.add(samples, &read(gradients, index)?),
                false => {
                    check_on_device(&gradients, samples, index)?;
                    sums.add_on_device(samples, gradients);
                }
            }
            Ok(samples)
        };
        attempt(add).unwrap_or_else(|message| Err(panicked(index, message).into()))
    }
}

/// The sums on each device of a pool.
struct Work {
    network: Network,
}

impl<M: SfpModule> ChunkWork<M> for Work {
    type State<'m>
        = Gradients<'m, M>
    where
        M: 'm;
    type Part = GradientPart;
    type Error = PruneError;

    fn start<'m>(&'m self, model: &'m M, device: &Device) -> Result<Gradients<'m, M>, PruneError> {
        // A clone shares its running statistics, and `fork` would move them.
        let model = guarded(|| Ok(with_gradients(&model.valid().fork(device))))?;
        let (device, sums) = (device.clone().autodiff(), GradientSums::new(&self.network));
        Ok(Gradients { model, device, network: &self.network, sums })
    }

    fn run(&self, all: &mut Gradients<'_, M>, index: usize, batch: &Batch<M::Inputs>) -> Result<(), PruneError> {
        all.add(index, batch.clone()).map(|_| ())
    }

    fn take(&self, all: &mut Gradients<'_, M>) -> Result<GradientPart, PruneError> {
        all.sums.take()
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

/// The gradients of the mean cross-entropy of a batch, flat, by the path of the parameter; of those that the logits depend
/// on.
fn gradients_of<M: SfpModule>(
    model: &M,
    index: usize,
    batch: Batch<M::Inputs>,
    device: &Device,
) -> Result<BTreeMap<String, Tensor<1>>, PruneError> {
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
        let mut flat = Flat { gradients: &gradients, found: BTreeMap::new() };
        visit_params(model, &mut flat);
        Ok(flat.found)
    };
    attempt(work).unwrap_or_else(|message| Err(panicked(index, message).into()))
}

/// Takes the gradients in single precision.
struct Flat<'a> {
    gradients: &'a GradientsParams,
    found: BTreeMap<String, Tensor<1>>,
}

impl ParamVisitor for Flat<'_> {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: &Param<Tensor<D>>) {
        let Some(gradient) = self.gradients.get::<D>(param.id) else { return };
        let length: usize = gradient.dims().iter().product();
        let flat = gradient.reshape([length]);
        let flat = if flat.dtype() == DType::F32 { flat } else { flat.cast(DType::F32) };
        self.found.insert(path.join(), flat);
    }
}

/// Whether gradients are in memory that the host sees.
fn is_on_host(gradients: &BTreeMap<String, Tensor<1>>) -> bool {
    gradients.values().all(|gradient| on_host(gradient, |_| ()).is_some())
}

/// Reads the gradients of a batch, and checks that they are finite.
fn read(gradients: BTreeMap<String, Tensor<1>>, batch: usize) -> Result<BTreeMap<String, Vec<f32>>, PruneError> {
    let mut found = BTreeMap::new();
    for (path, gradient) in gradients {
        let values = to_vec(gradient.into_data())?;
        if let Some(&value) = values.iter().find(|value| !value.is_finite()) {
            return Err(PruneError::NonFiniteGradient { path, batch, value: f64::from(value) });
        }
        found.insert(path, values);
    }
    Ok(found)
}

/// Checks that gradients on a device, and the squares that are summed, are finite: one number comes back, and the gradients where it says that
/// they are not.
fn check_on_device(gradients: &BTreeMap<String, Tensor<1>>, samples: usize, batch: usize) -> Result<(), PruneError> {
    let zero = |gradient: &Tensor<1>| {
        let of_batch = gradient.clone() * samples as f64;
        // A product of zero and what is not finite is no number, and neither is a sum with it.
        (of_batch.clone() * of_batch * 0.0).sum()
    };
    let Some(zero) = gradients.values().map(zero).reduce(|all, zero| all + zero) else { return Ok(()) };
    if to_vec(zero.into_data())? == [0.0] {
        return Ok(());
    }
    let values = read(gradients.clone(), batch)?;
    // Finite, but not squared.
    let largest = |values: &Vec<f32>| values.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(0.0);
    let all = values.iter().map(|(path, values)| (path, largest(values)));
    match all.max_by(|(_, a), (_, b)| a.abs().total_cmp(&b.abs())) {
        Some((path, value)) => {
            Err(PruneError::NonFiniteGradient { path: path.clone(), batch, value: f64::from(value) })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_on_a_device_is_named() {
        let check = |value: f32| {
            let tensor = |values: [f32; 3]| Tensor::<1>::from_floats(values, &Device::flex());
            let gradients = [("a".to_string(), tensor([1.0, -2.0, 0.0])), ("b".to_string(), tensor([0.5, value, 3.0]))];
            check_on_device(&gradients.into(), 4, 7)
        };
        check(-1e9).unwrap();
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1e30] {
            match check(value) {
                Err(PruneError::NonFiniteGradient { path, batch: 7, value: found }) if path == "b" => {
                    assert!(found == f64::from(value) || value.is_nan() && found.is_nan(), "{found}");
                }
                other => panic!("{value}: {other:?}"),
            }
        }
    }
}
