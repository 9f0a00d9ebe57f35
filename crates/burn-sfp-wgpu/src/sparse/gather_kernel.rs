//! The device code of the gather: forward pass and gradient by the input.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::plan::{Plan, Threads};
use super::tile::{Maps, Tile, add_products, position, result_map, share, source_map, sum_of, tile_of, zeros};

/// The compile-time parameters of a gather kernel, besides the element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Variant {
    pub(super) plan: Plan,
    pub(super) threads: Threads,
    /// Whether a bias is added.
    pub(super) has_bias: bool,
    /// Whether the kernel of every entry is listed in `places`; else entry k has kernel k.
    pub(super) indirect: bool,
}

/// Computes `lanes` tiles of one result channel per cube; the kernels of a tile are divided among `split` threads.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn gather_kernel<E: Numeric, N: Size>(
    source: &[Vector<E, N>],
    values: &[E],
    bias: &[E],
    offsets: &[u32],
    channels: &[u32],
    places: &[u32],
    output: &mut [E],
    maps: &Maps,
    cubes: usize,
    #[comptime] variant: Variant,
    #[define(E)] _element: ElemType,
) {
    let cube = CUBE_POS;
    if cube >= cubes {
        terminate!();
    }
    // Neighbouring cubes read the same samples.
    let row = cube % maps.out_channels;
    let first = cube / maps.out_channels * comptime!(variant.threads.lanes);
    let plan = comptime!(variant.plan);

    let wanted = first + UNIT_POS_X as usize;
    let tile = tile_of(select(wanted < maps.items, wanted, 0), maps, plan);
    let mut sums = zeros(comptime!(plan.outputs()));
    let end = offsets[row + 1] as usize;
    let mut next = offsets[row] as usize + UNIT_POS_Y as usize;
    while next < end {
        let base = source_map(tile.sample, channels[next] as usize, maps);
        let kernel = kernel_of(places, next, variant);
        let weights = weights_of(values, kernel, plan);
        add_products::<E, N>(source, base, &tile, maps, &weights, &mut sums, plan, false);
        next += comptime!(variant.threads.split);
    }

    let addend = addend_of(bias, row, variant);
    if comptime!(variant.threads.split == 1) {
        if wanted < maps.items {
            store_tile(&sums, addend, output, row, &tile, maps, plan);
        }
    } else {
        // The threads of a split put their sums into shared memory, and all threads of the cube add them up, in order.
        let mut found =
            Shared::<[f32]>::new_slice(comptime!(variant.threads.lanes * variant.threads.split * (plan.outputs() | 1)));
        share(&sums, &mut found, comptime!(plan.outputs()));
        store_split(&found, addend, output, row, first, maps, variant);
    }
}

/// Returns the kernel of an entry.
#[cube]
fn kernel_of(places: &[u32], entry: usize, #[comptime] variant: Variant) -> usize {
    if comptime!(variant.indirect) { places[entry] as usize } else { entry }
}

/// Returns the values of a kernel.
#[cube]
fn weights_of<E: Numeric>(values: &[E], kernel: usize, #[comptime] plan: Plan) -> Array<f32> {
    let taps = comptime!(plan.taps());
    let mut weights = Array::<f32>::new(taps);
    #[unroll]
    for tap in 0..taps {
        weights[tap] = f32::cast_from(values[kernel * taps + tap]);
    }
    weights
}

/// Returns the bias of a result channel, or zero.
#[cube]
fn addend_of<E: Numeric>(bias: &[E], row: usize, #[comptime] variant: Variant) -> f32 {
    let mut addend = 0.0f32.runtime();
    if comptime!(variant.has_bias) {
        addend = f32::cast_from(bias[row]);
    }
    addend
}

