//! docs/method.md, sections 1 to 3, in double precision, written down from the definitions.

use burn::tensor::Tensor;
use burn_sfp_core::LayerAnalysis;
use burn_sfp_core::performance::FilterPerformance;

use super::CLASSES;

/// Ridge strength of the comparisons.
pub const STRENGTH: f64 = 0.01;

/// A layer's output as rows of doubles, `[samples][filters * positions]`.
pub fn rows<const D: usize>(output: Tensor<D>) -> Vec<Vec<f64>> {
    let samples = output.dims()[0];
    let all: Vec<f64> = output.into_data().iter::<f64>().collect();
    all.chunks(all.len() / samples).map(<[f64]>::to_vec).collect()
}

/// `(X'X + strength * mean diagonal * I) R = X' (Y - mean Y)` by elimination with pivoting (docs/method.md, section 1).
pub fn ridge(x: &[Vec<f64>], labels: &[usize]) -> Vec<Vec<f64>> {
    let k = x[0].len();
    let share: Vec<f64> =
        (0..CLASSES).map(|c| labels.iter().filter(|l| **l == c).count() as f64 / x.len() as f64).collect();
    let mut system = vec![vec![0.0; k + CLASSES]; k];
    for (row, &label) in x.iter().zip(labels) {
        for a in 0..k {
            (0..k).for_each(|b| system[a][b] += row[a] * row[b]);
            (0..CLASSES).for_each(|c| system[a][k + c] += row[a] * (f64::from(u8::from(c == label)) - share[c]));
        }
    }
    let mean = (0..k).map(|a| system[a][a]).sum::<f64>() / k as f64;
    (0..k).for_each(|a| system[a][a] += STRENGTH * mean);
    for at in 0..k {
        let pivot = (at..k).max_by(|&a, &b| system[a][at].abs().total_cmp(&system[b][at].abs())).unwrap();
        system.swap(at, pivot);
        let head = system[at].clone();
        for (other, row) in system.iter_mut().enumerate() {
            let factor = row[at] / head[at];
            if other != at && factor != 0.0 {
                row.iter_mut().zip(&head).skip(at).for_each(|(value, head)| *value -= factor * head);
            }
        }
    }
    (0..k).map(|a| system[a][k..].iter().map(|value| value / system[a][a]).collect()).collect()
}

/// `P_f[i][j]`: the mean over the samples of label i of `sum_s A[n,f,s] R[f,s,j]` (docs/method.md, section 2).
pub fn performance(
    x: &[Vec<f64>],
    labels: &[usize],
    readout: &[Vec<f64>],
    filter: usize,
    positions: usize,
) -> Vec<Vec<f64>> {
    let mut matrix = vec![vec![0.0; CLASSES]; CLASSES];
    for (row, &label) in x.iter().zip(labels) {
        let count = labels.iter().filter(|l| **l == label).count() as f64;
        for k in filter * positions..(filter + 1) * positions {
            (0..CLASSES).for_each(|j| matrix[label][j] += row[k] * readout[k][j] / count);
        }
    }
    matrix
}

/// docs/method.md, section 3, step by step; `None` where an element lies within `near` of the threshold.
pub fn recognised(p: &[Vec<f64>], threshold: f64, near: f64) -> Option<FilterPerformance> {
    let max = p.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
    if max <= 0.0 {
        return Some(recognized(Vec::new(), 0, 0, max));
    }
    if p.iter().flatten().any(|value| (value / max - threshold).abs() < near * threshold) {
        return None;
    }
    let b: Vec<Vec<bool>> = p.iter().map(|row| row.iter().map(|value| value / max > threshold).collect()).collect();
    let mut left: Vec<usize> = (0..CLASSES).filter(|&j| b[j][j]).collect();
    let labels = left.clone();
    let mut clusters: Vec<Vec<usize>> = Vec::new();
    while !left.is_empty() {
        let mut cluster: Vec<usize> = Vec::new();
        for &label in &left {
            if cluster.iter().all(|&other| b[label][other] && b[other][label]) {
                cluster.push(label);
            }
        }
        left.retain(|label| !cluster.contains(label));
        clusters.push(cluster);
    }
    let outside = |i: usize, j: usize| b[i][j] && !clusters.iter().any(|c| c.contains(&i) && c.contains(&j));
    let count = |columns: &[usize]| (0..CLASSES).map(|i| columns.iter().filter(|&&j| outside(i, j)).count()).sum();
    let (noise, column_noise) = (count(&(0..CLASSES).collect::<Vec<_>>()), count(&labels));
    Some(recognized(clusters, noise, column_noise, max))
}

fn recognized(clusters: Vec<Vec<usize>>, noise: usize, column_noise: usize, max: f64) -> FilterPerformance {
    let mut found = FilterPerformance::default();
    (found.clusters, found.noise, found.column_noise, found.max) = (clusters, noise, column_noise, max);
    found
}

/// Compares an entry of an analysis with the definition, from all its activations (rows `[filters * positions]`) and its readout;
/// returns how many filters were compared, those that lie clear of the threshold.
pub fn compare(
    layer: &LayerAnalysis,
    x: &[Vec<f64>],
    labels: &[usize],
    readout: &[Vec<f64>],
    near: f64,
    place: &str,
) -> usize {
    let mut compared = 0;
    for (filter, found) in layer.performance.iter().enumerate() {
        let matrix = performance(x, labels, readout, filter, layer.positions);
        let Some(expected) = recognised(&matrix, 0.3, near) else { continue };
        let place = format!("{place}, {} filter {filter}", layer.path);
        assert_eq!(found.clusters, expected.clusters, "{place}");
        assert_eq!((found.noise, found.column_noise), (expected.noise, expected.column_noise), "{place}");
        assert!((found.max - expected.max).abs() <= near * expected.max.abs() + 1e-9, "{place}");
        compared += 1;
    }
    compared
}
