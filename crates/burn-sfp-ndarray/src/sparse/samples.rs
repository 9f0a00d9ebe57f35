//! Sparse convolution for large batches: the lanes of a vector hold one position of neighbouring samples.
//!
//! Strides, dilations and paddings cost nothing in this layout: a tap of an output position is one product of a vector
//! and a weight, or is skipped where it reads padding. For each output filter the sums of a tile of positions stay in
//! registers while the loop walks the filter's kernels.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::vector::{Aligned, mul_add};

use super::Convolution;
use super::geometry::Lattice;
use super::pack::{Columns, Source, samples_to_lanes};
use super::rows::Part;
use super::tile::{Tile, TileTap, Tiling};
use crate::epilogue::Stage;

/// Bytes of the packed source that are reused from the second-level cache.
const CACHE: usize = 1 << 19;
/// Desired number of tasks per thread. More tasks would balance the load better, but each reads the source once more.
const TASKS: usize = 4;

/// Runs the convolution; `tilings` has one entry per lattice.
pub(super) fn run(
    arch: Arch,
    lanes: usize,
    source: Source,
    convolution: &Convolution,
    columns: &Columns,
    tilings: &[Tiling],
    out: &mut [f32],
) {
    let packed = samples_to_lanes(source, lanes, columns);
    let [samples, channels, ..] = source.shape;
    let block_length = channels * source.plane() * lanes;
    let out_plane = convolution.out_size[0] * convolution.out_size[1];
    let blocks = samples.div_ceil(lanes);
    let cuts = convolution.rows.cuts((TASKS * rayon::current_num_threads()).div_ceil(blocks));

    // A task computes a run of filters for a block of samples; it owns that run in the result of each sample.
    let runs = cuts.len() - 1;
    let mut tasks: Vec<Task> = (0..blocks * runs)
        .map(|task| Task {
            packed: &packed.as_slice()[task / runs * block_length..][..block_length],
            plane: source.plane(),
            convolution,
            tilings,
            rows: (cuts[task % runs], cuts[task % runs + 1]),
            out: Vec::with_capacity(lanes),
        })
        .collect();
    let mut rest = out;
    for sample in 0..samples {
        for run in 0..runs {
            let (start, end) = (cuts[run], cuts[run + 1]);
            let (now, later) = rest.split_at_mut((end - start) * out_plane);
            tasks[sample / lanes * runs + run].out.push(now);
            rest = later;
        }
    }
    tasks.into_par_iter().for_each(|task| arch.dispatch(task));
}

/// The outputs of a run of filters for a block of samples.
struct Task<'a> {
    /// `[channel][position][lane]`.
    packed: &'a [f32],
    /// Number of positions of a channel.
    plane: usize,
    convolution: &'a Convolution<'a>,
    tilings: &'a [Tiling],
    rows: (usize, usize),
    /// `[filter of the run][position]` for each sample.
    out: Vec<&'a mut [f32]>,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let largest = self.tilings.iter().map(|tiling| tiling.shape.0 * tiling.shape.1).max().unwrap_or(0);
        let mut sums = Aligned::zeros((self.rows.1 - self.rows.0) * largest * S::F32_LANES);
        for (lattice, tiling) in self.convolution.lattices.iter().zip(self.tilings) {
            for tile in &tiling.tiles {
                let sums = S::as_mut_simd_f32s(sums.as_mut_slice()).0;
                match tiling.shape {
                    (4, 4) => self.tile::<S, 4, 4>(simd, tile, sums),
                    (2, 8) => self.tile::<S, 2, 8>(simd, tile, sums),
                    (2, 7) => self.tile::<S, 2, 7>(simd, tile, sums),
                    (1, 8) => self.tile::<S, 1, 8>(simd, tile, sums),
                    (1, 7) => self.tile::<S, 1, 7>(simd, tile, sums),
                    (2, 4) => self.tile::<S, 2, 4>(simd, tile, sums),
                    (1, 4) => self.tile::<S, 1, 4>(simd, tile, sums),
                    (2, 2) => self.tile::<S, 2, 2>(simd, tile, sums),
                    (1, 2) => self.tile::<S, 1, 2>(simd, tile, sums),
                    _ => self.tile::<S, 1, 1>(simd, tile, sums),
                }
                self.store(lattice, tiling.shape, tile.at, S::F32_LANES, sums_of::<S>(sums));
            }
        }
    }
}

