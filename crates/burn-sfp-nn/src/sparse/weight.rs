//! Conversion of a weight between the dense format and a sparse one, by Burn's own operations (with gradients).

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor, TensorData};

use super::format::WeightFormat;
use crate::walk::ShapeIds;

/// Shape of a dense weight: `[O, I / groups, rest ..]`, or `[I, O]` where outputs are on axis 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DenseShape<const D: usize> {
    /// The shape.
    pub shape: [usize; D],
    /// The axis of the outputs: 0 in convolutions, 1 in linear layers.
    pub output_axis: usize,
}

impl<const D: usize> DenseShape<D> {
    /// The dense shape of a weight in this format; `shape` is the weight's own, of which the kernel's axes count.
    pub(super) fn of(format: &WeightFormat, mut shape: [usize; D], output_axis: usize) -> Self {
        (shape[output_axis], shape[1 - output_axis]) = (format.outputs(), format.inputs());
        Self { shape, output_axis }
    }

    pub(super) fn outputs(&self) -> usize {
        self.shape[self.output_axis]
    }

    pub(super) fn inputs(&self) -> usize {
        self.shape[1 - self.output_axis]
    }

    /// Elements of one kernel.
    fn kernel(&self) -> usize {
        self.shape[2..].iter().product()
    }

    /// Shape of a sparse weight with so many rows, `[rows, 1, rest ..]`.
    fn of_rows(&self, rows: usize) -> [usize; D] {
        let mut shape = self.shape;
        shape[0] = rows;
        shape[1] = 1;
        shape
    }
}

/// Gathers the kernels of a format from a dense weight: `[rows, 1, rest ..]`.
pub(super) fn gather<const D: usize>(dense: Tensor<D>, format: &WeightFormat, of: &DenseShape<D>) -> Tensor<D> {
    let none = of.outputs() * of.inputs();
    let mut source: Vec<i64> = (format.pairs().into_iter())
        .map(|pair| pair.map_or(none, |(output, input)| output * of.inputs() + input) as i64)
        .collect();
    source.resize(format.rows(), none as i64);
    let dense = if of.output_axis == 1 { dense.swap_dims(0, 1) } else { dense };
    take(dense.reshape([none, of.kernel()]), source).reshape(of.of_rows(format.rows()))
}

/// Scatters the kernels of a sparse weight into a dense one, zeros where nothing is connected: the inverse of [`gather`].
pub(super) fn scatter<const D: usize>(weight: Tensor<D>, format: &WeightFormat, of: &DenseShape<D>) -> Tensor<D> {
    let rows = format.rows();
    let (outputs, inputs) = (of.outputs(), of.inputs());
    let mut source = vec![rows as i64; outputs * inputs];
    for (row, pair) in format.pairs().into_iter().enumerate() {
        if let Some((output, input)) = pair {
            source[output * inputs + input] = row as i64;
        }
    }
    let mut shape = of.shape;
    (shape[0], shape[1]) = (outputs, inputs);
    let dense = take(weight.reshape([rows, of.kernel()]), source).reshape(shape);
    if of.output_axis == 1 { dense.swap_dims(0, 1) } else { dense }
}

/// Converts a weight from a format to another one, `None` for dense; outputs are on axis `output_axis` of a dense weight.
pub(super) fn convert<const D: usize>(
    weight: Tensor<D>,
    from: Option<&WeightFormat>,
    to: Option<&WeightFormat>,
    output_axis: usize,
) -> Tensor<D> {
    let dense = match from {
        Some(format) => {
            let of = DenseShape::of(format, weight.dims(), output_axis);
            scatter(weight, format, &of)
        }
        None => weight,
    };
    match to {
        Some(format) => {
            let of = DenseShape { shape: dense.dims(), output_axis };
            gather(dense, format, &of)
        }
        None => dense,
    }
}

/// Replaces a parameter's value by one of another shape, under a new id. Whether it is trained stays; a reparameterisation is folded
/// in, and records store the value as it is.
pub(super) fn replace<const D: usize>(
    param: Param<Tensor<D>>,
    ids: &mut ShapeIds,
    change: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Param<Tensor<D>> {
    let param = param.materialize();
    let trained = param.val().is_require_grad();
    let changed = ids.map(param, |value| {
        let value = change(value).detach();
        if trained { value.require_grad() } else { value }
    });
    changed.load_mapper(|value| value).save_mapper(|value| value)
}

/// Rows by index; the index after the last row gives zeros.
fn take(rows: Tensor<2>, source: Vec<i64>) -> Tensor<2> {
    let device = rows.device().without_autodiff();
    let zeros = Tensor::zeros([1, rows.dims()[1]], (&device, rows.dtype()));
    let count = source.len();
    let source = Tensor::<1, Int>::from_data(TensorData::new(source, [count]), &device);
    Tensor::cat(vec![rows, zeros], 0).select(0, source)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sparse::format::{Block, Blocks};
    use burn::tensor::{Device, Distribution};
    use burn_sfp_ndarray::KernelPattern;

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().iter::<f32>().collect()
    }

    #[test]
    fn there_and_back_is_the_mask() {
        let device = Device::flex();
        let keep = |o: usize, i: usize| !(o + 2 * i).is_multiple_of(3);
        let format = WeightFormat::Kernels(Arc::new(KernelPattern::from_fn(4, 3, keep)));
        let conv = Tensor::<4>::random([4, 3, 2, 1], Distribution::Default, &device);
        let of = DenseShape { shape: [4, 3, 2, 1], output_axis: 0 };
        let mask = |o, i| f32::from(u8::from(keep(o, i)));
        let masks: Vec<f32> = (0..12).map(|k| mask(k / 3, k % 3)).collect();
        let mask = Tensor::<4>::from_data(TensorData::new(masks, [4, 3, 1, 1]), &device);
        let back = scatter(gather(conv.clone(), &format, &of), &format, &of);
        assert_eq!(values(back), values(conv * mask));
    }

    #[test]
    fn blocks_of_a_linear_weight() {
        let device = Device::flex();
        let block = |outputs: &[u32], inputs: &[u32], keep: &[u8]| Block {
            outputs: outputs.to_vec(),
            inputs: inputs.to_vec(),
            keep: keep.iter().map(|&keep| keep == 1).collect(),
        };
        let blocks = vec![block(&[0, 2], &[0, 1], &[1, 1, 0, 1]), block(&[1], &[1], &[0])];
        let format = WeightFormat::Blocks(Arc::new(Blocks { outputs: 3, inputs: 2, blocks }));
        let weight = Tensor::<2>::from_floats([[1., 2., 3.], [4., 5., 6.]], &device);
        let of = DenseShape { shape: [2, 3], output_axis: 1 };
        let rows = gather(weight, &format, &of);
        assert_eq!(values(rows.clone()), [1., 4., 0., 6., 0.]);
        assert_eq!(values(scatter(rows, &format, &of)), [1., 0., 0., 4., 0., 6.]);
    }

    #[test]
    fn an_empty_pattern_keeps_a_row_of_zeros() {
        let format = WeightFormat::Kernels(Arc::new(KernelPattern::from_fn(2, 2, |_, _| false)));
        let of = DenseShape { shape: [2, 2], output_axis: 1 };
        let rows = gather(Tensor::ones([2, 2], &Device::flex()), &format, &of);
        assert_eq!((rows.dims(), values(rows.clone())), ([1, 1], vec![0.0]));
        assert_eq!(values(scatter(rows, &format, &of)), [0.0; 4]);
    }
}
