//! [`InputGram`]: Gram matrices of what a layer reads.

use std::collections::HashMap;

use burn::tensor::{DType, Device, Int, Tensor};
use burn_sfp_graph::{Layer, Network};
use burn_sfp_nn::tensor::on_host;
use ndarray::{Array2, ArrayView2, ArrayView3, Axis, s};
use rayon::prelude::*;

use super::patches::indices;
use super::window::Window;
use crate::SfpError;
use crate::sums::doubles;

/// Most channels of one group of a layer's inputs for which a Gram matrix is summed (512 MiB). Layers with more are
/// left out.
pub const MOST_CHANNELS: usize = 8192;

/// Values of the rows that are added at once (16 MiB).
const ROW_VALUES: usize = 1 << 22;
/// The same on a device with memory of its own (64 MiB).
const DEVICE_VALUES: usize = 1 << 24;

/// Gram matrices `G = X'X / N` of the inputs of a layer, a matrix for each group of a convolution (N samples).
///
/// The rows of X are what the layer multiplies by its weight: for each sample and each position of the output the
/// values that the kernel reads, zero padding included. Columns that carry the same channel stand together: the
/// elements of its kernel, and its positions where a linear layer reads a flattened map. Where channels times these
/// elements are more than the limit asked for, the matrix is over channels alone, the mean of the matrices of the
/// elements: elements are treated alike, and as unrelated.
///
/// A matrix of n columns takes `8 n^2` bytes.
#[derive(Clone, Debug)]
pub struct InputGram {
    pub(super) groups: Vec<GroupGram>,
    /// Inputs of a group.
    pub(super) inputs: usize,
    /// Elements of a kernel.
    pub(super) kernel: usize,
}

/// The matrix of one group.
#[derive(Clone, Debug)]
pub(super) struct GroupGram {
    /// For each input of the group its channel and which of the channel's inputs it is.
    pub places: Vec<(usize, usize)>,
    pub channels: usize,
    /// Columns of a channel: its inputs times the elements of a kernel.
    pub elements: usize,
    /// Whether the matrix has a column for each element of each channel.
    pub is_exact: bool,
    /// The lower triangle.
    pub matrix: Array2<f64>,
    /// Sums of the columns of an exact matrix; once the pass is over, scaled so that their products are what the means of the columns
    /// contribute to the matrix.
    pub totals: Vec<f64>,
    rows: u64,
}

impl InputGram {
    /// Whether the matrices have a column for each element of each channel, rather than one for each channel.
    pub fn is_exact(&self) -> bool {
        self.groups.iter().all(|group| group.is_exact)
    }

    /// Number of columns of each group's matrix.
    pub fn columns(&self) -> Vec<usize> {
        self.groups.iter().map(|group| group.matrix.nrows()).collect()
    }
}

/// The sums of a layer over a part of the data: for each group the matrix, the sums of its columns, and its rows.
pub(super) struct GramPart(Vec<(Array2<f64>, Vec<f64>, u64)>);

/// The running sums of a layer.
pub(super) struct GramSums {
    pub path: String,
    gram: InputGram,
    window: Window,
    /// On another device than the CPU.
    on_device: Option<OnDevice>,
}

/// Sums by Burn's operations.
struct OnDevice {
    /// Which positions the kernel reads.
    indices: Tensor<1, Int>,
    /// For each group its matrix, and the sums of its columns where it is exact.
    groups: Vec<(Tensor<2>, Option<Tensor<2>>)>,
}

impl GramSums {
    /// Prepares the sums; `None` where no channel that could leave is among the inputs, where they are more than
    /// [`MOST_CHANNELS`], or where the layer does not read values channel by channel.
    pub fn new(network: &Network, layer: &Layer, limit: usize) -> Option<Self> {
        let groups = layer.groups.max(1);
        let (inputs, ids) = (layer.inputs / groups, layer.input_channels());
        let shape = layer.input_shape();
        let is_read = shape.get(layer.kind.channel_axis(shape.len())) == Some(&layer.inputs);
        let is_followed = ids.len() == layer.inputs && ids.iter().any(Option::is_some);
        // A convolution that reads one channel for each of its filters loses the filter with it: there is nothing to
        // solve for.
        if layer.kind.reads_indices() || !is_read || !is_followed || (groups > 1 && inputs == 1) {
            return None;
        }
        let window = Window::of(network, layer)?;
        let kernel = window.elements();
        let group = |group: usize| GroupGram::new(&ids[group * inputs..(group + 1) * inputs], kernel, limit);
        let groups = (0..groups).map(group).collect::<Option<Vec<GroupGram>>>()?;
        Some(Self { path: layer.path.clone(), gram: InputGram { groups, inputs, kernel }, window, on_device: None })
    }

