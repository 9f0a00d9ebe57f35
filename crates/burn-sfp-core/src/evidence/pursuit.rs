//! Which inputs explain each output of a layer best: orthogonal matching pursuit in groups.

use std::fmt;

use burn_sfp_ndarray::{KernelError, cholesky_solve};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, s};
use rayon::prelude::*;

use super::gram::{GroupGram, InputGram};
use crate::SfpError;

/// Rounds in which the inputs of an output are chosen; each solves the weights of those chosen so far.
const ROUNDS: usize = 64;

/// What a pursuit is asked for ([`InputGram::pursue`]).
#[derive(Clone, Copy)]
pub struct Pursuit<'a> {
    /// Inputs that are chosen for each output.
    pub count: usize,
    /// Added to the diagonal of the Gram matrix, over its mean.
    pub ridge: f64,
    /// Whether means are subtracted from the columns, as if each output had a bias.
    pub centered: bool,
    /// Whether an input of an output is chosen before all those of which this says no; by `(output, input)`. Without it all are alike.
    pub first: Option<&'a (dyn Fn(usize, usize) -> bool + Sync)>,
}

impl fmt::Debug for Pursuit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, ridge, centered, first } = self;
        let mut shown = f.debug_struct("Pursuit");
        shown.field("count", count).field("ridge", ridge).field("centered", centered);
        shown.field("has_first", &first.is_some()).finish()
    }
}

/// What the inputs of a layer explain of one of its outputs. Squared errors are sums over the positions of the output, per sample.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Explained {
    /// The inputs that were chosen, in this order.
    pub chosen: Vec<usize>,
    /// For each input what it takes off the squared error: a chosen one what the error fell by when it came, or less where one chosen before
    /// it took less off; another one what it alone would take off what is left, but less than the last chosen one did. Inputs that come
    /// [`first`](Pursuit::first) and others are each ordered by themselves.
    pub gains: Vec<f64>,
    /// The squared error without any input.
    pub power: f64,
}

