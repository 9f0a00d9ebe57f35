//! [`Regression`]: sums of what a layer reads and of what it is to return, and the weights that follow from them.

use burn::tensor::Tensor;
use burn_sfp_graph::{Layer, Network};
use burn_sfp_ndarray::{KernelError, gram_update};
use burn_sfp_nn::tensor::on_host;
use ndarray::{Array2, ArrayView2, ArrayView3, Axis, s};
use rayon::prelude::*;

use super::sample::sample;
use super::solve::{Equations, Ridge};
use crate::SfpError;
use crate::evidence::window::Window;

/// Values of the rows that are added at once (16 MiB).
pub(super) const ROW_VALUES: usize = 1 << 22;

/// The weights of a layer by least squares.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Solution {
    /// The weight, laid out as the layer's parameter.
    pub weight: Vec<f64>,
    /// Mean squared error over the mean square of the targets (over their variance where there is an intercept), with the weights as
    /// they were.
    pub error_before: f64,
    /// The same with the solution.
    pub error_after: f64,
}

/// Sums over what a layer reads and what it is to return.
///
/// The rows of X are what the layer multiplies by its weight, as for [`InputGram`](crate::InputGram); those of Y the targets of its
/// filters there. Means are over all rows, Gram matrices over a sample of the rows of each batch. On flex and ndarray all sums are in
/// double precision, and do not depend on the number of threads; other devices sum in their `f32`, and only sums are read back.
///
/// A layer of n columns (inputs of a group times elements of the kernel) and f filters takes `8 (n + f)^2` bytes for each group, twice
/// that while it is solved.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::{GraphModule, Network};
/// use burn_sfp_core::{Regression, Ridge};
/// # #[derive(Module, Debug)]
/// # struct Layer { linear: Linear }
/// # impl GraphModule for Layer {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.linear.forward(x) }
/// # }
/// # let device = Device::flex();
/// # let layer = Layer { linear: LinearConfig::new(1, 1).init(&device) };
/// let network = Network::capture(&layer, &Tensor::zeros([3, 1], &device))?;
/// let mut sums = Regression::new(&network, &network.layers()[0], vec![0], 100).unwrap();
/// // Three samples of one input, and the targets 2 x + 1.
/// let read = Tensor::from_floats([[[0.0]], [[1.0]], [[2.0]]], &device);
/// let target = Tensor::from_floats([[[1.0]], [[3.0]], [[5.0]]], &device);
/// sums.add(0, &read, &target, 100)?;
/// let solution = sums.solve(&[0.0], None, Ridge::OfWeights(0.0), true)?;
/// assert!((solution.weight[0] - 2.0).abs() < 1e-9);
/// assert!((sums.intercept(&solution.weight)?[0] - 1.0).abs() < 1e-9);
/// # Ok::<(), burn_sfp_core::SfpError>(())
/// ```
#[derive(Debug)]
pub struct Regression {
    pub(super) path: String,
    pub(super) window: Window,
    pub(super) groups: usize,
    /// Inputs, filters of a group.
    pub(super) inputs: usize,
    pub(super) filters: usize,
    pub(super) elements: usize,
    pub(super) output_axis: usize,
    /// For each filter the index of its target.
    pub(super) targets: Vec<usize>,
    /// `[inputs of all groups, positions]`.
    pub(super) input_sums: Array2<f64>,
    pub(super) target_sums: Vec<f64>,
    /// Samples (rows of a linear layer).
    pub(super) samples: u64,
    pub(super) positions: usize,
    /// Whether Gram matrices are summed.
    pub(super) is_summed: bool,
    /// One for each group, once there are samples.
    pub(super) sums: Vec<GroupSums>,
    /// On another device than the CPU.
    pub(super) on_device: Option<OnDevice>,
}

/// Sums by Burn's operations.
#[derive(Debug)]
pub(super) struct OnDevice {
    /// `[1, inputs of all groups, positions]`.
    pub(super) inputs: Tensor<3>,
    /// Of all channels of the targets, `[1, channels, 1]`.
    pub(super) targets: Tensor<3>,
    /// For each group the Gram matrix of `[X, Y]` and the sums of its columns.
    pub(super) groups: Vec<(Tensor<2>, Tensor<2>)>,
    /// Rows of the Gram matrices.
    pub(super) rows: u64,
}

