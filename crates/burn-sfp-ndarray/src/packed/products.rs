//! Products of matrices whose rows lie a distance apart, several side by side.

use ndarray::{ArrayView2, ArrayViewMut2, ShapeBuilder};
use rayon::prelude::*;

use crate::gemm::add_product;

/// Rows of the sums that are one task.
const ROWS: usize = 64;

/// Adds `left * right^T` to each of the sums, `[plane][row][column]`, over `inner` elements of rows that are `distance` apart.
///
/// `left` returns the values from a row of a plane on, `right` those of a plane. Each element is summed up by one thread.
pub(super) fn add_products<'a>(
    sums: &mut [f32],
    [rows, columns, inner]: [usize; 3],
    distance: usize,
    left: impl Fn(usize, usize) -> &'a [f32] + Send + Sync,
    right: impl Fn(usize) -> &'a [f32] + Send + Sync,
) {
    let matrix = |values, rows: usize| ArrayView2::from_shape((rows, inner).strides((distance, 1)), values);
    let tasks = sums.par_chunks_mut(rows * columns).enumerate().flat_map(|(plane, sums)| {
        sums.par_chunks_mut(ROWS * columns).enumerate().map(move |(chunk, part)| (plane, chunk * ROWS, part))
    });
    tasks.for_each(|(plane, row, part)| {
        let rows = part.len() / columns;
        let (lhs, rhs) = (matrix(left(plane, row), rows), matrix(right(plane), columns));
        if let (Ok(sums), Ok(lhs), Ok(rhs)) = (ArrayViewMut2::from_shape((rows, columns), part), lhs, rhs) {
            add_product(sums, 1.0, lhs, rhs.reversed_axes());
        }
    });
}
