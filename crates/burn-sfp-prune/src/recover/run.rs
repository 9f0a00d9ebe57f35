//! [`recover`]: the passes over the data.

use std::collections::HashMap;
use std::time::Instant;

use burn::module::Param;
use burn::tensor::{Tensor, TensorData};
use burn_sfp_core::checks::{Parts, check_batch, in_smaller_batches};
use burn_sfp_core::{Calibration, DevicePool, Progress, SfpError, SfpModule};
use burn_sfp_graph::Network;
use burn_sfp_nn::walk::{ParamMapper, ParamPath, ShapeIds, map_params};

use super::config::Recover;
use super::correct::{Values, correct};
use super::counterpart::Original;
use super::passes::{Here, Passes, Shared};
use super::report::{Recovered, RecoveryReport};
use super::tasks::{Task, TaskKind, tasks};
use crate::mask::{KeepMasks, masks_of};
use crate::rewrite::{check_shapes, made_by, masks_of_smaller, on_copy, shapes_of};
use crate::{PruneError, PrunePlan};

/// Brings accuracy of a pruned classifier back without training: re-solves the weights that stay, matches means and measures the
/// statistics of batch normalisations, layer after layer, so that what is left returns what the original did. See
/// [`Recover`] for the steps.
///
/// `original` is the model that the plan was made for, `pruned` what the plan made of it. Both run over the calibration data once, in
/// evaluation mode: all batches pass a layer before any passes the next, so that each layer is fitted to what the corrected layers before
/// it return. Labels are not read. Neither model is changed.
///
/// What is exact: the statistics are mean and variance (of the samples as a population) of what reaches the normalisation in
/// the corrected network, over all samples and positions. Means are over all of them too. Least squares takes a sample of the
/// positions ([`Recover::patches`]). On flex and ndarray all sums are in double precision, and their bits do not depend on the number of
/// threads; other devices sum in their `f32`, and activations stay on them.
///
/// Corrected are the layers and normalisations that return something else than in the original; layers before the first removed input
/// stay as they are. A bias that the plan had corrected for removed inputs is set anew, not corrected twice. Removed connections stay exactly
/// zero: each output is solved over its kept connections. What cannot be corrected is left as it is, and the report says why: layers
/// that run more than once or whose weight is computed or sparse, and those whose outputs the plan scales.
///
/// Memory: the activations between two layers, of all samples and both networks ([`Recover::memory`]), besides the matrices of
/// one layer ([`Recover::columns`]). Where a device lacks it, the work starts over with every batch cut in half, and again.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// # use burn_sfp_core::{NoProgress, TensorCalibration};
/// use burn_sfp_prune::{Magnitude, Planner, Recover, RecoveryStep, recover};
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> {
/// #         self.b.forward(burn::tensor::activation::relu(self.a.forward(x)))
/// #     }
/// # }
/// # let device = Device::flex();
/// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
/// # let samples = Tensor::<2>::random([32, 4], burn::tensor::Distribution::Default, &device);
/// # let data = TensorCalibration::new(samples.clone(), vec![0; 32], 8);
/// let pruned = Planner::new().prune(&mlp, &samples, &Magnitude::l2())?;
/// let recovered = recover(&mlp, &pruned.model, &pruned.plan, &data, &Recover::new(), &NoProgress)?;
/// println!("{}", recovered.report);
/// let (before, after) = recovered.report.correction("b", RecoveryStep::LeastSquares).unwrap().error.unwrap();
/// assert!(after <= before);
/// # Ok::<(), burn_sfp_prune::PruneError>(())
/// ```
///
/// If `progress` cancels, the model with the corrections made by then is returned.
///
/// # Errors
/// - [`PruneError::ModelMismatch`] and [`PruneError::InvalidPlan`] if the two models are not those of the plan;
/// - [`PruneError::Config`] if a setting is out of its range;
/// - [`SfpError::NoSamples`] and the errors of batches that cannot be read or do not hold together; [`SfpError::NonFiniteInput`] and
///   [`SfpError::NonFiniteOutput`] where activations are NaN or infinite;
/// - [`PruneError::Graph`] if a model cannot be captured, or its forward pass fails.
pub fn recover<M: SfpModule, C: Calibration<M::Inputs> + ?Sized>(
    original: &M,
    pruned: &M,
    plan: &PrunePlan,
    calibration: &C,
    config: &Recover,
    progress: &dyn Progress,
) -> Result<Recovered<M>, PruneError> {
    recover_by([original, pruned], plan, calibration, config, None, progress)
}

/// [`recover`] on the devices of a pool, which share the data: each holds the activations of its part, what is summed of them comes back after
/// each layer, and is solved here. The model that is returned is on the device of `pruned`.
///
/// Batches go out in chunks ([`DevicePool::chunk`]) to whichever device is free, and sums are merged in the order of the data, so that where
/// devices compute alike the result does not depend on how many there are, nor on who was faster. [`Recover::memory`] is that of each device.
/// Where the samples do not fit into all of them, as many are used as fit, so that then the result does depend on the number of devices. A device that
/// fails, or takes longer than the pool's time limit over a layer, is left out, and others load its batches again, beyond that memory if need be. For
/// this the batches themselves stay in memory here.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// # use burn_sfp_core::{NoProgress, TensorCalibration};
/// use burn_sfp_core::DevicePool;
/// use burn_sfp_prune::{Magnitude, Planner, Recover, recover_on};
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> {
/// #         self.b.forward(burn::tensor::activation::relu(self.a.forward(x)))
/// #     }
/// # }
/// # let device = Device::flex();
/// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
/// # let samples = Tensor::<2>::random([32, 4], burn::tensor::Distribution::Default, &device);
/// # let data = TensorCalibration::new(samples.clone(), vec![0; 32], 8);
/// let pruned = Planner::new().prune(&mlp, &samples, &Magnitude::l2())?;
/// let pool = DevicePool::new([Device::flex(), Device::flex()]).chunk(2);
/// let recovered = recover_on(&mlp, &pruned.model, &pruned.plan, &data, &Recover::new(), &pool, &NoProgress)?;
/// assert_eq!((recovered.report.samples, recovered.report.all_samples), (32, true));
/// # Ok::<(), burn_sfp_prune::PruneError>(())
/// ```
///
/// # Errors
/// Those of [`recover`]; [`PruneError::Config`] for a pool without devices, [`SfpError::Devices`] where every device failed.
pub fn recover_on<M: SfpModule, C: Calibration<M::Inputs> + ?Sized>(
    original: &M,
    pruned: &M,
    plan: &PrunePlan,
    calibration: &C,
    config: &Recover,
    devices: &DevicePool,
    progress: &dyn Progress,
) -> Result<Recovered<M>, PruneError> {
    devices.check()?;
    recover_by([original, pruned], plan, calibration, config, Some(devices), progress)
}

/// Recovers on the device of the pruned model, or on those of a pool.
pub(crate) fn recover_by<M: SfpModule, C: Calibration<M::Inputs> + ?Sized>(
    models: [&M; 2],
    plan: &PrunePlan,
    calibration: &C,
    config: &Recover,
    devices: Option<&DevicePool>,
    progress: &dyn Progress,
) -> Result<Recovered<M>, PruneError> {
    let _span = tracing::info_span!("recovery").entered();
    let started = Instant::now();
    let [original, pruned] = models;
    config.check()?;
    made_by(plan, pruned)?;
    check_shapes(plan, &shapes_of(original))?;
    let mut recovered = in_smaller_batches(false, |parts| {
        recover_once(models, plan, &Parts::new(calibration, parts), config, devices, progress)
    })?;
    recovered.report.seconds = started.elapsed().as_secs_f64();
    Ok(recovered)
}

/// Recovers with batches as they are.
fn recover_once<M: SfpModule, C: Calibration<M::Inputs> + ?Sized>(
    models: [&M; 2],
    plan: &PrunePlan,
    calibration: &C,
    config: &Recover,
    devices: Option<&DevicePool>,
    progress: &dyn Progress,
) -> Result<Recovered<M>, PruneError> {
    let [original, pruned] = models;
    let first = calibration.batches().next().ok_or(SfpError::NoSamples)?;
    let first = first.map_err(|source| SfpError::Data { batch: 0, source })?;
    check_batch(0, &first)?;
    let before = Network::capture_with(original, &first.input, M::logits)?;
    let after = Network::capture_with(pruned, &first.input, M::logits)?;

    let mut report = RecoveryReport::default();
    let found = Original::new(plan, &before);
    let masks = kept(plan, masks_of(pruned));
    let tasks = tasks(&found, &after, &after.steps(), &masks, config, &mut report);
    let start = Start::of(&tasks, &found, &after, config);
    let networks = [before.clone(), after.clone()];
    progress.start("recovery: reading", calibration.samples());
    report.all_samples = true;
    let batches = calibration.batches();
    let mut passes: Box<dyn Passes> = match devices {
        None => Box::new(Here::load(models, networks, start, batches, &mut report, progress)?),
        Some(pool) => Box::new(Shared::load(models, networks, start, pool, batches, &mut report, progress)?),
    };
    progress.finish();
    let is_cancelled = progress.is_cancelled() || report.samples == 0;
    let values = match is_cancelled {
        true => Values::new(),
        false => correct(&mut *passes, tasks, config, &mut report, progress)?,
    };
    drop(passes);
    let path = |parameter: usize| after.parameters()[parameter].path.clone();
    let values = values.into_iter().map(|(parameter, values)| (path(parameter), values)).collect();
    let mut set = SetValues { values, ids: ShapeIds::default() };
    let model = on_copy(pruned, |copy| Ok(map_params(copy, &mut set)))?;
    Ok(Recovered { model, report })
}

/// Which connections stay, by the plan and by the model's own masks.
fn kept(plan: &PrunePlan, own: KeepMasks) -> KeepMasks {
    let mut masks = masks_of_smaller(plan);
    for (path, own) in own {
        match masks.get_mut(&path).filter(|mask| mask.shape == own.shape) {
            Some(mask) => mask.keep.iter_mut().zip(&own.keep).for_each(|(keep, own)| *keep &= own),
            None => {
                masks.insert(path, own);
            }
        }
    }
    masks
}

/// Where the two networks stop for the first correction, and how many samples fit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub pruned: usize,
    /// `None` where nothing is fitted to the original.
    pub original: Option<usize>,
    /// Samples whose activations fit into the memory of a device.
    pub samples: u64,
}

impl Start {
    fn of(tasks: &[Task], original: &Original<'_>, pruned: &Network, config: &Recover) -> Self {
        let first = tasks.first().map_or(usize::MAX, |task| task.step);
        let fitted = tasks.iter().find_map(|task| match &task.kind {
            TaskKind::Layer(layer) => Some(layer.original),
            TaskKind::Norm { .. } => None,
        });
        let operation =
            |steps: &[burn_sfp_graph::Step], step: usize| steps.get(step).map_or(usize::MAX, |step| step.operation);
        let mut bytes = pruned.standing_bytes(operation(&pruned.steps(), first));
        if let Some(step) = fitted {
            bytes += original.network.standing_bytes(operation(&original.steps, step));
        }
        let of_sample = (bytes / pruned.batch().max(1) as u64).max(1);
        Self { pruned: first, original: fitted, samples: config.memory / of_sample }
    }
}

struct SetValues {
    values: HashMap<String, Vec<f64>>,
    ids: ShapeIds,
}

impl ParamMapper for SetValues {
    fn float<const D: usize>(&mut self, path: ParamPath<'_>, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(values) = self.values.remove(&path.join()) else { return param };
        self.ids.map(param, |tensor| {
            Tensor::from_data(TensorData::new(values, tensor.dims()), (&tensor.device(), tensor.dtype()))
        })
    }
}
