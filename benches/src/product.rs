//! A matrix product with the gemm crate, to measure by.

use gemm::Parallelism;
use ndarray::{Array3, ArrayView2, ArrayViewMut2};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// `dst = lhs * rhs`, shapes `[M, N] = [M, K] * [K, N]`, whatever the strides.
pub fn product(mut dst: ArrayViewMut2<f32>, lhs: ArrayView2<f32>, rhs: ArrayView2<f32>, parallelism: Parallelism) {
    let ((m, n), k) = (dst.dim(), lhs.ncols());
    assert_eq!((lhs.nrows(), rhs.nrows(), rhs.ncols()), (m, k, n), "shapes of a product");
    let [to, left, right] = [dst.strides(), lhs.strides(), rhs.strides()].map(|strides| [strides[0], strides[1]]);
    // SAFETY: by the assertion gemm touches exactly the elements of the three views, at pointer plus index times stride; `dst` is
    // mutable, so it overlaps neither of the others.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst.as_mut_ptr(),
            to[1],
            to[0],
            false,
            lhs.as_ptr(),
            left[1],
            left[0],
            rhs.as_ptr(),
            right[1],
            right[0],
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Random numbers from `low` to 1.
pub fn random(shape: (usize, usize, usize), low: f32, seed: u64) -> Array3<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Array3::from_shape_simple_fn(shape, || rng.random_range(low..1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Axis;

    #[test]
    fn it_is_the_product() {
        let (left, right) = (random((1, 5, 7), -1.0, 1), random((1, 3, 7), -1.0, 2));
        let (left, right) = (left.index_axis(Axis(0), 0), right.index_axis(Axis(0), 0));
        let mut found = ndarray::Array2::zeros((5, 3));
        product(found.view_mut(), left, right.t(), Parallelism::None);
        assert!((found - left.dot(&right.t())).iter().all(|off| off.abs() < 1e-5));
    }
}
