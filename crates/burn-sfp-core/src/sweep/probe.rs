//! What a replay taps, and who receives it.

use std::collections::HashMap;

use burn::backend::ir::TensorId;
use burn_sfp_graph::{Network, OutputTap};

/// A tensor to tap: the output of a layer, the heads of an attention, for its mean alone the input of a layer, or the stream in front of or
/// behind a block, which is known to have one. It holds indices, which are the same in a capture of another batch size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    Layer(usize),
    Heads(usize),
    Input(usize),
    Before(usize),
    Behind(usize),
}

impl Probe {
    pub fn tap(self, network: &Network) -> OutputTap {
        match self {
            Self::Layer(layer) => network.layers()[layer].tap.clone(),
            Self::Heads(heads) => network.heads()[heads].tap.clone(),
            Self::Input(layer) => OutputTap::of_input(&network.layers()[layer]),
            Self::Before(block) => stream(network, block, 0),
            Self::Behind(block) => stream(network, block, 1),
        }
    }

    /// The tensor that is tapped.
    fn tensor(self, network: &Network) -> TensorId {
        match self {
            Self::Layer(layer) => network.layers()[layer].tap.tensor,
            Self::Heads(heads) => network.heads()[heads].tap.tensor,
            other => other.tap(network).tensor,
        }
    }
}

/// The stream on one side of a block. Only blocks with streams are probed; without one, nothing of it would be read.
fn stream(network: &Network, block: usize, side: usize) -> OutputTap {
    let taps = network.stream_taps(&network.blocks()[block]);
    taps.map_or_else(|| network.layers()[0].tap.clone(), |[before, behind]| if side == 0 { before } else { behind })
}

/// Lists each tapped tensor once, together with all its receivers: several probes may name one tensor, and a replay returns each
/// tensor once.
///
/// Probes of inputs and constants of the network are dropped: no operation computes them, and their means are never needed.
pub(super) fn deduplicate<R>(
    network: &Network,
    probes: impl IntoIterator<Item = (Probe, R)>,
) -> (Vec<Probe>, Vec<Vec<R>>) {
    let mut kept: Vec<Probe> = Vec::new();
    let mut receivers: Vec<Vec<R>> = Vec::new();
    let mut place: HashMap<TensorId, usize> = HashMap::new();
    for (probe, receiver) in probes {
        let tensor = probe.tensor(network);
        match place.get(&tensor) {
            Some(&at) => receivers[at].push(receiver),
            None if network.is_computed(tensor) => {
                place.insert(tensor, kept.len());
                kept.push(probe);
                receivers.push(vec![receiver]);
            }
            None => {}
        }
    }
    (kept, receivers)
}
