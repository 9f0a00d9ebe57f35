//! Matrix product over `ndarray` views, by the crate `gemm`.

use ndarray::{ArrayView2, ArrayViewMut2, CowArray, Ix2};

/// The element types of the product.
pub(crate) trait Element: Copy + 'static {
    /// Zero of the type.
    const ZERO: Self;
    /// One of the type.
    const ONE: Self;
}

impl Element for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
}

impl Element for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
}

/// Computes `dst = lhs * rhs`, shapes `[M, N] = [M, K] * [K, N]`, any strides, on the calling thread.
///
/// The previous contents of `dst` are not read.
pub(crate) fn assign_product<T: Element>(dst: ArrayViewMut2<T>, lhs: ArrayView2<T>, rhs: ArrayView2<T>) {
    product(dst, false, T::ONE, lhs, rhs);
}

/// Computes `dst += scale * lhs * rhs`, shapes `[M, N] += [M, K] * [K, N]`, any strides, on the calling thread.
pub(crate) fn add_product<T: Element>(dst: ArrayViewMut2<T>, scale: T, lhs: ArrayView2<T>, rhs: ArrayView2<T>) {
    product(dst, true, scale, lhs, rhs);
}

/// Returns the view itself, or a row-major copy if a stride is negative.
///
/// gemm 0.19 negates the wrong stride of `rhs` when the inner stride of `lhs` is negative.
fn forward_strides<T: Element>(view: ArrayView2<T>) -> CowArray<T, Ix2> {
    if view.strides().iter().all(|&stride| stride >= 0) {
        view.into()
    } else {
        CowArray::from(view.as_standard_layout().into_owned())
    }
}

/// Computes `dst = lhs * rhs`, or with `accumulate` `dst += scale * lhs * rhs`.
fn product<T: Element>(mut dst: ArrayViewMut2<T>, accumulate: bool, scale: T, lhs: ArrayView2<T>, rhs: ArrayView2<T>) {
    let (m, n) = dst.dim();
    let k = lhs.ncols();
    assert_eq!(lhs.nrows(), m, "rows of the product");
    assert_eq!(rhs.ncols(), n, "columns of the product");
    assert_eq!(rhs.nrows(), k, "inner length of the product");
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if !accumulate {
            dst.fill(T::ZERO);
        }
        return;
    }
    let (lhs, rhs) = (forward_strides(lhs), forward_strides(rhs));
    let (dst_strides, lhs_strides, rhs_strides) = (
        [dst.strides()[0], dst.strides()[1]],
        [lhs.strides()[0], lhs.strides()[1]],
        [rhs.strides()[0], rhs.strides()[1]],
    );
    // SAFETY: gemm accesses `dst[i, j]`, `lhs[i, l]` and `rhs[l, j]` for i < m, j < n, l < k, at the pointer plus
    // index times stride in elements. By the three assertions above these are exactly the elements of the three views,
    // and `ndarray` guarantees that all elements of a view are inside one live allocation. `dst` is a mutable view, so
    // its elements have distinct addresses and neither `lhs` nor `rhs` overlaps it; `lhs` and `rhs` are only read.
    // gemm selects its code by the type id of T, which is f32 or f64, and it supports both.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst.as_mut_ptr(),
            dst_strides[1],
            dst_strides[0],
            accumulate,
            lhs.as_ptr(),
            lhs_strides[1],
            lhs_strides[0],
            rhs.as_ptr(),
            rhs_strides[1],
            rhs_strides[0],
            T::ONE,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random_f32, random_f64};
    use ndarray::{Array2, Axis, ShapeBuilder, s};
    use proptest::prelude::*;

    /// Calls `check` with `matrix` in another memory layout: 0 row-major, 1 column-major, 2 every second element of a
    /// larger array, 3 both axes reversed.
    fn with_layout(matrix: &Array2<f64>, layout: u8, check: impl FnOnce(ArrayView2<f64>)) {
        let (rows, columns) = matrix.dim();
        match layout {
            0 => check(matrix.view()),
            1 => {
                let mut other = Array2::zeros((rows, columns).f());
                other.assign(matrix);
                check(other.view());
            }
            2 => {
                let mut other = Array2::from_elem((2 * rows, 2 * columns), f64::NAN);
                other.slice_mut(s![..;2, ..;2]).assign(matrix);
                check(other.slice(s![..;2, ..;2]));
            }
            _ => {
                let mut other = matrix.clone();
                other.invert_axis(Axis(0));
                other.invert_axis(Axis(1));
                let mut copy = other.as_standard_layout().into_owned();
                copy.invert_axis(Axis(0));
                copy.invert_axis(Axis(1));
                check(copy.view());
            }
        }
    }

    proptest! {
        #[test]
        fn matches_the_triple_loop(
            m in 1_usize..40, n in 1_usize..40, k in 0_usize..40,
            left in 0_u8..4, right in 0_u8..4, target in 0_u8..2, seed: u64,
        ) {
            let lhs = random_f64((m, k), seed);
            let rhs = random_f64((k, n), seed ^ 1);
            let start = random_f64((m, n), seed ^ 2);
            let expected = Array2::from_shape_fn((m, n), |(i, j)| {
                (0..k).map(|l| lhs[[i, l]] * rhs[[l, j]]).sum::<f64>()
            });
            with_layout(&lhs, left, |lhs| with_layout(&rhs, right, |rhs| {
                let shape = (m, n).set_f(target == 1);
                let mut assigned = Array2::from_elem(shape, f64::NAN);
                assign_product(assigned.view_mut(), lhs, rhs);
                let mut added = Array2::zeros(shape);
                added.assign(&start);
                add_product(added.view_mut(), -2.0, lhs, rhs);
                for (index, &value) in expected.indexed_iter() {
                    assert!((assigned[index] - value).abs() < 1e-12);
                    assert!((added[index] - (start[index] - 2.0 * value)).abs() < 1e-12);
                }
            }));
        }

        #[test]
        fn assignment_ignores_the_previous_contents(m in 1_usize..30, n in 1_usize..30, k in 0_usize..8, seed: u64) {
            let lhs = random_f32((m, k), seed);
            let rhs = random_f32((k, n), seed ^ 1);
            let mut dst = Array2::from_elem((m, n), f32::NAN);
            assign_product(dst.view_mut(), lhs.view(), rhs.view());
            prop_assert!(dst.iter().all(|value| value.is_finite()));
        }
    }
}
