//! Replays batches of any size: the graph is captured again where a batch is shorter (usually the last one).

use burn::tensor::Device;

use crate::network::{Network, Replay, Tap};
use crate::{Batch, ModuleInput, SfpError, SfpModule};

/// What to tap: the output of a layer, the heads of an attention or, for its mean alone, the input of a layer. Indices, so that
/// they hold for a capture of another batch size too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    Layer(usize),
    Heads(usize),
    Input(usize),
}

impl Probe {
    pub fn tap(self, network: &Network) -> Tap {
        match self {
            Self::Layer(layer) => network.layers()[layer].tap.clone(),
            Self::Heads(heads) => network.heads()[heads].tap.clone(),
            Self::Input(layer) => Tap::of_input(&network.layers()[layer]),
        }
    }
}

pub(crate) struct Runner<'a, M: SfpModule> {
    model: &'a M,
    device: Device,
    pub network: Network,
    probes: Vec<Probe>,
    /// The replay of the first batch's size, and that of the last other size.
    main: Replay,
    other: Option<(usize, Replay)>,
}

impl<'a, M: SfpModule> Runner<'a, M> {
    pub(crate) fn new(model: &'a M, network: Network, probes: Vec<Probe>) -> Result<Self, SfpError> {
        let device = model.devices().into_iter().next().unwrap_or_default().without_autodiff();
        let main = replay(&network, &device, &probes)?;
        Ok(Self { model, device, network, probes, main, other: None })
    }

    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// Runs one batch; see [`Replay::run`].
    pub(crate) fn run(
        &mut self,
        index: usize,
        batch: &Batch<M::Input>,
        tapped: impl FnMut(usize, burn::tensor::Tensor<3>) -> Result<(), SfpError>,
    ) -> Result<burn::tensor::Tensor<2>, SfpError> {
        check_shapes(index, &batch.input, &self.network)?;
        let samples = batch.input.samples();
        let input = batch.input.clone().to_device(&self.device);
        if samples == self.network.batch() {
            return self.main.run(input, tapped);
        }
        if self.other.as_ref().is_none_or(|(size, _)| *size != samples) {
            self.other = None;
            let network = Network::capture(self.model, &batch.input)?;
            self.network.same_operations(&network)?;
            self.other = Some((samples, replay(&network, &self.device, &self.probes)?));
        }
        match &mut self.other {
            Some((_, replay)) => replay.run(input, tapped),
            None => Err(SfpError::Capture("the replay of another batch size is gone".into())),
        }
    }
}

fn replay(network: &Network, device: &Device, probes: &[Probe]) -> Result<Replay, SfpError> {
    let taps: Vec<Tap> = probes.iter().map(|probe| probe.tap(network)).collect();
    Replay::new(network, device, &taps.iter().collect::<Vec<_>>())
}

fn check_shapes<I: ModuleInput>(index: usize, input: &I, network: &Network) -> Result<(), SfpError> {
    let found = input.shapes();
    let same = found.len() == network.input_shapes().len()
        && found.iter().zip(network.input_shapes()).all(|(a, b)| {
            a.len() == b.len() && a.first() == found[0].first() && a[1.min(a.len())..] == b[1.min(b.len())..]
        });
    if same {
        return Ok(());
    }
    let differing = (0..found.len()).find(|&k| {
        network
            .input_shapes()
            .get(k)
            .is_none_or(|b| b.len() != found[k].len() || b[1.min(b.len())..] != found[k][1.min(found[k].len())..])
    });
    let k = differing.unwrap_or(0);
    Err(SfpError::BatchShape {
        batch: index,
        found: found.get(k).cloned().unwrap_or_default(),
        expected: network.input_shapes().get(k).cloned().unwrap_or_default(),
    })
}

/// Lists each tapped tensor once, with everyone who waits for it.
pub(super) fn deduplicate(network: &Network, probes: Vec<Probe>) -> (Vec<Probe>, Vec<Vec<usize>>) {
    let mut kept: Vec<Probe> = Vec::new();
    let mut receivers: Vec<Vec<usize>> = Vec::new();
    let tensor = |probe: &Probe| probe.tap(network).tensor;
    for (k, probe) in probes.into_iter().enumerate() {
        let computed = network.index.makers.contains_key(&tensor(&probe));
        match kept.iter().position(|other| tensor(other) == tensor(&probe)) {
            Some(at) => receivers[at].push(k),
            // The network's input is no operation's output; its mean is never needed. A constant's neither.
            None if computed => {
                kept.push(probe);
                receivers.push(vec![k]);
            }
            None => {}
        }
    }
    (kept, receivers)
}
