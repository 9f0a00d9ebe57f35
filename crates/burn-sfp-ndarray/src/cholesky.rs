//! Cholesky solution of the normal equations of the ridge readout.
//!
//! `(G + shift I) W = Y` with G `[K, K]` symmetric positive semi-definite (`docs/method.md`, section 1). The matrix is
//! factorized as `L L^T` in place, right-looking, in blocks of 128: each step factorizes the diagonal block, solves for
//! the blocks below it and subtracts their product from the trailing matrix; the tiles of the last two run in parallel.
//! Then `L V = Y` and `L^T W = V` are solved block by block in the same manner. The cut into blocks and tiles is fixed
//! and each is computed by one thread, so the number of threads does not change any bit. The cost is
//! `K^3 / 3 + 2 K^2 C` multiply-adds.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, s};
use rayon::prelude::*;

use crate::gemm::add_product;
use crate::lower::add_product_lower;
use crate::{KernelError, expect_len};

/// Side of the diagonal blocks.
const BLOCK: usize = 128;
/// Rows of a task.
const ROWS: usize = 128;
/// Columns of the right-hand side of a task.
const RHS_COLUMNS: usize = 32;
/// Side up to which a triangle is processed element by element.
const LEAF: usize = 16;

/// Solves `(gram + shift I) W = rhs` for W `[K, C]`.
///
/// * `gram`: `[K, K]`, symmetric, given by its lower triangle (elements above the diagonal are ignored); its memory
///   is reused for the factor;
/// * `shift`: the strength of the ridge, added to the diagonal;
/// * `rhs`: `[K, C]`; its memory is reused for the result.
///
/// Source: `docs/method.md`, section 1, least-squares readout; blocked Cholesky factorization as in LAPACK's `dpotrf`.
///
/// # Errors
/// [`KernelError::Shape`] when the lengths disagree, [`KernelError::NotPositiveDefinite`] when a pivot is not
/// positive and finite.
///
/// # Example
/// ```
/// use burn_sfp_ndarray::cholesky_solve;
/// use ndarray::array;
///
/// let gram = array![[3.0, f64::NAN], [2.0, 4.0]]; // stands for [[3, 2], [2, 4]]
/// let solution = cholesky_solve(gram, 1.0, array![[8.0], [9.0]])?; // [[4, 2], [2, 5]] w = [8, 9]
/// assert!((solution[[0, 0]] - 1.375).abs() < 1e-12);
/// assert!((solution[[1, 0]] - 1.25).abs() < 1e-12);
/// # Ok::<(), burn_sfp_ndarray::KernelError>(())
/// ```
pub fn cholesky_solve(gram: Array2<f64>, shift: f64, rhs: Array2<f64>) -> Result<Array2<f64>, KernelError> {
    let k = gram.nrows();
    expect_len("columns of the matrix to be factorized", k, gram.ncols())?;
    expect_len("rows of the right-hand side", k, rhs.nrows())?;
    let mut gram = row_major(gram);
    let mut rhs = row_major(rhs);
    gram.diag_mut().mapv_inplace(|value| value + shift);
    factor(gram.view_mut())?;
    forward(gram.view(), rhs.view_mut());
    backward(gram.view(), rhs.view_mut());
    Ok(rhs)
}

/// Returns the array itself if it is row-major, else a row-major copy.
fn row_major(array: Array2<f64>) -> Array2<f64> {
    if array.is_standard_layout() { array } else { array.as_standard_layout().into_owned() }
}

/// Replaces the lower triangle of `matrix` by its Cholesky factor; elements above the diagonal become arbitrary.
fn factor(matrix: ArrayViewMut2<f64>) -> Result<(), KernelError> {
    let mut rest = matrix;
    let mut start = 0;
    // The block is factorized in a small copy, which is contiguous and can be read while the rows below are written.
    let mut scratch = Array2::zeros((BLOCK, BLOCK));
    while !rest.is_empty() {
        let size = BLOCK.min(rest.nrows());
        let (mut top, below) = rest.split_at(Axis(0), size);
        let mut diagonal = top.slice_mut(s![.., ..size]);
        let mut block = scratch.slice_mut(s![..size, ..size]);
        block.assign(&diagonal);
        factor_block(block.view_mut()).map_err(|pivot| KernelError::NotPositiveDefinite { pivot: start + pivot })?;
        diagonal.assign(&block);

        let (mut panel, mut trailing) = below.split_at(Axis(1), size);
        panel.axis_chunks_iter_mut(Axis(0), ROWS).into_par_iter().for_each(|rows| solve_rows(block.view(), rows));
        add_product_lower(trailing.view_mut(), -1.0, panel.view());
        rest = trailing;
        start += size;
    }
    Ok(())
}