    /// Adds a batch `[N, inputs, positions]`.
    pub fn add(&mut self, acts: &Tensor<3>) -> Result<(), SfpError> {
        on_host(acts, |acts| self.add_view(acts)).unwrap_or_else(|| {
            self.add_on_device(acts);
            Ok(())
        })
    }

    pub(super) fn add_on_device(&mut self, acts: &Tensor<3>) {
        let ([samples, _, inputs], device) = (acts.dims(), acts.device());
        let InputGram { groups, inputs: of_group, kernel } = &mut self.gram;
        let columns: usize = groups.iter().map(|group| group.channels * group.elements).sum();
        let sums = self.on_device.get_or_insert_with(|| OnDevice {
            indices: self.window.indices(inputs, &device),
            groups: groups.iter().map(|group| group.zeros(&device)).collect(),
        });
        let rows = self.window.positions(inputs);
        let step = (DEVICE_VALUES / (rows * columns).max(1)).clamp(1, samples.max(1));
        for from in (0..samples).step_by(step) {
            let count = step.min(samples - from);
            let patches = self.window.gather(acts.clone().narrow(0, from, count), &sums.indices);
            for (index, (group, (matrix, totals))) in groups.iter_mut().zip(&mut sums.groups).enumerate() {
                let own = patches.clone().narrow(1, index * *of_group, *of_group);
                let own = group.columns_of(own, *kernel);
                group.rows += (rows * count) as u64;
                if let Some(totals) = totals {
                    *totals = totals.clone() + own.clone().sum_dim(0);
                }
                // Where elements are alike each of them is a row of its own.
                let own = if group.is_exact { own } else { group.elements_as_rows(own) };
                *matrix = matrix.clone() + own.clone().transpose().matmul(own);
            }
        }
    }

    /// Takes the sums, after which they begin at zero again.
    pub fn take(&mut self) -> Result<GramPart, SfpError> {
        self.read()?;
        let take = |group: &mut GroupGram| {
            let matrix = Array2::zeros(group.matrix.dim());
            let totals = vec![0.0; group.totals.len()];
            let matrix = std::mem::replace(&mut group.matrix, matrix);
            (matrix, std::mem::replace(&mut group.totals, totals), std::mem::take(&mut group.rows))
        };
        Ok(GramPart(self.gram.groups.iter_mut().map(take).collect()))
    }

    /// Adds what was taken of another part of the data.
    pub fn merge(&mut self, part: GramPart) {
        for (group, (matrix, totals, rows)) in self.gram.groups.iter_mut().zip(part.0) {
            group.matrix += &matrix;
            group.totals.iter_mut().zip(totals).for_each(|(all, own)| *all += own);
            group.rows += rows;
        }
    }

    /// Takes the sums from the device.
    fn read(&mut self) -> Result<(), SfpError> {
        let Some(sums) = self.on_device.take() else { return Ok(()) };
        for (group, (matrix, totals)) in self.gram.groups.iter_mut().zip(sums.groups) {
            let (shape, values) = (group.matrix.dim(), doubles(matrix)?);
            // As many values as the matrix has.
            group.matrix = Array2::from_shape_fn(shape, |(a, b)| values[a * shape.1 + b]);
            if let Some(totals) = totals {
                group.totals = doubles(totals)?;
            }
        }
        Ok(())
    }

