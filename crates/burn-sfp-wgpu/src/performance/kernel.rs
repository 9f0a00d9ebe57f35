//! The device code: products of means and readout in tiles, and the reduction over tiles.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

/// Bits of a word.
pub(super) const BITS: usize = u32::BITS as usize;
/// Positions that are staged in shared memory together.
const DEPTH: usize = 16;
/// The key of NaN, above the keys of all other values.
const NAN_KEY: u32 = u32::MAX;

/// The result that a pass computes of every performance matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Pass {
    /// The key of the largest element.
    Largest,
    /// The packed comparisons, and the number of elements near the threshold.
    Compare,
}

/// Rows and words per row of the tile of a cube; both are powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct TileShape {
    pub(super) rows: usize,
    pub(super) words: usize,
}

impl TileShape {
    /// Returns the number of threads, one per word.
    fn threads(&self) -> usize {
        self.rows * self.words
    }

    /// Returns the number of columns.
    fn columns(&self) -> usize {
        self.words * BITS
    }
}

/// The sizes of a layer and of the tiles of its matrices.
#[derive(CubeLaunch, CubeType)]
pub(super) struct Sizes {
    /// First filter of the launch.
    first: usize,
    classes: usize,
    filters: usize,
    positions: usize,
    /// Tiles along the words of a row.
    tiles_of_a_row: usize,
    /// Tiles of a filter.
    tiles: usize,
}

/// The tile of a cube.
#[derive(CubeType)]
struct Tile {
    filter: usize,
    first_row: usize,
    first_word: usize,
}

/// Returns the value of an order-preserving key.
pub(super) fn value_of(key: u32) -> f32 {
    match key {
        NAN_KEY => f32::NAN,
        key if key >> 31 == 1 => f32::from_bits(key & !(1 << 31)),
        key => f32::from_bits(!key),
    }
}

/// Returns a key in the order of the values, with NaN above all. Keys are integers, since shader compilers may assume
/// that floats are never NaN.
#[cube]
fn key(value: f32) -> u32 {
    let bits = u32::reinterpret(value);
    let nan = (bits & 0x7fff_ffff) > 0x7f80_0000;
    let ordered = select((bits >> 31) == 1, !bits, bits | 0x8000_0000);
    select(nan, 0xffff_ffff_u32, ordered)
}

/// Computes one tile of one filter's matrix per cube; a thread computes the 32 elements of a word.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn product_kernel(
    means: &[f32],
    readout: &[f32],
    bounds: &[f32],
    words: &mut [u32],
    partial: &mut [u32],
    sizes: &Sizes,
    #[comptime] pass: Pass,
    #[comptime] shape: TileShape,
) {
    // One element more than the depth per row, so that neighbouring rows are in different memory banks.
    let mut some_means = Shared::<[f32]>::new_slice(comptime!(shape.rows * (DEPTH + 1)));
    let mut some_readout = Shared::<[f32]>::new_slice(comptime!(DEPTH * shape.columns()));
    let mut found = Shared::<[u32]>::new_slice(comptime!(shape.threads()));

    let tile = (CUBE_POS_Z * CUBE_COUNT_X + CUBE_POS_X) as usize;
    if tile >= sizes.tiles {
        terminate!();
    }
    let chosen = CUBE_POS_Y as usize;
    let at = Tile {
        filter: sizes.first + chosen,
        first_row: tile / sizes.tiles_of_a_row * shape.rows,
        first_word: tile % sizes.tiles_of_a_row * shape.words,
    };

    let mut sums = Array::<f32>::new(BITS);
    #[unroll]
    for bit in 0..BITS {
        sums[bit] = 0.0f32;
    }
    let mut start = 0usize.runtime();
    while start < sizes.positions {
        stage_means(means, &mut some_means, start, &at, sizes, shape);
        stage_readout(readout, &mut some_readout, start, &at, sizes, shape);
        sync_cube();
        add_products(&some_means, &some_readout, &mut sums, shape);
        sync_cube();
        start += DEPTH;
    }

    let row = at.first_row + UNIT_POS_X as usize;
    let word = at.first_word + UNIT_POS_Y as usize;
    if comptime!(pass == Pass::Largest) {
        found[UNIT_POS as usize] = largest(&sums, row, word, sizes);
    } else {
        found[UNIT_POS as usize] = compare(&sums, bounds, words, chosen, row, word, sizes);
    }
    reduce_cube(&mut found, pass, shape);
    if UNIT_POS == 0 {
        partial[chosen * sizes.tiles + tile] = found[0];
    }
}

/// Copies the means of the tile's rows and of `DEPTH` positions to shared memory; zero outside.
#[cube]
fn stage_means(
    means: &[f32],
    staged: &mut Shared<[f32]>,
    start: usize,
    tile: &Tile,
    sizes: &Sizes,
    #[comptime] shape: TileShape,
) {
    let pitch = comptime!(DEPTH + 1);
    let mut at = UNIT_POS as usize;
    while at < comptime!(shape.rows * DEPTH) {
        let row = tile.first_row + at / DEPTH;
        let position = start + at % DEPTH;
        let inside = row < sizes.classes && position < sizes.positions;
        let place = select(inside, (row * sizes.filters + tile.filter) * sizes.positions + position, 0);
        staged[at / DEPTH * pitch + at % DEPTH] = select(inside, means[place], 0.0f32);
        at += comptime!(shape.threads());
    }
}

