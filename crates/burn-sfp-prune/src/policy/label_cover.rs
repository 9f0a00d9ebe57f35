//! [`LabelCover`]: the smallest set of filters that still recognises every label.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use burn_sfp_core::LayerAnalysis;
use burn_sfp_nn::ConfigError;

use super::context::PolicyContext;
use super::ranking::{Ranking, RankingPolicy};
use super::sfp_ranking::{SfpRanking, signals};
use crate::PruneError;
use crate::normalize::Normalizer;

/// Ranks filters so that what is kept is the smallest set by which every label is recognised by at least k of the filters kept, or by
/// all filters that recognise it where they are fewer.
///
/// The set of a layer is found greedily: the filter comes next that adds most to
/// `f(S) = sum over the labels l of min(k, number of filters in S that recognise l)`,
/// and of equal ones that with the larger score of [`SfpRanking`] (by the analysis alone), until no filter adds anything. f is
/// submodular, so the set holds at most H(m) times as many filters as the smallest possible one, where m is the largest number of
/// labels that a filter recognises and `H(m) = 1 + 1/2 + .. + 1/m` (Wolsey, "An analysis of the greedy algorithm for the submodular
/// set covering problem", Combinatorica 2, 1982). What filters would add is computed only when they come first in a heap (lazy
/// greedy, Minoux 1978), with the same result.
///
/// Filters of the set score between 1 and 2, in the order in which they were taken: 1 plus the share of f that the filter added when
/// it was taken. The others score below 1, in the order of [`SfpRanking`]: r / (1 + r), where r is its score over the mean of the
/// layer. Scores of different layers are compared as they are ([`Normalizer::None`]), so that a budget over the whole network removes
/// all filters that no label needs before the first one that is needed. Heads of attentions are treated as filters are.
///
/// The rule is the library's own; what filters recognise is the paper's (docs/method.md, section 3).
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// # use burn_sfp_core::TensorCalibration;
/// # use burn_sfp_prune::{Budget, LabelCover, Pruner};
/// # #[derive(Module, Debug)]
/// # struct Mlp { hidden: Linear, classifier: Linear }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> {
/// #         self.classifier.forward(burn::tensor::activation::relu(self.hidden.forward(x)))
/// #     }
/// # }
/// # let device = Device::flex();
/// # let mlp = Mlp {
/// #     hidden: LinearConfig::new(4, 16).init(&device),
/// #     classifier: LinearConfig::new(16, 2).init(&device),
/// # };
/// # let samples = Tensor::<2>::from_floats([[1., 0., 0., 1.], [0., 1., 1., 0.]], &device);
/// # let calibration = TensorCalibration::new(samples, vec![0, 1], 2);
/// let pruned = Pruner::new(&calibration).policy(LabelCover::new(2)).ratio(0.5).analyze_and_prune(&mlp)?;
///
/// let layer = pruned.analysis.layer("hidden").unwrap();
/// let needed = LabelCover::new(2).needed(layer);
/// println!("{} of {} nodes recognise every label at least twice", needed.len(), layer.filters);
/// assert!(needed.len() <= 4);
/// # Ok::<(), burn_sfp_prune::PruneError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LabelCover {
    k: usize,
}

impl LabelCover {
    /// Creates the policy with k, the number of filters that are to recognise each label; at least 1.
    pub fn new(k: usize) -> Self {
        Self { k }
    }

    /// Returns the filters of a layer (or the heads of an attention) that the labels need, in the order in which they were taken; the
    /// others can go without a label being recognised by fewer than k filters that it was recognised by before.
    ///
    /// ```
    /// # use burn_sfp_core::Analysis;
    /// use burn_sfp_prune::LabelCover;
    /// fn report(analysis: &Analysis) {
    ///     for layer in &analysis.layers {
    ///         let needed = LabelCover::new(3).needed(layer).len();
    ///         println!("{}: {:.0} % of the filters are needed", layer.path, 100.0 * needed as f64 / layer.filters as f64);
    ///     }
    /// }
    /// ```
    pub fn needed(&self, layer: &LayerAnalysis) -> Vec<usize> {
        self.cover(layer).into_iter().map(|taken| taken.filter).collect()
    }

