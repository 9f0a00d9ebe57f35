//! Which inputs explain each output of a layer best: orthogonal matching pursuit in groups.

use burn_sfp_ndarray::{KernelError, cholesky_solve};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, s};
use rayon::prelude::*;

use super::gram::{GroupGram, InputGram};
use crate::SfpError;

/// Rounds in which the inputs of an output are chosen; each solves the weights of those chosen so far.
const ROUNDS: usize = 64;

impl InputGram {
    /// Returns for each output of a layer `count` inputs of its group, ascending, that explain what it returns: orthogonal matching
    /// pursuit (Y. C. Pati, R. Rezaiifar, P. S. Krishnaprasad, Asilomar 1993) over groups of columns, the elements of a kernel.
    ///
    /// With `H = G + shift I`, `shift = ridge * mean diagonal of G` and the weights w of an output, its values have the products
    /// `b = G w` with the columns. The columns S of the inputs chosen so far have the weights `H[S, S]^-1 b[S]`, which leave
    /// `r = b - H[:, S] H[S, S]^-1 b[S]`. Chosen next are those inputs g for which `r[g]' H[g, g]^-1 r[g]` is largest: what g alone would take
    /// off the squared error. The choice is made in at most 64 rounds.
    ///
    /// Where `centered` is set, means are subtracted from the columns first, as if each output had a bias. `kernel(output, input)` are
    /// the weights between an output and an input of its group, in the order of the kernel; `path` is the layer's, for errors.
    /// `None` where the matrix has no column for each element of each channel.
    ///
    /// # Errors
    /// [`SfpError::Kernel`] if H is not positive definite, or if a kernel does not fit the layer.
    pub fn pursue<'k>(
        &self,
        path: &str,
        outputs: usize,
        kernel: &(dyn Fn(usize, usize) -> &'k [f32] + Sync),
        count: usize,
        (ridge, centered): (f64, bool),
    ) -> Result<Option<Vec<Vec<usize>>>, SfpError> {
        if !self.is_exact() {
            return Ok(None);
        }
        let failed = |source| SfpError::Kernel { path: path.to_string(), source };
        let of_group = outputs / self.groups.len().max(1);
        let mut all = Vec::with_capacity(outputs);
        for (index, group) in self.groups.iter().enumerate() {
            let gram = group.whole(centered);
            let mean_diagonal = gram.diag().sum() / gram.nrows().max(1) as f64;
            if mean_diagonal <= 0.0 {
                // All inputs are constant: any will do.
                all.extend((0..of_group).map(|_| (0..count.min(self.inputs)).collect::<Vec<usize>>()));
                continue;
            }
            let mut shifted = gram.clone();
            shifted.diag_mut().mapv_inplace(|value| value + ridge * mean_diagonal);
            let columns = group.columns_of_inputs(self.kernel);
            let blocks = columns.iter().map(|columns| inverse(shifted.view(), columns));
            let blocks: Vec<Array2<f64>> = blocks.collect::<Result<_, KernelError>>().map_err(failed)?;
            let pursuit = Pursuit { shifted, columns, blocks };
            let work = |output: usize| {
                let weights = group.weights_of(output, self.kernel, kernel)?;
                Ok(pursuit.run(gram.dot(&weights), count))
            };
            let first = index * of_group;
            let found: Vec<Result<Vec<usize>, KernelError>> =
                (first..first + of_group).into_par_iter().map(work).collect();
            all.extend(found.into_iter().collect::<Result<Vec<Vec<usize>>, KernelError>>().map_err(failed)?);
        }
        Ok(Some(all))
    }
}

impl GroupGram {
    /// The whole matrix; with the products of means subtracted where it is to be centred.
    fn whole(&self, centered: bool) -> Array2<f64> {
        let mean = |k: usize| if centered { self.totals[k] } else { 0.0 };
        Array2::from_shape_fn(self.matrix.dim(), |(a, b)| self.matrix[[a.max(b), a.min(b)]] - mean(a) * mean(b))
    }

    /// For each input its columns.
    fn columns_of_inputs(&self, kernel: usize) -> Vec<Vec<usize>> {
        let columns = |&(channel, nth): &(usize, usize)| {
            let at = channel * self.elements + nth * kernel;
            (at..at + kernel).collect()
        };
        self.places.iter().map(columns).collect()
    }

    /// The weights of an output, one for each column.
    fn weights_of<'k>(
        &self,
        output: usize,
        kernel: usize,
        of: &dyn Fn(usize, usize) -> &'k [f32],
    ) -> Result<Array1<f64>, KernelError> {
        let mut weights = Array1::zeros(self.matrix.nrows());
        for (input, &(channel, nth)) in self.places.iter().enumerate() {
            let own = of(output, input);
            if own.len() != kernel {
                let what = "elements of a kernel";
                return Err(KernelError::Shape { what, expected: kernel, found: own.len() });
            }
            for (k, &weight) in own.iter().enumerate() {
                weights[channel * self.elements + nth * kernel + k] = f64::from(weight);
            }
        }
        Ok(weights)
    }
}

