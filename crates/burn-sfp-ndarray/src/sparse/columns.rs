//! Sparse convolution for small batches and for kernels of one element: the lanes of a vector hold neighbouring output
//! positions, counted over all samples.
//!
//! Every tap has a shifted copy of the source, so that for any stride, dilation and padding a tap is one product of a
//! vector and a weight. Where every row is read, the taps of one column share a copy.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::vector::{Aligned, mul_add};

use super::Convolution;
use super::geometry::Lattice;
use super::pack::{Copies, Source, Stretch};
use super::rows::Part;
use super::windows::Windows;
use crate::epilogue::Stage;

/// Numbers of vectors per block for which the inner loop is compiled.
const WIDTHS: [usize; 6] = [1, 2, 3, 4, 6, 8];
/// Most bytes of copies that are made at once.
const COPIES: usize = 1 << 23;
/// Desired number of tasks.
const TASKS: usize = 64;
/// Elements of the result that one task stores.
const STORE: usize = 1 << 12;
/// Fewest products that are worth a task.
const TASK: usize = 1 << 13;

/// The cut of the positions of a lattice into blocks of some vectors each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blocks {
    /// Number of blocks.
    pub(super) count: usize,
    /// Vectors of a block.
    pub(super) width: usize,
    /// Blocks per sample, when no block holds positions of two samples; the taps of a column then share a copy.
    pub(super) of_sample: Option<usize>,
}

impl Blocks {
    /// Returns the cheapest cut of the positions of all samples whose sums fit into half of the `registers`.
    pub(super) fn new(lattice: &Lattice, samples: usize, lanes: usize, registers: usize) -> Self {
        let cut = |positions: usize| {
            let vectors = positions.div_ceil(lanes);
            (WIDTHS.iter().rev())
                .filter(|&&width| width <= registers / 2)
                .map(|&width| (vectors.div_ceil(width), width))
                .min_by_key(|(count, width)| width * count + count)
                .unwrap_or((vectors, 1))
        };
        let (count, width) = cut(samples * lattice.positions());
        let any = Self { count, width, of_sample: None };
        let several_rows = lattice.taps.windows(2).any(|pair| pair[0].shift[0] != pair[1].shift[0]);
        if lattice.read[0] > 1 || !several_rows {
            return any;
        }
        let (count, width) = cut(lattice.positions());
        let each = Self { count: samples * count, width, of_sample: Some(count) };
        // A single vector is read faster from a copy per tap, where it lies within one cache line.
        if each.width > 1 && each.cost(lattice) <= any.cost(lattice) { each } else { any }
    }

    /// Returns the estimated time of one kernel, in products of a vector and a weight.
    pub(super) fn cost(&self, lattice: &Lattice) -> usize {
        let products = self.count * self.width * lattice.taps.len();
        // Copies for several taps do not fit into the first-level cache.
        if lattice.taps.len() > 1 && self.of_sample.is_none() { 2 * products } else { products }
    }

    /// Returns the layout of the copies that the blocks read.
    fn copies(&self, lattice: &Lattice, lanes: usize) -> Copies {
        match self.of_sample {
            Some(_) => Copies::of_columns(lattice, self.width * lanes),
            None => Copies::of_taps(lattice, self.width * lanes),
        }
    }

    /// Returns the positions of a block.
    fn stretch(&self, block: usize, lanes: usize) -> Stretch {
        match self.of_sample {
            Some(count) => Stretch::Of(block / count, block % count * self.width * lanes),
            None => Stretch::Any(block * self.width * lanes),
        }
    }
}

/// Runs the convolution; `cuts` has one entry per lattice.
pub(super) fn run(
    arch: Arch,
    lanes: usize,
    source: Source,
    convolution: &Convolution,
    cuts: &[Blocks],
    out: &mut [f32],
) {
    let [samples, channels, ..] = source.shape;
    let outputs = convolution.rows.len();
    for (lattice, cut) in convolution.lattices.iter().zip(cuts) {
        let copies = cut.copies(lattice, lanes);
        let block_length = channels * copies.length;
        let length = cut.width * lanes;
        let wave = (COPIES / (block_length * size_of::<f32>()).max(1)).clamp(1, cut.count.max(1));
        let mut packed = Aligned::zeros(wave * block_length);
        let mut sums = Aligned::zeros(cut.count * outputs * length);
        let products = convolution.rows.entries() * lattice.taps.len() * cut.width;
        let runs = convolution.rows.cuts(TASKS.div_ceil(wave).min(products / TASK + 1));
        let whole = (wave * outputs * length).max(1);
        for (first, sums) in (0..cut.count).step_by(wave).zip(sums.as_mut_slice().chunks_mut(whole)) {
            let blocks = wave.min(cut.count - first);
            if block_length > 0 {
                let packed = packed.as_mut_slice().par_chunks_mut(block_length).take(blocks).enumerate();
                packed.for_each(|(block, packed)| {
                    copies.pack(source, lattice, cut.stretch(first + block, lanes), packed);
                });
            }
            let mut tasks = Vec::new();
            let mut rest = sums;
            for block in 0..blocks {
                for run in runs.windows(2) {
                    let (now, later) = rest.split_at_mut((run[1] - run[0]) * length);
                    let packed = &packed.as_slice()[block * block_length..][..block_length];
                    let copies = &copies;
                    tasks.push(Task {
                        packed,
                        copies,
                        convolution,
                        lattice,
                        width: cut.width,
                        first: run[0],
                        sums: now,
                    });
                    rest = later;
                }
            }
            tasks.into_par_iter().for_each(|task| arch.dispatch(task));
        }
        store(lattice, cut, convolution.out_size, samples, length, sums.as_slice(), outputs, out);
    }
}

