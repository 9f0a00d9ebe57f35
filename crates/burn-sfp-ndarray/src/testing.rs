//! Random arrays and thread pools for the tests.

use ndarray::{Array, Array2, Array3, Array4, ArrayView3, ArrayView4, Dimension, ShapeBuilder, s};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Returns an array of values uniform in [-1, 1).
pub(crate) fn random_f32<D: Dimension>(shape: impl ShapeBuilder<Dim = D>, seed: u64) -> Array<f32, D> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Array::from_shape_simple_fn(shape, || rng.random_range(-1.0_f32..1.0))
}

/// Returns an array of values uniform in [-1, 1).
pub(crate) fn random_f64<D: Dimension>(shape: impl ShapeBuilder<Dim = D>, seed: u64) -> Array<f64, D> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Array::from_shape_simple_fn(shape, || rng.random_range(-1.0_f64..1.0))
}

/// Returns random labels below `classes`.
pub(crate) fn random_labels(samples: usize, classes: usize, seed: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..samples).map(|_| rng.random_range(0..classes)).collect()
}

/// Calls `check` with the elements of `array` in another memory layout: 0 standard, 1 column-major,
/// 2 every second element of a larger array, 3 last axis reversed.
pub(crate) fn with_layout<R>(array: &Array3<f32>, layout: u8, check: impl FnOnce(ArrayView3<f32>) -> R) -> R {
    let (a, b, c) = array.dim();
    match layout {
        0 => check(array.view()),
        1 => {
            let mut other = Array3::zeros((a, b, c).f());
            other.assign(array);
            check(other.view())
        }
        2 => {
            let mut other = Array3::from_elem((2 * a, 2 * b, 2 * c), f32::NAN);
            other.slice_mut(s![..;2, ..;2, ..;2]).assign(array);
            check(other.slice(s![..;2, ..;2, ..;2]))
        }
        _ => {
            let mut other = Array3::zeros((a, b, c));
            other.assign(&array.slice(s![.., .., ..;-1]));
            check(other.slice(s![.., .., ..;-1]))
        }
    }
}

/// Does the same as [`with_layout`] for four axes.
pub(crate) fn with_layout4<R>(array: &Array4<f32>, layout: u8, check: impl FnOnce(ArrayView4<f32>) -> R) -> R {
    let (a, b, c, d) = array.dim();
    match layout {
        0 => check(array.view()),
        1 => {
            let mut other = Array4::zeros((a, b, c, d).f());
            other.assign(array);
            check(other.view())
        }
        2 => {
            let mut other = Array4::from_elem((2 * a, 2 * b, 2 * c, 2 * d), f32::NAN);
            other.slice_mut(s![..;2, ..;2, ..;2, ..;2]).assign(array);
            check(other.slice(s![..;2, ..;2, ..;2, ..;2]))
        }
        _ => {
            let mut other = Array4::zeros((a, b, c, d));
            other.assign(&array.slice(s![.., .., .., ..;-1]));
            check(other.slice(s![.., .., .., ..;-1]))
        }
    }
}

/// Runs `job` inside a pool of `threads` threads.
pub(crate) fn in_pool<R: Send>(threads: usize, job: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a small thread pool").install(job)
}

/// Returns the bits of every element; comparing them distinguishes all values, also 0 from -0.
pub(crate) fn bits(array: &Array2<f64>) -> Vec<u64> {
    array.iter().map(|value| value.to_bits()).collect()
}