/// The inverse of a block of the diagonal.
fn inverse(matrix: ArrayView2<'_, f64>, columns: &[usize]) -> Result<Array2<f64>, KernelError> {
    let block = matrix.select(Axis(0), columns).select(Axis(1), columns);
    cholesky_solve(block, 0.0, Array2::eye(columns.len()))
}

/// What the pursuits of all outputs share.
struct Pursuit {
    /// H.
    shifted: Array2<f64>,
    columns: Vec<Vec<usize>>,
    /// The inverse of H's block of each input.
    blocks: Vec<Array2<f64>>,
}

impl Pursuit {
    /// Chooses `count` inputs for an output whose products with the columns are `products`.
    fn run(&self, products: Array1<f64>, count: usize) -> Vec<usize> {
        let count = count.min(self.columns.len());
        let mut is_chosen = vec![false; self.columns.len()];
        let (mut factor, mut chosen) = (Factor::default(), 0);
        let mut rest = products.clone();
        let step = count.div_ceil(ROUNDS).max(1);
        while chosen < count {
            let gain = |input: &usize| {
                let own = rest.select(Axis(0), &self.columns[*input]);
                own.dot(&self.blocks[*input].dot(&own))
            };
            let mut open: Vec<(f64, usize)> =
                (0..is_chosen.len()).filter(|&input| !is_chosen[input]).map(|input| (gain(&input), input)).collect();
            open.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            for &(_, input) in open.iter().take(step.min(count - chosen)) {
                is_chosen[input] = true;
                chosen += 1;
                for &column in &self.columns[input] {
                    factor.push(self.shifted.row(column), column, products[column]);
                }
            }
            if chosen < count {
                let solved = factor.solve();
                rest.assign(&products);
                for (&column, weight) in factor.columns.iter().zip(solved) {
                    rest.scaled_add(-weight, &self.shifted.row(column));
                }
            }
        }
        (0..is_chosen.len()).filter(|&input| is_chosen[input]).collect()
    }
}

/// The Cholesky factor L of H over the chosen columns, which grows by a row for each, and the solution z of `L z = b`.
#[derive(Default)]
struct Factor {
    columns: Vec<usize>,
    rows: Vec<Array1<f64>>,
    solved: Vec<f64>,
}

impl Factor {
    /// Adds a column with its row of H and its element of b. One that depends on those chosen before adds nothing.
    fn push(&mut self, of_matrix: ArrayView1<'_, f64>, column: usize, product: f64) {
        let n = self.columns.len();
        let mut row = Array1::zeros(n + 1);
        for k in 0..n {
            let known = self.rows[k].slice(s![..k]).dot(&row.slice(s![..k]));
            row[k] = (of_matrix[self.columns[k]] - known) / self.rows[k][k];
        }
        let own = row.slice(s![..n]);
        let pivot = of_matrix[column] - own.dot(&own);
        if pivot <= 1e-12 * of_matrix[column] || !pivot.is_finite() {
            return;
        }
        let known = own.iter().zip(&self.solved).map(|(a, b)| a * b).sum::<f64>();
        row[n] = pivot.sqrt();
        self.solved.push((product - known) / row[n]);
        self.rows.push(row);
        self.columns.push(column);
    }

    /// The weights of the columns: the solution of `L' w = z`.
    fn solve(&self) -> Vec<f64> {
        let mut weights = Array1::from(self.solved.clone());
        for k in (0..self.rows.len()).rev() {
            weights[k] /= self.rows[k][k];
            let own = weights[k];
            weights.slice_mut(s![..k]).scaled_add(-own, &self.rows[k].slice(s![..k]));
        }
        weights.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A factor that grows solves what a plain factorisation solves.
    #[test]
    fn a_growing_factor_solves() {
        let base =
            Array2::from_shape_fn((9, 6), |(n, k)| ((n * 7 + k * 5) % 11) as f64 - 4.0 + f64::from(k as u8) * 0.1);
        let mut matrix = base.t().dot(&base);
        matrix.diag_mut().mapv_inplace(|value| value + 0.5);
        let products = Array1::from_shape_fn(6, |k| k as f64 - 2.0);
        let order = [4, 0, 5, 2];
        let mut factor = Factor::default();
        order.iter().for_each(|&column| factor.push(matrix.row(column), column, products[column]));
        let own = matrix.select(Axis(0), &order).select(Axis(1), &order);
        let expected = cholesky_solve(own, 0.0, products.select(Axis(0), &order).insert_axis(Axis(1))).unwrap();
        for (found, expected) in factor.solve().iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        }
    }
}
