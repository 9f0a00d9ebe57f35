//! The solution for one group of a layer.

use std::collections::HashMap;

use burn_sfp_ndarray::{KernelError, cholesky_solve};
use ndarray::{Array2, Axis};
use rayon::prelude::*;

/// What a least-squares solution is held back from, with a strength in units of the mean diagonal of the Gram matrix.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Ridge {
    /// Penalises the weights themselves.
    OfWeights(f64),
    /// Penalises their change: what the samples do not determine stays as it was trained.
    OfChange(f64),
}

/// What the normal equations of a group are made of, divided by the number of rows; means are subtracted where there is an intercept.
pub(super) struct Equations {
    /// `X'X`, `[columns, columns]`, whole.
    pub gram: Array2<f64>,
    /// `X'Y`, `[columns, outputs]`.
    pub product: Array2<f64>,
    /// The diagonal of `Y'Y`.
    pub power: Vec<f64>,
}

impl Equations {
    /// Mean squared error of these weights over the rows, summed over the outputs.
    pub fn error(&self, weights: &Array2<f64>) -> f64 {
        let predicted = self.gram.dot(weights);
        let of = |other: &Array2<f64>| weights.iter().zip(other).map(|(a, b)| a * b).sum::<f64>();
        (self.power.iter().sum::<f64>() - 2.0 * of(&self.product) + of(&predicted)).max(0.0)
    }

    /// The weights `[columns, outputs]` with the least error and penalty. `keep` lists for each output the columns that it may read;
    /// weights on others are zero.
    ///
    /// With G = X'X and A = X'Y: `(G + λ I) W = A`, or `(G + λ I) (W - W0) = A - G W0` where the change from the current weights W0 is
    /// penalised; λ is the ridge times the mean diagonal of G.
    pub fn solve(
        &self,
        current: &Array2<f64>,
        keep: Option<&[Vec<usize>]>,
        ridge: Ridge,
    ) -> Result<Array2<f64>, KernelError> {
        let columns = self.gram.nrows();
        let mean_diagonal = self.gram.diag().sum() / columns.max(1) as f64;
        if mean_diagonal <= 0.0 || !mean_diagonal.is_finite() {
            return Ok(current.clone());
        }
        let (shift, start) = match ridge {
            Ridge::OfWeights(ridge) => (ridge * mean_diagonal, None),
            Ridge::OfChange(ridge) => (ridge * mean_diagonal, Some(current)),
        };
        let rest = match start {
            Some(start) => &self.product - &self.gram.dot(start),
            None => self.product.clone(),
        };
        let change = match keep {
            None => cholesky_solve(self.gram.clone(), shift, rest)?,
            Some(keep) => self.solve_masked(keep, shift, &rest)?,
        };
        Ok(match start {
            Some(start) => start + &change,
            None => change,
        })
    }

    /// Solves over the columns that each output may read; outputs that read the same columns are solved together.
    fn solve_masked(&self, keep: &[Vec<usize>], shift: f64, rest: &Array2<f64>) -> Result<Array2<f64>, KernelError> {
        let mut alike: HashMap<&[usize], Vec<usize>> = HashMap::new();
        for (output, columns) in keep.iter().enumerate() {
            alike.entry(columns).or_default().push(output);
        }
        let mut alike: Vec<(&[usize], Vec<usize>)> = alike.into_iter().collect();
        alike.sort_unstable_by_key(|(_, outputs)| outputs[0]);
        let solve = |(columns, outputs): &(&[usize], Vec<usize>)| {
            let gram = self.gram.select(Axis(0), columns).select(Axis(1), columns);
            let rest = rest.select(Axis(0), columns).select(Axis(1), outputs);
            cholesky_solve(gram, shift, rest)
        };
        let solved: Vec<Result<Array2<f64>, KernelError>> = alike.par_iter().map(solve).collect();
        let mut weights = Array2::zeros(rest.dim());
        for ((columns, outputs), solved) in alike.iter().zip(solved) {
            for ((a, b), value) in solved?.indexed_iter() {
                weights[[columns[a], outputs[b]]] = *value;
            }
        }
        Ok(weights)
    }
}
