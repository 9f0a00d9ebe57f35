//! The register tile: the sums of the filters of a panel at some vectors of positions.

use pulp::Simd;

use crate::vector::mul_add;

use super::taps::Taps;

/// A product of a panel of weights with vectors of the source.
pub(super) struct Product<'a> {
    /// `[input][tap][row]`.
    pub(super) weights: &'a [f32],
    /// Where the vectors of each input and tap begin in the source.
    pub(super) taps: &'a Taps,
    pub(super) source: &'a [f32],
    /// `[row][position]`, the sums.
    pub(super) sums: &'a mut [f32],
    /// Whether the product is added to the sums; else they are replaced.
    pub(super) add: bool,
}

/// Returns the most vectors of a tile of `rows` rows for which the inner loop is compiled.
#[inline(always)]
pub(super) fn most_vectors<S: Simd>(rows: usize) -> usize {
    match rows {
        8 => 3,
        4 if S::REGISTER_COUNT >= 32 => 6,
        4 => 3,
        2 if S::REGISTER_COUNT < 32 => 5,
        _ => 6,
    }
}

/// Computes the product for a tile of `rows` rows (1, 2, 4 or 8) and `width` vectors, at most [`most_vectors`].
#[inline(always)]
pub(super) fn multiply<S: Simd>(simd: S, rows: usize, width: usize, product: Product) {
    if S::REGISTER_COUNT >= 32 {
        match (rows, width) {
            (8, 3) => tile::<S, 8, 3>(simd, product),
            (8, 2) => tile::<S, 8, 2>(simd, product),
            (8, _) => tile::<S, 8, 1>(simd, product),
            (4, 6) => tile::<S, 4, 6>(simd, product),
            (4, 5) => tile::<S, 4, 5>(simd, product),
            (4, 4) => tile::<S, 4, 4>(simd, product),
            _ => narrow(simd, rows, width, product),
        }
    } else {
        match (rows, width) {
            (8, 3) => halves::<S, 3>(simd, product),
            (8, 2) => halves::<S, 2>(simd, product),
            (8, _) => halves::<S, 1>(simd, product),
            _ => narrow(simd, rows, width, product),
        }
    }
}

#[inline(always)]
fn narrow<S: Simd>(simd: S, rows: usize, width: usize, product: Product) {
    match (rows, width) {
        (4, 3) => tile::<S, 4, 3>(simd, product),
        (4, 2) => tile::<S, 4, 2>(simd, product),
        (4, _) => tile::<S, 4, 1>(simd, product),
        (2, 6) => tile::<S, 2, 6>(simd, product),
        (2, 5) => tile::<S, 2, 5>(simd, product),
        (2, 4) => tile::<S, 2, 4>(simd, product),
        (2, 3) => tile::<S, 2, 3>(simd, product),
        (2, 2) => tile::<S, 2, 2>(simd, product),
        (2, _) => tile::<S, 2, 1>(simd, product),
        (_, 6) => tile::<S, 1, 6>(simd, product),
        (_, 5) => tile::<S, 1, 5>(simd, product),
        (_, 4) => tile::<S, 1, 4>(simd, product),
        (_, 3) => tile::<S, 1, 3>(simd, product),
        (_, 2) => tile::<S, 1, 2>(simd, product),
        _ => tile::<S, 1, 1>(simd, product),
    }
}

#[inline(always)]
fn tile<S: Simd, const R: usize, const V: usize>(simd: S, product: Product) {
    let Product { weights, taps, source, sums, add } = product;
    part::<S, R, 0, R, V>(simd, weights, taps, source, sums, add);
}

/// Computes a tile of eight rows in two passes, for instruction sets with 16 registers.
#[inline(always)]
fn halves<S: Simd, const V: usize>(simd: S, product: Product) {
    let Product { weights, taps, source, sums, add } = product;
    let (low, high) = sums.split_at_mut(4 * V * S::F32_LANES);
    part::<S, 8, 0, 4, V>(simd, weights, taps, source, low, add);
    part::<S, 8, 4, 4, V>(simd, weights, taps, source, high, add);
}

/// Computes `R` rows from row `F` of a panel of `P` rows on. The sums stay in registers, and each of them runs over
/// inputs and taps in order.
#[inline(always)]
fn part<S: Simd, const P: usize, const F: usize, const R: usize, const V: usize>(
    simd: S,
    weights: &[f32],
    taps: &Taps,
    source: &[f32],
    sums: &mut [f32],
    add: bool,
) {
    let rows = S::as_mut_simd_f32s(sums).0.as_chunks_mut::<V>().0;
    let Some(rows) = rows.first_chunk_mut::<R>() else { return };
    let mut totals = [[simd.splat_f32s(0.0); V]; R];
    if add {
        totals = *rows;
    }
    for (weights, factors) in weights.as_chunks::<P>().0.iter().zip(taps.vectors::<S, V>(source)) {
        for row in 0..R {
            let weight = simd.splat_f32s(weights[F + row]);
            for vector in 0..V {
                totals[row][vector] = mul_add(simd, weight, factors[vector], totals[row][vector]);
            }
        }
    }
    *rows = totals;
}