    fn cover(self, found: &LayerAnalysis) -> Vec<Taken> {
        let labels: Vec<Vec<usize>> = found.performance.iter().map(|unit| unit.labels()).collect();
        cover(&labels, self.k, &signals(found))
    }

    /// Returns the score of each unit; `others` order those that are not needed.
    fn scores(self, found: &LayerAnalysis, others: &[f64]) -> Vec<f64> {
        let others = Normalizer::Mean.apply(others);
        let mut scores: Vec<f64> = others.into_iter().map(|score| score / (1.0 + score)).collect();
        let cover = self.cover(found);
        let whole: usize = cover.iter().map(|taken| taken.added).sum();
        let units = scores.len().max(1) as f64;
        for (place, taken) in cover.iter().enumerate() {
            // Filters that added the same stay in their order: the difference is far below that of one label.
            let added = taken.added as f64 - 1e-3 * place as f64 / units;
            scores[taken.filter] = 1.0 + added / whole as f64;
        }
        scores
    }
}

impl RankingPolicy for LabelCover {
    fn name(&self) -> String {
        format!("label-cover-{}", self.k)
    }

    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        if self.k == 0 {
            return Err(ConfigError { name: "k of the label cover", found: "0".into(), expected: "at least 1" }.into());
        }
        let analysis = context.require_analysis(&self.name())?;
        let mut ranking = SfpRanking::new().rank(context)?;
        for (path, scores) in &mut ranking.filters {
            if let Some(found) = analysis.layer(path) {
                *scores = self.scores(found, scores);
            }
        }
        ranking.normalizer = Some(Normalizer::None);
        Ok(ranking)
    }
}

/// A filter of the cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Taken {
    filter: usize,
    /// What it added to f.
    added: usize,
}

