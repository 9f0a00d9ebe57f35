//! The device code that the gather and the gradient by the values share: places of tiles, reads, products and sums.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::plan::Plan;

/// The sizes of the source and result maps of a gather, and the tiles into which a result map is cut.
#[derive(CubeLaunch, CubeType)]
pub(super) struct Maps {
    /// Samples times tiles.
    pub(super) items: usize,
    /// Tiles of a map.
    pub(super) tiles: usize,
    /// Tiles along a row of a map.
    pub(super) tiles_of_a_row: usize,
    /// Channels of the source.
    pub(super) channels: usize,
    /// Rows of a source map.
    pub(super) height: usize,
    /// Columns of a source map.
    pub(super) width: usize,
    /// Channels of the result.
    pub(super) out_channels: usize,
    /// Rows of a result map.
    pub(super) out_height: usize,
    /// Columns of a result map.
    pub(super) out_width: usize,
}

/// Returns the sizes for a source `[N, I, H, W]`, a result `[N, O, H', W']` and the tiles of a plan.
pub(super) fn maps(plan: &Plan, from: [usize; 4], to: [usize; 4]) -> MapsLaunch {
    let [down, across] = plan.tiles([to[2], to[3]]);
    let tiles = down * across;
    MapsLaunch::new(to[0] * tiles, tiles, across, from[1], from[2], from[3], to[1], to[2], to[3])
}

/// The place of a tile.
#[derive(CubeType)]
pub(super) struct Tile {
    pub(super) sample: usize,
    /// Row of the tile among the tiles of the map.
    pub(super) y: usize,
    /// Column of the tile among the tiles of the map.
    pub(super) x: usize,
    /// Row of the source to which the rows that the tile reads are relative.
    top: i32,
    /// Column of the source to which the columns that the tile reads are relative.
    left: i32,
}

/// Returns the place of the tile of an item.
#[cube]
pub(super) fn tile_of(item: usize, maps: &Maps, #[comptime] plan: Plan) -> Tile {
    let tile = item % maps.tiles;
    let y = tile / maps.tiles_of_a_row;
    let x = tile % maps.tiles_of_a_row;
    let top = (y * comptime!(plan.step(0))) as i32;
    let left = (x * comptime!(plan.step(1))) as i32;
    Tile { sample: item / maps.tiles, y, x, top, left }
}

/// Returns the place where a map of the source begins.
#[cube]
pub(super) fn source_map(sample: usize, channel: usize, maps: &Maps) -> usize {
    (sample * maps.channels + channel) * maps.height * maps.width
}

/// Returns the place where a map of the result begins.
#[cube]
pub(super) fn result_map(sample: usize, channel: usize, maps: &Maps) -> usize {
    (sample * maps.out_channels + channel) * maps.out_height * maps.out_width
}

/// Returns registers that hold zeros.
#[cube]
pub(super) fn zeros(#[comptime] count: usize) -> Array<f32> {
    let mut sums = Array::<f32>::new(count);
    #[unroll]
    for at in 0..count {
        sums[at] = 0.0f32;
    }
    sums
}

/// Reads row `slot` of the positions that a tile reads; zeros where it is outside the map, which begins at `base`.
#[cube]
fn read_row<E: Numeric, N: Size>(
    source: &[Vector<E, N>],
    base: usize,
    tile: &Tile,
    maps: &Maps,
    line: &mut Array<f32>,
    #[comptime] plan: Plan,
    #[comptime] slot: usize,
) {
    if comptime!(plan.whole.is_some()) {
        let parts = N::value();
        let vectors = comptime!(plan.count(1) / parts);
        #[unroll]
        for vector in 0..vectors {
            let place = base / parts + comptime!(slot * vectors + vector);
            let values = source[place];
            #[unroll]
            for part in 0..parts {
                line[comptime!(vector * parts + part)] = f32::cast_from(values.extract(part));
            }
        }
    } else {
        let y = tile.top + comptime!(plan.first(0) + slot as i32);
        let row_inside = y >= 0 && y < maps.height as i32;
        let columns = comptime!(plan.count(1));
        #[unroll]
        for column in 0..columns {
            let x = tile.left + comptime!(plan.first(1) + column as i32);
            let inside = row_inside && x >= 0 && x < maps.width as i32;
            let place = select(inside, base + (y * maps.width as i32 + x) as usize, base);
            line[column] = select(inside, f32::cast_from(source[place].extract(0usize)), 0.0f32);
        }
    }
}