/// Copies the readout of the tile's columns and of `DEPTH` positions to shared memory; zero outside.
#[cube]
fn stage_readout(
    readout: &[f32],
    staged: &mut Shared<[f32]>,
    start: usize,
    tile: &Tile,
    sizes: &Sizes,
    #[comptime] shape: TileShape,
) {
    let columns = comptime!(shape.columns());
    let mut at = UNIT_POS as usize;
    while at < comptime!(DEPTH * shape.columns()) {
        let position = start + at / columns;
        let column = tile.first_word * BITS + at % columns;
        let inside = column < sizes.classes && position < sizes.positions;
        let place = select(inside, (tile.filter * sizes.positions + position) * sizes.classes + column, 0);
        staged[at] = select(inside, readout[place], 0.0f32);
        at += comptime!(shape.threads());
    }
}

/// Adds the products of the staged positions to the thread's 32 elements.
#[cube]
fn add_products(
    some_means: &Shared<[f32]>,
    some_readout: &Shared<[f32]>,
    sums: &mut Array<f32>,
    #[comptime] shape: TileShape,
) {
    let pitch = comptime!(DEPTH + 1);
    for depth in 0..DEPTH {
        let mean = some_means[UNIT_POS_X as usize * pitch + depth];
        let base = depth * comptime!(shape.columns()) + UNIT_POS_Y as usize * BITS;
        #[unroll]
        for bit in 0..BITS {
            sums[bit] = fma(mean, some_readout[base + bit], sums[bit]);
        }
    }
}

/// Returns the largest key of the thread's elements; 0 when they are outside the matrix.
#[cube]
fn largest(sums: &Array<f32>, row: usize, word: usize, sizes: &Sizes) -> u32 {
    let mine = row < sizes.classes && word < sizes.classes.div_ceil(BITS);
    let mut result = 0u32.runtime();
    #[unroll]
    for bit in 0..BITS {
        let inside = mine && word * BITS + bit < sizes.classes;
        let candidate = select(inside, key(sums[bit]), 0u32);
        result = select(candidate > result, candidate, result);
    }
    result
}

/// Compares the thread's elements, stores the packed bits and returns the number of elements near the threshold.
#[cube]
fn compare(
    sums: &Array<f32>,
    bounds: &[f32],
    words: &mut [u32],
    chosen: usize,
    row: usize,
    word: usize,
    sizes: &Sizes,
) -> u32 {
    let words_of_a_row = sizes.classes.div_ceil(BITS);
    let mine = row < sizes.classes && word < words_of_a_row;
    let above = bounds[4 * chosen];
    let low = bounds[4 * chosen + 1];
    let high = bounds[4 * chosen + 2];
    let active = mine && bounds[4 * chosen + 3] > 0.5f32;
    let mut packed = 0u32.runtime();
    let mut near = 0u32.runtime();
    #[unroll]
    for bit in 0..BITS {
        let inside = active && word * BITS + bit < sizes.classes;
        let one = inside && sums[bit] > above;
        packed |= select(one, comptime!(1u32 << bit as u32), 0u32);
        let close = inside && sums[bit] >= low && sums[bit] <= high;
        near += select(close, 1u32, 0u32);
    }
    if mine {
        words[(chosen * sizes.classes + row) * words_of_a_row + word] = packed;
    }
    near
}

/// Reduces the results of the cube's threads to `found[0]`, as a tree.
#[cube]
fn reduce_cube(found: &mut Shared<[u32]>, #[comptime] pass: Pass, #[comptime] shape: TileShape) {
    let unit = UNIT_POS as usize;
    sync_cube();
    let mut half = comptime!(shape.threads() / 2).runtime();
    while half > 0 {
        if unit < half {
            let other = found[unit + half];
            let mine = found[unit];
            found[unit] = combine(mine, other, pass);
        }
        sync_cube();
        half /= 2;
    }
}

/// Combines two partial results: the larger key, or the sum.
#[cube]
fn combine(value: u32, other: u32, #[comptime] pass: Pass) -> u32 {
    if comptime!(pass == Pass::Largest) { select(other > value, other, value) } else { value + other }
}

/// Combines the results of the tiles of one filter per thread, in order.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn reduce_kernel(partial: &[u32], result: &mut [u32], filters: usize, tiles: usize, #[comptime] pass: Pass) {
    let filter = ABSOLUTE_POS_X as usize;
    if filter >= filters {
        terminate!();
    }
    let mut value = 0u32.runtime();
    for tile in 0..tiles {
        value = combine(value, partial[filter * tiles + tile], pass);
    }
    result[filter] = value;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_convert_back_to_values() {
        for value in [0.0, -0.0, 1.5, -1.5, f32::MIN_POSITIVE, f32::INFINITY, f32::NEG_INFINITY] {
            let bits = value.to_bits();
            let key = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
            assert_eq!(value_of(key).to_bits(), bits);
        }
        assert!(value_of(NAN_KEY).is_nan());
    }
}
