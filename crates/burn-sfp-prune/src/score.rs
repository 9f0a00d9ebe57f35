//! [`channel_scores`]: from the scores of filters and heads to a score for each channel set.

use std::collections::BTreeMap;

use burn_sfp_graph::{ChannelId, Network};

use crate::Ranking;
use crate::group::{Channel, Groups};

/// Returns the score of each channel set that was ranked.
///
/// Scores are divided by the mean of their layer. A channel that several filters produce has the mean of their scores, and no
/// score if a layer that produces it was not ranked. Heads that were ranked themselves have their own scores.
pub(crate) fn channel_scores(network: &Network, groups: &Groups, ranking: &Ranking) -> BTreeMap<ChannelId, f64> {
    let layers: Vec<Option<Relative<'_>>> =
        network.layers().iter().map(|layer| Relative::of(ranking, &layer.path)).collect();
    let heads = head_scores(network, ranking);
    let score = |(&id, channel): (&ChannelId, &Channel)| {
        let own = heads.get(&id).copied();
        Some((id, own.or_else(|| filter_score(channel, &layers))?))
    };
    groups.channels.iter().filter_map(score).collect()
}

/// The scores of one layer or attention, and their mean.
struct Relative<'a> {
    scores: &'a [f64],
    unit: f64,
    /// Mean in this unit.
    mean: f64,
}

impl<'a> Relative<'a> {
    fn of(ranking: &'a Ranking, path: &str) -> Option<Self> {
        let scores = ranking.filters.get(path)?;
        let largest = scores.iter().fold(0.0, |largest: f64, score| largest.max(score.abs()));
        // Sums of larger scores could overflow, and quotients of smaller ones.
        let unit = if largest == 0.0 || (1e-100..1e100).contains(&largest) { 1.0 } else { largest };
        let mean = scores.iter().map(|score| score / unit).sum::<f64>() / scores.len().max(1) as f64;
        Some(Self { scores, unit, mean: if mean > 0.0 { mean } else { 1.0 } })
    }

    fn score(&self, filter: usize) -> f64 {
        self.scores[filter] / self.unit / self.mean
    }
}

/// Returns the mean score of the filters that produce a channel, or `None` if one of their layers was not ranked.
fn filter_score(channel: &Channel, layers: &[Option<Relative<'_>>]) -> Option<f64> {
    let mut sum = 0.0;
    for &(layer, filter) in &channel.producers {
        let relative = layers[layer].as_ref()?;
        sum += relative.score(filter);
    }
    Some(sum / channel.producers.len().max(1) as f64)
}

/// Returns the score of each channel of a head that was ranked; a channel that several attentions share has the mean of theirs.
fn head_scores(network: &Network, ranking: &Ranking) -> BTreeMap<ChannelId, f64> {
    let mut all: BTreeMap<ChannelId, (f64, f64)> = BTreeMap::new();
    for heads in network.heads() {
        let Some(relative) = Relative::of(ranking, &heads.path) else { continue };
        for (head, &channel) in heads.output_channels().iter().enumerate() {
            for atom in network.flow().atoms(channel) {
                let (sum, count) = all.entry(atom).or_default();
                *sum += relative.score(head);
                *count += 1.0;
            }
        }
    }
    all.into_iter().map(|(atom, (sum, count))| (atom, sum / count)).collect()
}
