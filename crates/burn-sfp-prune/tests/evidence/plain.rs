//! Plain loops in double precision: the small network, its loss, its gradients by central differences, and least
//! squares.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::small::{CLASSES, SIDE, Small};

pub type Rows = Vec<Vec<f64>>;

pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// The parameters of [`Small`] that have gradients here, and what else its forward pass reads.
#[derive(Clone)]
pub struct Plain {
    pub filters: usize,
    pub first: Vec<f64>,
    pub second: Vec<f64>,
    pub fc: Vec<f64>,
    biases: [Vec<f64>; 2],
    /// Scale and shift of each batch normalisation in evaluation mode.
    norms: [Vec<(f64, f64)>; 2],
    skip: bool,
}

impl Plain {
    pub fn of(model: &Small) -> Self {
        let norm = |norm: &burn::nn::BatchNorm| {
            let (mean, var) = (values(norm.running_mean.value()), values(norm.running_var.value()));
            let (gamma, beta) = (values(norm.gamma.val()), values(norm.beta.val()));
            (0..gamma.len())
                .map(|f| {
                    let scale = gamma[f] / (var[f] + norm.epsilon).sqrt();
                    (scale, beta[f] - mean[f] * scale)
                })
                .collect()
        };
        let bias = |conv: &burn::nn::conv::Conv2d| values(conv.bias.as_ref().unwrap().val());
        Self {
            filters: model.first.weight.dims()[0],
            first: values(model.first.weight.val()),
            second: values(model.second.weight.val()),
            fc: values(model.fc.weight.val()),
            biases: [bias(&model.first), bias(&model.second)],
            norms: [norm(&model.norm), norm(&model.second_norm)],
            skip: model.skip,
        }
    }

    fn block(&self, x: &[f64], channels: usize, which: usize) -> Vec<f64> {
        let weight = if which == 0 { &self.first } else { &self.second };
        let mut out = Vec::new();
        let reads = |p: usize| (0..9).filter_map(|k| padded(p, k).map(|at| (k, at))).collect::<Vec<_>>();
        let reads: Vec<_> = (0..SIDE * SIDE).map(reads).collect();
        for f in 0..self.filters {
            for reads in &reads {
                let mut sum = self.biases[which][f];
                for c in 0..channels {
                    for &(k, at) in reads {
                        sum += x[c * SIDE * SIDE + at] * weight[(f * channels + c) * 9 + k];
                    }
                }
                let (scale, shift) = self.norms[which][f];
                out.push(sum * scale + shift);
            }
        }
        out
    }

    /// Outputs of both blocks behind their activations, and the logits.
    pub fn run(&self, x: &[f64]) -> [Vec<f64>; 3] {
        let relu = |values: Vec<f64>| values.into_iter().map(|value| value.max(0.0)).collect::<Vec<f64>>();
        let first = relu(self.block(x, 2, 0));
        let mut second = self.block(&first, self.filters, 1);
        if self.skip {
            second.iter_mut().zip(&first).for_each(|(y, x)| *y += x);
        }
        let second = relu(second);
        let logit = |c: usize| second.iter().enumerate().map(|(k, value)| value * self.fc[k * CLASSES + c]).sum();
        let logits = (0..CLASSES).map(logit).collect();
        [first, second, logits]
    }

    /// The mean cross-entropy of a batch.
    fn loss(&self, batch: &[(Vec<f64>, usize)]) -> f64 {
        let of = |(x, label): &(Vec<f64>, usize)| {
            let [_, _, logits] = self.run(x);
            logits.iter().map(|logit| logit.exp()).sum::<f64>().ln() - logits[*label]
        };
        batch.iter().map(of).sum::<f64>() / batch.len() as f64
    }