/// Returns a triangle of at most [`LEAF`] rows by columns: `columns[j][i] = l[i, j]`, zero above the diagonal.
fn leaf_columns(l: ArrayView2<f64>) -> [[f64; LEAF]; LEAF] {
    let mut columns = [[0.0; LEAF]; LEAF];
    for (i, row) in l.rows().into_iter().enumerate() {
        for (j, &value) in row.iter().enumerate().take(i + 1) {
            columns[j][i] = value;
        }
    }
    columns
}

/// Replaces a block by its Cholesky factor, recursively by halves, on the calling thread.
///
/// The error is the row of the first pivot that is not positive and finite.
fn factor_block(mut a: ArrayViewMut2<f64>) -> Result<(), usize> {
    let n = a.nrows();
    if n > LEAF {
        let half = split(n);
        let (top, below) = a.split_at(Axis(0), half);
        let (mut corner, _) = top.split_at(Axis(1), half);
        let (mut panel, mut trailing) = below.split_at(Axis(1), half);
        factor_block(corner.view_mut())?;
        solve_rows(corner.view(), panel.view_mut());
        add_product(trailing.view_mut(), -1.0, panel.view(), panel.t());
        return factor_block(trailing).map_err(|pivot| half + pivot);
    }
    let mut columns = leaf_columns(a.view());
    for j in 0..n {
        let pivot = columns[j][j];
        if !(pivot > 0.0 && pivot.is_finite()) {
            return Err(j);
        }
        let root = pivot.sqrt();
        let (done, later) = columns.split_at_mut(j + 1);
        let column = &mut done[j];
        for value in &mut column[j..] {
            *value /= root;
        }
        column[j] = root;
        for (next, target) in later.iter_mut().enumerate() {
            let factor = column[j + 1 + next];
            for i in j + 1 + next..LEAF {
                target[i] -= factor * column[i];
            }
        }
    }
    for (i, mut row) in a.rows_mut().into_iter().enumerate() {
        for (j, value) in row.iter_mut().enumerate().take(i + 1) {
            *value = columns[j][i];
        }
    }
    Ok(())
}

/// Returns the size of the first half of `n > LEAF` rows, a multiple of [`LEAF`] below `n`.
fn split(n: usize) -> usize {
    (n / 2).next_multiple_of(LEAF)
}

/// Computes `X := X L^-T` for a lower triangle L `[n, n]` and X `[m, n]`, on the calling thread.
fn solve_rows(l: ArrayView2<f64>, mut x: ArrayViewMut2<f64>) {
    let n = l.nrows();
    if n > LEAF {
        let half = split(n);
        let (top, below) = l.split_at(Axis(0), half);
        let (panel, trailing) = below.split_at(Axis(1), half);
        let (mut left, mut right) = x.split_at(Axis(1), half);
        solve_rows(top.slice(s![.., ..half]), left.view_mut());
        add_product(right.view_mut(), -1.0, left.view(), panel.t());
        return solve_rows(trailing, right);
    }
    let columns = leaf_columns(l);
    for mut row in x.rows_mut() {
        let mut values = [0.0; LEAF];
        for (value, &given) in values.iter_mut().zip(&row) {
            *value = given;
        }
        for (j, column) in columns.iter().enumerate().take(n) {
            let solved = values[j] / column[j];
            for (value, &factor) in values.iter_mut().zip(column) {
                *value -= solved * factor;
            }
            // The column is zero above the diagonal, so earlier values are unchanged; this value became zero.
            values[j] = solved;
        }
        for (given, &value) in row.iter_mut().zip(&values) {
            *given = value;
        }
    }
}

