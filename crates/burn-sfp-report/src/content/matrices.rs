//! Performance matrices, permuted so that clusters stand on the diagonal.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use burn_sfp_core::performance::FilterPerformance;
use burn_sfp_core::{Analysis, LayerAnalysis};
use serde::Serialize;

use super::shown::spread;
use crate::{ReportError, limits};

/// The performance matrix of a filter: rows are labels shown, columns output units, both in the order of `labels`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Matrix {
    /// The labels that are shown: cluster after cluster, then others.
    pub labels: Vec<usize>,
    /// Labels of each cluster that are shown, in the same order.
    pub clusters: Vec<usize>,
    /// Number of labels that are not shown.
    pub more: usize,
    /// The value of 127, in units of the logits.
    pub scale: f64,
    /// A signed byte for each element, row by row, relative to the largest absolute value. Base64.
    pub elements: String,
}

/// How many matrices of each layer there is room and time for.
pub(super) fn room(analysis: &Analysis, layers: &[LayerAnalysis]) -> Vec<usize> {
    let side = analysis.classes.min(limits::MATRIX_SIDE);
    let bytes = limits::MATRIX_BYTES / (side * side * 4 / 3 + 200) / layers.len().max(1);
    let macs = |layer: &LayerAnalysis| analysis.classes * analysis.classes * layer.positions.max(1);
    let share = limits::MATRIX_MACS / layers.len().max(1);
    layers.iter().map(|layer| bytes.min(share / macs(layer).max(1))).collect()
}

/// Which of the listed filters of a layer have a matrix: evenly spread.
pub(super) fn chosen(listed: &[usize], room: usize) -> Vec<usize> {
    spread(listed.len(), room).into_iter().map(|at| listed[at]).collect()
}

pub(super) fn matrix(
    analysis: &Analysis,
    path: &str,
    filter: usize,
    performance: &FilterPerformance,
) -> Result<Matrix, ReportError> {
    let all = analysis.performance_matrix(path, filter).map_err(|source| ReportError::Matrix {
        path: path.to_string(),
        filter,
        source: Box::new(source),
    })?;
    let (labels, clusters) = order(performance, all.dim().0, |label| all[[label, label]]);
    let shown = || labels.iter().flat_map(|&row| labels.iter().map(move |&column| (row, column)));
    let scale = shown().map(|at| all[at].abs()).filter(|value| value.is_finite()).fold(0.0, f64::max);
    // NaN becomes 0, infinities the largest bytes.
    let byte = |value: f64| if scale > 0.0 { (127.0 * value / scale).round().clamp(-127.0, 127.0) as i8 } else { 0 };
    let bytes: Vec<u8> = shown().map(|at| byte(all[at]).cast_unsigned()).collect();
    let more = all.dim().0 - labels.len();
    Ok(Matrix { labels, clusters, more, scale, elements: STANDARD.encode(bytes) })
}

/// The labels to show: those of the clusters, then those with the largest diagonal elements; and how many of each cluster.
fn order(performance: &FilterPerformance, classes: usize, diagonal: impl Fn(usize) -> f64) -> (Vec<usize>, Vec<usize>) {
    let side = classes.min(limits::MATRIX_SIDE);
    let (mut labels, mut clusters) = (Vec::with_capacity(side), Vec::new());
    let mut seen = vec![false; classes];
    for cluster in &performance.clusters {
        let before = labels.len();
        for &label in cluster.iter().filter(|label| **label < classes) {
            if labels.len() < side && !std::mem::replace(&mut seen[label], true) {
                labels.push(label);
            }
        }
        if labels.len() > before {
            clusters.push(labels.len() - before);
        }
    }
    let mut others: Vec<usize> = (0..classes).filter(|&label| !seen[label]).collect();
    others.sort_by(|&a, &b| diagonal(b).total_cmp(&diagonal(a)));
    others.truncate(side - labels.len());
    labels.extend(others);
    (labels, clusters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_come_first() {
        let mut filter = FilterPerformance::default();
        filter.clusters = vec![vec![4, 1], vec![3]];
        let (labels, clusters) = order(&filter, 5, |label| label as f64);
        assert_eq!((labels.as_slice(), clusters.as_slice()), ([4, 1, 3, 2, 0].as_slice(), [2, 1].as_slice()));
    }

    #[test]
    fn many_labels_are_cut() {
        let mut filter = FilterPerformance::default();
        filter.clusters = vec![(0..1_000).collect(), (1_000..1_500).collect()];
        let (labels, clusters) = order(&filter, 2_000, |_| f64::NAN);
        assert_eq!((labels.len(), clusters.as_slice()), (limits::MATRIX_SIDE, [limits::MATRIX_SIDE].as_slice()));
        filter.clusters = vec![vec![1_999]];
        let (labels, _) = order(&filter, 2_000, |label| -(label as f64));
        assert_eq!(labels[..3], [1_999, 0, 1]);
    }
}
