//! How much goes: turns scores of filters into channels to remove.

use std::collections::{BTreeMap, BTreeSet};

use burn_sfp_core::network::{ChannelId, Network};

use crate::group::{Blocks, Group, Groups};
use crate::{PruneError, Ranking};

/// How many of the scored channels are removed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// This share of the channels of each group of tied layers, rounded down. In `0..1`.
    PerLayer(f64),
    /// This share of all scored channels, the lowest anywhere (scores over their layer's mean), but at least one
    /// filter of each layer stays. In `0..1`.
    Global(f64),
}

impl Default for Budget {
    fn default() -> Self {
        Self::PerLayer(0.5)
    }
}

impl Budget {
    fn ratio(self) -> f64 {
        match self {
            Self::PerLayer(ratio) | Self::Global(ratio) => ratio,
        }
    }

    /// Chooses the channels to remove; where filters have two coordinates, along this one.
    pub(crate) fn choose(
        self,
        network: &Network,
        groups: &Groups,
        ranking: &Ranking,
        blocks: Blocks,
    ) -> Result<BTreeSet<ChannelId>, PruneError> {
        let ratio = self.ratio();
        if !(ratio.is_finite() && ratio >= 0.0) {
            return Err(PruneError::Config {
                name: "ratio",
                found: ratio.to_string(),
                expected: "at least 0 and below 1",
            });
        }
        // Scores over their layer's mean.
        let scores_at = |path: &String| {
            let scores = ranking.filters.get(path)?;
            let mean = scores.iter().sum::<f64>() / scores.len().max(1) as f64;
            Some((scores, if mean > 0.0 { mean } else { 1.0 }))
        };
        let scores: Vec<Option<(&Vec<f64>, f64)>> =
            network.layers().iter().map(|layer| scores_at(&layer.path)).collect();
        let of_heads = head_scores(network, &scores_at);
        let mut removed = BTreeSet::new();
        // (score, group, channel) of everything that may go.
        let mut ranked: Vec<(f64, usize, ChannelId)> = Vec::new();
        let mut left: Vec<usize> = Vec::new();
        for (group, Group { layers, blocks: coordinate, channels }) in groups.groups.iter().enumerate() {
            left.push(channels.len());
            let other = coordinate.is_some_and(|coordinate| coordinate != blocks);
            let scored = layers.iter().any(|&layer| scores[layer].is_some())
                || channels.iter().any(|id| of_heads.contains_key(id));
            if other || !scored {
                continue;
            }
            // Tied layers speak with one voice: the mean of their scores. Heads that were scored themselves, with their own.
            let mut own: Vec<(f64, usize, ChannelId)> = channels
                .iter()
                .filter(|id| groups.channels[id].pinned.is_none())
                .map(|&id| {
                    if let Some(&score) = of_heads.get(&id) {
                        return (score, group, id);
                    }
                    let (mut sum, mut count) = (0.0, 0);
                    for &(layer, filter) in &groups.channels[&id].made_by {
                        if let Some((scores, mean)) = scores[layer] {
                            sum += scores[filter] / mean;
                            count += 1;
                        }
                    }
                    (sum / f64::from(count.max(1)), group, id)
                })
                .collect();
            if own.is_empty() {
                continue;
            }
            let first = &network.layers()[layers[0]];
            if ratio >= 1.0 {
                return Err(PruneError::WouldEmpty {
                    path: first.path.clone(),
                    filters: first.filters,
                    asked: format!("a ratio of {ratio}"),
                });
            }
            if let Self::PerLayer(_) = self {
                own.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.2.cmp(&b.2)));
                let count = (ratio * channels.len() as f64).floor() as usize;
                removed.extend(own.iter().take(count).map(|(_, _, id)| *id));
            } else {
                ranked.append(&mut own);
            }
        }
        if let Self::Global(_) = self {
            let count = (ratio * ranked.len() as f64).floor() as usize;
            ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.2.cmp(&b.2)));
            for (_, group, id) in ranked {
                if removed.len() == count {
                    break;
                }
                if left[group] > 1 {
                    left[group] -= 1;
                    removed.insert(id);
                }
            }
        }
        Ok(removed)
    }
}

/// For each channel of a head that was scored the head's score over the mean of its attention, where several attentions share it
/// the mean of theirs.
fn head_scores<'a>(
    network: &Network,
    scores_at: &impl Fn(&String) -> Option<(&'a Vec<f64>, f64)>,
) -> BTreeMap<ChannelId, f64> {
    let mut all: BTreeMap<ChannelId, (f64, f64)> = BTreeMap::new();
    for heads in network.heads() {
        let Some((scores, mean)) = scores_at(&heads.path) else { continue };
        for (&channel, score) in heads.output_channels().iter().zip(scores) {
            for atom in network.flow().atoms(channel) {
                let (sum, count) = all.entry(atom).or_default();
                *sum += score / mean;
                *count += 1.0;
            }
        }
    }
    all.into_iter().map(|(atom, (sum, count))| (atom, sum / count)).collect()
}
