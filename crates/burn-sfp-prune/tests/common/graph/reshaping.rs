//! Changes of layout, and what moves between channels and positions.

use burn::tensor::Tensor;

use super::value::{Layout, Value};

/// Another layout of the same numbers, or fewer of them; `how` picks among several ways. Odd ways keep position axes apart, for
/// values whose positions may shrink.
pub fn convert(x: Value, from: Layout, to: Layout, how: usize) -> Value {
    use Layout::*;
    match (x, from, to) {
        (x, from, to) if from == to => x,
        (Value::Four(x), Map, Tokens) if how.is_multiple_of(4) => Value::Three(x.flatten::<3>(2, 3).swap_dims(1, 2)),
        (Value::Four(x), Map, Tokens) => {
            let [b, c, h, w] = x.dims();
            Value::Three(x.permute([0, 2, 3, 1]).reshape([b, h * w, c]))
        }
        (Value::Four(x), Map, Signal) => Value::Three(x.flatten::<3>(2, 3)),
        (Value::Four(x), Map, Vector) => {
            let [b, c, _, _] = x.dims();
            match how % 3 {
                0 => Value::Two(x.mean_dim(2).mean_dim(3).reshape([b, c])),
                1 => Value::Two(x.flatten(1, 3)),
                _ => Value::Two(x.flatten::<3>(2, 3).max_dim(2).squeeze_dim(2)),
            }
        }
        (Value::Four(x), Map, Volume) => {
            let [b, c, h, w] = x.dims();
            if how.is_multiple_of(2) && h % 2 == 0 {
                Value::Five(x.reshape([b, c, 2, h / 2, w]))
            } else {
                Value::Five(x.unsqueeze_dim(3))
            }
        }
        (Value::Three(x), Tokens, Signal) => Value::Three(x.swap_dims(1, 2)),
        (Value::Three(x), Signal, Tokens) => Value::Three(x.permute([0, 2, 1])),
        (Value::Three(x), Signal, Map) => {
            let [b, c, l] = x.dims();
            if how.is_multiple_of(2) && l % 2 == 0 {
                Value::Four(x.reshape([b, c, 2, l / 2]))
            } else {
                Value::Four(x.unsqueeze_dim(3))
            }
        }
        (Value::Three(x), Tokens, Vector) => match how % 3 {
            0 => Value::Two(x.mean_dim(1).squeeze_dim(1)),
            1 => Value::Two(x.flatten(1, 2)),
            _ => Value::Two(x.slice_dim(1, 0..1).squeeze_dim(1)),
        },
        (Value::Three(x), Signal, Vector) => match how % 2 {
            0 => Value::Two(x.sum_dim(2).squeeze_dim(2)),
            _ => Value::Two(x.flatten(1, 2)),
        },
        (Value::Two(x), Vector, Tokens) => Value::Three(x.unsqueeze_dim(1)),
        (Value::Two(x), Vector, Signal) => Value::Three(x.unsqueeze_dim(2)),
        (Value::Two(x), Vector, Map) => {
            let [b, c] = x.dims();
            Value::Four(x.reshape([b, c, 1, 1]))
        }
        (Value::Five(x), Volume, Map) => {
            let [b, c, d, h, w] = x.dims();
            match how % 3 {
                0 => Value::Four(x.mean_dim(2).squeeze_dim(2)),
                1 => Value::Four(x.reshape([b, c, d * h, w])),
                _ => Value::Four(x.reshape([b, c * d, h, w])),
            }
        }
        // By way of a map, or of a signal.
        (x, Tokens, to) => convert(convert(x, Tokens, Signal, how), Signal, to, how),
        (x, from, to) => convert(convert(x, from, Map, how), Map, to, how),
    }
}

/// Two values side by side along a new axis, which is summed over or joined with the one after it.
pub fn stack(x: Value, y: Value, after: usize, sum: bool) -> Value {
    fn joined<const D: usize, const E: usize>(x: Tensor<D>, y: Tensor<D>, after: usize, sum: bool) -> Tensor<D> {
        let mut dims = x.dims();
        let both: Tensor<E> = Tensor::stack(vec![x, y], after);
        if sum {
            both.sum_dim(after).squeeze_dim(after)
        } else {
            dims[after.min(D - 1)] *= 2;
            if after == D {
                // The new axis is the last: it joins the one before.
                return both.reshape(dims);
            }
            both.reshape(dims)
        }
    }
    match (x, y) {
        (Value::Two(x), Value::Two(y)) => Value::Two(joined::<2, 3>(x, y, after, sum)),
        (Value::Three(x), Value::Three(y)) => Value::Three(joined::<3, 4>(x, y, after, sum)),
        (Value::Four(x), Value::Four(y)) => Value::Four(joined::<4, 5>(x, y, after, sum)),
        (Value::Five(x), Value::Five(y)) => Value::Five(joined::<5, 6>(x, y, after, sum)),
        (x, y) => panic!("{:?} is stacked on {:?}", x.dims(), y.dims()),
    }
}

/// `[b, c * by * by, h, w]` to `[b, c, h * by, w * by]`.
pub fn pixel_shuffle(x: Tensor<4>, by: usize) -> Value {
    let [b, c, h, w] = x.dims();
    let c = c / (by * by);
    let x = x.reshape([b, c, by, by, h, w]).permute([0, 1, 4, 2, 5, 3]);
    Value::Four(x.reshape([b, c, h * by, w * by]))
}

/// The way back.
pub fn pixel_unshuffle(x: Tensor<4>, by: usize) -> Value {
    let [b, c, h, w] = x.dims();
    let x = x.reshape([b, c, h / by, by, w / by, by]).permute([0, 1, 3, 5, 2, 4]);
    Value::Four(x.reshape([b, c * by * by, h / by, w / by]))
}

/// The largest of each run of channels.
pub fn maxout(x: Value, layout: Layout, of: usize) -> Value {
    let axis = layout.channels();
    fn largest<const D: usize, const E: usize>(x: Tensor<D>, axis: usize, of: usize) -> Tensor<D> {
        let dims = x.dims();
        let shape: [usize; E] = std::array::from_fn(|k| match k {
            k if k < axis => dims[k],
            k if k == axis => dims[axis] / of,
            k if k == axis + 1 => of,
            k => dims[k - 1],
        });
        x.reshape(shape).max_dim(axis + 1).squeeze_dim(axis + 1)
    }
    match x {
        Value::Two(x) => Value::Two(largest::<2, 3>(x, axis, of)),
        Value::Three(x) => Value::Three(largest::<3, 4>(x, axis, of)),
        Value::Four(x) => Value::Four(largest::<4, 5>(x, axis, of)),
        Value::Five(x) => Value::Five(largest::<5, 6>(x, axis, of)),
    }
}

/// Features become maps of this size.
pub fn unflatten(x: Tensor<2>, height: usize, width: usize) -> Value {
    let [b, features] = x.dims();
    Value::Four(x.reshape([b, features / (height * width), height, width]))
}