/// Copies the sums, `[block][filter][lane]`, to their places in the result.
#[expect(clippy::too_many_arguments)]
fn store(
    lattice: &Lattice,
    cut: &Blocks,
    [height, width]: [usize; 2],
    samples: usize,
    length: usize,
    sums: &[f32],
    outputs: usize,
    out: &mut [f32],
) {
    let plane = height * width;
    let each = lattice.positions();
    if outputs == 0 || each == 0 || samples == 0 {
        return;
    }
    // Filters of a sample that one task stores.
    let run = (STORE / plane).max(1);
    out.par_chunks_mut(plane * outputs).enumerate().for_each(|(sample, out)| {
        // Runs of positions whose sums are consecutive: first position, place of its sum in filter 0, length.
        let mut stretches = Vec::new();
        let mut start = 0;
        while start < each {
            let (block, lane) = match cut.of_sample {
                Some(count) => (sample * count + start / length, start % length),
                None => ((sample * each + start) / length, (sample * each + start) % length),
            };
            let count = (length - lane).min(each - start);
            stretches.push((start, block * outputs * length + lane, count));
            start += count;
        }
        out.par_chunks_mut(plane * run).enumerate().for_each(|(first, out)| {
            for (filter, out) in (first * run..).zip(out.chunks_exact_mut(plane)) {
                for &(start, place, count) in &stretches {
                    let sums = &sums[place + filter * length..][..count];
                    if lattice.step == [1, 1] {
                        for (to, &sum) in out[start..start + count].iter_mut().zip(sums) {
                            *to = sum;
                        }
                    } else {
                        for (position, &sum) in (start..).zip(sums) {
                            let row = lattice.origin[0] + lattice.step[0] * (position / lattice.size[1]);
                            let column = lattice.origin[1] + lattice.step[1] * (position % lattice.size[1]);
                            out[row * width + column] = sum;
                        }
                    }
                }
            }
        });
    });
}

/// The sums of a block of positions for a run of filters.
struct Task<'a> {
    /// `[channel][copy]`.
    packed: &'a [f32],
    copies: &'a Copies,
    convolution: &'a Convolution<'a>,
    lattice: &'a Lattice,
    /// Vectors of the block.
    width: usize,
    /// First filter of the run.
    first: usize,
    /// `[filter of the run][lane]`.
    sums: &'a mut [f32],
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.width {
            8 => self.filters::<S, 8, 1>(simd),
            6 => self.filters::<S, 6, 1>(simd),
            4 => self.filters::<S, 4, 3>(simd),
            3 => self.filters::<S, 3, 3>(simd),
            2 => self.filters::<S, 2, 3>(simd),
            _ => self.filters::<S, 1, 9>(simd),
        }
    }
}

impl Task<'_> {
    /// Computes the sums of `W` vectors. Each sum is split into `U` partial sums, since a sum accepts a product only
    /// every fourth cycle.
    #[inline(always)]
    fn filters<S: Simd, const W: usize, const U: usize>(self, simd: S) {
        let sums = S::as_mut_simd_f32s(self.sums).0.as_chunks_mut::<W>().0;
        // Where each tap reads within a channel, and its index in the kernel.
        let taps: Vec<(usize, usize)> =
            self.copies.taps.iter().zip(&self.lattice.taps).map(|(&start, tap)| (start, tap.weight)).collect();
        let side = Side { packed: self.packed, channel: self.copies.length, taps: &taps };
        let nine = all_of(&taps, self.convolution.taps)
            .and_then(|starts| Windows::<S, W, 9>::new(self.packed, self.copies.length, starts));
        for (row, sums) in (self.first..).zip(sums) {
            let part = self.convolution.rows.row(row);
            let sum = match (&taps[..], nine) {
                (&[(_, tap)], _) => one_tap::<S, W, U>(simd, side, self.convolution, tap, part),
                (_, Some(windows)) => all_taps::<S, W, U, 9>(simd, &windows, self.convolution.values, part),
                _ => many_taps::<S, W, U>(simd, side, self.convolution, part),
            };
            let stage = Stage::new(simd, &self.convolution.epilogue, row);
            for (to, sum) in sums.iter_mut().zip(sum) {
                *to = stage.apply(simd, sum);
            }
        }
    }
}