/// Adds the products of a source map with `factors` to `sums`, for every output of a tile and every tap of a kernel.
///
/// With `per_tap` the sums belong to the taps and the factors to the outputs; without it the sums belong to the outputs
/// and the factors to the taps. The source map begins at `base`.
#[cube]
pub(super) fn add_products<E: Numeric, N: Size>(
    source: &[Vector<E, N>],
    base: usize,
    tile: &Tile,
    maps: &Maps,
    factors: &Array<f32>,
    sums: &mut Array<f32>,
    #[comptime] plan: Plan,
    #[comptime] per_tap: bool,
) {
    let lines = comptime!(plan.count(0));
    #[unroll]
    for slot in 0..lines {
        if comptime!(plan.reads(0, slot)) {
            let mut line = Array::<f32>::new(comptime!(plan.count(1)));
            read_row::<E, N>(source, base, tile, maps, &mut line, plan, slot);
            #[unroll]
            for y in 0..comptime!(plan.tile[0]) {
                #[unroll]
                for ky in 0..comptime!(plan.kernel[0]) {
                    if comptime!(plan.slot(0, y, ky) == slot) {
                        add_row(&line, factors, sums, plan, y, ky, per_tap);
                    }
                }
            }
        }
    }
}

/// Adds the products of one row of the source for row `y` of the outputs and row `ky` of the kernel.
#[cube]
fn add_row(
    line: &Array<f32>,
    factors: &Array<f32>,
    sums: &mut Array<f32>,
    #[comptime] plan: Plan,
    #[comptime] y: usize,
    #[comptime] ky: usize,
    #[comptime] per_tap: bool,
) {
    #[unroll]
    for x in 0..comptime!(plan.tile[1]) {
        #[unroll]
        for kx in 0..comptime!(plan.kernel[1]) {
            if comptime!(plan.slot(1, x, kx) < plan.count(1)) {
                let output = comptime!(y * plan.tile[1] + x);
                let tap = comptime!(ky * plan.kernel[1] + kx);
                let to = comptime!(if per_tap { tap } else { output });
                let by = comptime!(if per_tap { output } else { tap });
                sums[to] = fma(line[comptime!(plan.slot(1, x, kx))], factors[by], sums[to]);
            }
        }
    }
}

/// Writes the sums of every thread of a cube to shared memory, `[thread][sum]` with an odd pitch.
#[cube]
pub(super) fn share(sums: &Array<f32>, found: &mut Shared<[f32]>, #[comptime] count: usize) {
    let pitch = comptime!(count | 1);
    let unit = UNIT_POS as usize;
    #[unroll]
    for at in 0..count {
        found[unit * pitch + at] = sums[at];
    }
    sync_cube();
}

/// Returns the sum of element `at` over `parts` threads in order: `first`, `first + step` and so on.
#[cube]
pub(super) fn sum_of(
    found: &Shared<[f32]>,
    first: usize,
    at: usize,
    #[comptime] step: usize,
    #[comptime] parts: usize,
    #[comptime] count: usize,
) -> f32 {
    let pitch = comptime!(count | 1);
    let mut sum = found[first * pitch + at];
    for part in 1..parts {
        sum += found[(first + part * step) * pitch + at];
    }
    sum
}

/// Returns the position that output `at` reads for `tap` along an axis of `size` positions, and whether there is one.
#[cube]
pub(super) fn position(
    at: usize,
    tap: usize,
    size: usize,
    #[comptime] plan: Plan,
    #[comptime] axis: usize,
) -> (usize, bool) {
    let stride = comptime!(plan.stride[axis] as i32);
    let reach = tap as i32 * comptime!(plan.dilation[axis] as i32);
    let padding = comptime!(plan.padding[axis] as i32);
    if comptime!(plan.transposed) {
        let steps = at as i32 + padding - reach;
        let place = steps / stride;
        let inside = steps >= 0 && place * stride == steps && place < size as i32;
        (select(inside, place, 0i32) as usize, inside)
    } else {
        let place = at as i32 * stride + reach - padding;
        let inside = place >= 0 && place < size as i32;
        (select(inside, place, 0i32) as usize, inside)
    }
}
