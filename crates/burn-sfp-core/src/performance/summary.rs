//! [`LayerSummary`], means over the filters of a layer.

use serde::{Deserialize, Serialize};

use super::filter::FilterPerformance;

/// The summary of a layer: means over its filters, and the signal-to-noise ratio (docs/method.md, section 3).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LayerSummary {
    /// Number of filters that recognize no label.
    pub silent: usize,
    /// N_c: clusters per filter, over all filters.
    pub clusters_per_filter: f64,
    /// N_c over the filters that are not silent.
    pub clusters_per_active_filter: f64,
    /// C_s: labels per cluster; silent filters have no cluster and do not count here.
    pub cluster_size: f64,
    /// n: noise per filter, over all filters.
    pub noise: f64,
    /// n over the filters that are not silent.
    pub noise_active: f64,
    /// For each label, the number of filters that recognize it.
    pub filters_per_label: Vec<usize>,
    /// S: appearances of a label among the clusters.
    pub signal: f64,
    /// n_I: appearances of other labels in the same cluster.
    pub noise_internal: f64,
    /// n_E: external noise.
    pub noise_external: f64,
    /// SNR = S / (n_I + n_E); `None` where both noises are 0.
    pub snr: Option<f64>,
}

impl LayerSummary {
    /// Summarizes a layer from the results of its filters; `classes` is the number of labels.
    ///
    /// ```
    /// use burn_sfp_core::performance::{FilterPerformance, LayerSummary};
    ///
    /// let mut filter = FilterPerformance::default();
    /// (filter.clusters, filter.noise) = (vec![vec![0, 1], vec![2]], 1);
    /// let summary = LayerSummary::of(&[filter, FilterPerformance::default()], 4);
    /// assert_eq!((summary.silent, summary.clusters_per_filter, summary.cluster_size), (1, 1.0, 1.5));
    /// assert_eq!(summary.snr, Some(0.75 / (2.0 / 12.0 + 1.0 / 12.0)));
    /// ```
    pub fn of(filters: &[FilterPerformance], classes: usize) -> Self {
        let share = |sum: usize, count: usize| if count == 0 { 0.0 } else { sum as f64 / count as f64 };
        let active = filters.iter().filter(|filter| !filter.is_silent()).count();
        let sizes = || filters.iter().flat_map(|filter| &filter.clusters).map(Vec::len);
        let clusters: usize = filters.iter().map(|filter| filter.clusters.len()).sum();
        let noise: usize = filters.iter().map(|filter| filter.noise).sum();
        let active_noise: usize = filters.iter().filter(|filter| !filter.is_silent()).map(|filter| filter.noise).sum();
        let mut filters_per_label = vec![0; classes];
        for label in filters.iter().flat_map(FilterPerformance::labels) {
            if let Some(count) = filters_per_label.get_mut(label) {
                *count += 1;
            }
        }
        let pairs = classes * classes.saturating_sub(1);
        let signal = share(sizes().sum(), classes);
        let noise_internal = share(sizes().map(|size| size * (size - 1)).sum(), pairs);
        let noise_external = share(noise, pairs);
        let all = noise_internal + noise_external;
        Self {
            silent: filters.len() - active,
            clusters_per_filter: share(clusters, filters.len()),
            clusters_per_active_filter: share(clusters, active),
            cluster_size: share(sizes().sum(), clusters),
            noise: share(noise, filters.len()),
            noise_active: share(active_noise, active),
            filters_per_label,
            signal,
            noise_internal,
            noise_external,
            snr: (all > 0.0).then(|| signal / all),
        }
    }
}
