//! [`RandomAfcc`], the control of docs/method.md, section 4: the rule of AFCC with random clusters.

use std::collections::HashMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::afcc::ClusterRule;
use super::context::PolicyContext;
use super::ranking::{Ranking, RankingPolicy};
use crate::PruneError;

/// Applies AFCC to random label sets: every filter gets a set of the layer's mean size, and every label occurs equally often.
///
/// ```
/// use burn_sfp_prune::RandomAfcc;
/// let control = RandomAfcc::new(7).layers(["convs.9"]);
/// ```
#[derive(Clone, Debug)]
pub struct RandomAfcc {
    seed: u64,
    layers: Option<Vec<String>>,
}

impl RandomAfcc {
    /// Creates the policy with the seed of its random label sets.
    pub fn new(seed: u64) -> Self {
        Self { seed, layers: None }
    }

    /// Restricts the policy to the incoming connections of these layers.
    pub fn layers<S: Into<String>>(mut self, paths: impl IntoIterator<Item = S>) -> Self {
        self.layers = Some(paths.into_iter().map(Into::into).collect());
        self
    }
}

impl RankingPolicy for RandomAfcc {
    fn name(&self) -> String {
        "random-afcc".into()
    }

    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let analysis = context.require_analysis(&self.name())?;
        let layers = analysis.layers.iter().enumerate().rev();
        let places: HashMap<&str, usize> = layers.map(|(index, layer)| (layer.path.as_str(), index)).collect();
        let deal = |path: &str| -> Option<Vec<Vec<usize>>> {
            let &index = places.get(path)?;
            let layer = &analysis.layers[index];
            let labels: usize = layer.performance.iter().map(|filter| filter.labels().len()).sum();
            let size = ((labels as f64 / layer.filters.max(1) as f64).round() as usize).clamp(1, layer.classes);
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(index as u64);
            Some(deal_labels(layer.filters, size, layer.classes, &mut rng))
        };
        let rule = ClusterRule { policy: &self.name(), classes: analysis.classes, shared: 1, labels_of: &deal };
        rule.rank(context, self.layers.as_deref())
    }
}

/// Deals labels from shuffled decks, so that every label occurs equally often (up to one); a label that a filter holds
/// already is put back at the bottom of the deck.
fn deal_labels(filters: usize, size: usize, classes: usize, rng: &mut ChaCha8Rng) -> Vec<Vec<usize>> {
    let mut deck: Vec<usize> = Vec::new();
    let mut sets = Vec::with_capacity(filters);
    for _ in 0..filters {
        let mut set: Vec<usize> = Vec::with_capacity(size);
        let mut set_aside = Vec::new();
        while set.len() < size {
            let Some(label) = deck.pop() else {
                deck = (0..classes).collect();
                deck.shuffle(rng);
                continue;
            };
            if set.contains(&label) { set_aside.push(label) } else { set.push(label) }
        }
        deck.splice(0..0, set_aside);
        set.sort_unstable();
        sets.push(set);
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_dealt_equally_often() {
        let sets = deal_labels(40, 7, 20, &mut ChaCha8Rng::seed_from_u64(1));
        let mut counts = [0; 20];
        for set in &sets {
            assert_eq!(set.len(), 7);
            assert!(set.windows(2).all(|pair| pair[0] < pair[1]));
            set.iter().for_each(|&label| counts[label] += 1);
        }
        assert!(counts.iter().all(|count| *count == 14), "{counts:?}");
    }
}
