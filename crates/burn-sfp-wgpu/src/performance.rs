//! Largest element and packed Boolean matrix of every filter's performance matrix.
//!
//! The performance matrix of filter f, `[C, C]` with row = label shown and column = output unit, is
//!
//! ```text
//! P_f[i][j] = sum_s Abar[i, f, s] * R[f, s, j]
//! ```
//!
//! with the class means `Abar` `[C, F, S]` and the readout `R` `[F, S, C]`, and its Boolean matrix is
//! `B_f[i][j] = P_f[i][j] / max P_f > threshold` (Tzach et al. 2025, Phys. Rev. E 111, 065307; METHOD sections 2
//! and 3). The device multiplies twice: a first pass keeps the largest element, a second compares and packs 32
//! answers to a word. The matrices themselves are never stored, and what comes back is 1/32 of them.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::cubecl::server::Handle;
use burn_cubecl::tensor::CubeTensor;

use crate::GpuError;
use crate::device::{buffer, contiguous, download, elements, grid, guarded, reserve, slice, units, upload};
use crate::error::{dims, expect_f32, expect_len, same_device};

/// Bits in a word.
const BITS: usize = u32::BITS as usize;
/// Positions that are staged in shared memory at once.
const DEPTH: usize = 16;
/// Bytes of outputs of the filters of one launch, unless the caller chooses.
const BUDGET: usize = 64 << 20;
/// Half the width of the band around the threshold in which elements are counted as near.
const NEAR: f64 = 1e-5;
/// The key of NaN, above that of every number.
const NAN_KEY: u32 = u32::MAX;

/// What comes back from the device for every filter of a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct PackedPerformances {
    /// `[F]`: the largest element of the performance matrix, 0 for one without elements, NaN when any element is
    /// NaN. Not positive or not finite: the filter recognises nothing.
    pub max: Vec<f32>,
    /// `[F, C, ceil(C / 32)]`: the Boolean matrices; bit `j % 32` of word `j / 32` of row i is `B_f[i][j]`, bits
    /// from C on are zero.
    pub words: Vec<u32>,
    /// `[F]`: number of elements with `|P / max - threshold| <= 1e-5`, whose bit another order of additions could
    /// flip; 0 for a filter that recognises nothing.
    pub near: Vec<u32>,
}

