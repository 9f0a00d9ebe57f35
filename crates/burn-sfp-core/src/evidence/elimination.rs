//! Inputs of a layer that leave one after the other: optimal brain surgeon with the weights solved for anew after each.

use std::collections::BTreeMap;

use burn_sfp_ndarray::{KernelError, cholesky_solve};
use ndarray::{Array2, Axis};

use super::gram::{GroupGram, InputGram};
use super::loss::RemovedInputs;
use crate::SfpError;

/// A layer whose inputs leave one after the other. Each time the weights that stay take over what they can of those that go, so that what the
/// next ones cost is known: where the matrix is exact, and no output leaves, the sum of what all cost is the least-squares loss of removing
/// them together ([`InputGram::removal_losses`]).
///
/// ```text
/// W := W - [H^-1][., C] ([H^-1][C, C])^-1 W[C]
/// H^-1 := H^-1 - [H^-1][., C] ([H^-1][C, C])^-1 [H^-1][C, .]
/// ```
///
/// Source: B. Hassibi, D. G. Stork, NIPS 1993; with the update of the inverse E. Frantar, D. Alistarh 2022, arXiv 2208.11580.
#[derive(Clone, Debug)]
pub struct Elimination<'g> {
    gram: &'g InputGram,
    path: String,
    groups: Vec<Group>,
}

/// One group of the layer.
#[derive(Clone, Debug)]
struct Group {
    /// `H^-1` of what is left; `None` if all inputs are zero on all samples, so that nothing is lost.
    inverse: Option<Array2<f64>>,
    /// Rows as the columns of an exact Gram matrix, a column for each output of the group.
    weights: Array2<f64>,
}

impl InputGram {
    /// Starts with all inputs there; the arguments are those of [`removal_losses`](InputGram::removal_losses).
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::{GraphModule, Network};
    /// use burn_sfp_core::{ActivationNeeds, NoProgress, RemovedInputs, SfpModule, TensorCalibration, gather_activations};
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
    /// # mlp.a.weight = burn::module::Param::from_tensor(Tensor::from_floats([[1., 1.], [1., 1.]], &device));
    /// // Both nodes of `a` are the same: either costs nothing, because the other one takes its place, and both cost all.
    /// let samples = Tensor::<2>::from_floats([[1., 0.], [0., 1.]], &device);
    /// let network = Network::capture_with(&mlp, &samples, Mlp::logits)?;
    /// let calibration = TensorCalibration::new(samples, vec![0, 1], 2);
    /// let needs = ActivationNeeds { outputs: false, inputs: Some(2048), layers: None };
    /// let found = gather_activations(&mlp, &network, &calibration, needs, &NoProgress)?;
    ///
    /// let weight = [[2_f32], [4.0]];
    /// let mut left = found.inputs["b"].elimination("b", 1, &|_output, input| &weight[input], 1e-9)?;
    /// let [first, second] = [0, 1].map(|input| RemovedInputs { inputs: vec![input], outputs: vec![] });
    /// assert!(left.remove(&first)? < 1e-6);
    /// assert!((left.loss(&second)? - 36.0).abs() < 1e-3); // (2 + 4)^2 times the mean square of the nodes, 1
    /// # Ok::<(), burn_sfp_core::SfpError>(())
    /// ```
    ///
    /// # Errors
    /// [`SfpError::Kernel`] if H is not positive definite, or if a kernel does not fit the layer.
    pub fn elimination<'k>(
        &self,
        path: &str,
        outputs: usize,
        kernel: &(dyn Fn(usize, usize) -> &'k [f32] + Sync),
        ridge: f64,
    ) -> Result<Elimination<'_>, SfpError> {
        let failed = |source| SfpError::Kernel { path: path.to_string(), source };
        let of_group = outputs / self.groups.len().max(1);
        let mut groups = Vec::with_capacity(self.groups.len());
        for (index, group) in self.groups.iter().enumerate() {
            let mut weights = Array2::zeros((group.channels * group.elements, of_group));
            for input in 0..group.places.len() {
                let rows = group.rows_of(input, self.kernel);
                for output in 0..of_group {
                    let own = kernel(index * of_group + output, input);
                    if own.len() != self.kernel {
                        let (what, expected, found) = ("elements of a kernel", self.kernel, own.len());
                        return Err(failed(KernelError::Shape { what, expected, found }));
                    }
                    for (row, &weight) in rows.clone().zip(own) {
                        weights[[row, output]] = f64::from(weight);
                    }
                }
            }
            groups.push(Group { inverse: group.inverse(ridge).map_err(failed)?, weights });
        }
        Ok(Elimination { gram: self, path: path.to_string(), groups })
    }
}

