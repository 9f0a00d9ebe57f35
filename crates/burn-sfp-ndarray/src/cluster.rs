//! The clusters of labels that a filter recognizes, and its noise.
//!
//! The rule of `docs/method.md`, section 3 (Tzach et al. 2025, Phys. Rev. E 111, 065307): the labels with
//! `B_f[j][j] = 1` are visited in ascending order. The first remaining label opens a cluster. Each later remaining label
//! joins it, in order, when `B_f` is 1 for every ordered pair within the enlarged cluster. The labels of the cluster are
//! removed, and the rule is repeated until no label remains.
//!
//! The labels that may still join are kept as a set of bits in the words of a matrix row; each label that joins
//! intersects the set with its row and its column.

use crate::BooleanMatrix;

/// The clusters of labels that a filter recognizes, and its noise.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FilterClusters {
    /// The clusters in the order they were opened, each a list of labels in ascending order.
    pub clusters: Vec<Vec<usize>>,
    /// `n_f`: the number of elements of `B_f` that are 1 outside the blocks of the clusters,
    /// `popcount(B_f) - sum |c|^2`.
    pub noise: usize,
    /// The part of [`noise`](Self::noise) in the columns of labels that belong to a cluster.
    pub column_noise: usize,
}

/// Computes the clusters and the noise of a filter from its Boolean matrix `[C, C]`.
///
/// Source: `docs/method.md`, section 3 (Tzach et al. 2025, Phys. Rev. E 111, 065307).
///
/// # Example
/// ```
/// use burn_sfp_ndarray::{BooleanMatrix, clusters};
///
/// let ones = [[1, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]];
/// let found = clusters(&BooleanMatrix::from_fn(4, |i, j| ones[i][j] == 1));
/// assert_eq!(found.clusters, [vec![0, 1], vec![2]]);
/// assert_eq!(found.noise, 1); // row 1, column 3
/// assert_eq!(found.column_noise, 0); // label 3 is in no cluster
/// ```
pub fn clusters(b: &BooleanMatrix) -> FilterClusters {
    let mut labels = vec![0_u64; b.row(0).len()];
    for label in (0..b.classes()).filter(|&label| b.bit(label, label)) {
        labels[label / 64] |= 1 << (label % 64);
    }

    let mut clusters = Vec::new();
    let mut left = labels.clone();
    let mut candidates = vec![0_u64; left.len()];
    while let Some(first) = lowest(&left) {
        let mut cluster = Vec::new();
        candidates.copy_from_slice(&left);
        let mut joins = Some(first);
        while let Some(label) = joins {
            cluster.push(label);
            remove(&mut left, label);
            remove(&mut candidates, label);
            keep_partners(b, label, &mut candidates);
            joins = lowest(&candidates);
        }
        clusters.push(cluster);
    }

    let inside: usize = clusters.iter().map(|cluster| cluster.len().pow(2)).sum();
    let in_columns: usize = (0..b.classes())
        .flat_map(|i| b.row(i).iter().zip(&labels))
        .map(|(row, labels)| (row & labels).count_ones() as usize)
        .sum();
    FilterClusters { clusters, noise: b.count_ones() - inside, column_noise: in_columns - inside }
}

/// Keeps the candidates for which the matrix is 1 in both orders with `label`.
fn keep_partners(b: &BooleanMatrix, label: usize, candidates: &mut [u64]) {
    for (place, (word, row)) in candidates.iter_mut().zip(b.row(label)).enumerate() {
        *word &= row;
        let mut rest = *word;
        while rest != 0 {
            let bit = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            if !b.bit(64 * place + bit, label) {
                *word &= !(1 << bit);
            }
        }
    }
}

/// Returns the smallest label of the set.
fn lowest(set: &[u64]) -> Option<usize> {
    let place = set.iter().position(|&word| word != 0)?;
    Some(64 * place + set[place].trailing_zeros() as usize)
}

/// Removes a label from the set.
fn remove(set: &mut [u64], label: usize) {
    set[label / 64] &= !(1 << (label % 64));
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Applies the rule of `docs/method.md`, section 3, literally, on plain lists.
    pub(crate) fn reference(one: &dyn Fn(usize, usize) -> bool, classes: usize) -> FilterClusters {
        let mut left: Vec<usize> = (0..classes).filter(|&j| one(j, j)).collect();
        let mut clusters: Vec<Vec<usize>> = Vec::new();
        while !left.is_empty() {
            let mut cluster = vec![left[0]];
            for &later in &left[1..] {
                let mut enlarged = cluster.clone();
                enlarged.push(later);
                if enlarged.iter().all(|&i| enlarged.iter().all(|&j| one(i, j))) {
                    cluster = enlarged;
                }
            }
            left.retain(|label| !cluster.contains(label));
            clusters.push(cluster);
        }
        let of = |label: usize| clusters.iter().position(|cluster| cluster.contains(&label));
        let (mut noise, mut column_noise) = (0, 0);
        for i in 0..classes {
            for j in (0..classes).filter(|&j| one(i, j)) {
                if of(i).is_none() || of(i) != of(j) {
                    noise += 1;
                    column_noise += usize::from(of(j).is_some());
                }
            }
        }
        FilterClusters { clusters, noise, column_noise }
    }

    proptest! {
        #[test]
        fn matches_the_literal_rule(classes in 0_usize..150, density in 0.0_f64..1.0, seed: u64) {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let ones: Vec<bool> = (0..classes * classes).map(|_| rng.random_bool(density)).collect();
            let one = |i: usize, j: usize| ones[i * classes + j];
            prop_assert_eq!(clusters(&BooleanMatrix::from_fn(classes, one)), reference(&one, classes));
        }

        #[test]
        fn finds_planted_blocks(classes in 1_usize..200, blocks in 1_usize..20) {
            // Labels equal modulo `blocks` form a block; all other elements are 0.
            let found = clusters(&BooleanMatrix::from_fn(classes, |i, j| i % blocks == j % blocks));
            let expected: Vec<Vec<usize>> = (0..blocks.min(classes))
                .map(|block| (block..classes).step_by(blocks).collect())
                .collect();
            prop_assert_eq!(found, FilterClusters { clusters: expected, noise: 0, column_noise: 0 });
        }
    }

    #[test]
    fn example_of_the_method() {
        let ones = [[1, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]];
        let found = clusters(&BooleanMatrix::from_fn(4, |i, j| ones[i][j] == 1));
        assert_eq!(found.clusters, [vec![0, 1], vec![2]]);
        assert_eq!((found.noise, found.column_noise), (1, 0));
    }

    #[test]
    fn a_pair_in_one_order_only_counts_as_noise() {
        // Label 0 drives output unit 1, but label 1 does not drive output unit 0.
        let found = clusters(&BooleanMatrix::from_fn(2, |i, j| i <= j));
        assert_eq!(found.clusters, [vec![0], vec![1]]);
        assert_eq!((found.noise, found.column_noise), (1, 1));
    }

    #[test]
    fn silent_and_empty() {
        assert_eq!(clusters(&BooleanMatrix::from_fn(70, |_, _| false)), FilterClusters::default());
        assert_eq!(clusters(&BooleanMatrix::from_fn(0, |_, _| true)), FilterClusters::default());
        // A filter without ones on the diagonal is silent, but has noise.
        let found = clusters(&BooleanMatrix::from_fn(70, |i, j| i == 0 && j == 69));
        assert_eq!(found, FilterClusters { clusters: vec![], noise: 1, column_noise: 0 });
    }
}
