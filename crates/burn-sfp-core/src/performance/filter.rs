//! [`FilterPerformance`], the result for one filter.

use serde::{Deserialize, Serialize};

/// What one filter recognizes (docs/method.md, section 3).
///
/// ```
/// use burn_sfp_core::performance::FilterPerformance;
///
/// let mut filter = FilterPerformance::default();
/// assert!(filter.is_silent());
/// filter.clusters = vec![vec![1, 4], vec![2]];
/// assert_eq!(filter.labels(), [1, 2, 4]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FilterPerformance {
    /// Clusters of labels, in the order of their first labels; the labels of each ascend.
    pub clusters: Vec<Vec<usize>>,
    /// n_f: ones of the Boolean matrix outside the blocks of the clusters.
    pub noise: usize,
    /// The ones outside the blocks in the columns of the filter's own labels.
    pub column_noise: usize,
    /// Largest element of the performance matrix, in units of the readout's output.
    pub max: f64,
    /// Elements of the performance matrix that, divided by the largest one, are within 1e-5 of the threshold: another device may
    /// round them to the other side. 0 in files that were written before this was counted.
    #[serde(default)]
    pub near: usize,
    /// What the labels of L_f see of the filter: the sum over positions s and labels j of L_f of `R[f, s, j]^2`, R the readout. 0 for a
    /// silent filter, and in files that were written before this was summed.
    #[serde(default)]
    pub label_weight: f64,
}

impl FilterPerformance {
    /// L_f: the labels of all clusters in ascending order.
    pub fn labels(&self) -> Vec<usize> {
        let mut labels: Vec<usize> = self.clusters.iter().flatten().copied().collect();
        labels.sort_unstable();
        labels
    }

    /// Whether the filter recognizes no label.
    pub fn is_silent(&self) -> bool {
        self.clusters.is_empty()
    }
}

impl From<burn_sfp_ndarray::FilterPerformance> for FilterPerformance {
    fn from(found: burn_sfp_ndarray::FilterPerformance) -> Self {
        let burn_sfp_ndarray::FilterPerformance { clusters, noise, column_noise, max, near } = found;
        Self { clusters, noise, column_noise, max, near, label_weight: 0.0 }
    }
}
