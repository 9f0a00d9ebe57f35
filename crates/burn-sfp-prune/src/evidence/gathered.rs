//! [`Evidence`]: the result of the passes that policies need.

use std::collections::BTreeMap;

use burn_sfp_core::checks::check_batch;
use burn_sfp_core::{
    ActivationEvidence, BlockStream, Calibration, DevicePool, InputGram, OutputStatistics, Progress, SfpError,
    SfpModule, gather_activations, gather_activations_on, gather_streams, gather_streams_on,
};
use burn_sfp_graph::{Fingerprint, Network};

use super::gradients::{gather_gradients, gather_gradients_on};
use super::needs::Needs;
use super::part::{FilterGradients, ParameterGradients};
use crate::PruneError;

/// What policies read besides the analysis and the weights: sums over passes through the calibration data.
///
/// [`Pruner`](crate::Pruner) gathers what its policy [needs](crate::RankingPolicy::needs). For a
/// [`Planner`](crate::Planner), and to use one pass for several policies, gather it yourself and hand a policy over
/// with [`policy`](Evidence::policy):
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// # use burn_sfp_core::{NoProgress, TensorCalibration};
/// use burn_sfp_prune::{ActivationMean, Evidence, Planner, RankingPolicy, Taylor};
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
/// let calibration = TensorCalibration::new(samples.clone(), vec![0, 1], 2);
/// let (mean, taylor) = (ActivationMean::new(), Taylor::new());
/// let evidence = Evidence::gather(&mlp, &calibration, mean.needs().and(taylor.needs()), &NoProgress)?;
/// let by_mean = Planner::new().prune(&mlp, &samples, &evidence.policy(mean))?;
/// let by_taylor = Planner::new().prune(&mlp, &samples, &evidence.policy(taylor))?;
/// assert_eq!(by_mean.model.a.weight.dims(), by_taylor.model.a.weight.dims());
/// # Ok::<(), burn_sfp_prune::PruneError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Evidence {
    /// Samples that every pass has seen.
    pub samples: u64,
    /// Statistics of the outputs of layers, by module path.
    pub outputs: BTreeMap<String, OutputStatistics>,
    /// Gram matrices of the inputs of layers, by module path.
    pub inputs: BTreeMap<String, InputGram>,
    /// What gradients say of the filters of layers, by module path. Not of layers whose weight is computed or sparse.
    pub filter_gradients: BTreeMap<String, FilterGradients>,
    /// Gradients of parameters, by module path. Not of those that the logits do not depend on.
    pub parameter_gradients: BTreeMap<String, ParameterGradients>,
    /// What residual blocks that can be left out do to their streams, by module path.
    pub blocks: BTreeMap<String, BlockStream>,
    /// Which passes were made.
    gathered: Needs,
    fingerprint: Fingerprint,
}

impl Evidence {
    /// Makes the passes over the calibration data that are needed: one for all that is read of activations, one for
    /// gradients, two for the streams around blocks.
    ///
    /// Gradients are those of the mean cross-entropy of a batch's logits, by Burn's autodiff, of all float parameters,
    /// frozen ones too. Everything runs in evaluation mode (batch normalisations with their running statistics, no
    /// dropout) on a copy; the model and its running statistics are not changed. Sums are in double precision, but for those of
    /// activations and gradients on other devices than flex and ndarray, and do not depend on the number of threads.
    ///
    /// Memory, besides that of a forward pass, or for gradients of a step of training: 24 bytes a filter for outputs;
    /// `8 n^2` bytes for each Gram matrix of n columns; 16 bytes for each element of a parameter for gradients, and a
    /// copy of the weights.
    ///
    /// If `progress` cancels, the evidence is that of the samples seen by then, and passes that have not started are
    /// not made.
    ///
    /// # Errors
    /// - [`SfpError::NoSamples`] if there are no samples, and the errors of batches that cannot be read or do not hold together;
    /// - [`SfpError::LabelOutOfRange`] if gradients are needed and a label does not fit the logits;
    /// - [`SfpError::NonFiniteOutput`], [`SfpError::NonFiniteInput`], [`PruneError::NonFiniteLoss`] and
    ///   [`PruneError::NonFiniteGradient`] if activations, the loss or gradients are NaN or infinite;
    /// - [`PruneError::Graph`] if the model cannot be captured or its forward pass fails.
    pub fn gather<M: SfpModule, C: Calibration<M::Inputs> + ?Sized>(
        model: &M,
        calibration: &C,
        needs: Needs,
        progress: &dyn Progress,
    ) -> Result<Self, PruneError> {
        Self::of_network(model, &captured(model, calibration)?, calibration, needs, None, progress)
    }

