//! [`ReconstructionError`]: filters ranked by the error that the layers behind cannot make up for without them.

use std::collections::{BTreeMap, BTreeSet};

use burn_sfp_core::{InputGram, RemovedInputs, SfpError};
use burn_sfp_graph::{ChannelId, Flow, Layer};
use rayon::prelude::*;

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
/// These are the losses of single channels, as if each alone went. [`greedy`](ReconstructionError::greedy) removes them one after the other.
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
    is_greedy: bool,
}

impl Default for ReconstructionError {
    fn default() -> Self {
        Self::new()
    }
}

impl ReconstructionError {
    /// Creates the policy.
    pub fn new() -> Self {
        Self { columns: COLUMNS, is_greedy: false }
    }

    /// Sets up to how many columns the Gram matrix of a layer has one for each element of each channel. A matrix of n
    /// columns takes `8 n^2` bytes, those of all layers at once; 0 treats elements alike everywhere.
    pub fn columns(mut self, columns: usize) -> Self {
        self.columns = columns;
        self
    }

    /// Removes one channel after the other, each time that which adds the least loss, with all other weights solved for anew ([`Elimination`]).
    /// Of two filters that stand in for each other the second one then has a score of its own. The score of a filter is the loss that its
    /// channel added when it went, or that of one before it where that was larger, so that scores follow the order; filters of different layers
    /// compete by what they add.
    ///
    /// Costs for each layer about `2 n^3` multiply-adds for n columns beyond the inverse, in double precision.
    ///
    /// ```
    /// use burn_sfp_prune::{RankingPolicy, ReconstructionError};
    /// assert_eq!(ReconstructionError::new().greedy().name(), "reconstruction-error, greedy");
    /// ```
    ///
    /// [`Elimination`]: burn_sfp_core::Elimination
    pub fn greedy(mut self) -> Self {
        self.is_greedy = true;
        self
    }
}

impl RankingPolicy for ReconstructionError {
    fn name(&self) -> String {
        if self.is_greedy { "reconstruction-error, greedy".into() } else { "reconstruction-error".into() }
    }

    fn needs(&self) -> Needs {
        Needs::none().inputs(self.columns)
    }

    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let evidence = context.require_evidence(&self.name(), self.needs())?;
        let made: BTreeSet<ChannelId> = context.prunable_layers().flat_map(Layer::output_channels).copied().collect();
        let mut readers = Vec::new();
        for layer in context.network.layers() {
            if let Some(gram) = evidence.inputs.get(&layer.path) {
                readers.push(Reader::new(context, layer, gram, &made));
            }
        }
        let losses = if self.is_greedy { one_by_one(context, &readers)? } else { alone(context, &readers)? };
        Ok(Ranking::of_layers(context, |layer| {
            let of_filters: Vec<Option<f64>> =
                layer.output_channels().iter().map(|channel| losses.get(channel).copied()).collect();
            let is_read = of_filters.iter().any(Option::is_some);
            is_read.then(|| of_filters.into_iter().map(Option::unwrap_or_default).collect())
        }))
    }
}

/// A layer that reads channels, and what it loses with each of them.
struct Reader<'a> {
    layer: &'a Layer,
    gram: &'a InputGram,
    sets: BTreeMap<ChannelId, RemovedInputs>,
}

impl<'a> Reader<'a> {
    fn new(context: &PolicyContext<'_>, layer: &'a Layer, gram: &'a InputGram, made: &BTreeSet<ChannelId>) -> Self {
        let flow = context.network.flow();
        let inputs = ByAtom::of(flow, layer.input_channels().iter().copied());
        let outputs = ByAtom::of(flow, layer.output_channels().iter().copied().map(Some));
        let sets = made.iter().map(|channel| {
            let atoms = flow.atoms_of(channel);
            (*channel, RemovedInputs { inputs: inputs.carrying(atoms), outputs: outputs.carrying(atoms) })
        });
        Self { layer, gram, sets: sets.filter(|(_, set)| !set.inputs.is_empty()).collect() }
    }
}