impl InputGram {
    /// Chooses for each output of a layer inputs of its group that explain what it returns: orthogonal matching
    /// pursuit (Y. C. Pati, R. Rezaiifar, P. S. Krishnaprasad, Asilomar 1993) over groups of columns, the elements of a kernel.
    ///
    /// With `H = G + shift I`, `shift = ridge * mean diagonal of G` and the weights w of an output, its values have the products
    /// `b = G w` with the columns. The columns S of the inputs chosen so far have the weights `H[S, S]^-1 b[S]`, which leave
    /// `r = b - H[:, S] H[S, S]^-1 b[S]`. Chosen next are those inputs g for which `r[g]' H[g, g]^-1 r[g]` is largest: what g alone would take
    /// off the squared error. The choice is made in at most 64 rounds. With S the error is `w' G w - b[S]' H[S, S]^-1 b[S]`, the penalty of
    /// the shift included.
    ///
    /// `kernel(output, input)` are
    /// the weights between an output and an input of its group, in the order of the kernel; `path` is the layer's, for errors.
    /// `None` where the matrix has no column for each element of each channel.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::{GraphModule, Network};
    /// use burn_sfp_core::{ActivationNeeds, NoProgress, Pursuit, SfpModule, TensorCalibration, gather_activations};
    /// # #[derive(Module, Debug)]
    /// # struct Mlp { a: Linear, b: Linear }
    /// # impl GraphModule for Mlp {
    /// #     type Inputs = Tensor<2>;
    /// #     type Outputs = Tensor<2>;
    /// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.b.forward(self.a.forward(x)) }
    /// # }
    /// # let device = Device::flex();
    /// # let config = LinearConfig::new(2, 2).with_bias(false);
    /// # let mut mlp = Mlp { a: config.init(&device), b: config.init(&device) };
    /// # mlp.a.weight = burn::module::Param::from_tensor(Tensor::from_floats([[1., 0.], [0., 1.]], &device));
    /// // The nodes of `a` are its two inputs, of which each sample has one.
    /// let samples = Tensor::<2>::from_floats([[1., 0.], [0., 3.]], &device);
    /// let network = Network::capture_with(&mlp, &samples, Mlp::logits)?;
    /// let calibration = TensorCalibration::new(samples, vec![0, 1], 2);
    /// let needs = ActivationNeeds { inputs: Some(2048), ..ActivationNeeds::default() };
    /// let found = gather_activations(&mlp, &network, &calibration, needs, &NoProgress)?;
    ///
    /// // One output with the weights 2 and 1: the second input is larger, and explains 9/2 of 4/2 + 9/2.
    /// let weight = [[2_f32], [1.0]];
    /// let ask = Pursuit { count: 1, ridge: 1e-9, centered: false, first: None };
    /// let explained = found.inputs["b"].pursue("b", 1, &|_output, input| &weight[input], &ask)?.unwrap();
    /// assert_eq!(explained[0].chosen, [1]);
    /// assert!((explained[0].gains[1] - 4.5).abs() < 1e-6 && (explained[0].gains[0] - 2.0).abs() < 1e-6);
    /// assert!((explained[0].power - 6.5).abs() < 1e-6);
    /// # Ok::<(), burn_sfp_core::SfpError>(())
    /// ```
    ///
    /// # Errors
    /// [`SfpError::Kernel`] if H is not positive definite, or if a kernel does not fit the layer.
    pub fn pursue<'k>(
        &self,
        path: &str,
        outputs: usize,
        kernel: &(dyn Fn(usize, usize) -> &'k [f32] + Sync),
        ask: &Pursuit<'_>,
    ) -> Result<Option<Vec<Explained>>, SfpError> {
        if !self.is_exact() {
            return Ok(None);
        }
        let failed = |source| SfpError::Kernel { path: path.to_string(), source };
        let of_group = outputs / self.groups.len().max(1);
        let count = ask.count.min(self.inputs);
        let mut all = Vec::with_capacity(outputs);
        for (index, group) in self.groups.iter().enumerate() {
            let gram = group.whole(ask.centered);
            let mean_diagonal = gram.diag().sum() / gram.nrows().max(1) as f64;
            if mean_diagonal <= 0.0 {
                // All inputs are constant: any will do.
                let any = Explained { chosen: (0..count).collect(), gains: vec![0.0; self.inputs], power: 0.0 };
                all.extend((0..of_group).map(|_| any.clone()));
                continue;
            }
            let mut shifted = gram.clone();
            shifted.diag_mut().mapv_inplace(|value| value + ask.ridge * mean_diagonal);
            let starts = group.starts_of_inputs(self.kernel);
            let blocks = starts.iter().map(|&start| inverse(shifted.view(), start, self.kernel));
            let blocks: Vec<Array2<f64>> = blocks.collect::<Result<_, KernelError>>().map_err(failed)?;
            let search = Search { shifted, starts, kernel: self.kernel, blocks };
            let first = index * of_group;
            // One product for all outputs reads the matrix once.
            let mut weights = Array2::zeros((gram.nrows(), of_group));
            for (output, mut column) in weights.columns_mut().into_iter().enumerate() {
                column.assign(&group.weights_of(first + output, self.kernel, kernel).map_err(failed)?);
            }
            let products = gram.dot(&weights);
            let work = |own: usize| {
                let products = products.column(own).to_owned();
                let power = weights.column(own).dot(&products).max(0.0);
                let is_first = |input: usize| ask.first.is_none_or(|is_first| is_first(first + own, input));
                Explained { power, ..search.run(products, count, &is_first) }
            };
            all.extend((0..of_group).into_par_iter().map(work).collect::<Vec<Explained>>());
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

    /// For each input its first column; the others, one for each element of the kernel, stand behind it.
    fn starts_of_inputs(&self, kernel: usize) -> Vec<usize> {
        self.places.iter().map(|&(channel, nth)| channel * self.elements + nth * kernel).collect()
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
fn inverse(matrix: ArrayView2<'_, f64>, start: usize, length: usize) -> Result<Array2<f64>, KernelError> {
    let block = matrix.slice(s![start..start + length, start..start + length]).to_owned();
    cholesky_solve(block, 0.0, Array2::eye(length))
}

/// What the searches for all outputs share.
struct Search {
    /// H.
    shifted: Array2<f64>,
    /// The first column of each input.
    starts: Vec<usize>,
    /// Columns of an input.
    kernel: usize,
    /// The inverse of H's block of each input.
    blocks: Vec<Array2<f64>>,
}

impl Search {
    /// Chooses `count` inputs for an output whose products with the columns are `products`; those that `is_first` names before others.
    fn run(&self, products: Array1<f64>, count: usize, is_first: &dyn Fn(usize) -> bool) -> Explained {
        let inputs = self.starts.len();
        let mut found = Explained { gains: vec![0.0; inputs], ..Explained::default() };
        let mut is_open = vec![true; inputs];
        let (mut factor, mut rest) = (Factor::default(), products.clone());
        // Whether those that come first are being chosen, and the least that one of the same kind took off.
        let (mut firsts, mut least) = (true, f64::INFINITY);
        let step = count.div_ceil(ROUNDS).max(1);
        while found.chosen.len() < count {
            let mut open: Vec<(f64, usize)> = (0..inputs)
                .filter(|&input| is_open[input] && is_first(input) == firsts)
                .map(|input| (self.alone(&rest, input), input))
                .collect();
            if open.is_empty() {
                if !firsts {
                    break;
                }
                (firsts, least) = (false, f64::INFINITY);
                continue;
            }
            open.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            for &(_, input) in open.iter().take(step.min(count - found.chosen.len())) {
                is_open[input] = false;
                found.chosen.push(input);
                let before = factor.explained;
                for column in self.columns(input) {
                    factor.push(self.shifted.row(column), column, products[column]);
                }
                least = least.min(factor.explained - before);
                found.gains[input] = least;
            }
            let solved = factor.solve();
            rest.assign(&products);
            for (&column, weight) in factor.columns.iter().zip(solved) {
                rest.scaled_add(-weight, &self.shifted.row(column));
            }
        }
        for input in (0..inputs).filter(|&input| is_open[input]) {
            // A little less than the last one of its kind that was chosen, which thus stays before it.
            let most = if is_first(input) == firsts { least * (1.0 - 1e-9) } else { f64::INFINITY };
            found.gains[input] = self.alone(&rest, input).min(most);
        }
        found
    }

    fn columns(&self, input: usize) -> std::ops::Range<usize> {
        self.starts[input]..self.starts[input] + self.kernel
    }

    /// What an input alone would take off the squared error that is left.
    fn alone(&self, rest: &Array1<f64>, input: usize) -> f64 {
        let own = rest.slice(s![self.columns(input)]);
        let row = |(row, value): (ArrayView1<'_, f64>, &f64)| value * row.dot(&own);
        self.blocks[input].axis_iter(Axis(0)).zip(&own).map(row).sum::<f64>().max(0.0)
    }
}

/// The Cholesky factor L of H over the chosen columns, which grows by a row for each, and the solution z of `L z = b`.
#[derive(Default)]
struct Factor {
    columns: Vec<usize>,
    rows: Vec<Array1<f64>>,
    solved: Vec<f64>,
    /// `z' z`: what the columns together take off the squared error.
    explained: f64,
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
        let solved = (product - known) / row[n];
        self.explained += solved * solved;
        self.solved.push(solved);
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