impl Elimination<'_> {
    /// The loss that removing these inputs adds to that of those that are gone.
    ///
    /// # Errors
    /// [`SfpError::Kernel`] if what is left of `H^-1` is not positive definite.
    pub fn loss(&self, set: &RemovedInputs) -> Result<f64, SfpError> {
        let mut loss = 0.0;
        for (index, group) in self.groups.iter().enumerate() {
            loss += group.loss(self.of_group(index, set)).map_err(|source| self.failed(source))?;
        }
        Ok(loss)
    }

    /// Removes inputs and returns the loss that this adds.
    ///
    /// # Errors
    /// As [`loss`](Self::loss).
    pub fn remove(&mut self, set: &RemovedInputs) -> Result<f64, SfpError> {
        let loss = self.loss(set)?;
        for index in 0..self.groups.len() {
            let leaving = self.of_group(index, set);
            self.groups[index].remove(&leaving).map_err(|source| self.failed(source))?;
        }
        Ok(loss)
    }

    fn of_group(&self, index: usize, set: &RemovedInputs) -> Leaving {
        Leaving::of(&self.gram.groups[index], self.gram, index, &self.groups[index], set)
    }

    fn failed(&self, source: KernelError) -> SfpError {
        SfpError::Kernel { path: self.path.clone(), source }
    }
}

/// What leaves a group.
struct Leaving {
    /// Rows of the weights, in blocks that are solved for together: one where the matrix is exact, else one for each element.
    blocks: Vec<Block>,
    /// Outputs of the group that leave, too.
    outputs: Vec<usize>,
}

/// Rows of the weights, and the columns of the matrix that stand for them.
#[derive(Default)]
struct Block {
    rows: Vec<usize>,
    columns: Vec<usize>,
}

impl Leaving {
    fn of(group: &GroupGram, gram: &InputGram, index: usize, state: &Group, set: &RemovedInputs) -> Self {
        let of_group = state.weights.ncols();
        let local = |all: &[usize], from: usize, count: usize| -> Vec<usize> {
            all.iter().filter_map(|at| at.checked_sub(from).filter(|at| *at < count)).collect()
        };
        let inputs = local(&set.inputs, index * gram.inputs, gram.inputs);
        let outputs = local(&set.outputs, index * of_group, of_group);
        let column = |row: usize| if group.is_exact { row } else { row / group.elements };
        // What is gone already cannot leave once more.
        let is_there =
            |row: &usize| state.inverse.as_ref().is_some_and(|inverse| inverse[[column(*row), column(*row)]] > 0.0);
        let rows = inputs.iter().flat_map(|&input| group.rows_of(input, gram.kernel)).filter(is_there);
        let mut blocks: BTreeMap<usize, Block> = BTreeMap::new();
        for row in rows {
            // Elements that are alike are as unrelated: a block for each.
            let block = blocks.entry(if group.is_exact { 0 } else { row % group.elements }).or_default();
            block.rows.push(row);
            block.columns.push(column(row));
        }
        let blocks = blocks.into_values().collect();
        Self { blocks, outputs }
    }
}

impl Group {
    fn loss(&self, leaving: Leaving) -> Result<f64, KernelError> {
        let Some(inverse) = &self.inverse else { return Ok(0.0) };
        let mut loss = 0.0;
        for Block { rows, columns } in &leaving.blocks {
            let mut own = self.weights.select(Axis(0), rows);
            leaving.outputs.iter().for_each(|&output| own.column_mut(output).fill(0.0));
            let solved = cholesky_solve(square(inverse, columns), 0.0, own.clone())?;
            loss += own.iter().zip(&solved).map(|(weight, solved)| weight * solved).sum::<f64>();
        }
        Ok(loss)
    }

    fn remove(&mut self, leaving: &Leaving) -> Result<(), KernelError> {
        for &output in &leaving.outputs {
            self.weights.column_mut(output).fill(0.0);
        }
        let Some(inverse) = &mut self.inverse else { return Ok(()) };
        let is_exact = inverse.nrows() == self.weights.nrows();
        let elements = self.weights.nrows() / inverse.nrows().max(1);
        for Block { rows, columns } in &leaving.blocks {
            let solved = cholesky_solve(square(inverse, columns), 0.0, self.weights.select(Axis(0), rows))?;
            let change = inverse.select(Axis(1), columns).dot(&solved);
            for (column, change) in change.outer_iter().enumerate() {
                // One of several elements that are alike changes the weights of the same element.
                let row = if is_exact { column } else { column * elements + rows[0] % elements };
                self.weights.row_mut(row).zip_mut_with(&change, |weight, change| *weight -= change);
            }
            rows.iter().for_each(|&row| self.weights.row_mut(row).fill(0.0));
        }
        let mut columns: Vec<usize> = leaving.blocks.iter().flat_map(|block| block.columns.iter().copied()).collect();
        columns.sort_unstable();
        columns.dedup();
        if columns.is_empty() {
            return Ok(());
        }
        let across = inverse.select(Axis(1), &columns);
        let solved = cholesky_solve(square(inverse, &columns), 0.0, across.t().to_owned())?;
        *inverse -= &across.dot(&solved);
        for &column in &columns {
            inverse.row_mut(column).fill(0.0);
            inverse.column_mut(column).fill(0.0);
        }
        Ok(())
    }
}

/// The rows and columns of a matrix with these indices.
fn square(matrix: &Array2<f64>, indices: &[usize]) -> Array2<f64> {
    Array2::from_shape_fn((indices.len(), indices.len()), |(a, b)| matrix[[indices[a], indices[b]]])
}
