//! Forward pass and gradient by the input: every output position gathers over a row of kernels.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::cubecl::server::Handle;
use burn_cubecl::tensor::CubeTensor;

use super::pattern::Lists;
use super::plan::{Plan, Threads};
use crate::GpuError;
use crate::device::{buffer, elements, empty, padding, slice, units};

/// One gather: from `source` `[N, J, H, W]` to `[N, R, H', W']`, row r over the kernels of `lists`.
pub(super) struct Gather<'a> {
    pub(super) source: CubeTensor,
    /// `[K, kh, kw]`
    pub(super) values: CubeTensor,
    /// `[R]`
    pub(super) bias: Option<CubeTensor>,
    pub(super) lists: &'a Lists,
    /// The place in `values` of each kernel of the lists, when it is another.
    pub(super) places: Option<&'a Handle>,
    pub(super) kernels: usize,
    /// `[N, J, H, W]`
    pub(super) from: [usize; 4],
    /// `[N, R, H', W']`
    pub(super) to: [usize; 4],
    pub(super) plan: Plan,
    pub(super) element: ElemType,
}

impl Gather<'_> {
    /// With tiles where they fit, else one thread an output.
    pub(super) fn run(self) -> Result<CubeTensor, GpuError> {
        let plan = match elements(&self.source) {
            0 => None, // nothing is read
            _ => self.plan.choose([self.from[2], self.from[3]], [self.to[2], self.to[3]]),
        };
        self.run_by(plan)
    }

    pub(super) fn run_by(self, plan: Option<Plan>) -> Result<CubeTensor, GpuError> {
        let output = empty(&self.source, self.to, self.source.dtype)?;
        if elements(&output) > 0 {
            match plan {
                Some(plan) => self.tiled(plan, &output),
                None => self.plain(&output),
            }
        }
        Ok(output)
    }

    fn address(&self, output: &CubeTensor) -> AddressType {
        let longest = elements(&self.source).max(elements(output)).max(elements(&self.values));
        AddressType::from_len(longest)
    }

    fn lists(&self) -> [BufferArg; 4] {
        let client = &self.source.client;
        [
            slice(&self.lists.offsets, self.to[1] + 1),
            if self.kernels == 0 { padding(client) } else { slice(&self.lists.channels, self.kernels) },
            match self.places {
                Some(places) if self.kernels > 0 => slice(places, self.kernels),
                _ => padding(client),
            },
            self.bias.as_ref().map_or_else(|| padding(client), buffer),
        ]
    }

    fn tiled(&self, plan: Plan, output: &CubeTensor) {
        let client = &self.source.client;
        let [samples, rows, height, width] = self.to;
        let tiles = [height.div_ceil(plan.tile[0]), width.div_ceil(plan.tile[1])];
        let items = samples * tiles[0] * tiles[1];
        let threads = Threads::choose(items, rows, self.kernels, plan.outputs(), units(client, 256) as usize);
        let blocks = items.div_ceil(threads.lanes);
        let vector = match plan.whole {
            Some(size) if size[1].is_multiple_of(4) => 4,
            Some(size) if size[1].is_multiple_of(2) => 2,
            _ => 1,
        };
        let [offsets, channels, places, bias] = self.lists();
        // SAFETY: offsets and channels were checked at the upload, shapes against each other by the callers; the
        // kernel reads the source at positions it has compared with its size and writes inside the output.
        unsafe {
            gather_kernel::launch_unchecked(
                client,
                cubecl::calculate_cube_count_elemwise(client, blocks * rows, CubeDim::new_1d(1)),
                CubeDim::new_2d(threads.lanes as u32, threads.split as u32),
                self.address(output),
                vector,
                buffer(&self.source),
                buffer(&self.values),
                bias,
                offsets,
                channels,
                places,
                buffer(output),
                items,
                tiles[0] * tiles[1],
                tiles[1],
                self.from[1],
                self.from[2],
                self.from[3],
                rows,
                height,
                width,
                blocks * rows,
                plan,
                threads.lanes,
                threads.split,
                self.bias.is_some(),
                self.places.is_some(),
                self.element,
            );
        }
    }

    fn plain(&self, output: &CubeTensor) {
        let client = &self.source.client;
        let cube = CubeDim::new_1d(units(client, 64));
        let [offsets, channels, places, bias] = self.lists();
        // SAFETY: as for the tiles.
        unsafe {
            plain_gather_kernel::launch_unchecked(
                client,
                cubecl::calculate_cube_count_elemwise(client, elements(output), cube),
                cube,
                self.address(output),
                buffer(&self.source),
                buffer(&self.values),
                bias,
                offsets,
                channels,
                places,
                buffer(output),
                elements(output),
                self.from[1],
                self.from[2],
                self.from[3],
                self.to[1],
                self.to[2],
                self.to[3],
                Plan { tile: [1, 1], whole: None, ..self.plan },
                self.bias.is_some(),
                self.places.is_some(),
                self.element,
            );
        }
    }
}