/// Stores the sums of a thread's tile, plus `addend`, where they are inside the map.
#[cube]
fn store_tile<E: Numeric>(
    sums: &Array<f32>,
    addend: f32,
    output: &mut [E],
    row: usize,
    tile: &Tile,
    maps: &Maps,
    #[comptime] plan: Plan,
) {
    let outputs = comptime!(plan.outputs());
    #[unroll]
    for at in 0..outputs {
        let y = tile.y * comptime!(plan.tile[0]) + comptime!(at / plan.tile[1]);
        let x = tile.x * comptime!(plan.tile[1]) + comptime!(at % plan.tile[1]);
        if y < maps.out_height && x < maps.out_width {
            let place = result_map(tile.sample, row, maps) + y * maps.out_width + x;
            output[place] = E::cast_from(sums[at] + addend);
        }
    }
}

/// Adds up the sums of the threads of a split and stores them, plus `addend`, where they are inside the map.
#[cube]
fn store_split<E: Numeric>(
    found: &Shared<[f32]>,
    addend: f32,
    output: &mut [E],
    row: usize,
    first: usize,
    maps: &Maps,
    #[comptime] variant: Variant,
) {
    let plan = comptime!(variant.plan);
    let lanes = comptime!(variant.threads.lanes);
    let split = comptime!(variant.threads.split);
    let outputs = comptime!(plan.outputs());
    let mut index = UNIT_POS as usize;
    while index < comptime!(variant.threads.lanes * plan.outputs()) {
        let lane = index / outputs;
        let at = index % outputs;
        let item = first + lane;
        let tile = tile_of(item, maps, plan);
        let y = tile.y * comptime!(plan.tile[0]) + at / comptime!(plan.tile[1]);
        let x = tile.x * comptime!(plan.tile[1]) + at % comptime!(plan.tile[1]);
        if item < maps.items && y < maps.out_height && x < maps.out_width {
            let sum = sum_of(found, lane, at, lanes, split, outputs);
            let place = result_map(tile.sample, row, maps) + y * maps.out_width + x;
            output[place] = E::cast_from(sum + addend);
        }
        index += comptime!(variant.threads.lanes * variant.threads.split);
    }
}

/// Computes one output per thread, for kernels too large to unroll.
#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::needless_range_loop)] // CubeCL has no iterators over slices
pub(super) fn plain_gather_kernel<E: Numeric>(
    source: &[E],
    values: &[E],
    bias: &[E],
    offsets: &[u32],
    channels: &[u32],
    places: &[u32],
    output: &mut [E],
    maps: &Maps,
    outputs: usize,
    #[comptime] variant: Variant,
    #[define(E)] _element: ElemType,
) {
    let place = ABSOLUTE_POS;
    if place >= outputs {
        terminate!();
    }
    let plan = comptime!(variant.plan);
    let x = place % maps.out_width;
    let y = place / maps.out_width % maps.out_height;
    let row = place / (maps.out_width * maps.out_height) % maps.out_channels;
    let sample = place / (maps.out_width * maps.out_height * maps.out_channels);
    let mut sum = 0.0f32.runtime();
    let kernel_height = comptime!(plan.kernel[0]);
    let kernel_width = comptime!(plan.kernel[1]);
    let start = offsets[row] as usize;
    let end = offsets[row + 1] as usize;
    for next in start..end {
        let base = source_map(sample, channels[next] as usize, maps);
        let kernel = kernel_of(places, next, variant);
        for ky in 0..kernel_height {
            let (line, line_inside) = position(y, ky, maps.height, plan, 0usize);
            if line_inside {
                for kx in 0..kernel_width {
                    let (column, column_inside) = position(x, kx, maps.width, plan, 1usize);
                    if column_inside {
                        let weight = values[(kernel * kernel_height + ky) * kernel_width + kx];
                        let value = source[base + line * maps.width + column];
                        sum = fma(f32::cast_from(value), f32::cast_from(weight), sum);
                    }
                }
            }
        }
    }
    if comptime!(variant.has_bias) {
        sum += f32::cast_from(bias[row]);
    }
    output[place] = E::cast_from(sum);
}