/// Solves `L V = Y` in place, where L is the lower triangle of `factor`.
fn forward(factor: ArrayView2<f64>, mut rhs: ArrayViewMut2<f64>) {
    let k = factor.nrows();
    for start in (0..k).step_by(BLOCK) {
        let end = k.min(start + BLOCK);
        let (upper, mut below) = rhs.view_mut().split_at(Axis(0), end);
        let (_, mut block) = upper.split_at(Axis(0), start);
        let diagonal = factor.slice(s![start..end, start..end]);
        block
            .axis_chunks_iter_mut(Axis(1), RHS_COLUMNS)
            .into_par_iter()
            .for_each(|columns| solve_down(diagonal, columns));
        let solved = block.view();
        below
            .axis_chunks_iter_mut(Axis(0), ROWS)
            .into_par_iter()
            .zip(factor.slice(s![end.., start..end]).axis_chunks_iter(Axis(0), ROWS))
            .for_each(|(rows, panel)| add_product(rows, -1.0, panel, solved));
    }
}

/// Solves `L^T W = V` in place, where L is the lower triangle of `factor`.
fn backward(factor: ArrayView2<f64>, mut rhs: ArrayViewMut2<f64>) {
    let k = factor.nrows();
    for start in (0..k).step_by(BLOCK).rev() {
        let end = k.min(start + BLOCK);
        let (upper, _) = rhs.view_mut().split_at(Axis(0), end);
        let (mut above, mut block) = upper.split_at(Axis(0), start);
        let diagonal = factor.slice(s![start..end, start..end]);
        block
            .axis_chunks_iter_mut(Axis(1), RHS_COLUMNS)
            .into_par_iter()
            .for_each(|columns| solve_up(diagonal, columns));
        let solved = block.view();
        above
            .axis_chunks_iter_mut(Axis(0), ROWS)
            .into_par_iter()
            .zip(factor.slice(s![start..end, ..start]).axis_chunks_iter(Axis(1), ROWS))
            .for_each(|(rows, panel)| add_product(rows, -1.0, panel.t(), solved));
    }
}

/// Computes `Y := L^-1 Y` for a lower triangle L `[n, n]` and Y `[n, c]`, on the calling thread.
fn solve_down(l: ArrayView2<f64>, mut y: ArrayViewMut2<f64>) {
    let n = l.nrows();
    if n > LEAF {
        let half = split(n);
        let (top, below) = l.split_at(Axis(0), half);
        let (panel, trailing) = below.split_at(Axis(1), half);
        let (mut first, mut second) = y.split_at(Axis(0), half);
        solve_down(top.slice(s![.., ..half]), first.view_mut());
        add_product(second.view_mut(), -1.0, panel, first.view());
        return solve_down(trailing, second);
    }
    for i in 0..n {
        let (solved, mut rest) = y.view_mut().split_at(Axis(0), i);
        let mut row = rest.row_mut(0);
        for (j, solved) in solved.rows().into_iter().enumerate() {
            row.scaled_add(-l[[i, j]], &solved);
        }
        row /= l[[i, i]];
    }
}

