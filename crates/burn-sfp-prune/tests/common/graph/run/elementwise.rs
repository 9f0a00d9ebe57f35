//! Element by element.

use burn::tensor::activation as act;
use burn::tensor::{Tensor, TensorData};

use super::super::call::{Activation, Binary};
use super::super::value::{Layout, Value, both, each};

pub fn activate(kind: Activation, x: Value) -> Value {
    use Activation::*;
    match kind {
        Relu => each!(x, x => act::relu(x)),
        Gelu => each!(x, x => act::gelu(x)),
        Sigmoid => each!(x, x => act::sigmoid(x)),
        Tanh => each!(x, x => x.tanh()),
        Silu => each!(x, x => act::silu(x)),
        LeakyRelu => each!(x, x => act::leaky_relu(x, 0.1)),
        HardSigmoid => each!(x, x => act::hard_sigmoid(x, 0.2, 0.5)),
        LogSigmoid => each!(x, x => act::log_sigmoid(x)),
        Softplus => each!(x, x => act::softplus(x, 1.0)),
        Abs => each!(x, x => x.abs()),
        Square => each!(x, x => x.square()),
        Clamp => each!(x, x => x.clamp(-0.8, 1.2)),
        Sine => each!(x, x => x.sin()),
        Root => each!(x, x => (x.powi_scalar(2) + 1.0).sqrt()),
        Affine => each!(x, x => x * 0.8 + 0.3),
        Minus => each!(x, x => -x),
        MaskFill => each!(x, x => x.clone().mask_fill(x.lower_elem(-0.2), -0.2)),
        Compare => each!(x, x => x.clone().greater_elem(0.0).int().float() * x),
        Elu => each!(x, x => act::elu(x, 1.0)),
        Cast => each!(x, x => x.clone().cast(x.dtype())),
    }
}

pub fn combine(kind: Binary, x: Value, y: Value) -> Value {
    match kind {
        Binary::Add => both!(x, y, x, y => x + y),
        Binary::Sub => both!(x, y, x, y => x - y),
        Binary::Mul => both!(x, y, x, y => x * y),
        Binary::Max => both!(x, y, x, y => x.max_pair(y)),
        Binary::MaskWhere => both!(x, y, x, y => x.clone().mask_where(x.greater(y.clone()), y)),
    }
}

pub fn scale(x: Value, own: Tensor<1>, layout: Layout) -> Value {
    each!(x, x => x * along(own, layout.channels()))
}

pub fn shift(x: Value, own: Tensor<1>, layout: Layout) -> Value {
    each!(x, x => x + along(own, layout.channels()))
}

pub fn wide(x: Value, own: Tensor<4>, times: bool) -> Value {
    let x = x.four();
    Value::Four(if times { x * own } else { own - x })
}

/// A vector along one axis, all others of length 1.
fn along<const D: usize>(own: Tensor<1>, axis: usize) -> Tensor<D> {
    let mut shape = [1; D];
    shape[axis] = own.dims()[0];
    own.reshape(shape)
}

/// Values that are no parameter, over some axes.
pub fn constant<const D: usize>(like: &Tensor<D>, axes: &[usize]) -> Tensor<D> {
    let mut shape = [1; D];
    axes.iter().for_each(|&axis| shape[axis] = like.dims()[axis]);
    let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(|k| (k as f32 * 1.7 + 0.3).sin()).collect();
    Tensor::from_data(TensorData::new(values, shape), &like.device())
}
