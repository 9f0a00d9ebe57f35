//! Replays of batches of any size: the graph is captured again where a batch has another size (usually the last one).

use burn::tensor::{Device, Tensor};
use burn_sfp_graph::{GraphError, ModuleInput, Network, OutputTap, Replay};

use super::probe::Probe;
use crate::checks::check_shapes;
use crate::sums::single;
use crate::{Batch, SfpError, SfpModule};

/// Replays the captured network of a model, with the tensors of its probes tapped.
pub(crate) struct Runner<'a, M: SfpModule> {
    model: &'a M,
    device: Device,
    pub network: Network,
    probes: Vec<Probe>,
    /// Replay for batches of the size of the first one.
    main: Replay,
    /// Size and replay of the last batches of another size.
    other: Option<(usize, Replay)>,
}

/// The device that a model's batches run on.
pub(crate) fn device_of<M: SfpModule>(model: &M) -> Device {
    model.devices().into_iter().next().unwrap_or_default().without_autodiff()
}

impl<'a, M: SfpModule> Runner<'a, M> {
    /// Replays on another device than the model's.
    pub fn on(device: Device, model: &'a M, network: Network, probes: Vec<Probe>) -> Result<Self, SfpError> {
        let main = replay(&network, &device, &probes)?;
        Ok(Self { model, device, network, probes, main, other: None })
    }

    pub fn model(&self) -> &'a M {
        self.model
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Runs one batch; see [`Replay::run`]. What is tapped is in single precision.
    pub fn run(
        &mut self,
        index: usize,
        batch: &Batch<M::Inputs>,
        mut tapped: impl FnMut(usize, Tensor<3>) -> Result<(), SfpError>,
    ) -> Result<Tensor<2>, SfpError> {
        let tapped = |tap, acts| tapped(tap, single(acts));
        check_shapes(index, &batch.input, self.network.input_shapes())?;
        let samples = batch.input.samples();
        let input = batch.input.clone().to_device(&self.device);
        if samples == self.network.batch() {
            return self.main.run(input, tapped);
        }
        if self.other.as_ref().is_none_or(|(size, _)| *size != samples) {
            self.other = None;
            let network = Network::capture_with(self.model, &batch.input, M::logits)?;
            self.network.same_operations(&network)?;
            self.other = Some((samples, replay(&network, &self.device, &self.probes)?));
        }
        match &mut self.other {
            Some((_, replay)) => replay.run(input, tapped),
            None => Err(GraphError::Capture("the replay of another batch size is gone".into()).into()),
        }
    }
}

fn replay(network: &Network, device: &Device, probes: &[Probe]) -> Result<Replay, SfpError> {
    let taps: Vec<OutputTap> = probes.iter().map(|probe| probe.tap(network)).collect();
    Ok(Replay::new(network, device, &taps.iter().collect::<Vec<_>>())?)
}
