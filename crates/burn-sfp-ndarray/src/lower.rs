//! The lower triangle of `A A^T`, computed in tiles; the Gram matrix and the Cholesky factor use it.

use ndarray::{ArrayView2, ArrayViewMut2, Axis, s};
use rayon::prelude::*;

use crate::gemm::{add_product, assign_product};

/// Side of the tiles that are distributed over the threads; fixed, so that results do not depend on their number.
pub(crate) const TILE: usize = 256;
/// Side up to which a diagonal tile is computed as a full square.
const LEAF: usize = 32;

/// Computes `dst += scale * a * a^T` on and below the diagonal; above it `dst` is neither read nor written.
///
/// `dst` `[K, K]`, `a` `[K, N]`, any strides. Each tile is computed by one thread.
pub(crate) fn add_product_lower(mut dst: ArrayViewMut2<f64>, scale: f64, a: ArrayView2<f64>) {
    let mut tiles = Vec::new();
    for (i, band) in dst.axis_chunks_iter_mut(Axis(0), TILE).enumerate() {
        let mut rest = band;
        for j in 0..=i {
            let width = TILE.min(rest.ncols());
            let (tile, right) = rest.split_at(Axis(1), width);
            tiles.push((i, j, tile));
            rest = right;
        }
    }
    let band = |tile: usize| {
        let start = tile * TILE;
        a.slice(s![start..a.nrows().min(start + TILE), ..])
    };
    tiles.into_par_iter().for_each(|(i, j, tile)| {
        if i == j {
            add_diagonal(tile, scale, band(i));
        } else {
            add_product(tile, scale, band(i), band(j).reversed_axes());
        }
    });
}

/// Computes the same as [`add_product_lower`] on the calling thread, recursively by halves.
fn add_diagonal(mut dst: ArrayViewMut2<f64>, scale: f64, a: ArrayView2<f64>) {
    let n = a.nrows();
    if n <= LEAF {
        let mut square = [0.0; LEAF * LEAF];
        let Ok(mut square) = ArrayViewMut2::from_shape((n, n), &mut square[..n * n]) else {
            return; // unreachable: n * n elements form an n x n view
        };
        assign_product(square.view_mut(), a, a.reversed_axes());
        for i in 0..n {
            dst.slice_mut(s![i, ..=i]).scaled_add(scale, &square.slice(s![i, ..=i]));
        }
        return;
    }
    let half = (n / 2).next_multiple_of(LEAF);
    let (top, bottom) = a.split_at(Axis(0), half);
    let (upper, lower) = dst.split_at(Axis(0), half);
    let (left, right) = lower.split_at(Axis(1), half);
    add_diagonal(upper.split_at(Axis(1), half).0, scale, top);
    add_product(left, scale, bottom, top.reversed_axes());
    add_diagonal(right, scale, bottom);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{bits, in_pool, random_f64};
    use ndarray::Array2;

    #[test]
    fn only_elements_on_and_below_the_diagonal_change() {
        for (k, n) in [(1, 1), (31, 3), (33, 2), (100, 7), (256, 5), (257, 5), (600, 40)] {
            let a = random_f64((k, n), k as u64);
            let start = random_f64((k, k), n as u64);
            let mut dst = start.clone();
            add_product_lower(dst.view_mut(), -0.5, a.view());
            for ((i, j), &before) in start.indexed_iter() {
                let dot: f64 = a.row(i).iter().zip(a.row(j)).map(|(x, y)| x * y).sum();
                let expected = if j <= i { before - 0.5 * dot } else { before };
                let tolerance = if j <= i { 1e-13 * n as f64 } else { 0.0 };
                assert!((dst[[i, j]] - expected).abs() <= tolerance, "{k} {n} {i} {j}");
            }
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let a = random_f64((600, 33), 1);
        let run = |threads| {
            let mut dst = Array2::zeros((600, 600));
            in_pool(threads, || add_product_lower(dst.view_mut(), 1.0, a.view()));
            bits(&dst)
        };
        let one = run(1);
        assert!(run(2) == one && run(5) == one);
    }
}
