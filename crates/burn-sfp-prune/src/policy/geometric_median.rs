//! [`GeometricMedian`]: filters ranked by their distances from the other filters of their layer.

use rayon::prelude::*;

use super::context::PolicyContext;
use super::kernels::Kernels;
use super::ranking::{Ranking, RankingPolicy};
use crate::PruneError;

/// Filters of one tile: the weights of two tiles stay in the cache while their filters are compared.
const TILE: usize = 32;

/// Ranks filters by how far they are from the others (FPGM, He et al. 2019, arXiv 1811.00250): a filter near the geometric median of
/// its layer can be replaced by the others, however large its weights are.
///
/// `score(f) = sum over all filters g of the layer of || w_f - w_g ||_2`, where w_f are the incoming weights of filter f without its
/// bias. In a grouped convolution these are the weights from its own group, and filters of all groups are compared. F filters of K
/// weights take F^2 K / 2 steps.
///
/// ```
/// use burn_sfp_prune::{GeometricMedian, RankingPolicy};
/// assert_eq!(GeometricMedian::new().name(), "geometric-median");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct GeometricMedian;

impl GeometricMedian {
    /// Creates the policy.
    pub fn new() -> Self {
        Self
    }
}

impl RankingPolicy for GeometricMedian {
    fn name(&self) -> String {
        "geometric-median".into()
    }

    fn rank(&self, context: &PolicyContext<'_>) -> Result<Ranking, PruneError> {
        let mut ranking = Ranking::default();
        for layer in context.prunable_layers() {
            let scores = distances(&context.kernels(layer)?);
            ranking.filters.insert(layer.path.clone(), scores);
        }
        Ok(ranking)
    }
}

/// Returns for each filter the sum of its distances from all others.
fn distances(kernels: &Kernels<'_>) -> Vec<f64> {
    let (filters, inputs) = kernels.shape();
    let weights = |filter: usize| (0..inputs).flat_map(move |input| kernels.kernel(filter, input)).copied().collect();
    let weights: Vec<Vec<f32>> = (0..filters).into_par_iter().map(weights).collect();
    let tiles = filters.div_ceil(TILE);
    let pairs: Vec<(usize, usize)> = (0..tiles).flat_map(|a| (a..tiles).map(move |b| (a, b))).collect();
    let sums: Vec<[[f64; TILE]; 2]> = pairs.par_iter().map(|&(a, b)| tile(&weights, a, b)).collect();
    // In the order of the pairs, so that the sums do not depend on the number of threads.
    let mut scores = vec![0.0; filters];
    for (&(a, b), [of_a, of_b]) in pairs.iter().zip(&sums) {
        for (tile, sums) in [(a, of_a), (b, of_b)] {
            scores[tile * TILE..].iter_mut().zip(sums).for_each(|(score, sum)| *score += sum);
        }
    }
    scores
}

/// Returns what the distances between the filters of two tiles, each pair once, add to the scores of either.
fn tile(weights: &[Vec<f32>], a: usize, b: usize) -> [[f64; TILE]; 2] {
    let mut sums = [[0.0; TILE]; 2];
    let range = |tile: usize| tile * TILE..((tile + 1) * TILE).min(weights.len());
    for first in range(a) {
        for second in range(b).filter(|&second| second > first) {
            let distance = distance(&weights[first], &weights[second]);
            sums[0][first % TILE] += distance;
            sums[1][second % TILE] += distance;
        }
    }
    sums
}

/// Returns the Euclidean distance, summed in double precision. Eight sums run side by side, because one would wait for each addition.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    const LANES: usize = 8;
    let square = |a: f32, b: f32| (f64::from(a) - f64::from(b)).powi(2);
    let (a, b) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (a, b) in a.0.iter().zip(b.0) {
        for lane in 0..LANES {
            sums[lane] += square(a[lane], b[lane]);
        }
    }
    let rest: f64 = a.1.iter().zip(b.1).map(|(&a, &b)| square(a, b)).sum();
    (sums.iter().sum::<f64>() + rest).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernels(values: &[f32], outputs: usize, inputs: usize) -> Kernels<'_> {
        Kernels { values: values.into(), outputs, inputs, size: 1, per_group: outputs, inputs_first: false }
    }

    #[test]
    fn few_filters() {
        assert_eq!(distances(&kernels(&[1.5, 2.0], 1, 2)), [0.0]);
        assert!(distances(&kernels(&[], 0, 2)).is_empty());
        assert_eq!(distances(&kernels(&[0.0, 3.0, 4.0, 0.0], 2, 2)), [5.0, 5.0]);
    }

    #[test]
    fn filters_on_both_sides_of_the_border_of_a_tile() {
        for filters in [TILE - 1, TILE, TILE + 1, 3 * TILE + 2] {
            // On a line, with distances that are whole numbers and so exact.
            let values: Vec<f32> = (0..filters).map(|filter| (filter * 7 % 13) as f32).collect();
            let sum = |a: &f32| values.iter().map(|b| f64::from((a - b).abs())).sum::<f64>();
            assert_eq!(distances(&kernels(&values, filters, 1)), values.iter().map(sum).collect::<Vec<f64>>());
        }
    }
}
