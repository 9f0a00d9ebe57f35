//! The least-squares loss of removed inputs: optimal brain surgeon on groups of weights.

use burn_sfp_ndarray::{KernelError, cholesky_solve};
use ndarray::Array2;
use rayon::prelude::*;

use super::gram::{GroupGram, InputGram};
use crate::SfpError;

/// Inputs of a layer that are removed together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemovedInputs {
    /// Indices of the inputs, all groups of a convolution together.
    pub inputs: Vec<usize>,
    /// Indices of the outputs of the layer that leave with them, whose error does not count.
    pub outputs: Vec<usize>,
}

impl InputGram {
    /// Returns for each set of inputs the least squared error of the layer's outputs without them, all other weights
    /// solved for anew:
    ///
    /// ```text
    /// min over W* of  1/N |X W - X W*|^2 + shift |W - W*|^2,   rows C of W* at zero
    ///   = sum over outputs b of  W[C, b]' ([H^-1][C, C])^-1 W[C, b],     H = G + shift I,   shift = ridge * mean diagonal of G
    /// ```
    ///
    /// summed over the positions of the output, per sample. C are the columns of the removed inputs; biases stay.
    /// Source: B. Hassibi, D. G. Stork, NIPS 1993, for groups of weights; E. Frantar, D. Alistarh 2022, arXiv
    /// 2208.11580. Where the matrix is over channels alone, a channel c costs `|W[c]|^2 / [H^-1][c, c]`, and several of
    /// them the sum.
    ///
    /// `kernel(output, input)` are the weights between an output and an input of its group, in the order of the kernel;
    /// `path` is the layer's, for errors.
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
    /// # mlp.a.weight = burn::module::Param::from_tensor(Tensor::from_floats([[1., 0.], [0., 1.]], &device));
    /// // The nodes of `a` are its two inputs, of which each sample has one.
    /// let samples = Tensor::<2>::from_floats([[1., 0.], [0., 3.]], &device);
    /// let network = Network::capture_with(&mlp, &samples, Mlp::logits)?;
    /// let calibration = TensorCalibration::new(samples, vec![0, 1], 2);
    /// let needs = ActivationNeeds { outputs: false, inputs: Some(2048), layers: None };
    /// let found = gather_activations(&mlp, &network, &calibration, needs, &NoProgress)?;
    ///
    /// let weight = [[2_f32], [4.0]];
    /// let sets = [0, 1].map(|input| RemovedInputs { inputs: vec![input], outputs: vec![] });
    /// let losses = found.inputs["b"].removal_losses("b", 1, &|_output, input| &weight[input], 1e-9, &sets)?;
    /// // Mean squares of the inputs, 1/2 and 9/2, times the squares of the weights: nothing makes up for either.
    /// assert!((losses[0] - 2.0).abs() < 1e-6 && (losses[1] - 72.0).abs() < 1e-6);
    /// # Ok::<(), burn_sfp_core::SfpError>(())
    /// ```
    ///
    /// # Errors
    /// [`SfpError::Kernel`] if H is not positive definite, or if a kernel or an index does not fit the layer.
    pub fn removal_losses<'k>(
        &self,
        path: &str,
        outputs: usize,
        kernel: &(dyn Fn(usize, usize) -> &'k [f32] + Sync),
        ridge: f64,
        removed: &[RemovedInputs],
    ) -> Result<Vec<f64>, SfpError> {
        let of_group = outputs / self.groups.len().max(1);
        let mut losses = vec![0.0; removed.len()];
        let failed = |source| SfpError::Kernel { path: path.to_string(), source };
        for (index, group) in self.groups.iter().enumerate() {
            let Some(inverse) = group.inverse(ridge).map_err(failed)? else { continue };
            let (from, first) = (index * self.inputs, index * of_group);
            let work = |set: &RemovedInputs| {
                let inputs: Vec<usize> = (set.inputs.iter())
                    .filter_map(|input| input.checked_sub(from).filter(|input| *input < self.inputs))
                    .collect();
                let outputs = (first..first + of_group).filter(|output| !set.outputs.contains(output));
                let weights = self.weights(&inputs, &outputs.collect::<Vec<_>>(), kernel)?;
                group.loss(&inverse, &inputs, weights, self.kernel)
            };
            let found: Vec<Result<f64, KernelError>> = removed.par_iter().map(work).collect();
            for (loss, found) in losses.iter_mut().zip(found) {
                *loss += found.map_err(failed)?;
            }
        }
        Ok(losses)
    }

    /// The weights of inputs of a group, `[inputs * kernel elements, outputs]`.
    fn weights<'k>(
        &self,
        inputs: &[usize],
        outputs: &[usize],
        kernel: &dyn Fn(usize, usize) -> &'k [f32],
    ) -> Result<Array2<f64>, KernelError> {
        let mut weights = Array2::zeros((inputs.len() * self.kernel, outputs.len()));
        for (b, &output) in outputs.iter().enumerate() {
            for (i, &input) in inputs.iter().enumerate() {
                let own = kernel(output, input);
                if own.len() != self.kernel {
                    let what = "elements of a kernel";
                    return Err(KernelError::Shape { what, expected: self.kernel, found: own.len() });
                }
                for (k, &weight) in own.iter().enumerate() {
                    weights[[i * self.kernel + k, b]] = f64::from(weight);
                }
            }
        }
        Ok(weights)
    }
}

impl GroupGram {
    /// The columns of an exact matrix, and the rows of the weights, that belong to an input of the group.
    pub(super) fn rows_of(&self, input: usize, kernel: usize) -> std::ops::Range<usize> {
        let (channel, nth) = self.places[input];
        let first = channel * self.elements + nth * kernel;
        first..first + kernel
    }

    /// The inverse of H; `None` if all inputs are zero on all samples, so that nothing is lost.
    pub(super) fn inverse(&self, ridge: f64) -> Result<Option<Array2<f64>>, KernelError> {
        let columns = self.matrix.nrows();
        let mean_diagonal = self.matrix.diag().sum() / columns.max(1) as f64;
        if mean_diagonal <= 0.0 {
            return Ok(None);
        }
        cholesky_solve(self.matrix.clone(), ridge * mean_diagonal, Array2::eye(columns)).map(Some)
    }

    /// The loss of removing these inputs of the group, whose weights are `[inputs * kernel elements, outputs]`.
    fn loss(
        &self,
        inverse: &Array2<f64>,
        inputs: &[usize],
        weights: Array2<f64>,
        kernel: usize,
    ) -> Result<f64, KernelError> {
        if weights.is_empty() {
            return Ok(0.0);
        }
        if !self.is_exact {
            let of_input = |(k, &input): (usize, &usize)| {
                let rows = weights.slice(ndarray::s![k * kernel..(k + 1) * kernel, ..]);
                let (channel, _) = self.places[input];
                rows.iter().map(|weight| weight * weight).sum::<f64>() / inverse[[channel, channel]]
            };
            return Ok(inputs.iter().enumerate().map(of_input).sum());
        }
        let columns: Vec<usize> = inputs.iter().flat_map(|&input| self.rows_of(input, kernel)).collect();
        let own = Array2::from_shape_fn((columns.len(), columns.len()), |(a, b)| inverse[[columns[a], columns[b]]]);
        let solved = cholesky_solve(own, 0.0, weights.clone())?;
        Ok(weights.iter().zip(&solved).map(|(weight, solved)| weight * solved).sum())
    }
}
