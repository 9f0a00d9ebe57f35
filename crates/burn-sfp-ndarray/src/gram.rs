//! Gram matrix of the samples, the left side of the normal equations of the ridge readout.
//!
//! The least-squares readout (`docs/method.md`, section 1) minimizes `|X W - Y|^2 + shift |W|^2` for the layer's outputs
//! X `[N, K]`, K = F * S, and the class indicators Y `[N, C]`. W solves `(X^T X + shift I) W = X^T Y`; this kernel adds a
//! batch to `X^T X`, and [`cholesky_solve`](crate::cholesky_solve) solves the equations.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, Zip};
use rayon::prelude::*;

use crate::lower::add_product_lower;
use crate::{KernelError, expect_len};

/// Samples that are added together; bounds the double precision copy to 256 * K elements.
const PANEL: usize = 256;
/// Columns that a task of the copy converts.
const COLUMNS: usize = 512;

/// Adds a batch to the lower triangle of the Gram matrix: `gram += X^T X`, in double precision.
///
/// * `x`: `[N, K]`, N samples of K features; any strides;
/// * `gram`: `[K, K]`; the running sum on and below the diagonal; elements above it are neither read nor written.
///
/// The samples are added in order, in panels of 256, and each tile of 256 x 256 is computed by one thread: the number
/// of threads does not change any bit, but the cut into batches changes the rounding. Source: `docs/method.md`,
/// section 1.
///
/// # Errors
/// [`KernelError::Shape`] when the lengths disagree; `gram` is unchanged in that case.
///
/// # Example
/// ```
/// use burn_sfp_ndarray::gram_update;
/// use ndarray::{Array2, array};
///
/// let x = array![[1.0_f32, 2.0], [3.0, 4.0]];
/// let mut gram = Array2::<f64>::zeros((2, 2));
/// gram_update(x.view(), gram.view_mut())?;
/// assert_eq!(gram, array![[10.0, 0.0], [14.0, 20.0]]); // the upper triangle is left alone
/// # Ok::<(), burn_sfp_ndarray::KernelError>(())
/// ```
pub fn gram_update(x: ArrayView2<f32>, mut gram: ArrayViewMut2<f64>) -> Result<(), KernelError> {
    let (samples, columns) = x.dim();
    expect_len("rows of the Gram matrix", columns, gram.nrows())?;
    expect_len("columns of the Gram matrix", columns, gram.ncols())?;
    let mut copy = Array2::zeros((samples.min(PANEL), columns));
    for panel in x.axis_chunks_iter(Axis(0), PANEL) {
        let mut copy = copy.slice_mut(ndarray::s![..panel.nrows(), ..]);
        copy.axis_chunks_iter_mut(Axis(1), COLUMNS)
            .into_par_iter()
            .zip(panel.axis_chunks_iter(Axis(1), COLUMNS))
            .for_each(|(to, from)| {
                Zip::from(to).and(from).for_each(|to, &from| *to = f64::from(from));
            });
        add_product_lower(gram.view_mut(), 1.0, copy.view().reversed_axes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{bits, in_pool, random_f32, random_f64};
    use ndarray::s;
    use proptest::prelude::*;

    fn check(x: ArrayView2<f32>, start: &Array2<f64>, column_major: bool) {
        let mut gram = start.clone();
        if column_major {
            gram = gram.reversed_axes().as_standard_layout().into_owned().reversed_axes();
        }
        gram_update(x, gram.view_mut()).unwrap();
        for ((i, j), &before) in start.indexed_iter() {
            let dot: f64 = (x.column(i).iter().zip(x.column(j))).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            let (expected, tolerance) = if j <= i { (before + dot, 1e-11) } else { (before, 0.0) };
            assert!((gram[[i, j]] - expected).abs() <= tolerance, "{i} {j}");
        }
    }

    proptest! {
        #[test]
        fn matches_the_triple_loop(n in 0_usize..20, k in 0_usize..50, column_major: bool, seed: u64) {
            let start = random_f64((k, k), seed);
            check(random_f32((n, k), seed).view(), &start, column_major);
            check(random_f32((k, n), seed).t(), &start, column_major);
            check(random_f32((2 * n, 2 * k), seed).slice(s![..;-2, ..;2]), &start, column_major);
        }
    }

    #[test]
    fn more_than_one_panel_and_tile() {
        check(random_f32((600, 300), 2).view(), &random_f64((300, 300), 3), false);
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let x = random_f32((300, 700), 4);
        let run = |threads| {
            let mut gram = Array2::zeros((700, 700));
            in_pool(threads, || gram_update(x.view(), gram.view_mut())).unwrap();
            bits(&gram)
        };
        let one = run(1);
        assert!(run(2) == one && run(5) == one);
    }

    #[test]
    fn errors_leave_the_matrix_alone() {
        let x = random_f32((3, 4), 1);
        for wrong in [(3, 4), (4, 5)] {
            let mut gram = Array2::zeros(wrong);
            assert!(matches!(gram_update(x.view(), gram.view_mut()), Err(KernelError::Shape { expected: 4, .. })));
            assert_eq!(gram, Array2::<f64>::zeros(wrong));
        }
    }
}
