//! [`Normalizer`]: makes the scores of different layers comparable.

/// How the scores of a layer are scaled before they are compared with those of other layers.
///
/// For the scores s_1, .., s_F of a layer:
///
/// | normaliser | score of filter f |
/// | --- | --- |
/// | `Mean` (default) | s_f over the mean of the layer |
/// | `Sum` | s_f over the sum of the layer |
/// | `Max` | s_f over the largest absolute value in the layer |
/// | `Rank` | (r_f - 1/2) / F, where r_f is the rank of s_f, counted from 1 for the lowest; equal scores have their mean rank |
/// | `Standard` | (s_f - mean) over the standard deviation (that of all F scores) |
/// | `None` | s_f |
/// | `Lamp` | s_f^2 over the sum of s_g^2 over all filters g with s_g >= s_f |
///
/// `Lamp` is the formula of Lee et al., "Layer-adaptive sparsity for the magnitude-based pruning" (ICLR 2021, arXiv 2010.07611), with
/// filters in place of weights: s_f is the norm of a filter. Equal scores share one denominator, so they stay equal. A negative score
/// becomes -s_f^2 over the sum of all squares, which keeps it below the others.
///
/// The order within a layer stays as it is. Normalisers therefore change nothing while each layer is pruned by itself
/// ([`Budget::PerLayer`](crate::Budget::PerLayer)), except where filters of several layers are tied together.
///
/// ```
/// use burn_sfp_prune::Normalizer;
///
/// assert_eq!(Normalizer::Mean.apply(&[1.0, 2.0, 3.0]), [0.5, 1.0, 1.5]);
/// assert_eq!(Normalizer::Rank.apply(&[10.0, 30.0, 20.0, 30.0]), [0.125, 0.75, 0.375, 0.75]);
/// assert_eq!(Normalizer::Lamp.apply(&[1.0, 2.0, 0.0]), [0.2, 1.0, 0.0]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Normalizer {
    /// Divides by the mean. Scores whose mean is not positive stay as they are.
    #[default]
    Mean,
    /// Divides by the sum, so that filters of wide layers have lower scores. Scores whose sum is not positive stay as they are.
    Sum,
    /// Divides by the largest absolute value.
    Max,
    /// Replaces scores by their ranks, so that all layers lose the same share under a global budget.
    Rank,
    /// Subtracts the mean and divides by the standard deviation; equal scores become 0.
    Standard,
    /// Compares the scores as they are.
    None,
    /// The layer-adaptive score, which favours the filters that carry what is left of their layer.
    Lamp,
}

impl Normalizer {
    /// Returns the normalised scores of one layer; finite if the scores are.
    ///
    /// ```
    /// use burn_sfp_prune::Normalizer;
    /// assert_eq!(Normalizer::Max.apply(&[-1.0, 4.0]), [-0.25, 1.0]);
    /// assert_eq!(Normalizer::Standard.apply(&[7.0, 7.0]), [0.0, 0.0]);
    /// ```
    pub fn apply(self, scores: &[f64]) -> Vec<f64> {
        let count = scores.len().max(1) as f64;
        match self {
            Self::Mean => divided(scores, |sum| sum / count),
            Self::Sum => divided(scores, |sum| sum),
            Self::Max => shares_of_largest(scores),
            Self::Rank => ranks(scores),
            Self::Standard => standard(scores),
            Self::None => scores.to_vec(),
            Self::Lamp => lamp(scores),
        }
    }
}

fn largest(scores: &[f64]) -> f64 {
    scores.iter().fold(0.0, |largest: f64, score| largest.max(score.abs()))
}

/// Divides by what `divisor` makes of the sum.
fn divided(scores: &[f64], divisor: impl Fn(f64) -> f64) -> Vec<f64> {
    let largest = largest(scores);
    // Sums of larger scores could overflow, and quotients of smaller ones.
    let unit = if largest == 0.0 || (1e-100..1e100).contains(&largest) { 1.0 } else { largest };
    let divisor = divisor(scores.iter().map(|score| score / unit).sum());
    // Where scores of both signs cancel out, what is left of their sum is no scale, and quotients by it could overflow.
    if divisor > 1e-100 * (largest / unit) {
        scores.iter().map(|score| score / unit / divisor).collect()
    } else {
        scores.to_vec()
    }
}

fn shares_of_largest(scores: &[f64]) -> Vec<f64> {
    let largest = largest(scores);
    if largest == 0.0 { scores.to_vec() } else { scores.iter().map(|score| score / largest).collect() }
}

/// Returns the indices in the order of their scores, lowest first.
fn ascending(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    order
}

fn ranks(scores: &[f64]) -> Vec<f64> {
    let order = ascending(scores);
    let mut ranks = vec![0.0; scores.len()];
    let mut before = 0;
    for equal in order.chunk_by(|&a, &b| scores[a] == scores[b]) {
        // The mean of the ranks before + 1 .. before + n, less one half.
        let middle = (2 * before + equal.len()) as f64 / 2.0;
        equal.iter().for_each(|&filter| ranks[filter] = middle / scores.len() as f64);
        before += equal.len();
    }
    ranks
}