/// Sums of a group over the sampled rows of `[X, Y]`.
#[derive(Debug)]
pub(super) struct GroupSums {
    /// The lower triangle of `[X, Y]' [X, Y]`.
    pub(super) matrix: Array2<f64>,
    pub(super) totals: Vec<f64>,
    pub(super) rows: u64,
}

impl Regression {
    /// Starts without samples. `targets` says for each filter of the layer which channel of the targets is its own. Gram matrices are summed
    /// where a group has at most `columns` columns.
    ///
    /// # Errors
    /// Why the layer's weight cannot be related to its input, for a report.
    pub fn new(network: &Network, layer: &Layer, targets: Vec<usize>, columns: usize) -> Result<Self, String> {
        let groups = layer.groups.max(1);
        if targets.len() != layer.filters {
            return Err(format!("{} filters of the original stand for its {}", targets.len(), layer.filters));
        }
        let Some(window) = Window::of(network, layer) else {
            return Err("the shapes of its input, kernel and output do not agree".into());
        };
        let (inputs, filters, elements) = (layer.inputs / groups, layer.filters / groups, window.elements());
        let size = inputs * elements;
        Ok(Self {
            path: layer.path.clone(),
            groups,
            inputs,
            filters,
            elements,
            output_axis: layer.kind.output_axis(),
            input_sums: Array2::zeros((layer.inputs, 0)),
            target_sums: vec![0.0; layer.filters],
            samples: 0,
            positions: 0,
            is_summed: size <= columns && size > 0,
            sums: Vec::new(),
            on_device: None,
            targets,
            window,
        })
    }

    /// Columns of a group: its inputs times the elements of the kernel.
    pub fn columns(&self) -> usize {
        self.inputs * self.elements
    }

    /// Whether Gram matrices are summed.
    pub fn is_summed(&self) -> bool {
        self.is_summed
    }

    /// Adds a batch: the input `[rows, channels, positions]` and the targets `[rows, channels, positions]`. At most `patches` rows of X are
    /// taken of it for Gram matrices; which ones follows from the number of the batch.
    ///
    /// # Errors
    /// [`SfpError::Kernel`] where the shapes are not those of the layer, [`SfpError::NonFiniteInput`] and
    /// [`SfpError::NonFiniteOutput`] where values are NaN or infinite.
    pub fn add(&mut self, batch: usize, input: &Tensor<3>, target: &Tensor<3>, patches: usize) -> Result<(), SfpError> {
        self.check(input.dims(), target.dims())?;
        let host = on_host(input, |input| on_host(target, |target| self.add_views(batch, input, target, patches)));
        host.flatten().unwrap_or_else(|| {
            self.add_on_device(batch, input, target, patches);
            Ok(())
        })
    }

    fn add_views(
        &mut self,
        batch: usize,
        input: ArrayView3<'_, f32>,
        target: ArrayView3<'_, f32>,
        patches: usize,
    ) -> Result<(), SfpError> {
        let positions = self.window.positions(input.dim().2);
        self.positions = positions;
        self.samples += input.dim().0 as u64;
        if self.input_sums.ncols() == 0 {
            self.input_sums = Array2::zeros((input.dim().1, input.dim().2));
        }
        add_samples(&mut self.input_sums, &input);
        let targets = &self.targets;
        self.target_sums.par_iter_mut().zip(targets).for_each(|(sum, &channel)| {
            *sum += target.index_axis(Axis(1), channel).iter().map(|&value| f64::from(value)).sum::<f64>();
        });
        self.check_finite()?;
        if !self.is_summed {
            return Ok(());
        }
        let rows = sample(batch, input.dim().0 * positions, patches.max(1));
        let mut sums = std::mem::take(&mut self.sums);
        if sums.is_empty() {
            sums = (0..self.groups).map(|_| GroupSums::new(self.columns() + self.filters)).collect();
        }
        let mut added = Ok(());
        for (group, sums) in sums.iter_mut().enumerate() {
            added = added.and_then(|()| self.add_group(group, sums, &input, &target, &rows));
        }
        self.sums = sums;
        added.map_err(|source| SfpError::Kernel { path: self.path.clone(), source })
    }

