//! Plain loops in double precision: patches, ridge regression by Gaussian elimination, means.

use burn::tensor::Tensor;

use super::net::Geometry;

pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// A map `[samples, channels, height, width]`.
pub struct Map {
    pub dims: [usize; 4],
    values: Vec<f64>,
}

impl Map {
    pub fn new(tensor: &Tensor<4>) -> Self {
        Self { dims: tensor.dims(), values: values(tensor.clone()) }
    }

    pub fn at(&self, n: usize, c: usize, y: usize, x: usize) -> f64 {
        let [_, channels, height, width] = self.dims;
        self.values[((n * channels + c) * height + y) * width + x]
    }

    /// Values of a channel.
    pub fn channel(&self, c: usize) -> Vec<f64> {
        let [samples, _, height, width] = self.dims;
        let place = |k: usize| (k / (height * width), k / width % height, k % width);
        (0..samples * height * width)
            .map(|k| {
                let (n, y, x) = place(k);
                self.at(n, c, y, x)
            })
            .collect()
    }
}

/// The rows of X of a group, for every sample and every place of the output.
pub fn patches(input: &Map, geometry: Geometry, group: usize, [height, width]: [usize; 2]) -> Vec<Vec<f64>> {
    let Geometry { kernel, stride, padding, dilation, groups, .. } = geometry;
    let inputs = input.dims[1] / groups;
    let mut rows = Vec::new();
    for n in 0..input.dims[0] {
        for y in 0..height {
            for x in 0..width {
                let mut row = Vec::new();
                for c in 0..inputs {
                    for ky in 0..kernel {
                        for kx in 0..kernel {
                            let at = |out: usize, k: usize| (out * stride + k * dilation).checked_sub(padding);
                            let inside =
                                at(y, ky).zip(at(x, kx)).filter(|(y, x)| *y < input.dims[2] && *x < input.dims[3]);
                            row.push(inside.map_or(0.0, |(y, x)| input.at(n, group * inputs + c, y, x)));
                        }
                    }
                }
                rows.push(row);
            }
        }
    }
    rows
}

/// The weights over the columns `kept` with the least squared error and `strength` times the mean diagonal of the Gram matrix of all
/// columns times the squared change from `start`; zero elsewhere. With an intercept, means are subtracted first.
pub fn ridge(
    rows: &[Vec<f64>],
    targets: &[f64],
    start: &[f64],
    kept: &[usize],
    strength: f64,
    with_intercept: bool,
) -> Vec<f64> {
    let (count, columns) = (rows.len() as f64, start.len());
    let mean = |of: &dyn Fn(usize) -> f64| match with_intercept {
        true => (0..rows.len()).map(of).sum::<f64>() / count,
        false => 0.0,
    };
    let means: Vec<f64> = (0..columns).map(|k| mean(&|row| rows[row][k])).collect();
    let target_mean = mean(&|row| targets[row]);
    let product = |a: &dyn Fn(usize) -> f64, b: &dyn Fn(usize) -> f64| {
        (0..rows.len()).map(|row| a(row) * b(row)).sum::<f64>() / count
    };
    let column = |k: usize| {
        let means = &means;
        move |row: usize| rows[row][k] - means[k]
    };
    let diagonal: f64 = (0..columns).map(|k| product(&column(k), &column(k))).sum::<f64>() / columns as f64;
    let rest = |row: usize| {
        let predicted: f64 = (0..columns).map(|k| (rows[row][k] - means[k]) * start[k]).sum();
        targets[row] - target_mean - predicted
    };
    let mut system: Vec<Vec<f64>> = kept
        .iter()
        .map(|&a| {
            let shift = |b: usize| if a == b { strength * diagonal } else { 0.0 };
            let own = kept.iter().map(|&b| product(&column(a), &column(b)) + shift(b));
            own.chain([product(&column(a), &rest)]).collect()
        })
        .collect();
    let change = eliminate(&mut system);
    let mut weights = vec![0.0; columns];
    kept.iter().zip(change).for_each(|(&k, change)| weights[k] = start[k] + change);
    weights
}

/// Solves a system `[A | b]` by Gaussian elimination with pivoting.
pub fn eliminate(system: &mut [Vec<f64>]) -> Vec<f64> {
    let n = system.len();
    for k in 0..n {
        let pivot = (k..n).max_by(|&a, &b| system[a][k].abs().total_cmp(&system[b][k].abs())).unwrap();
        system.swap(k, pivot);
        let row = system[k].clone();
        for other in system.iter_mut().skip(k + 1) {
            let factor = other[k] / row[k];
            other.iter_mut().zip(&row).skip(k).for_each(|(value, own)| *value -= factor * own);
        }
    }
    let mut solved = vec![0.0; n];
    for k in (0..n).rev() {
        let known: f64 = (k + 1..n).map(|j| system[k][j] * solved[j]).sum();
        solved[k] = (system[k][n] - known) / system[k][k];
    }
    solved
}

pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

pub fn variance(values: &[f64]) -> f64 {
    let mean = mean(values);
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64
}