/// The loss of each channel, as if it alone went.
fn alone(context: &PolicyContext<'_>, readers: &[Reader<'_>]) -> Result<BTreeMap<ChannelId, f64>, PruneError> {
    let mut losses: BTreeMap<ChannelId, f64> = BTreeMap::new();
    for Reader { layer, gram, sets } in readers {
        let kernels = context.kernels(layer)?;
        let kernel = |output: usize, input: usize| kernels.kernel(output, input);
        let removed: Vec<RemovedInputs> = sets.values().cloned().collect();
        let found = gram.removal_losses(&layer.path, layer.filters, &kernel, RIDGE, &removed)?;
        for (channel, loss) in sets.keys().zip(found) {
            *losses.entry(*channel).or_default() += loss;
        }
    }
    Ok(losses)
}

/// The loss that each channel adds, one after the other, where it goes that adds least.
fn one_by_one(context: &PolicyContext<'_>, readers: &[Reader<'_>]) -> Result<BTreeMap<ChannelId, f64>, PruneError> {
    let mut scores = BTreeMap::new();
    for readers in read_together(readers) {
        let mut left = Vec::with_capacity(readers.len());
        for Reader { layer, gram, .. } in &readers {
            let kernels = context.kernels(layer)?;
            let kernel = |output: usize, input: usize| kernels.kernel(output, input);
            left.push(gram.elimination(&layer.path, layer.filters, &kernel, RIDGE)?);
        }
        let channels: BTreeSet<ChannelId> = readers.iter().flat_map(|reader| reader.sets.keys().copied()).collect();
        let mut channels: Vec<ChannelId> = channels.into_iter().collect();
        // What each channel would add at each layer; `None` where the layer has changed since.
        let mut added = vec![vec![None::<f64>; readers.len()]; channels.len()];
        let mut largest = 0.0_f64;
        while !channels.is_empty() {
            let renew = |(channel, added): (&ChannelId, &mut Vec<Option<f64>>)| -> Result<f64, SfpError> {
                for ((reader, left), added) in readers.iter().zip(&left).zip(added.iter_mut()) {
                    if added.is_none() {
                        *added = Some(reader.sets.get(channel).map_or(Ok(0.0), |set| left.loss(set))?);
                    }
                }
                Ok(added.iter().flatten().sum())
            };
            let losses: Vec<f64> =
                channels.par_iter().zip(added.par_iter_mut()).map(renew).collect::<Result<_, SfpError>>()?;
            let Some(next) = (0..losses.len()).min_by(|&a, &b| losses[a].total_cmp(&losses[b])) else { break };
            let channel = channels.remove(next);
            added.remove(next);
            largest = largest.max(losses[next]);
            scores.insert(channel, largest);
            for (at, (reader, left)) in readers.iter().zip(&mut left).enumerate() {
                if let Some(set) = reader.sets.get(&channel) {
                    left.remove(set)?;
                    added.iter_mut().for_each(|added| added[at] = None);
                }
            }
        }
    }
    Ok(scores)
}

/// Readers in lists that have no channel in common.
fn read_together<'r, 'a>(readers: &'r [Reader<'a>]) -> Vec<Vec<&'r Reader<'a>>> {
    let mut lists: Vec<(BTreeSet<ChannelId>, Vec<&Reader<'a>>)> = Vec::new();
    for reader in readers {
        let mut own: (BTreeSet<ChannelId>, Vec<&Reader<'a>>) = (reader.sets.keys().copied().collect(), vec![reader]);
        let (same, others): (Vec<_>, Vec<_>) =
            lists.into_iter().partition(|(channels, _)| !channels.is_disjoint(&own.0));
        for (channels, readers) in same.into_iter().rev() {
            own.0.extend(channels);
            own.1.splice(0..0, readers);
        }
        lists = others;
        lists.push(own);
    }
    lists.into_iter().map(|(_, readers)| readers).collect()
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
