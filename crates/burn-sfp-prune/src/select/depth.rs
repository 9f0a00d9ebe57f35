//! [`candidates`]: whole residual blocks as candidates beside channels.

use std::collections::{BTreeMap, BTreeSet};

use burn_sfp_graph::{Block, ChannelId, Network};

use crate::Ranking;
use crate::group::Groups;
use crate::kept::Kept;
use crate::normalize::Normalizer;
use crate::plan::Unpruned;

/// A block that can be left out.
#[derive(Clone, Debug)]
pub(crate) struct BlockCandidate {
    /// Its index in [`Network::blocks`].
    pub index: usize,
    /// What it is worth for each of its filters, comparable with the scores of channels.
    pub score: f64,
    /// How many filters its score stands for.
    pub filters: usize,
    /// The channels (atoms) that run inside of it alone.
    pub inside: Vec<ChannelId>,
}

/// Returns the blocks that were scored and can be left out, and those that stay, with the reason.
///
/// The scores of blocks are brought to a mean of 1. Times the mean score of the block's own filters, after `normalizer`, they are compared
/// with scores of channels: a block that is worth as much as blocks are on average goes when channels of its own filters' mean score would.
pub(crate) fn candidates(
    network: &Network,
    groups: &Groups,
    ranking: &Ranking,
    normalizer: Normalizer,
    (is_excluded, kept): (&dyn Fn(&str) -> bool, &Kept),
) -> (Vec<BlockCandidate>, Vec<Unpruned>) {
    let (mut found, mut stay) = (Vec::new(), Vec::new());
    if ranking.blocks.is_empty() {
        return (found, stay);
    }
    let scored: Vec<f64> =
        network.blocks().iter().filter_map(|block| ranking.blocks.get(block.path()).copied()).collect();
    let mean = scored.iter().map(|score| score.max(0.0)).sum::<f64>() / scored.len().max(1) as f64;
    for (index, block) in network.blocks().iter().enumerate() {
        let score = ranking.blocks.get(block.path());
        if score.is_none() && block.not_removable.is_none() {
            continue;
        }
        let excluded = || {
            let mut layers = block.layers.iter().map(|&layer| network.layers()[layer].path.as_str());
            layers.find(|path| is_excluded(path)).map(|path| format!("layer `{path}` in it is excluded"))
        };
        let not_followed = || kept.reason_of_block(block.path()).map(str::to_string);
        let reason = block.not_removable.clone().or_else(excluded).or_else(not_followed);
        let (Some(&score), None) = (score, &reason) else {
            stay.extend(reason.map(|reason| Unpruned { path: block.path().into(), reason }));
            continue;
        };
        let share = if mean > 0.0 { score.max(0.0) / mean } else { 1.0 };
        let (filters, own) = filter_scores(network, block, ranking, normalizer);
        found.push(BlockCandidate { index, score: share * own, filters, inside: inside(block, groups) });
    }
    (found, stay)
}

/// How many filters a block has, and the mean of their normalised scores; 1 if none is ranked.
fn filter_scores(network: &Network, block: &Block, ranking: &Ranking, normalizer: Normalizer) -> (usize, f64) {
    let layers = block.layers.iter().map(|&layer| &network.layers()[layer]);
    let all: usize = layers.clone().map(|layer| layer.filters).sum();
    let ranked = layers.filter_map(|layer| ranking.filters.get(&layer.path));
    let scores: Vec<f64> = ranked.flat_map(|scores| normalizer.apply(scores)).collect();
    let mean = if scores.is_empty() { 1.0 } else { scores.iter().sum::<f64>() / scores.len() as f64 };
    (all.max(1), mean)
}

/// The channels that no layer outside of a block makes or reads.
fn inside(block: &Block, groups: &Groups) -> Vec<ChannelId> {
    let layers: BTreeSet<usize> = block.layers.iter().copied().collect();
    let channels: &BTreeMap<_, _> = &groups.channels;
    let is_inside = |channel: &crate::group::Channel| {
        channel.producers.iter().chain(&channel.consumers).all(|(layer, _)| layers.contains(layer))
            && !channel.producers.is_empty()
    };
    channels.iter().filter(|(_, channel)| channel.pinned.is_none() && is_inside(channel)).map(|(&id, _)| id).collect()
}
