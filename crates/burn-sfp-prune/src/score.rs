//! [`channel_scores`]: from the scores of filters and heads to a score for each channel set.

use std::collections::BTreeMap;

use burn_sfp_graph::{ChannelId, Network};

use crate::Ranking;
use crate::group::{Channel, Groups};
use crate::normalize::Normalizer;
use crate::reduce::Reduction;

/// How scores of filters become scores of channel sets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scoring {
    pub reduction: Reduction,
    /// `None`: the one that the ranking names, or else the default.
    pub normalizer: Option<Normalizer>,
}

/// Returns the score of each channel set that was ranked.
///
/// Scores are normalised layer by layer. A channel that several filters produce has the reduction of their scores, and no score if a
/// layer that produces it was not ranked. Heads that were ranked themselves have their own scores.
pub(crate) fn channel_scores(
    network: &Network,
    groups: &Groups,
    ranking: &Ranking,
    scoring: Scoring,
) -> BTreeMap<ChannelId, f64> {
    let normalizer = scoring.normalizer.or(ranking.normalizer).unwrap_or_default();
    let normalized = |path: &String| ranking.filters.get(path).map(|scores| normalizer.apply(scores));
    let layers: Vec<Option<Vec<f64>>> = network.layers().iter().map(|layer| normalized(&layer.path)).collect();
    let mut heads: BTreeMap<ChannelId, Vec<f64>> = BTreeMap::new();
    for attention in network.heads() {
        let Some(scores) = normalized(&attention.path) else { continue };
        for (&channel, score) in attention.output_channels().iter().zip(scores) {
            for atom in network.flow().atoms(channel) {
                heads.entry(atom).or_default().push(score);
            }
        }
    }
    let score = |(&id, channel): (&ChannelId, &Channel)| {
        let scores = match heads.get(&id) {
            Some(own) => own,
            None => &filter_scores(channel, &layers)?,
        };
        Some((id, scoring.reduction.of(scores)))
    };
    groups.channels.iter().filter_map(score).collect()
}

/// Returns the scores of the filters that produce a channel, or `None` if one of their layers was not ranked.
fn filter_scores(channel: &Channel, layers: &[Option<Vec<f64>>]) -> Option<Vec<f64>> {
    channel.producers.iter().map(|&(layer, filter)| Some(layers[layer].as_ref()?[filter])).collect()
}
