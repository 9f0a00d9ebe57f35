//! Gradient by the kernels' values: every kernel and tap adds up over samples and positions.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::gather::{position, read_row};
use super::pattern::DevicePattern;
use super::plan::Plan;
use crate::GpuError;
use crate::device::{buffer, elements, empty, slice, units};

/// From the input `[N, I, H, W]` and the output's gradient `[N, O, H', W']` to `[K, kh, kw]`.
pub(super) struct ValuesGradient<'a> {
    pub(super) x: CubeTensor,
    pub(super) grad: CubeTensor,
    pub(super) pattern: &'a DevicePattern,
    /// `[N, I, H, W]`
    pub(super) from: [usize; 4],
    /// `[N, O, H', W']`
    pub(super) to: [usize; 4],
    pub(super) plan: Plan,
    pub(super) element: ElemType,
}

impl ValuesGradient<'_> {
    /// With tiles where they fit, else one thread a number.
    pub(super) fn run(self) -> Result<CubeTensor, GpuError> {
        let plan = match elements(&self.x) {
            0 => None, // nothing is read
            _ => self.plan.choose([self.from[2], self.from[3]], [self.to[2], self.to[3]]),
        };
        self.run_by(plan)
    }

    pub(super) fn run_by(self, plan: Option<Plan>) -> Result<CubeTensor, GpuError> {
        let [height, width] = self.plan.kernel;
        let output = empty(&self.x, [self.pattern.kernels(), height, width], self.x.dtype)?;
        if elements(&output) > 0 {
            match plan {
                Some(plan) => self.tiled(plan, &output),
                None => self.plain(&output),
            }
        }
        Ok(output)
    }

    fn address(&self, output: &CubeTensor) -> AddressType {
        AddressType::from_len(elements(&self.x).max(elements(&self.grad)).max(elements(output)))
    }

    fn tiled(&self, plan: Plan, output: &CubeTensor) {
        let client = &self.x.client;
        let [samples, outputs, height, width] = self.to;
        let tiles = [height.div_ceil(plan.tile[0]), width.div_ceil(plan.tile[1])];
        let items = samples * tiles[0] * tiles[1];
        let kernels = self.pattern.kernels();
        let most = (units(client, 64) as usize).min((16384 / (4 * (plan.taps() | 1))).max(1));
        let most = if most.is_power_of_two() { most } else { most.next_power_of_two() / 2 };
        let lanes = items.next_power_of_two().min(32).min(most);
        let share = most / lanes;
        let vector = match plan.whole {
            Some(size) if size[1].is_multiple_of(4) => 4,
            Some(size) if size[1].is_multiple_of(2) => 2,
            _ => 1,
        };
        // SAFETY: owners and channels were checked at the upload, shapes against each other by the callers; the
        // kernel reads both maps at positions it has compared with their sizes and writes inside the output.
        unsafe {
            values_kernel::launch_unchecked(
                client,
                cubecl::calculate_cube_count_elemwise(client, kernels.div_ceil(share), CubeDim::new_1d(1)),
                CubeDim::new_2d(lanes as u32, share as u32),
                self.address(output),
                vector,
                buffer(&self.x),
                buffer(&self.grad),
                slice(&self.pattern.owners, kernels),
                slice(&self.pattern.rows.channels, kernels),
                buffer(output),
                kernels,
                items,
                tiles[0] * tiles[1],
                tiles[1],
                self.from[1],
                self.from[2],
                self.from[3],
                outputs,
                height,
                width,
                plan,
                lanes,
                share,
                self.element,
            );
        }
    }

    fn plain(&self, output: &CubeTensor) {
        let client = &self.x.client;
        let cube = CubeDim::new_1d(units(client, 64));
        let kernels = self.pattern.kernels();
        // SAFETY: as for the tiles.
        unsafe {
            plain_values_kernel::launch_unchecked(
                client,
                cubecl::calculate_cube_count_elemwise(client, elements(output), cube),
                cube,
                self.address(output),
                buffer(&self.x),
                buffer(&self.grad),
                slice(&self.pattern.owners, kernels),
                slice(&self.pattern.rows.channels, kernels),
                buffer(output),
                elements(output),
                self.from[0],
                self.from[1],
                self.from[2],
                self.from[3],
                self.to[1],
                self.to[2],
                self.to[3],
                Plan { tile: [1, 1], whole: None, ..self.plan },
                self.element,
            );
        }
    }
}

