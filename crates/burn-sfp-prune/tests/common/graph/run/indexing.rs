//! Parts of a value, and what is put in their place.

use burn::tensor::ops::PadMode;
use burn::tensor::{Int, Tensor, TensorData};

use super::super::value::{Value, both, each};

pub fn chunk(x: Value, axis: usize, parts: usize, which: usize) -> Value {
    each!(x, x => x.chunk(parts, axis).into_iter().nth(which).expect("the chunk is there"))
}

/// From and to, in parts of the whole.
pub fn slice(x: Value, axis: usize, [from, to]: [usize; 2], of: usize) -> Value {
    each!(x, x => {
        let length = x.dims()[axis];
        x.slice_dim(axis, from * length / of..to * length / of)
    })
}

/// As long as `like`, from the start or the end.
pub fn like_of(x: Value, like: Value, axis: usize, end: bool) -> Value {
    let length = like.dims()[axis];
    each!(x, x => {
        let start = if end { x.dims()[axis] - length } else { 0 };
        x.narrow(axis, start, length)
    })
}

pub fn select(x: Value, axis: usize, indices: &[i64]) -> Value {
    each!(x, x => {
        let data = TensorData::new(indices.to_vec(), [indices.len()]);
        let indices = Tensor::<1, Int>::from_data(data, &x.device());
        x.select(axis, indices)
    })
}

pub fn gather(x: Value, axis: usize) -> Value {
    each!(x, x => {
        let order = x.clone().argsort(axis);
        x.gather(axis, order)
    })
}

pub fn pad(x: Value, axis: usize, before: usize, after: usize) -> Value {
    fn padded<const D: usize>(x: Tensor<D>, axis: usize, by: (usize, usize)) -> Tensor<D> {
        let mut padding = [(0, 0); D];
        padding[axis] = by;
        x.pad(padding, PadMode::Constant(0.4))
    }
    each!(x, x => padded(x, axis, (before, after)))
}

/// The second half of the first operand becomes the second operand's first half.
pub fn assign(x: Value, y: Value, axis: usize) -> Value {
    fn assigned<const D: usize>(x: Tensor<D>, y: Tensor<D>, axis: usize) -> Tensor<D> {
        let dims = x.dims();
        let half = dims[axis] / 2;
        let ranges: [_; D] = std::array::from_fn(|k| if k == axis { dims[k] - half..dims[k] } else { 0..dims[k] });
        x.slice_assign(ranges, y.slice_dim(axis, 0..half))
    }
    both!(x, y, x, y => assigned(x, y, axis))
}
