//! [`ReconstructionError`]: filters ranked by the error that the layers behind cannot make up for without them.

use std::collections::{BTreeMap, BTreeSet};

use burn_sfp_core::{InputGram, RemovedInputs};
use burn_sfp_graph::{ChannelId, Flow, Layer};

use super::context::PolicyContext;
use super::ranking::{Ranking, RankingPolicy};
use crate::PruneError;
use crate::evidence::Needs;

/// Share of the mean diagonal of a Gram matrix that is added to the diagonal.
const RIDGE: f64 = 1e-3;
/// Columns up to which a Gram matrix has one for each element of each channel, by default (32 MiB a layer).
const COLUMNS: usize = 2048;

/// Ranks filters by the least-squares error at the layers that read them, when the filter goes and their other weights
/// are solved for anew: optimal brain surgeon on channels (B. Hassibi, D. G. Stork, NIPS 1993; for networks of today E.
/// Frantar, D. Alistarh 2022, arXiv 2208.11580).
///
/// For a layer that reads channel `c` by the weights `W[c]`, one row for each element of the kernel and a column for
/// each output,
///
/// ```text
/// loss = sum over outputs b of  W[c, b]' ([H^-1][c, c])^-1 W[c, b],     H = G + 1e-3 * mean diagonal of G * I
/// ```
///
/// which for a single row is `|W[c]|^2 / [H^-1][c, c]`. `G = X'X / N` is the Gram matrix of what the layer multiplies
/// by its weight in the original network, over samples and positions ([`InputGram`]). The score of a filter is the sum
/// of the losses of all layers that read its channel. Errors of outputs that leave with the channel do not count, and
/// biases are not solved for.
///
/// `G` is exact (elements of kernels and positions of flattened maps are columns of their own) where it has at most
/// 2,048 columns ([`columns`](ReconstructionError::columns)). Beyond, it has one column for each channel, and the
/// elements of a kernel are treated alike, as if each read a map of its own: `loss = |W[c]|^2 / [H^-1][c, c]` with the
/// mean `G` of the elements. Layers that read more than 8,192 channels
/// ([`MOST_CHANNELS`](burn_sfp_core::MOST_CHANNELS)) do not count.
///
/// Layers of which no filter is read by another layer (queries and keys of an attention) are left without scores. What
/// else is computed from a channel does not count. A layer that is called several times counts with its first call.
///
/// Needs the [inputs](Needs::inputs) of layers: for a matrix of n columns `n^2 / 2` multiply-adds in double precision for
/// each position of the output (4.5 times those of the layer itself for a 3x3 convolution with as many filters as
/// inputs), and once a Cholesky factorisation and an inverse.
///
/// ```
/// use burn_sfp_prune::{RankingPolicy, ReconstructionError};
/// let policy = ReconstructionError::new().columns(512);
/// assert_eq!(policy.name(), "reconstruction-error");
/// assert_eq!(policy.needs().inputs_up_to(), Some(512));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ReconstructionError {
    columns: usize,
}

impl Default for ReconstructionError {
    fn default() -> Self {
        Self::new()
    }
}

impl ReconstructionError {
    /// Creates the policy.
    pub fn new() -> Self {
        Self { columns: COLUMNS }
    }

    /// Sets up to how many columns the Gram matrix of a layer has one for each element of each channel. A matrix of n
    /// columns takes `8 n^2` bytes, those of all layers at once; 0 treats elements alike everywhere.
    pub fn columns(mut self, columns: usize) -> Self {
        self.columns = columns;
        self
    }
}

impl RankingPolicy for ReconstructionError {
    fn name(&self) -> String {
        "reconstruction-error".into()
    }

    fn needs(&self) -> Needs {
        Needs::none().inputs(self.columns)
    }

    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let evidence = context.require_evidence(&self.name(), self.needs())?;
        let made: BTreeSet<ChannelId> = context.prunable_layers().flat_map(Layer::output_channels).copied().collect();
        let mut losses: BTreeMap<ChannelId, f64> = BTreeMap::new();
        for consumer in context.network.layers() {
            if let Some(gram) = evidence.inputs.get(&consumer.path) {
                for (channel, loss) in losses_at(context, consumer, gram, &made)? {
                    *losses.entry(channel).or_default() += loss;
                }
            }
        }
        Ok(Ranking::of_layers(context, |layer| {
            let of_filters: Vec<Option<f64>> =
                layer.output_channels().iter().map(|channel| losses.get(channel).copied()).collect();
            let is_read = of_filters.iter().any(Option::is_some);
            is_read.then(|| of_filters.into_iter().map(Option::unwrap_or_default).collect())
        }))
    }
}

/// The loss of each of the channels that a layer reads.
fn losses_at(
    context: &PolicyContext<'_>,
    consumer: &Layer,
    gram: &InputGram,
    made: &BTreeSet<ChannelId>,
) -> Result<Vec<(ChannelId, f64)>, PruneError> {
    let flow = context.network.flow();
    let inputs = ByAtom::of(flow, consumer.input_channels().iter().copied());
    let outputs = ByAtom::of(flow, consumer.output_channels().iter().copied().map(Some));
    let sets = made.iter().map(|channel| {
        let atoms = flow.atoms_of(channel);
        (*channel, RemovedInputs { inputs: inputs.carrying(atoms), outputs: outputs.carrying(atoms) })
    });
    let (channels, sets): (Vec<ChannelId>, Vec<RemovedInputs>) = sets.filter(|(_, set)| !set.inputs.is_empty()).unzip();
    let kernels = context.kernels(consumer)?;
    let kernel = |output: usize, input: usize| kernels.kernel(output, input);
    let losses = gram.removal_losses(&consumer.path, consumer.filters, &kernel, RIDGE, &sets)?;
    Ok(channels.into_iter().zip(losses).collect())
}

/// Which indices of an axis carry each atom, ascending.
struct ByAtom(BTreeMap<ChannelId, Vec<usize>>);

impl ByAtom {
    fn of(flow: &Flow, channels: impl Iterator<Item = Option<ChannelId>>) -> Self {
        let mut all: BTreeMap<ChannelId, Vec<usize>> = BTreeMap::new();
        for (index, channel) in channels.enumerate() {
            for atom in channel.iter().flat_map(|channel| flow.atoms_of(channel)) {
                all.entry(*atom).or_default().push(index);
            }
        }
        Self(all)
    }

    /// The indices that carry all of these atoms.
    fn carrying(&self, atoms: &[ChannelId]) -> Vec<usize> {
        let Some((first, rest)) = atoms.split_first() else { return Vec::new() };
        let of = |atom: &ChannelId| self.0.get(atom).map(Vec::as_slice).unwrap_or_default();
        let all_rest = |index: &usize| rest.iter().all(|atom| of(atom).binary_search(index).is_ok());
        of(first).iter().copied().filter(all_rest).collect()
    }
}
