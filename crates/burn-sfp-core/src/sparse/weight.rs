//! From a dense weight to the rows of a form and back, by Burn's own operations (with gradients).

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor, TensorData};

use super::Form;

/// A dense weight `[O, I / groups, rest ..]`, or `[I, O]` where outputs are on axis 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DenseShape<const D: usize> {
    /// The shape.
    pub shape: [usize; D],
    /// The axis that counts outputs: 0 of convolutions, 1 of linear layers.
    pub output_axis: usize,
}

impl<const D: usize> DenseShape<D> {
    fn inputs(&self) -> usize {
        self.shape[1 - self.output_axis]
    }

    /// Numbers of one kernel.
    fn kernel(&self) -> usize {
        self.shape[2..].iter().product()
    }

    /// Shape of the weight in a form: `[rows, 1, rest ..]`.
    pub fn of_rows(&self, rows: usize) -> [usize; D] {
        let mut shape = self.shape;
        shape[0] = rows;
        shape[1] = 1;
        shape
    }
}

/// The rows of a form, out of a dense weight.
pub fn gather<const D: usize>(dense: Tensor<D>, form: &Form, of: &DenseShape<D>) -> Tensor<D> {
    let none = of.shape[of.output_axis] * of.inputs();
    let mut source: Vec<i64> = (form.pairs().into_iter())
        .map(|pair| pair.map_or(none, |(output, input)| output * of.inputs() + input) as i64)
        .collect();
    source.resize(form.rows(), none as i64);
    let dense = if of.output_axis == 1 { dense.swap_dims(0, 1) } else { dense };
    take(dense.reshape([none, of.kernel()]), source).reshape(of.of_rows(form.rows()))
}

/// The dense weight of a form's rows, zeros where nothing is connected.
pub fn scatter<const D: usize>(weight: Tensor<D>, form: &Form, of: &DenseShape<D>) -> Tensor<D> {
    let rows = form.rows();
    let (outputs, inputs) = (of.shape[of.output_axis], of.inputs());
    let mut source = vec![rows as i64; outputs * inputs];
    for (row, pair) in form.pairs().into_iter().enumerate() {
        if let Some((output, input)) = pair {
            source[output * inputs + input] = row as i64;
        }
    }
    let mut shape = of.shape;
    (shape[0], shape[1]) = (outputs, inputs);
    let dense = take(weight.reshape([rows, of.kernel()]), source).reshape(shape);
    if of.output_axis == 1 { dense.swap_dims(0, 1) } else { dense }
}

/// A parameter with another value and shape: of the same id, as trainable as before, a reparameterisation folded in, stored as
/// it is.
pub fn replace<const D: usize>(
    param: Param<Tensor<D>>,
    change: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Param<Tensor<D>> {
    let param = param.materialize();
    let trained = param.val().is_require_grad();
    let changed = param.map(|value| {
        let value = change(value).detach();
        if trained { value.require_grad() } else { value }
    });
    changed.load_mapper(|value| value).save_mapper(|value| value)
}

/// Rows by index; the index behind the last row gives zeros.
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
    use crate::sparse::{Block, Blocks, KernelPattern};
    use burn::tensor::{Device, Distribution};

    fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().iter::<f32>().collect()
    }

    #[test]
    fn there_and_back_is_the_mask() {
        let device = Device::flex();
        let keep = |o: usize, i: usize| !(o + 2 * i).is_multiple_of(3);
        let form = Form::Kernels(Arc::new(KernelPattern::from_fn(4, 3, keep)));
        let conv = Tensor::<4>::random([4, 3, 2, 1], Distribution::Default, &device);
        let of = DenseShape { shape: [4, 3, 2, 1], output_axis: 0 };
        let mask = |o, i| f32::from(u8::from(keep(o, i)));
        let masks: Vec<f32> = (0..12).map(|k| mask(k / 3, k % 3)).collect();
        let mask = Tensor::<4>::from_data(TensorData::new(masks, [4, 3, 1, 1]), &device);
        let back = scatter(gather(conv.clone(), &form, &of), &form, &of);
        assert_eq!(numbers(back), numbers(conv * mask));
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
        let form = Form::Blocks(Arc::new(Blocks { outputs: 3, inputs: 2, blocks }));
        let weight = Tensor::<2>::from_floats([[1., 2., 3.], [4., 5., 6.]], &device);
        let of = DenseShape { shape: [2, 3], output_axis: 1 };
        let rows = gather(weight, &form, &of);
        assert_eq!(numbers(rows.clone()), [1., 4., 0., 6., 0.]);
        assert_eq!(numbers(scatter(rows, &form, &of)), [1., 0., 0., 4., 0., 6.]);
    }

    #[test]
    fn an_empty_pattern_keeps_a_row_of_zeros() {
        let form = Form::Kernels(Arc::new(KernelPattern::from_fn(2, 2, |_, _| false)));
        let of = DenseShape { shape: [2, 2], output_axis: 1 };
        let rows = gather(Tensor::ones([2, 2], &Device::flex()), &form, &of);
        assert_eq!((rows.dims(), numbers(rows.clone())), ([1, 1], vec![0.0]));
        assert_eq!(numbers(scatter(rows, &form, &of)), [0.0; 4]);
    }
}