/// One cube: `share` kernels, each by `lanes` threads that share out samples and tiles.
#[cube(launch_unchecked, address_type = "dynamic")]
fn values_kernel<E: Numeric, N: Size>(
    x: &[Vector<E, N>],
    grad: &[E],
    owners: &[u32],
    channels: &[u32],
    output: &mut [E],
    kernels: usize,
    items: usize,
    tiles: usize,
    tiles_of_a_row: usize,
    source_channels: usize,
    height: usize,
    width: usize,
    rows: usize,
    out_height: usize,
    out_width: usize,
    #[comptime] plan: Plan,
    #[comptime] lanes: usize,
    #[comptime] share: usize,
    #[define(E)] _element: ElemType,
) {
    let first = CUBE_POS * share;
    if first >= kernels {
        terminate!();
    }
    let taps = comptime!(plan.taps());
    let outputs = comptime!(plan.outputs());
    let wanted = first + UNIT_POS_Y as usize;
    let kernel = select(wanted < kernels, wanted, first);
    let owner = owners[kernel] as usize;
    let channel = channels[kernel] as usize;

    let mut sums = Array::<f32>::new(taps);
    #[unroll]
    for tap in 0..taps {
        sums[tap] = 0.0f32;
    }
    let mut item = UNIT_POS_X as usize;
    while item < items {
        let sample = item / tiles;
        let tile = item % tiles;
        let tile_y = tile / tiles_of_a_row;
        let tile_x = tile % tiles_of_a_row;
        let top = (tile_y * comptime!(plan.step(0))) as i32;
        let left = (tile_x * comptime!(plan.step(1))) as i32;
        let base = (sample * source_channels + channel) * height * width;
        let map = (sample * rows + owner) * out_height * out_width;

        let mut slopes = Array::<f32>::new(outputs);
        #[unroll]
        for at in 0..outputs {
            if comptime!(plan.whole.is_some()) {
                slopes[at] = f32::cast_from(grad[map + at]);
            } else {
                let y = tile_y * comptime!(plan.tile[0]) + comptime!(at / plan.tile[1]);
                let x = tile_x * comptime!(plan.tile[1]) + comptime!(at % plan.tile[1]);
                let inside = y < out_height && x < out_width;
                let place = select(inside, map + y * out_width + x, map);
                slopes[at] = select(inside, f32::cast_from(grad[place]), 0.0f32);
            }
        }
        let lines = comptime!(plan.count(0));
        #[unroll]
        for slot in 0..lines {
            if comptime!(plan.reads(0, slot)) {
                let mut line = Array::<f32>::new(comptime!(plan.count(1)));
                read_row::<E, N>(x, base, top, left, height, width, &mut line, plan, slot);
                #[unroll]
                for y in 0..comptime!(plan.tile[0]) {
                    #[unroll]
                    for ky in 0..comptime!(plan.kernel[0]) {
                        if comptime!(plan.slot(0, y, ky) == slot) {
                            #[unroll]
                            for x in 0..comptime!(plan.tile[1]) {
                                #[unroll]
                                for kx in 0..comptime!(plan.kernel[1]) {
                                    if comptime!(plan.slot(1, x, kx) < plan.count(1)) {
                                        let tap = comptime!(ky * plan.kernel[1] + kx);
                                        let slope = slopes[comptime!(y * plan.tile[1] + x)];
                                        sums[tap] = fma(line[comptime!(plan.slot(1, x, kx))], slope, sums[tap]);
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        item += lanes;
    }

    if comptime!(lanes == 1) {
        if wanted < kernels {
            #[unroll]
            for tap in 0..taps {
                output[kernel * taps + tap] = E::cast_from(sums[tap]);
            }
        }
    } else {
        // Each thread puts down what it has, and all of the cube add it up, in order.
        let pitch = comptime!(taps | 1);
        let units = comptime!(lanes * share);
        let mut found = Shared::<[f32]>::new_slice(comptime!(lanes * share * (taps | 1)));
        let unit = UNIT_POS as usize;
        #[unroll]
        for tap in 0..taps {
            found[unit * pitch + tap] = sums[tap];
        }
        sync_cube();
        let mut index = unit;
        while index < comptime!(share * taps) {
            let mine = index / taps;
            let tap = index % taps;
            if first + mine < kernels {
                let mut sum = found[mine * lanes * pitch + tap];
                for lane in 1..lanes {
                    sum += found[(mine * lanes + lane) * pitch + tap];
                }
                output[(first + mine) * taps + tap] = E::cast_from(sum);
            }
            index += units;
        }
    }
}

/// One thread a number, for kernels too large to unroll.
#[cube(launch_unchecked, address_type = "dynamic")]
fn plain_values_kernel<E: Numeric>(
    x: &[E],
    grad: &[E],
    owners: &[u32],
    channels: &[u32],
    output: &mut [E],
    numbers: usize,
    samples: usize,
    source_channels: usize,
    height: usize,
    width: usize,
    rows: usize,
    out_height: usize,
    out_width: usize,
    #[comptime] plan: Plan,
    #[define(E)] _element: ElemType,
) {
    let place = ABSOLUTE_POS;
    if place >= numbers {
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
        let base = (sample * source_channels + channel) * height * width;
        let map = (sample * rows + owner) * out_height * out_width;
        for y in 0..out_height {
            let (line, line_inside) = position(y, ky, height, plan, 0usize);
            if line_inside {
                for at in 0..out_width {
                    let (column, column_inside) = position(at, kx, width, plan, 1usize);
                    if column_inside {
                        let value = f32::cast_from(x[base + line * width + column]);
                        sum = fma(value, f32::cast_from(grad[map + y * out_width + at]), sum);
                    }
                }
            }
        }
    }
    output[place] = E::cast_from(sum);
}