/// Reads row `slot` of what a tile reads, zeros where it lies outside the map. `base`: where the map begins;
/// `top`, `left`: the position of the tile.
#[cube]
pub(super) fn read_row<E: Numeric, N: Size>(
    source: &[Vector<E, N>],
    base: usize,
    top: i32,
    left: i32,
    height: usize,
    width: usize,
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
        let y = top + comptime!(plan.first(0) + slot as i32);
        let row_inside = y >= 0 && y < height as i32;
        let columns = comptime!(plan.count(1));
        #[unroll]
        for column in 0..columns {
            let x = left + comptime!(plan.first(1) + column as i32);
            let inside = row_inside && x >= 0 && x < width as i32;
            let place = select(inside, base + (y * width as i32 + x) as usize, base);
            line[column] = select(inside, f32::cast_from(source[place].extract(0usize)), 0.0f32);
        }
    }
}

/// One cube: `lanes` tiles of one row, each by `split` threads that share out the row's kernels.
#[cube(launch_unchecked, address_type = "dynamic")]
fn gather_kernel<E: Numeric, N: Size>(
    source: &[Vector<E, N>],
    values: &[E],
    bias: &[E],
    offsets: &[u32],
    channels: &[u32],
    places: &[u32],
    output: &mut [E],
    items: usize,
    tiles: usize,
    tiles_of_a_row: usize,
    source_channels: usize,
    height: usize,
    width: usize,
    rows: usize,
    out_height: usize,
    out_width: usize,
    cubes: usize,
    #[comptime] plan: Plan,
    #[comptime] lanes: usize,
    #[comptime] split: usize,
    #[comptime] has_bias: bool,
    #[comptime] indirect: bool,
    #[define(E)] _element: ElemType,
) {
    let cube = CUBE_POS;
    if cube >= cubes {
        terminate!();
    }
    // Neighbouring cubes read the same samples.
    let row = cube % rows;
    let block = cube / rows;
    let taps = comptime!(plan.taps());
    let outputs = comptime!(plan.outputs());

    let wanted = block * lanes + UNIT_POS_X as usize;
    let item = select(wanted < items, wanted, 0);
    let sample = item / tiles;
    let tile = item % tiles;
    let top = (tile / tiles_of_a_row * comptime!(plan.step(0))) as i32;
    let left = (tile % tiles_of_a_row * comptime!(plan.step(1))) as i32;

    let mut sums = Array::<f32>::new(outputs);
    #[unroll]
    for at in 0..outputs {
        sums[at] = 0.0f32;
    }
    let end = offsets[row + 1] as usize;
    let mut next = offsets[row] as usize + UNIT_POS_Y as usize;
    while next < end {
        let base = (sample * source_channels + channels[next] as usize) * height * width;
        let kernel = if comptime!(indirect) { places[next] as usize } else { next };
        let mut weights = Array::<f32>::new(taps);
        #[unroll]
        for tap in 0..taps {
            weights[tap] = f32::cast_from(values[kernel * taps + tap]);
        }
        let lines = comptime!(plan.count(0));
        #[unroll]
        for slot in 0..lines {
            if comptime!(plan.reads(0, slot)) {
                let mut line = Array::<f32>::new(comptime!(plan.count(1)));
                read_row::<E, N>(source, base, top, left, height, width, &mut line, plan, slot);
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
                                        let at = comptime!(y * plan.tile[1] + x);
                                        let weight = weights[comptime!(ky * plan.kernel[1] + kx)];
                                        sums[at] = fma(line[comptime!(plan.slot(1, x, kx))], weight, sums[at]);
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        next += split;
    }

    let mut addend = 0.0f32.runtime();
    if comptime!(has_bias) {
        addend = f32::cast_from(bias[row]);
    }
    if comptime!(split == 1) {
        if wanted < items {
            #[unroll]
            for at in 0..outputs {
                let y = tile / tiles_of_a_row * comptime!(plan.tile[0]) + comptime!(at / plan.tile[1]);
                let x = tile % tiles_of_a_row * comptime!(plan.tile[1]) + comptime!(at % plan.tile[1]);
                if y < out_height && x < out_width {
                    let place = ((sample * rows + row) * out_height + y) * out_width + x;
                    output[place] = E::cast_from(sums[at] + addend);
                }
            }
        }
    } else {
        // The threads of a split put down what they have, and all of the cube add it up, in order.
        let pitch = comptime!(outputs | 1);
        let units = comptime!(lanes * split);
        let mut found = Shared::<[f32]>::new_slice(comptime!(lanes * split * (outputs | 1)));
        let unit = UNIT_POS as usize;
        #[unroll]
        for at in 0..outputs {
            found[unit * pitch + at] = sums[at];
        }
        sync_cube();
        let mut index = unit;
        while index < comptime!(lanes * outputs) {
            let lane = index / outputs;
            let at = index % outputs;
            let item = block * lanes + lane;
            let tile = item % tiles;
            let y = tile / tiles_of_a_row * comptime!(plan.tile[0]) + at / comptime!(plan.tile[1]);
            let x = tile % tiles_of_a_row * comptime!(plan.tile[1]) + at % comptime!(plan.tile[1]);
            if item < items && y < out_height && x < out_width {
                let mut sum = found[lane * pitch + at];
                for part in 1..split {
                    sum += found[(part * lanes + lane) * pitch + at];
                }
                let place = ((item / tiles * rows + row) * out_height + y) * out_width + x;
                output[place] = E::cast_from(sum + addend);
            }
            index += units;
        }
    }
}

/// One thread an output, for kernels too large to unroll.
#[cube(launch_unchecked, address_type = "dynamic")]
fn plain_gather_kernel<E: Numeric>(
    source: &[E],
    values: &[E],
    bias: &[E],
    offsets: &[u32],
    channels: &[u32],
    places: &[u32],
    output: &mut [E],
    outputs: usize,
    source_channels: usize,
    height: usize,
    width: usize,
    rows: usize,
    out_height: usize,
    out_width: usize,
    #[comptime] plan: Plan,
    #[comptime] has_bias: bool,
    #[comptime] indirect: bool,
    #[define(E)] _element: ElemType,
) {
    let place = ABSOLUTE_POS;
    if place >= outputs {
        terminate!();
    }
    let x = place % out_width;
    let y = place / out_width % out_height;
    let row = place / (out_width * out_height) % rows;
    let sample = place / (out_width * out_height * rows);
    let mut sum = 0.0f32.runtime();
    let kernel_height = comptime!(plan.kernel[0]);
    let kernel_width = comptime!(plan.kernel[1]);
    let start = offsets[row] as usize;
    let end = offsets[row + 1] as usize;
    for next in start..end {
        let base = (sample * source_channels + channels[next] as usize) * height * width;
        let kernel = if comptime!(indirect) { places[next] as usize } else { next };
        for ky in 0..kernel_height {
            let (line, line_inside) = position(y, ky, height, plan, 0usize);
            if line_inside {
                for kx in 0..kernel_width {
                    let (column, column_inside) = position(x, kx, width, plan, 1usize);
                    if column_inside {
                        let weight = values[(kernel * kernel_height + ky) * kernel_width + kx];
                        let value = source[base + line * width + column];
                        sum = fma(f32::cast_from(value), f32::cast_from(weight), sum);
                    }
                }
            }
        }
    }
    if comptime!(has_bias) {
        sum += f32::cast_from(bias[row]);
    }
    output[place] = E::cast_from(sum);
}

/// The position that output `at` reads for `tap`, and whether there is one.
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