    /// [`gather`](Evidence::gather) on the devices of a pool, which share the data. Activations and gradients stay where they are computed; sums
    /// come back, after each chunk of batches.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::GraphModule;
    /// # use burn_sfp_core::{NoProgress, TensorCalibration};
    /// use burn_sfp_core::DevicePool;
    /// use burn_sfp_prune::{Evidence, RankingPolicy, Taylor};
    /// # #[derive(Module, Debug)]
    /// # struct Mlp { a: Linear, b: Linear }
    /// # impl GraphModule for Mlp {
    /// #     type Inputs = Tensor<2>;
    /// #     type Outputs = Tensor<2>;
    /// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.b.forward(burn::tensor::activation::relu(self.a.forward(x))) }
    /// # }
    /// # let device = Device::flex();
    /// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
    /// # let samples = Tensor::<2>::from_floats([[1., 0., 0., 1.], [0., 1., 1., 0.]], &device);
    /// # let calibration = TensorCalibration::new(samples, vec![0, 1], 1);
    /// let pool = DevicePool::new([Device::flex(), Device::flex()]);
    /// let evidence = Evidence::gather_on(&mlp, &calibration, Taylor::new().needs(), &pool, &NoProgress)?;
    /// assert_eq!(evidence.filter_gradients["a"].whole.len(), 8);
    /// # Ok::<(), burn_sfp_prune::PruneError>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`gather`](Evidence::gather), [`PruneError::Config`] for a pool without devices, and [`SfpError::Devices`] where every
    /// device failed.
    pub fn gather_on<M: SfpModule, C: Calibration<M::Inputs> + ?Sized>(
        model: &M,
        calibration: &C,
        needs: Needs,
        devices: &DevicePool,
        progress: &dyn Progress,
    ) -> Result<Self, PruneError> {
        Self::of_network(model, &captured(model, calibration)?, calibration, needs, Some(devices), progress)
    }

    /// [`gather`](Evidence::gather) or [`gather_on`](Evidence::gather_on) with the captured network of the logits.
    pub(crate) fn of_network<M: SfpModule, C: Calibration<M::Inputs> + ?Sized>(
        model: &M,
        network: &Network,
        calibration: &C,
        needs: Needs,
        devices: Option<&DevicePool>,
        progress: &dyn Progress,
    ) -> Result<Self, PruneError> {
        let (mut gathered, mut samples) = (Needs::none(), None::<u64>);
        let mut activations = ActivationEvidence::default();
        if let Some(wanted) = needs.activations() {
            activations = match devices {
                Some(devices) => gather_activations_on(model, network, calibration, wanted, devices, progress)?,
                None => gather_activations(model, network, calibration, wanted, progress)?,
            };
            samples = Some(activations.samples);
            gathered = needs.of_activations();
        }
        let (mut parameter_gradients, mut filter_gradients) = Default::default();
        if needs.has_gradients() && !(samples.is_some() && progress.is_cancelled()) {
            let sums = match devices {
                Some(devices) => gather_gradients_on(model, network, calibration, devices, progress)?,
                None => gather_gradients(model, network, calibration, progress)?,
            };
            samples = Some(samples.map_or(sums.samples, |seen| seen.min(sums.samples)));
            (parameter_gradients, filter_gradients) = sums.finish();
            gathered = gathered.gradients();
        }
        let mut blocks = BTreeMap::new();
        if needs.has_blocks() && !(samples.is_some() && progress.is_cancelled()) {
            blocks = match devices {
                Some(devices) => gather_streams_on(model, network, calibration, devices, progress)?,
                None => gather_streams(model, network, calibration, progress)?,
            };
            gathered = if progress.is_cancelled() { gathered } else { gathered.blocks() };
        }
        let ActivationEvidence { outputs, inputs, .. } = activations;
        let fingerprint = network.fingerprint().clone();
        let samples = samples.unwrap_or_default();
        Ok(Self { samples, outputs, inputs, filter_gradients, parameter_gradients, blocks, gathered, fingerprint })
    }

    /// Returns which passes were made.
    pub fn gathered(&self) -> Needs {
        self.gathered.clone()
    }

    /// Checks that the network has the parameters that the evidence was gathered with.
    pub(crate) fn check(&self, network: &Network) -> Result<(), PruneError> {
        match self.fingerprint.difference(network.fingerprint()) {
            None => Ok(()),
            Some(parameter) => {
                let what = format!("parameter `{parameter}` has other values than when the evidence was gathered");
                Err(PruneError::ModelMismatch { what })
            }
        }
    }
}

/// The network of the logits, captured on the first batch.
fn captured<M: SfpModule, C: Calibration<M::Inputs> + ?Sized>(
    model: &M,
    calibration: &C,
) -> Result<Network, PruneError> {
    let first = calibration.batches().next().ok_or(SfpError::NoSamples)?;
    let first = first.map_err(|source| SfpError::Data { batch: 0, source })?;
    check_batch(0, &first)?;
    let network = Network::capture_with(model, &first.input, M::logits)?;
    if network.classes() == 0 {
        let found = network.output_shapes().first().cloned().unwrap_or_default();
        return Err(SfpError::LogitsShape { found, samples: network.batch() }.into());
    }
    Ok(network)
}