    fn add_view(&mut self, acts: ArrayView3<'_, f32>) -> Result<(), SfpError> {
        let (samples, _, positions) = acts.dim();
        let rows = samples * self.window.positions(positions);
        let InputGram { groups, inputs, kernel } = &mut self.gram;
        for (index, group) in groups.iter_mut().enumerate() {
            let acts = acts.slice(s![.., index * *inputs..(index + 1) * *inputs, ..]);
            let columns = group.channels * group.elements;
            let step = (ROW_VALUES / columns.max(1)).max(256);
            for from in (0..rows).step_by(step) {
                let count = step.min(rows - from);
                let read = group.rows(&acts, &self.window, *kernel, from, count);
                let read = ArrayView2::from_shape((count, columns), &read);
                let added = read.map(|read| group.add(read)).unwrap_or(Ok(()));
                added.map_err(|source| SfpError::Kernel { path: self.path.clone(), source })?;
            }
        }
        Ok(())
    }

    /// The matrices over so many samples.
    pub fn finish(mut self, samples: u64) -> Result<(String, InputGram), SfpError> {
        self.read()?;
        for (index, group) in self.gram.groups.iter_mut().enumerate() {
            let alike = if group.is_exact { 1 } else { group.elements };
            group.matrix /= samples.max(1) as f64 * alike as f64;
            let scale = 1.0 / ((group.rows.max(1) as f64) * samples.max(1) as f64).sqrt();
            group.totals.iter_mut().for_each(|total| *total *= scale);
            if let Some((column, &value)) = group.matrix.diag().indexed_iter().find(|(_, value)| !value.is_finite()) {
                let channel = if group.is_exact { column / group.elements.max(1) } else { column };
                let input = group.places.iter().position(|&(of, _)| of == channel).unwrap_or_default();
                let input = index * self.gram.inputs + input;
                return Err(SfpError::NonFiniteInput { path: self.path, input, value: value.sqrt() as f32 });
            }
        }
        Ok((self.path, self.gram))
    }
}

impl GroupGram {
    /// A matrix of zeros for inputs that carry these channels.
    fn new<Id: Copy + Eq + std::hash::Hash>(ids: &[Option<Id>], kernel: usize, limit: usize) -> Option<Self> {
        let (places, channels, of_channel) = places(ids);
        let elements = of_channel * kernel;
        let is_exact = channels * elements <= limit;
        let columns = if is_exact { channels * elements } else { channels };
        if !is_exact && channels > MOST_CHANNELS {
            return None;
        }
        let totals = if is_exact { vec![0.0; columns] } else { Vec::new() };
        let matrix = Array2::zeros((columns, columns));
        Some(Self { places, channels, elements, is_exact, matrix, totals, rows: 0 })
    }

    /// Sums of nothing on a device.
    fn zeros(&self, device: &Device) -> (Tensor<2>, Option<Tensor<2>>) {
        let columns = self.matrix.nrows();
        let zeros = |rows: usize| Tensor::zeros([rows, columns], (device, DType::F32));
        (zeros(columns), self.is_exact.then(|| zeros(1)))
    }

    /// Patches `[rows, inputs, kernel]` in the order of the columns, `[rows, channels * elements]`.
    fn columns_of(&self, patches: Tensor<3>, kernel: usize) -> Tensor<2> {
        let ([rows, inputs, _], device) = (patches.dims(), patches.device());
        let (columns, flat) = (self.channels * self.elements, patches.reshape([rows, inputs * kernel]));
        // Each channel has as many inputs, so that every column has its place.
        let mut order = vec![0; columns];
        for input in 0..inputs {
            self.rows_of(input, kernel).enumerate().for_each(|(k, at)| order[at] = (input * kernel + k) as i64);
        }
        if order.iter().enumerate().all(|(at, &from)| from == at as i64) {
            return flat;
        }
        flat.select(1, indices(order, &device))
    }

    /// Columns of channels and elements as `[rows * elements, channels]`.
    fn elements_as_rows(&self, columns: Tensor<2>) -> Tensor<2> {
        let rows = columns.dims()[0];
        let apart: Tensor<3> = columns.reshape([rows, self.channels, self.elements]);
        apart.permute([0, 2, 1]).reshape([rows * self.elements, self.channels])
    }