    /// The gradient of that by the weights of a layer, by central differences.
    pub fn gradient(&self, batch: &[(Vec<f64>, usize)], layer: &str) -> Vec<f64> {
        const STEP: f64 = 1e-6;
        let count = self.clone().weight(layer).len();
        let at = |k: usize, step: f64| {
            let mut moved = self.clone();
            moved.weight(layer)[k] += step;
            moved.loss(batch)
        };
        (0..count).into_par_iter().map(|k| (at(k, STEP) - at(k, -STEP)) / (2.0 * STEP)).collect()
    }

    pub fn weight(&mut self, layer: &str) -> &mut Vec<f64> {
        match layer {
            "first" => &mut self.first,
            "second" => &mut self.second,
            _ => &mut self.fc,
        }
    }
}

/// The position that element `k` of a 3x3 kernel reads for position `p`, padded by 1.
pub fn padded(p: usize, k: usize) -> Option<usize> {
    let (row, column) = (p / SIDE + k / 3, p % SIDE + k % 3);
    ((1..=SIDE).contains(&row) && (1..=SIDE).contains(&column)).then(|| (row - 1) * SIDE + column - 1)
}

/// `X'X / samples`.
pub fn gram(rows: &Rows, samples: usize) -> Rows {
    let columns = rows[0].len();
    let dot = |i: usize, j: usize| rows.iter().map(|row| row[i] * row[j]).sum::<f64>() / samples as f64;
    (0..columns).map(|i| (0..columns).map(|j| dot(i, j)).collect()).collect()
}

pub fn add_ridge(mut gram: Rows, ridge: f64) -> Rows {
    let shift = ridge * (0..gram.len()).map(|k| gram[k][k]).sum::<f64>() / gram.len() as f64;
    (0..gram.len()).for_each(|k| gram[k][k] += shift);
    gram
}

/// Solves `A X = B` by elimination with pivots.
pub fn solve(mut a: Rows, mut b: Rows) -> Rows {
    let n = a.len();
    for column in 0..n {
        let pivot = (column..n).max_by(|&i, &j| a[i][column].abs().total_cmp(&a[j][column].abs())).unwrap();
        a.swap(column, pivot);
        b.swap(column, pivot);
        for row in (0..n).filter(|row| *row != column) {
            let factor = a[row][column] / a[column][column];
            for rows in [&mut a, &mut b] {
                let pivot = rows[column].clone();
                rows[row].iter_mut().zip(&pivot).for_each(|(value, pivot)| *value -= factor * pivot);
            }
        }
    }
    (0..n).map(|row| b[row].iter().map(|value| value / a[row][row]).collect()).collect()
}

/// Takes columns out, solves for the other rows of `weights` (`[columns, outputs]`) anew, and returns the value of the
/// objective: the error of the outputs and the penalty on the change.
pub fn loss_without(gram: &Rows, ridge: f64, weights: &Rows, removed: &[usize]) -> f64 {
    let rest: Vec<usize> = (0..gram.len()).filter(|k| !removed.contains(k)).collect();
    let h = add_ridge(gram.clone(), ridge);
    let outputs = weights[0].len();
    // H W* = H W on the rest, with the rows of the removed at zero.
    let rhs = rest
        .iter()
        .map(|&i| (0..outputs).map(|b| (0..gram.len()).map(|j| h[i][j] * weights[j][b]).sum()).collect::<Vec<f64>>());
    let own = rest.iter().map(|&i| rest.iter().map(|&j| h[i][j]).collect()).collect();
    let solved = if rest.is_empty() { Vec::new() } else { solve(own, rhs.collect()) };
    let mut change = weights.clone();
    for (row, solved) in rest.iter().zip(solved) {
        (0..outputs).for_each(|b| change[*row][b] -= solved[b]);
    }
    let mut loss = 0.0;
    for (i, left) in change.iter().enumerate() {
        for (j, right) in change.iter().enumerate() {
            loss += h[i][j] * left.iter().zip(right).map(|(left, right)| left * right).sum::<f64>();
        }
    }
    loss
}