    fn check(
        &self,
        [rows, channels, positions]: [usize; 3],
        [target_rows, target_channels, target_positions]: [usize; 3],
    ) -> Result<(), SfpError> {
        let largest = self.targets.iter().max().map_or(0, |most| most + 1);
        let lengths = [
            ("channels of the input", self.groups * self.inputs, channels),
            ("rows of the targets", rows, target_rows),
            ("positions of the targets", self.window.positions(positions), target_positions),
            ("channels of the targets", largest, target_channels.min(largest)),
        ];
        match lengths.into_iter().find(|(_, expected, found)| expected != found) {
            None => Ok(()),
            Some((what, expected, found)) => {
                let source = KernelError::Shape { what, expected, found };
                Err(SfpError::Kernel { path: self.path.clone(), source })
            }
        }
    }

    pub(super) fn check_finite(&self) -> Result<(), SfpError> {
        if let Some(((input, _), &value)) = self.input_sums.indexed_iter().find(|(_, sum)| !sum.is_finite()) {
            return Err(SfpError::NonFiniteInput { path: self.path.clone(), input, value: value as f32 });
        }
        match self.target_sums.iter().position(|sum| !sum.is_finite()) {
            None => Ok(()),
            Some(filter) => {
                let value = self.target_sums[filter];
                Err(SfpError::NonFiniteOutput { path: self.path.clone(), filter, value })
            }
        }
    }

    fn add_group(
        &self,
        group: usize,
        sums: &mut GroupSums,
        input: &ArrayView3<'_, f32>,
        target: &ArrayView3<'_, f32>,
        rows: &[usize],
    ) -> Result<(), KernelError> {
        let width = self.columns() + self.filters;
        let input = input.slice(s![.., group * self.inputs..(group + 1) * self.inputs, ..]);
        let targets = &self.targets[group * self.filters..(group + 1) * self.filters];
        for rows in rows.chunks((ROW_VALUES / width).max(256)) {
            let mut values = vec![0.0_f32; rows.len() * width];
            values.par_chunks_mut(width).zip(rows).for_each(|(values, row)| {
                let (sample, position) = (row / self.positions.max(1), row % self.positions.max(1));
                let (patch, own) = values.split_at_mut(self.inputs * self.elements);
                for (k, value) in patch.iter_mut().enumerate() {
                    if let Some(source) = self.window.source(position, k % self.elements) {
                        *value = input[[sample, k / self.elements, source]];
                    }
                }
                for (value, &channel) in own.iter_mut().zip(targets) {
                    *value = target[[sample, channel, position]];
                }
            });
            let values = ArrayView2::from_shape((rows.len(), width), &values).map_err(|_| KernelError::Shape {
                what: "rows",
                expected: rows.len(),
                found: values.len() / width,
            })?;
            gram_update(values, sums.matrix.view_mut())?;
            sums.totals.par_iter_mut().zip(values.axis_iter(Axis(1)).into_par_iter()).for_each(|(total, values)| {
                *total += values.iter().map(|&value| f64::from(value)).sum::<f64>();
            });
            sums.rows += rows.len() as u64;
        }
        Ok(())
    }

    /// For each filter what has to be added to its output, computed with these weights and without bias, so that its mean over all
    /// samples and positions is that of its target. The weight is laid out as the layer's parameter.
    ///
    /// # Errors
    /// [`SfpError::Layer`] where the device does not return its sums, and the errors of [`add`](Regression::add) for values that are not
    /// finite.
    pub fn intercept(&mut self, weight: &[f64]) -> Result<Vec<f64>, SfpError> {
        self.settle()?;
        let count = (self.samples as f64 * self.positions as f64).max(1.0);
        let patch = self.patch_sums();
        let of = |filter: usize| {
            let (group, own) = (filter / self.filters.max(1), filter % self.filters.max(1));
            let column = |k: usize| {
                let at = self.pair(group, own, k / self.elements) * self.elements + k % self.elements;
                weight.get(at).copied().unwrap_or_default() * patch[group * self.columns() + k]
            };
            (self.target_sums[filter] - (0..self.columns()).map(column).sum::<f64>()) / count
        };
        Ok((0..self.target_sums.len()).into_par_iter().map(of).collect())
    }

    /// Sums of each column of X, of all groups, over all samples and positions.
    fn patch_sums(&self) -> Vec<f64> {
        let column = |k: usize| {
            let (channel, element) = (k / self.elements, k % self.elements);
            let read = |position: usize| {
                self.window.source(position, element).map_or(0.0, |source| self.input_sums[[channel, source]])
            };
            (0..self.positions).map(read).sum::<f64>()
        };
        (0..self.groups * self.columns()).into_par_iter().map(column).collect()
    }