impl Task<'_> {
    /// Computes the sums of a tile, `[filter of the run][position of the tile]`, with the epilogue applied.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const C: usize>(&self, simd: S, tile: &Tile, sums: &mut [S::f32s]) {
        let packed = S::as_simd_f32s(self.packed).0;
        let rows = &self.convolution.rows;
        let channels = rows.channels_per_group();
        // The channels are processed in chunks whose windows stay in the cache; in between, the sums are in memory.
        let chunk = (CACHE / (tile.window * S::F32_LANES * size_of::<f32>())).max(1);
        // A chunk of almost all channels does not pay for storing and loading the sums.
        let chunk = if chunk * 3 / 2 >= channels { channels.max(1) } else { chunk };
        for from in (0..channels.max(1)).step_by(chunk) {
            for (row, sums) in (self.rows.0..self.rows.1).zip(sums.as_chunks_mut::<C>().0.as_chunks_mut::<R>().0) {
                let mut sum = if from == 0 { [[simd.splat_f32s(0.0); C]; R] } else { *sums };
                let part = rows.part(row, from, from + chunk);
                sum = add_kernels::<S, R, C>(simd, sum, packed, self.plane, self.convolution, part, &tile.taps);
                if from + chunk >= channels {
                    let stage = Stage::new(simd, &self.convolution.epilogue, row);
                    for sum in sum.iter_mut().flatten() {
                        *sum = stage.apply(simd, *sum);
                    }
                }
                *sums = sum;
            }
        }
    }

    /// Copies the sums of a tile to their places in the result of every sample.
    #[inline(always)]
    fn store(&mut self, lattice: &Lattice, shape: (usize, usize), at: [usize; 2], lanes: usize, sums: &[f32]) {
        let [height, width] = self.convolution.out_size;
        let (high, wide) = shape;
        for (filter, sums) in sums.chunks_exact(high * wide * lanes).take(self.rows.1 - self.rows.0).enumerate() {
            for (lane, out) in self.out.iter_mut().enumerate() {
                let out = &mut out[filter * height * width..][..height * width];
                for (y, sums) in sums.chunks_exact(wide * lanes).enumerate() {
                    let row = lattice.origin[0] + lattice.step[0] * (at[0] + y);
                    let start = row * width + lattice.origin[1] + lattice.step[1] * at[1];
                    let out = &mut out[start..][..(wide - 1) * lattice.step[1] + 1];
                    for (to, sums) in out.iter_mut().step_by(lattice.step[1]).zip(sums.chunks_exact(lanes)) {
                        *to = sums[lane];
                    }
                }
            }
        }
    }
}

/// Returns the sums as elements, lane by lane.
#[inline(always)]
fn sums_of<S: Simd>(sums: &[S::f32s]) -> &[f32] {
    pulp::bytemuck::cast_slice(sums)
}

/// Adds the products of the kernels of `part` with the source to the sums of a tile.
#[inline(always)]
fn add_kernels<S: Simd, const R: usize, const C: usize>(
    simd: S,
    mut sum: [[S::f32s; C]; R],
    packed: &[S::f32s],
    plane: usize,
    convolution: &Convolution,
    part: Part,
    taps: &[TileTap],
) -> [[S::f32s; C]; R] {
    for place in 0..part.len() {
        let (channel, kernel) = part.entry(place);
        let source = &packed[channel * plane..][..plane];
        let weights = &convolution.values[kernel * convolution.taps..][..convolution.taps];
        for tap in taps {
            let weight = simd.splat_f32s(weights[tap.weight]);
            // The ranges that occur often have constant bounds, so that their code has no branches.
            match tap.columns {
                (0, to) if to == C => add_tap(simd, &mut sum, source, weight, tap, 0, C),
                (1, to) if to == C => add_tap(simd, &mut sum, source, weight, tap, 1, C),
                (0, to) if to + 1 == C => add_tap(simd, &mut sum, source, weight, tap, 0, C - 1),
                (from, to) => add_tap_by_column(simd, &mut sum, source, weight, tap, from, to),
            }
        }
    }
    sum
}

/// Adds one tap to the columns from `from` on and below `to`, which are constants at every call.
#[inline(always)]
fn add_tap<S: Simd, const R: usize, const C: usize>(
    simd: S,
    sum: &mut [[S::f32s; C]; R],
    source: &[S::f32s],
    weight: S::f32s,
    tap: &TileTap,
    from: usize,
    to: usize,
) {
    for (row, sum) in sum.iter_mut().enumerate() {
        if tap.rows.0 <= row && row < tap.rows.1 {
            let source = &source[tap.start.wrapping_add(row * tap.step)..][..to - from];
            for (sum, &source) in sum[from..to].iter_mut().zip(source) {
                *sum = mul_add(simd, weight, source, *sum);
            }
        }
    }
}

/// Adds one tap as [`add_tap`] does, for bounds known only at run time.
///
/// The loop over the columns has a constant length and tests the bounds inside, so that the sums stay in registers.
#[inline(always)]
fn add_tap_by_column<S: Simd, const R: usize, const C: usize>(
    simd: S,
    sum: &mut [[S::f32s; C]; R],
    source: &[S::f32s],
    weight: S::f32s,
    tap: &TileTap,
    from: usize,
    to: usize,
) {
    for (row, sum) in sum.iter_mut().enumerate() {
        if tap.rows.0 <= row && row < tap.rows.1 {
            let source = &source[tap.start.wrapping_add(row * tap.step)..];
            for (column, sum) in sum.iter_mut().enumerate() {
                if from <= column && column < to {
                    *sum = mul_add(simd, weight, source[column - from], *sum);
                }
            }
        }
    }
}