    /// Rows `from..from + count` of X, each with a column for each element of each channel.
    fn rows(&self, acts: &ArrayView3<'_, f32>, window: &Window, kernel: usize, from: usize, count: usize) -> Vec<f32> {
        let positions = window.positions(acts.dim().2).max(1);
        let columns = (self.channels * self.elements).max(1);
        let mut rows = vec![0.0; count * columns];
        rows.par_chunks_mut(columns).enumerate().for_each(|(row, values)| {
            let (sample, position) = ((from + row) / positions, (from + row) % positions);
            for (input, &(channel, nth)) in self.places.iter().enumerate() {
                let at = channel * self.elements + nth * kernel;
                for (element, value) in values[at..at + kernel].iter_mut().enumerate() {
                    if let Some(source) = window.source(position, element) {
                        *value = acts[[sample, input, source]];
                    }
                }
            }
        });
        rows
    }

    fn add(&mut self, rows: ArrayView2<'_, f32>) -> Result<(), burn_sfp_ndarray::KernelError> {
        self.rows += rows.nrows() as u64;
        if self.is_exact {
            self.totals.par_iter_mut().zip(rows.axis_iter(Axis(1)).into_par_iter()).for_each(|(total, values)| {
                *total += values.iter().map(|&value| f64::from(value)).sum::<f64>();
            });
            return burn_sfp_ndarray::gram_update(rows, self.matrix.view_mut());
        }
        (0..self.elements).try_for_each(|element| {
            let own = rows.slice(s![.., element..;self.elements]);
            burn_sfp_ndarray::gram_update(own, self.matrix.view_mut())
        })
    }
}

/// For each input its channel, by order of appearance, and which of the channel's inputs it is; the number of channels;
/// and the number of inputs of each. Where channels have several inputs each but not equally many, each input counts as
/// a channel of its own.
fn places<Id: Copy + Eq + std::hash::Hash>(ids: &[Option<Id>]) -> (Vec<(usize, usize)>, usize, usize) {
    let mut known: HashMap<Id, usize> = HashMap::new();
    let mut counts: Vec<usize> = Vec::new();
    let places: Vec<(usize, usize)> = (ids.iter())
        .map(|id| {
            let channel = match id {
                Some(id) => *known.entry(*id).or_insert(counts.len()),
                None => counts.len(),
            };
            if channel == counts.len() {
                counts.push(0);
            }
            counts[channel] += 1;
            (channel, counts[channel] - 1)
        })
        .collect();
    let first = counts.first().copied().unwrap_or_default();
    match counts.iter().all(|&count| count == first) {
        true => (places, counts.len(), first),
        false => ((0..ids.len()).map(|input| (input, 0)).collect(), ids.len(), 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_of_one_channel_stand_together() {
        let ids = |ids: &[usize]| ids.iter().map(|&id| (id > 0).then_some(id)).collect::<Vec<_>>();
        assert_eq!(places(&ids(&[7, 7, 9, 9])), (vec![(0, 0), (0, 1), (1, 0), (1, 1)], 2, 2));
        // Channels last.
        assert_eq!(places(&ids(&[7, 9, 7, 9])), (vec![(0, 0), (1, 0), (0, 1), (1, 1)], 2, 2));
        assert_eq!(places(&ids(&[7, 7, 9])), (vec![(0, 0), (1, 0), (2, 0)], 3, 1));
        assert_eq!(places(&ids(&[0, 0, 9])), (vec![(0, 0), (1, 0), (2, 0)], 3, 1));
        assert_eq!(places::<usize>(&[]), (vec![], 0, 0));
    }

    #[test]
    fn too_many_channels_are_left_out() {
        let ids: Vec<Option<usize>> = (0..MOST_CHANNELS + 1).map(Some).collect();
        assert!(GroupGram::new(&ids, 1, 100).is_none());
        assert!(!GroupGram::new(&ids[..200], 1, 100).unwrap().is_exact);
        assert_eq!(GroupGram::new(&ids[..10], 9, 90).unwrap().matrix.nrows(), 90);
        assert_eq!(GroupGram::new(&ids[..10], 9, 89).unwrap().matrix.nrows(), 10);
    }
}