/// Returns the filters that lazy greedy takes, in its order; of filters that add the same, the one with the larger tie breaker, then
/// the first, goes first.
fn cover(labels: &[Vec<usize>], k: usize, tie_breakers: &[f64]) -> Vec<Taken> {
    let mut known: Vec<usize> = labels.iter().flatten().copied().collect();
    known.sort_unstable();
    known.dedup();
    let places = |labels: &Vec<usize>| -> Vec<usize> {
        let mut places: Vec<usize> = labels.iter().filter_map(|label| known.binary_search(label).ok()).collect();
        places.dedup();
        places
    };
    let labels: Vec<Vec<usize>> = labels.iter().map(places).collect();
    // How many more filters each label needs. One that fewer filters recognise never gets there, which changes no choice.
    let mut missing = vec![k; known.len()];
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by(|&a, &b| tie_breakers[b].total_cmp(&tie_breakers[a]).then(a.cmp(&b)));
    let adds = |filter: usize, missing: &[usize]| labels[filter].iter().filter(|&&label| missing[label] > 0).count();
    let first = order.iter().enumerate().map(|(place, &filter)| (adds(filter, &missing), Reverse(place)));
    let mut heap: BinaryHeap<(usize, Reverse<usize>)> = first.collect();
    let mut taken = Vec::new();
    while let Some((_, place)) = heap.pop() {
        let filter = order[place.0];
        // What a filter adds only shrinks, so those below it in the heap add at most what stands there.
        let added = adds(filter, &missing);
        if added == 0 {
            continue;
        }
        if heap.peek().is_some_and(|next| *next > (added, place)) {
            heap.push((added, place));
            continue;
        }
        for &label in &labels[filter] {
            missing[label] = missing[label].saturating_sub(1);
        }
        taken.push(Taken { filter, added });
    }
    taken
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// f(S) of the documentation.
    fn value(labels: &[Vec<usize>], k: usize, set: &[usize]) -> usize {
        (0..20).map(|label| set.iter().filter(|&&filter| labels[filter].contains(&label)).count().min(k)).sum()
    }

    /// Greedy by its definition: every filter is tried in every step.
    fn greedy(labels: &[Vec<usize>], k: usize, ties: &[f64]) -> Vec<Taken> {
        let mut set: Vec<usize> = Vec::new();
        let mut taken = Vec::new();
        loop {
            let with = |filter: usize| value(labels, k, &[&set[..], &[filter]].concat()) - value(labels, k, &set);
            let left = (0..labels.len()).filter(|filter| !set.contains(filter));
            let best = left
                .map(|filter| (with(filter), ties[filter], Reverse(filter)))
                .max_by(|a, b| a.partial_cmp(b).unwrap());
            match best {
                Some((added, _, Reverse(filter))) if added > 0 => {
                    set.push(filter);
                    taken.push(Taken { filter, added });
                }
                _ => return taken,
            }
        }
    }

    /// The number of filters of the smallest set with the value of all.
    fn smallest(labels: &[Vec<usize>], k: usize) -> usize {
        let all: Vec<usize> = (0..labels.len()).collect();
        let whole = value(labels, k, &all);
        let sets = (0..1u32 << labels.len()).map(|bits| all.iter().copied().filter(|f| bits >> f & 1 == 1).collect());
        sets.filter(|set: &Vec<usize>| value(labels, k, set) == whole).map(|set| set.len()).min().unwrap()
    }

    fn random(filters: usize, classes: usize, rng: &mut ChaCha8Rng) -> (Vec<Vec<usize>>, Vec<f64>) {
        let set = |rng: &mut ChaCha8Rng| (0..classes).filter(|_| rng.random_range(0..3) == 0).collect();
        let labels = (0..filters).map(|_| set(rng)).collect();
        let ties = (0..filters).map(|_| f64::from(rng.random_range(0..3))).collect();
        (labels, ties)
    }

    #[test]
    fn the_cover_is_that_of_greedy_and_within_its_guarantee() {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let mut larger = 0;
        for case in 0..120 {
            let (labels, ties) = random(1 + case % 10, 1 + case % 12, &mut rng);
            for k in 1..4 {
                let found = cover(&labels, k, &ties);
                assert_eq!(found, greedy(&labels, k, &ties), "{labels:?}, k = {k}");
                let set: Vec<usize> = found.iter().map(|taken| taken.filter).collect();
                let all: Vec<usize> = (0..labels.len()).collect();
                assert_eq!(value(&labels, k, &set), value(&labels, k, &all));
                let most = labels.iter().map(Vec::len).max().unwrap();
                let harmonic: f64 = (1..=most).map(|m| 1.0 / m as f64).sum();
                let smallest = smallest(&labels, k);
                assert!(set.len() as f64 <= harmonic * smallest as f64 + 1e-9 && set.len() >= smallest);
                larger += usize::from(set.len() > smallest);
            }
        }
        // Greedy is not always best, so the bound was tested with more than equality.
        assert!(larger > 0);
    }

    #[test]
    fn large_layers() {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let (labels, ties) = random(300, 20, &mut rng);
        assert_eq!(cover(&labels, 5, &ties), greedy(&labels, 5, &ties));
    }

    #[test]
    fn nothing_to_cover() {
        assert_eq!(cover(&[], 2, &[]), []);
        assert_eq!(cover(&[vec![], vec![]], 2, &[0.0, 1.0]), []);
        assert_eq!(cover(&[vec![3], vec![3]], 0, &[0.0, 1.0]), []);
        assert_eq!(cover(&[vec![usize::MAX, usize::MAX]], 2, &[0.0]), [Taken { filter: 0, added: 1 }]);
    }
}