/// The packed source of a block.
#[derive(Clone, Copy)]
struct Side<'a> {
    packed: &'a [f32],
    /// Elements of a channel.
    channel: usize,
    /// Where each tap reads within a channel, and its index in the kernel.
    taps: &'a [(usize, usize)],
}

impl Side<'_> {
    /// Returns `W` vectors of a channel from `start` on.
    #[inline(always)]
    fn at<S: Simd, const W: usize>(&self, channel: usize, start: usize) -> &[S::f32s] {
        S::as_simd_f32s(&self.packed[channel * self.channel + start..][..W * S::F32_LANES]).0
    }
}

/// Computes the sums of a filter whose kernels have one tap; neighbouring kernels go to different partial sums.
#[inline(always)]
fn one_tap<S: Simd, const W: usize, const U: usize>(
    simd: S,
    side: Side,
    convolution: &Convolution,
    tap: usize,
    part: Part,
) -> [S::f32s; W] {
    let mut sums = [[simd.splat_f32s(0.0); W]; U];
    let even = part.len() / U * U;
    for first in (0..even).step_by(U) {
        for (unit, sum) in sums.iter_mut().enumerate() {
            let (channel, kernel) = part.entry(first + unit);
            let weight = convolution.values[kernel * convolution.taps + tap];
            add_vectors(simd, sum, side.at::<S, W>(channel, 0), weight);
        }
    }
    for place in even..part.len() {
        let (channel, kernel) = part.entry(place);
        let weight = convolution.values[kernel * convolution.taps + tap];
        add_vectors(simd, &mut sums[0], side.at::<S, W>(channel, 0), weight);
    }
    total(simd, sums)
}

/// Returns where each tap reads, if there are `T` taps and they are the whole kernel in its order.
fn all_of<const T: usize>(taps: &[(usize, usize)], of_kernel: usize) -> Option<[usize; T]> {
    let taps: &[(usize, usize); T] = taps.try_into().ok()?;
    let whole = of_kernel == T && taps.iter().enumerate().all(|(place, &(_, tap))| place == tap);
    whole.then(|| taps.map(|(start, _)| start))
}

/// Computes the same as [`many_taps`] for kernels whose `T` taps are all used, without reading the list of taps.
#[inline(always)]
fn all_taps<S: Simd, const W: usize, const U: usize, const T: usize>(
    simd: S,
    windows: &Windows<S, W, T>,
    values: &[f32],
    part: Part,
) -> [S::f32s; W] {
    let mut sums = [[simd.splat_f32s(0.0); W]; U];
    let kernels = values.as_chunks::<T>().0;
    for place in 0..part.len() {
        let (channel, kernel) = part.entry(place);
        let source = windows.channel(channel);
        for (tap, &weight) in kernels[kernel].iter().enumerate() {
            add_vectors(simd, &mut sums[tap % U], source.at(tap), weight);
        }
    }
    total(simd, sums)
}

/// Computes the sums of a filter whose kernels have several taps; neighbouring taps go to different partial sums.
#[inline(always)]
fn many_taps<S: Simd, const W: usize, const U: usize>(
    simd: S,
    side: Side,
    convolution: &Convolution,
    part: Part,
) -> [S::f32s; W] {
    let mut sums = [[simd.splat_f32s(0.0); W]; U];
    let (groups, rest) = side.taps.as_chunks::<U>();
    for place in 0..part.len() {
        let (channel, kernel) = part.entry(place);
        let weights = &convolution.values[kernel * convolution.taps..][..convolution.taps];
        for group in groups {
            for (sum, &(start, tap)) in sums.iter_mut().zip(group) {
                add_vectors(simd, sum, side.at::<S, W>(channel, start), weights[tap]);
            }
        }
        // The number of steps is constant, so that the sums stay in registers.
        for (unit, sum) in sums.iter_mut().enumerate() {
            if let Some(&(start, tap)) = rest.get(unit) {
                add_vectors(simd, sum, side.at::<S, W>(channel, start), weights[tap]);
            }
        }
    }
    total(simd, sums)
}

/// Adds the first `W` vectors of `source`, times a weight.
#[inline(always)]
fn add_vectors<S: Simd, const W: usize>(simd: S, sum: &mut [S::f32s; W], source: &[S::f32s], weight: f32) {
    let weight = simd.splat_f32s(weight);
    for (sum, &source) in sum.iter_mut().zip(source) {
        *sum = mul_add(simd, weight, source, *sum);
    }
}

/// Adds up the partial sums.
#[inline(always)]
fn total<S: Simd, const W: usize, const U: usize>(simd: S, sums: [[S::f32s; W]; U]) -> [S::f32s; W] {
    let mut total = sums[0];
    for sums in &sums[1..] {
        for (total, &sum) in total.iter_mut().zip(sums) {
            *total = simd.add_f32s(*total, sum);
        }
    }
    total
}
