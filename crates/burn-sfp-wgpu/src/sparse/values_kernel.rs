//! The device code of the gradient by the values.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::plan::{Plan, Threads};
use super::tile::{Maps, Tile, add_products, position, result_map, share, source_map, sum_of, tile_of, zeros};

/// Computes `split` kernels per cube; samples and tiles are divided among `lanes` threads.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn values_kernel<E: Numeric, N: Size>(
    x: &[Vector<E, N>],
    grad: &[E],
    owners: &[u32],
    channels: &[u32],
    output: &mut [E],
    maps: &Maps,
    kernels: usize,
    #[comptime] plan: Plan,
    #[comptime] threads: Threads,
    #[define(E)] _element: ElemType,
) {
    let first = CUBE_POS * comptime!(threads.split);
    if first >= kernels {
        terminate!();
    }
    let wanted = first + UNIT_POS_Y as usize;
    let kernel = select(wanted < kernels, wanted, first);
    let owner = owners[kernel] as usize;
    let channel = channels[kernel] as usize;

    let mut sums = zeros(comptime!(plan.taps()));
    let mut item = UNIT_POS_X as usize;
    while item < maps.items {
        let tile = tile_of(item, maps, plan);
        let base = source_map(tile.sample, channel, maps);
        let slopes = slopes_of(grad, result_map(tile.sample, owner, maps), &tile, maps, plan);
        add_products::<E, N>(x, base, &tile, maps, &slopes, &mut sums, plan, true);
        item += comptime!(threads.lanes);
    }

    let taps = comptime!(plan.taps());
    if comptime!(threads.lanes == 1) {
        if wanted < kernels {
            #[unroll]
            for tap in 0..taps {
                output[kernel * taps + tap] = E::cast_from(sums[tap]);
            }
        }
    } else {
        // The threads put their sums into shared memory, and all threads of the cube add them up, in order.
        let mut found = Shared::<[f32]>::new_slice(comptime!(threads.lanes * threads.split * (plan.taps() | 1)));
        share(&sums, &mut found, taps);
        store_lanes(&found, output, first, kernels, plan, threads);
    }
}

/// Returns the gradient of the outputs of a tile, of the map that begins at `map`; zeros outside the map.
#[cube]
fn slopes_of<E: Numeric>(grad: &[E], map: usize, tile: &Tile, maps: &Maps, #[comptime] plan: Plan) -> Array<f32> {
    let outputs = comptime!(plan.outputs());
    let mut slopes = Array::<f32>::new(outputs);
    #[unroll]
    for at in 0..outputs {
        if comptime!(plan.whole.is_some()) {
            slopes[at] = f32::cast_from(grad[map + at]);
        } else {
            let y = tile.y * comptime!(plan.tile[0]) + comptime!(at / plan.tile[1]);
            let x = tile.x * comptime!(plan.tile[1]) + comptime!(at % plan.tile[1]);
            let inside = y < maps.out_height && x < maps.out_width;
            let place = select(inside, map + y * maps.out_width + x, map);
            slopes[at] = select(inside, f32::cast_from(grad[place]), 0.0f32);
        }
    }
    slopes
}

/// Adds up the sums of the lanes of each kernel and stores them.
#[cube]
fn store_lanes<E: Numeric>(
    found: &Shared<[f32]>,
    output: &mut [E],
    first: usize,
    kernels: usize,
    #[comptime] plan: Plan,
    #[comptime] threads: Threads,
) {
    let taps = comptime!(plan.taps());
    let lanes = comptime!(threads.lanes);
    let mut index = UNIT_POS as usize;
    while index < comptime!(threads.split * plan.taps()) {
        let mine = index / taps;
        let tap = index % taps;
        if first + mine < kernels {
            let sum = sum_of(found, mine * lanes, tap, 1usize, lanes, taps);
            output[(first + mine) * taps + tap] = E::cast_from(sum);
        }
        index += comptime!(threads.lanes * threads.split);
    }
}

/// Computes one element per thread, for kernels too large to unroll.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn plain_values_kernel<E: Numeric>(
    x: &[E],
    grad: &[E],
    owners: &[u32],
    channels: &[u32],
    output: &mut [E],
    maps: &Maps,
    samples: usize,
    elements: usize,
    #[comptime] plan: Plan,
    #[define(E)] _element: ElemType,
) {
    let place = ABSOLUTE_POS;
    if place >= elements {
        terminate!();
    }
    let kernel_height = comptime!(plan.kernel[0]);
    let kernel_width = comptime!(plan.kernel[1]);
    let kx = place % kernel_width;
    let ky = place / kernel_width % kernel_height;
    let kernel = place / comptime!(plan.taps());
    let owner = owners[kernel] as usize;
    let channel = channels[kernel] as usize;
    let mut sum = 0.0f32.runtime();
    for sample in 0..samples {
        let base = source_map(sample, channel, maps);
        let map = result_map(sample, owner, maps);
        for y in 0..maps.out_height {
            let (line, line_inside) = position(y, ky, maps.height, plan, 0usize);
            if line_inside {
                for at in 0..maps.out_width {
                    let (column, column_inside) = position(at, kx, maps.width, plan, 1usize);
                    if column_inside {
                        let value = f32::cast_from(x[base + line * maps.width + column]);
                        sum = fma(value, f32::cast_from(grad[map + y * maps.out_width + at]), sum);
                    }
                }
            }
        }
    }
    output[place] = E::cast_from(sum);
}