/// Computes `V := L^-T V` for a lower triangle L `[n, n]` and V `[n, c]`, on the calling thread.
fn solve_up(l: ArrayView2<f64>, mut v: ArrayViewMut2<f64>) {
    let n = l.nrows();
    if n > LEAF {
        let half = split(n);
        let (top, below) = l.split_at(Axis(0), half);
        let (panel, trailing) = below.split_at(Axis(1), half);
        let (mut first, mut second) = v.split_at(Axis(0), half);
        solve_up(trailing, second.view_mut());
        add_product(first.view_mut(), -1.0, panel.t(), second.view());
        return solve_up(top.slice(s![.., ..half]), first);
    }
    for i in (0..n).rev() {
        let (mut rest, solved) = v.view_mut().split_at(Axis(0), i + 1);
        let mut row = rest.row_mut(i);
        for (j, solved) in solved.rows().into_iter().enumerate() {
            row.scaled_add(-l[[i + 1 + j, i]], &solved);
        }
        row /= l[[i, i]];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{bits, in_pool, random_f64};
    use ndarray::array;
    use proptest::prelude::*;

    /// Returns a symmetric positive definite matrix with NaN above the diagonal, and the full matrix.
    fn positive_definite(k: usize, seed: u64) -> (Array2<f64>, Array2<f64>) {
        let a = random_f64((k, k + 3), seed);
        let full = a.dot(&a.t());
        let lower = Array2::from_shape_fn((k, k), |(i, j)| if j <= i { full[[i, j]] } else { f64::NAN });
        (lower, full)
    }

    /// Solves by textbook Cholesky, element by element.
    fn reference(full: &Array2<f64>, shift: f64, rhs: &Array2<f64>) -> Array2<f64> {
        let k = full.nrows();
        let mut l = Array2::<f64>::zeros((k, k));
        for i in 0..k {
            for j in 0..=i {
                let dot: f64 = (0..j).map(|m| l[[i, m]] * l[[j, m]]).sum();
                let value = full[[i, j]] + if i == j { shift } else { 0.0 } - dot;
                l[[i, j]] = if i == j { value.sqrt() } else { value / l[[j, j]] };
            }
        }
        let mut w = rhs.clone();
        for c in 0..rhs.ncols() {
            for i in 0..k {
                let dot: f64 = (0..i).map(|m| l[[i, m]] * w[[m, c]]).sum();
                w[[i, c]] = (w[[i, c]] - dot) / l[[i, i]];
            }
            for i in (0..k).rev() {
                let dot: f64 = (i + 1..k).map(|m| l[[m, i]] * w[[m, c]]).sum();
                w[[i, c]] = (w[[i, c]] - dot) / l[[i, i]];
            }
        }
        w
    }

    fn check(k: usize, c: usize, shift: f64, column_major: bool, seed: u64) {
        let (lower, full) = positive_definite(k, seed);
        let rhs = random_f64((k, c), !seed);
        let expected = reference(&full, shift, &rhs);
        let stored = |array: Array2<f64>| {
            if column_major { array.t().as_standard_layout().into_owned().reversed_axes() } else { array }
        };
        let found = cholesky_solve(stored(lower), shift, stored(rhs)).unwrap();
        assert_eq!(found.dim(), (k, c));
        for (index, &value) in expected.indexed_iter() {
            assert!((found[index] - value).abs() < 1e-8 * (1.0 + value.abs()), "{k} {c} {index:?}");
        }
    }

    proptest! {
        #[test]
        fn matches_the_textbook(k in 0_usize..80, c in 0_usize..8, shift in 0.1_f64..2.0, column_major: bool, seed: u64) {
            check(k, c, shift, column_major, seed);
        }
    }

    #[test]
    fn blocks_and_their_edges() {
        for k in [15, 16, 17, 127, 128, 129, 256, 300, 401] {
            check(k, 37, 0.5, k % 2 == 0, k as u64);
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let (lower, _) = positive_definite(420, 1);
        let rhs = random_f64((420, 70), 2);
        let run = |threads| bits(&in_pool(threads, || cholesky_solve(lower.clone(), 0.1, rhs.clone())).unwrap());
        let one = run(1);
        assert!(run(2) == one && run(5) == one);
    }

    #[test]
    fn errors_name_the_pivot() {
        for (k, bad) in [(1, 0), (5, 3), (40, 17), (300, 0), (300, 129), (300, 299)] {
            for value in [-1.0, 0.0, f64::NAN, f64::INFINITY] {
                let mut gram = Array2::eye(k);
                gram[[bad, bad]] = value;
                assert_eq!(
                    cholesky_solve(gram, 0.0, Array2::zeros((k, 2))),
                    Err(KernelError::NotPositiveDefinite { pivot: bad })
                );
            }
        }
        let mut gram = Array2::eye(200);
        gram[[150, 20]] = f64::NAN;
        assert_eq!(
            cholesky_solve(gram, 0.0, Array2::zeros((200, 1))),
            Err(KernelError::NotPositiveDefinite { pivot: 150 })
        );
        let singular = array![[1.0, 1.0], [1.0, 1.0]];
        let rhs = array![[1.0], [1.0]];
        assert_eq!(
            cholesky_solve(singular.clone(), 0.0, rhs.clone()),
            Err(KernelError::NotPositiveDefinite { pivot: 1 })
        );
        assert!(cholesky_solve(singular, 1e-6, rhs).is_ok());
        for (gram, rhs) in [((3, 4), 3), ((4, 3), 4), ((3, 3), 2)] {
            let result = cholesky_solve(Array2::zeros(gram), 1.0, Array2::zeros((rhs, 1)));
            assert!(matches!(result, Err(KernelError::Shape { .. })));
        }
    }
}