/// Largest element and Boolean matrix of every filter.
///
/// * `means`: `[C, F, S]` in f32, the mean activation of each label; any strides;
/// * `readout`: `[F, S, C]` in f32; any strides;
/// * `threshold`: the paper's is 0.3;
/// * `chunk`: filters to a launch; `None` for as many as have 64 MiB of outputs.
///
/// `B_f[i][j]` is one where `P_f[i][j] > threshold * max P_f`, strictly, with the right side rounded down from
/// double precision, as in [`BooleanMatrix`](https://docs.rs/burn-sfp-ndarray)'s; all zeros when the largest
/// element is not positive, is infinite, or when any element is NaN. Every launch's outputs are read before the
/// next. When the device has no memory for a chunk, half of it is tried, down to one filter.
///
/// Source: METHOD sections 2 and 3 (Tzach et al. 2025, Phys. Rev. E 111, 065307).
///
/// # Errors
/// [`GpuError::Shape`], [`GpuError::Dtype`], [`GpuError::OtherDevice`] and [`GpuError::Threshold`] for wrong
/// arguments; [`GpuError::OutOfMemory`] when not even one filter fits; [`GpuError::Device`] when the device is
/// lost or refuses a kernel. The results are read here, so failures of the kernels themselves show here too,
/// as do failures of whatever was to compute `means` and `readout`.
///
/// # Example
/// ```
/// use burn::tensor::Tensor;
/// use burn_cubecl::CubeBackend;
/// use burn_sfp_wgpu::filter_performances;
///
/// # let Some(device) = std::panic::catch_unwind(|| {
/// #     let device = burn::tensor::Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
/// #     let _ = Tensor::<1>::zeros([1], &device).into_data();
/// #     device
/// # }).ok() else { println!("skipped: no wgpu adapter"); return Ok(()) };
/// // [C = 2, F = 2, S = 1] and [F = 2, S = 1, C = 2]
/// let means = Tensor::<3>::from_data([[[1.0], [-1.0]], [[0.5], [-1.0]]], &device);
/// let readout = Tensor::<3>::from_data([[[2.0, -1.0]], [[1.0, 1.0]]], &device);
/// let means = means.try_into_primitive::<CubeBackend>().unwrap();
/// let readout = readout.try_into_primitive::<CubeBackend>().unwrap();
/// let filters = filter_performances(means, readout, 0.3, None)?;
/// assert_eq!(filters.max, [2.0, -1.0]);
/// assert_eq!(filters.words, [0b01, 0b01, 0, 0]); // labels 0 and 1 drive output 0; a silent filter
/// assert_eq!(filters.near, [0, 0]);
/// # Ok::<(), burn_sfp_wgpu::GpuError>(())
/// ```
pub fn filter_performances(
    means: CubeTensor,
    readout: CubeTensor,
    threshold: f64,
    chunk: Option<usize>,
) -> Result<PackedPerformances, GpuError> {
    let [classes, filters, positions] = dims("axes of the means", &means)?;
    let shape: [usize; 3] = dims("axes of the readout", &readout)?;
    expect_len("filters of the readout", filters, shape[0])?;
    expect_len("positions of the readout", positions, shape[1])?;
    expect_len("classes of the readout", classes, shape[2])?;
    expect_f32("means", &means)?;
    expect_f32("readout", &readout)?;
    same_device("readout", &means, &readout)?;
    if !threshold.is_finite() {
        return Err(GpuError::Threshold { found: threshold });
    }
    let mut all = PackedPerformances { max: Vec::new(), words: Vec::new(), near: Vec::new() };
    if classes == 0 {
        (all.max, all.near) = (vec![0.0; filters], vec![0; filters]);
        return Ok(all);
    }
    let (means, readout) = guarded(|| Ok((contiguous(means), contiguous(readout))))?;
    let layer = Layer::new(means, readout, [classes, filters, positions]);
    let chunk = chunk.unwrap_or(BUDGET / layer.bytes_of_a_filter().max(1));
    in_chunks(filters, chunk.min(layer.longest_chunk()), |first, count| {
        let part = guarded(|| layer.run(first, count, threshold))?;
        all.max.extend(part.max);
        all.words.extend(part.words);
        all.near.extend(part.near);
        Ok(())
    })?;
    Ok(all)
}