fn standard(scores: &[f64]) -> Vec<f64> {
    // In units of the largest, squares cannot overflow.
    let shares = shares_of_largest(scores);
    let count = shares.len().max(1) as f64;
    let mean = shares.iter().sum::<f64>() / count;
    let deviation = (shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / count).sqrt();
    if deviation > 0.0 {
        shares.iter().map(|share| (share - mean) / deviation).collect()
    } else {
        vec![0.0; shares.len()]
    }
}

fn lamp(scores: &[f64]) -> Vec<f64> {
    let shares = shares_of_largest(scores);
    let mut order = ascending(&shares);
    order.reverse();
    let mut normalized = vec![0.0; shares.len()];
    let mut sum = 0.0;
    for equal in order.chunk_by(|&a, &b| shares[a] == shares[b]) {
        let square = shares[equal[0]].powi(2);
        sum += square * equal.len() as f64;
        if shares[equal[0]] > 0.0 && sum > 0.0 {
            equal.iter().for_each(|&filter| normalized[filter] = square / sum);
        }
    }
    for (filter, share) in shares.iter().enumerate().filter(|(_, share)| **share < 0.0) {
        normalized[filter] = -share.powi(2) / sum.max(f64::MIN_POSITIVE);
    }
    normalized
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const ALL: [Normalizer; 7] = [
        Normalizer::Mean,
        Normalizer::Sum,
        Normalizer::Max,
        Normalizer::Rank,
        Normalizer::Standard,
        Normalizer::None,
        Normalizer::Lamp,
    ];

    /// The table of the documentation, score by score.
    fn reference(normalizer: Normalizer, scores: &[f64], f: usize) -> f64 {
        let (s, count) = (scores[f], scores.len() as f64);
        let mean = scores.iter().sum::<f64>() / count;
        match normalizer {
            Normalizer::Mean => s / mean,
            Normalizer::Sum => s / (mean * count),
            Normalizer::Max => s / scores.iter().fold(0.0, |most: f64, s| most.max(s.abs())),
            Normalizer::Rank => {
                let lower = scores.iter().filter(|other| **other < s).count() as f64;
                let equal = scores.iter().filter(|other| **other == s).count() as f64;
                (lower + (equal + 1.0) / 2.0 - 0.5) / count
            }
            Normalizer::Standard => {
                let variance = scores.iter().map(|other| (other - mean) * (other - mean)).sum::<f64>() / count;
                (s - mean) / variance.sqrt()
            }
            Normalizer::None => s,
            Normalizer::Lamp if s < 0.0 => -s * s / scores.iter().map(|other| other * other).sum::<f64>(),
            Normalizer::Lamp => {
                s * s / scores.iter().filter(|other| **other >= s).map(|other| other * other).sum::<f64>()
            }
        }
    }

    #[test]
    fn normalised_scores_are_those_of_the_formulas() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for (case, normalizer) in (0..40).flat_map(|case| ALL.map(|normalizer| (case, normalizer))) {
            let low = if case % 4 == 0 { -0.3 } else { 0.01 };
            let mut scores: Vec<f64> = (0..2 + case).map(|_| rng.random_range(low..1.0)).collect();
            if case % 3 == 0 {
                scores[0] = scores[case / 2 + 1];
            }
            scores.push(1.0);
            let found = normalizer.apply(&scores);
            for (f, found) in found.iter().enumerate() {
                let expected = reference(normalizer, &scores, f);
                assert!((found - expected).abs() < 1e-11 * expected.abs().max(1.0), "{normalizer:?} of {scores:?}");
            }
        }
    }

    #[test]
    fn finite_scores_stay_finite_and_in_order() {
        let wild: [&[f64]; 12] = [
            &[],
            &[0.0],
            &[0.0, -0.0, 0.0],
            &[3.0],
            &[-3.0],
            &[f64::MAX, f64::MAX, 1.0],
            &[f64::MAX, f64::MIN, 1.0],
            &[5e-324, 0.0, 5e-324],
            &[1e99, -1e99, 1e-300],
            &[1.0, 1.0 + f64::EPSILON, 1.0],
            &[-1e-320, 1e308, 1e-320],
            &[-2.0, -1.0, -4.0],
        ];
        for (scores, normalizer) in wild.iter().flat_map(|scores| ALL.map(|normalizer| (scores, normalizer))) {
            let found = normalizer.apply(scores);
            assert_eq!(found.len(), scores.len());
            assert!(found.iter().all(|score| score.is_finite()), "{normalizer:?} of {scores:?}: {found:?}");
            for (a, b) in (0..scores.len()).flat_map(|a| (0..scores.len()).map(move |b| (a, b))) {
                assert!(scores[a] > scores[b] || found[a] <= found[b], "{normalizer:?} of {scores:?}: {found:?}");
            }
        }
    }
}