    /// Index among the first two axes of the weight of a filter and an input of a group.
    fn pair(&self, group: usize, filter: usize, input: usize) -> usize {
        match self.output_axis {
            0 => (group * self.filters + filter) * self.inputs + input,
            _ => (group * self.inputs + input) * self.filters + filter,
        }
    }

    /// Returns the weights with the least squared error over the sampled rows, plus the penalty. `current` is the weight as it is, laid out
    /// as the layer's parameter; `keep` says for each pair of indices of its first two axes, row by row, or for each of its elements, whether it
    /// stays: others are zero. With an intercept the mean of the error is taken out, for [`intercept`](Regression::intercept) to add.
    ///
    /// # Errors
    /// [`SfpError::Kernel`] where the weight has another length, or the Gram matrix has no Cholesky factor: its ridge is too small; those of
    /// [`intercept`](Regression::intercept).
    pub fn solve(
        &mut self,
        current: &[f64],
        keep: Option<&[bool]>,
        ridge: Ridge,
        with_intercept: bool,
    ) -> Result<Solution, SfpError> {
        self.settle()?;
        let failed = |source| SfpError::Kernel { path: self.path.clone(), source };
        let expected = self.groups * self.filters * self.columns();
        // Elements of the weight for which one of `keep` speaks.
        let together = if keep.is_some_and(|keep| keep.len() == expected) { 1 } else { self.elements };
        if current.len() != expected || keep.is_some_and(|keep| keep.len() * together != expected) {
            return Err(failed(KernelError::Shape { what: "values of the weight", expected, found: current.len() }));
        }
        let mut weight = vec![0.0; current.len()];
        let (mut power, mut before, mut after) = (0.0, 0.0, 0.0);
        for (group, sums) in self.sums.iter().enumerate() {
            let equations = sums.equations(self.columns(), with_intercept);
            let at = |column: usize, filter: usize| {
                self.pair(group, filter, column / self.elements) * self.elements + column % self.elements
            };
            let shape = (self.columns(), self.filters);
            let own = Array2::from_shape_fn(shape, |(column, filter)| current[at(column, filter)]);
            let kept = keep.map(|keep| {
                let of =
                    |filter: usize| (0..self.columns()).filter(|&column| keep[at(column, filter) / together]).collect();
                (0..self.filters).map(of).collect::<Vec<Vec<usize>>>()
            });
            let solved = equations.solve(&own, kept.as_deref(), ridge).map_err(failed)?;
            power += equations.power.iter().sum::<f64>();
            before += equations.error(&own);
            after += equations.error(&solved);
            for ((column, filter), &value) in solved.indexed_iter() {
                weight[at(column, filter)] = value;
            }
        }
        let share = |error: f64| if power > 0.0 { error / power } else { 0.0 };
        Ok(Solution { weight, error_before: share(before), error_after: share(after) })
    }
}

impl GroupSums {
    pub(super) fn new(width: usize) -> Self {
        Self { matrix: Array2::zeros((width, width)), totals: vec![0.0; width], rows: 0 }
    }

    fn equations(&self, columns: usize, with_intercept: bool) -> Equations {
        let rows = (self.rows as f64).max(1.0);
        let mean = |k: usize| if with_intercept { self.totals[k] / rows } else { 0.0 };
        // Only the lower triangle is summed.
        let value = |a: usize, b: usize| self.matrix[[a.max(b), a.min(b)]] / rows - mean(a) * mean(b);
        let width = self.matrix.nrows();
        Equations {
            gram: Array2::from_shape_fn((columns, columns), |(a, b)| value(a, b)),
            product: Array2::from_shape_fn((columns, width - columns), |(a, b)| value(a, columns + b)),
            power: (columns..width).map(|k| value(k, k).max(0.0)).collect(),
        }
    }
}

/// Adds the samples of a batch up, channel by channel and position by position, each channel by one thread.
fn add_samples(sums: &mut Array2<f64>, input: &ArrayView3<'_, f32>) {
    let channels = sums.axis_iter_mut(Axis(0)).into_par_iter();
    channels.zip(input.axis_iter(Axis(1)).into_par_iter()).for_each(|(mut sums, samples)| {
        for sample in samples.rows() {
            sums.iter_mut().zip(sample).for_each(|(sum, &value)| *sum += f64::from(value));
        }
    });
}