/// Calls `work` with the first of, and the number of, at most `chunk` filters at a time; a chunk that the device
/// has no memory for is tried again at half its length, as are those that follow.
fn in_chunks(
    filters: usize,
    chunk: usize,
    mut work: impl FnMut(usize, usize) -> Result<(), GpuError>,
) -> Result<(), GpuError> {
    let (mut first, mut chunk) = (0, chunk.max(1));
    while first < filters {
        let count = chunk.min(filters - first);
        match work(first, count) {
            Ok(()) => first += count,
            Err(GpuError::OutOfMemory { .. }) if count > 1 => chunk = count / 2,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// One layer's means and readout on the device, and how they are cut into tiles.
struct Layer {
    means: CubeTensor,
    readout: CubeTensor,
    classes: usize,
    filters: usize,
    positions: usize,
    /// Rows and words of the tile of a cube; a thread computes the 32 elements of one word of one row.
    tile: [usize; 2],
}

impl Layer {
    fn new(means: CubeTensor, readout: CubeTensor, [classes, filters, positions]: [usize; 3]) -> Self {
        let words = classes.div_ceil(BITS).next_power_of_two().min(4);
        let threads = units(&means.client, 256) as usize;
        let words = words.min(threads);
        let rows = classes.next_power_of_two().min(64).min(threads / words).max(1);
        Self { means, readout, classes, filters, positions, tile: [rows, words] }
    }

    fn words_of_a_row(&self) -> usize {
        self.classes.div_ceil(BITS)
    }

    /// Tiles of one filter, by rows and words.
    fn tiles(&self) -> [usize; 2] {
        [self.classes.div_ceil(self.tile[0]), self.words_of_a_row().div_ceil(self.tile[1])]
    }

    fn bytes_of_a_filter(&self) -> usize {
        let tiles = self.tiles();
        self.classes.saturating_mul(self.words_of_a_row()).saturating_add(2 * tiles[0] * tiles[1]).saturating_mul(4)
    }

    /// What the grid takes along the filters.
    fn longest_chunk(&self) -> usize {
        self.client().properties().hardware.max_cube_count.1 as usize
    }

    fn client(&self) -> &Client {
        &self.means.client
    }

    /// `count` filters from `first` on.
    fn run(&self, first: usize, count: usize, threshold: f64) -> Result<PackedPerformances, GpuError> {
        let client = self.client();
        let tiles = self.tiles()[0] * self.tiles()[1];
        let size = self.classes * self.words_of_a_row();
        // Allocated before the first pass, so that a chunk too long fails before any work.
        let words = reserve(client, &[count, size], 4)?;
        let partial = reserve(client, &[count, tiles], 4)?;

        let none = upload(client, &[0.0_f32; 4]);
        self.launch(first, count, true, (&none, 4), (&upload(client, &[0_u32]), 1), &partial);
        let keys = self.reduce(&partial, count, tiles, true);
        let max: Vec<f32> = download(client, keys, count)?.into_iter().map(number).collect();

        let limits: Vec<f32> = max.iter().flat_map(|&max| limits(max, threshold)).collect();
        let limits = (&upload(client, &limits), limits.len());
        self.launch(first, count, false, limits, (&words, count * size), &partial);
        let near = self.reduce(&partial, count, tiles, false);
        let near = download(client, near, count)?;
        let words = download(client, words, count * size)?;
        Ok(PackedPerformances { max, words, near })
    }

    fn launch(
        &self,
        first: usize,
        count: usize,
        largest: bool,
        limits: (&Handle, usize),
        words: (&Handle, usize),
        partial: &Handle,
    ) {
        let client = self.client();
        let [rows, width] = self.tile;
        let tiles = self.tiles();
        let across = (tiles[0] * tiles[1]).min(client.properties().hardware.max_cube_count.0 as usize);
        let longest = elements(&self.means).max(elements(&self.readout)).max(words.1);
        // SAFETY: the kernel reads and writes inside the shapes it is told, which are those of the buffers.
        unsafe {
            product_kernel::launch_unchecked(
                client,
                CubeCount::Static(across as u32, count as u32, (tiles[0] * tiles[1]).div_ceil(across) as u32),
                CubeDim::new_2d(rows as u32, width as u32),
                AddressType::from_len(longest),
                buffer(&self.means),
                buffer(&self.readout),
                slice(limits.0, limits.1),
                slice(words.0, words.1),
                slice(partial, count * tiles[0] * tiles[1]),
                first,
                self.classes,
                self.filters,
                self.positions,
                tiles[1],
                tiles[0] * tiles[1],
                largest,
                rows,
                width,
            );
        }
    }

    /// The largest key, or the sum, over the tiles of every filter.
    fn reduce(&self, partial: &Handle, count: usize, tiles: usize, largest: bool) -> Handle {
        let client = self.client();
        let result = client.empty(4 * count);
        let cube = units(client, 64);
        // SAFETY: `partial` holds `count * tiles` numbers and `result` `count`.
        unsafe {
            reduce_kernel::launch_unchecked(
                client,
                grid(client, count.div_ceil(cube as usize), 1),
                CubeDim::new_1d(cube),
                AddressType::from_len(count * tiles),
                slice(partial, count * tiles),
                slice(&result, count),
                count,
                tiles,
                largest,
            );
        }
        result
    }
}

/// The number of an order-preserving key.
fn number(key: u32) -> f32 {
    match key {
        NAN_KEY => f32::NAN,
        key if key >> 31 == 1 => f32::from_bits(key & !(1 << 31)),
        key => f32::from_bits(!key),
    }
}

/// For a filter: the cut above which an element is one, the ends of the band that counts as near, and 1 where the
/// filter recognises anything at all.
fn limits(max: f32, threshold: f64) -> [f32; 4] {
    let max = f64::from(max);
    if !(max > 0.0 && max.is_finite()) {
        return [0.0; 4];
    }
    [round_down(threshold * max), ((threshold - NEAR) * max) as f32, ((threshold + NEAR) * max) as f32, 1.0]
}

/// The largest single precision number not above `value`: for a single precision p,
/// `p > value` in double precision exactly when `p > round_down(value)` in single precision.
fn round_down(value: f64) -> f32 {
    let nearest = value as f32;
    if f64::from(nearest) > value { nearest.next_down() } else { nearest }
}

/// Keys in the order of the numbers, NaN above all; integers, so that no compiler may assume NaN away.
#[cube]
fn key(value: f32) -> u32 {
    let bits = u32::reinterpret(value);
    let nan = (bits & 0x7fff_ffff) > 0x7f80_0000;
    let ordered = select((bits >> 31) == 1, !bits, bits | 0x8000_0000);
    select(nan, 0xffff_ffff_u32, ordered)
}

/// One cube: a tile of `rows` times `words * 32` elements of one filter's matrix.
#[cube(launch_unchecked, address_type = "dynamic")]
fn product_kernel(
    means: &[f32],
    readout: &[f32],
    limits: &[f32],
    words: &mut [u32],
    partial: &mut [u32],
    first: usize,
    classes: usize,
    filters: usize,
    positions: usize,
    tiles_of_a_row: usize,
    tiles: usize,
    #[comptime] largest: bool,
    #[comptime] rows: usize,
    #[comptime] width: usize,
) {
    let columns = comptime!(width * BITS);
    let threads = comptime!(rows * width);
    // One more than the depth, so that neighbours in a column lie in different banks.
    let pitch = comptime!(DEPTH + 1);
    let mut some_means = Shared::<[f32]>::new_slice(comptime!(rows * (DEPTH + 1)));
    let mut some_readout = Shared::<[f32]>::new_slice(comptime!(DEPTH * width * BITS));
    let mut found = Shared::<[u32]>::new_slice(threads);

    let tile = (CUBE_POS_Z * CUBE_COUNT_X + CUBE_POS_X) as usize;
    if tile >= tiles {
        terminate!();
    }
    let chosen = CUBE_POS_Y as usize;
    let filter = first + chosen;
    let unit = UNIT_POS as usize;
    let first_row = tile / tiles_of_a_row * rows;
    let first_word = tile % tiles_of_a_row * width;
    let my_row = UNIT_POS_X as usize;
    let my_word = UNIT_POS_Y as usize;

    let mut sums = Array::<f32>::new(BITS);
    #[unroll]
    for bit in 0..BITS {
        sums[bit] = 0.0f32;
    }
    let mut start = 0usize.runtime();
    while start < positions {
        let mut at = unit;
        while at < comptime!(rows * DEPTH) {
            let row = first_row + at / DEPTH;
            let position = start + at % DEPTH;
            let inside = row < classes && position < positions;
            let place = select(inside, (row * filters + filter) * positions + position, 0);
            some_means[at / DEPTH * pitch + at % DEPTH] = select(inside, means[place], 0.0f32);
            at += threads;
        }
        let mut at = unit;
        while at < comptime!(DEPTH * width * BITS) {
            let position = start + at / columns;
            let column = first_word * BITS + at % columns;
            let inside = column < classes && position < positions;
            let place = select(inside, (filter * positions + position) * classes + column, 0);
            some_readout[at] = select(inside, readout[place], 0.0f32);
            at += threads;
        }
        sync_cube();
        for depth in 0..DEPTH {
            let mean = some_means[my_row * pitch + depth];
            let base = depth * columns + my_word * BITS;
            #[unroll]
            for bit in 0..BITS {
                sums[bit] = fma(mean, some_readout[base + bit], sums[bit]);
            }
        }
        sync_cube();
        start += DEPTH;
    }

    let row = first_row + my_row;
    let word = first_word + my_word;
    let words_of_a_row = classes.div_ceil(BITS);
    let mine = row < classes && word < words_of_a_row;
    let mut result = 0u32.runtime();
    if comptime!(largest) {
        #[unroll]
        for bit in 0..BITS {
            let inside = mine && word * BITS + bit < classes;
            let candidate = select(inside, key(sums[bit]), 0u32);
            result = select(candidate > result, candidate, result);
        }
    } else {
        let cut = limits[4 * chosen];
        let low = limits[4 * chosen + 1];
        let high = limits[4 * chosen + 2];
        let active = mine && limits[4 * chosen + 3] > 0.5f32;
        let mut packed = 0u32.runtime();
        #[unroll]
        for bit in 0..BITS {
            let inside = active && word * BITS + bit < classes;
            let one = inside && sums[bit] > cut;
            packed |= select(one, comptime!(1u32 << bit as u32), 0u32);
            let close = inside && sums[bit] >= low && sums[bit] <= high;
            result += select(close, 1u32, 0u32);
        }
        if mine {
            words[(chosen * classes + row) * words_of_a_row + word] = packed;
        }
    }

    // A tree over the cube.
    found[unit] = result;
    sync_cube();
    let mut half = comptime!(rows * width / 2).runtime();
    while half > 0 {
        if unit < half {
            let other = found[unit + half];
            if comptime!(largest) {
                found[unit] = select(other > found[unit], other, found[unit]);
            } else {
                found[unit] += other;
            }
        }
        sync_cube();
        half /= 2;
    }
    if unit == 0 {
        partial[chosen * tiles + tile] = found[0];
    }
}

/// One thread: the tiles of one filter, in order.
#[cube(launch_unchecked, address_type = "dynamic")]
fn reduce_kernel(partial: &[u32], result: &mut [u32], filters: usize, tiles: usize, #[comptime] largest: bool) {
    let filter = ABSOLUTE_POS_X as usize;
    if filter >= filters {
        terminate!();
    }
    let mut value = 0u32.runtime();
    for tile in 0..tiles {
        let other = partial[filter * tiles + tile];
        if comptime!(largest) {
            value = select(other > value, other, value);
        } else {
            value += other;
        }
    }
    result[filter] = value;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_without_memory_is_halved() {
        let room = |most: usize, filters, chunk| {
            let mut done = Vec::new();
            let result = in_chunks(filters, chunk, |first, count| {
                if count > most {
                    return Err(GpuError::OutOfMemory { bytes: None });
                }
                done.push((first, count));
                Ok(())
            });
            result.map(|()| done)
        };
        assert_eq!(room(3, 10, 8), Ok(vec![(0, 2), (2, 2), (4, 2), (6, 2), (8, 2)]));
        assert_eq!(room(9, 10, 4), Ok(vec![(0, 4), (4, 4), (8, 2)]));
        assert_eq!(room(1, 2, usize::MAX), Ok(vec![(0, 1), (1, 1)]));
        assert_eq!(room(9, 0, 4), Ok(vec![]));
        assert_eq!(room(0, 3, 4), Err(GpuError::OutOfMemory { bytes: None }));
        let lost = GpuError::Device { message: String::new(), lost: true };
        assert_eq!(in_chunks(3, 2, |_, _| Err(lost.clone())), Err(lost.clone()));
    }

    #[test]
    fn keys_go_back_to_numbers() {
        for value in [0.0, -0.0, 1.5, -1.5, f32::MIN_POSITIVE, f32::INFINITY, f32::NEG_INFINITY] {
            let bits = value.to_bits();
            let key = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
            assert_eq!(number(key).to_bits(), bits);
        }
        assert!(number(NAN_KEY).is_nan());
    }

    #[test]
    fn limits_of_filters_that_recognise_nothing_are_off() {
        for max in [0.0, -0.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            assert_eq!(limits(max, 0.3)[3], 0.0);
        }
        let [cut, low, high, on] = limits(2.0, 0.25);
        assert_eq!((cut, on), (0.5, 1.0));
        assert!(low < cut && cut < high && high - low < 5e-5);
    }
}
