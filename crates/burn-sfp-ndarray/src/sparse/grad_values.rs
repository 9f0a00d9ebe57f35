//! The gradient with respect to the kernels: a dot product of an input filter and an output filter for every tap.
//!
//! Both layouts of [`super`] work, since the source and the gradient use the same one. The lanes are added up at the end,
//! once per tap.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::vector::{Aligned, mul_add};

use super::geometry::{Lattice, Tap};
use super::pack::{Columns, Copies, Source, Stretch, samples_to_lanes};
use super::rows::Rows;
use super::tile::Tile;

/// Bytes of a filter that are processed together; this part of source and gradient stays in the first-level cache.
const STRETCH: usize = 1 << 13;
/// Vectors of positions in a block.
const WIDTH: usize = 8;
/// Desired number of tasks.
const TASKS: usize = 64;

/// A run of vectors of the gradient and the run of vectors of the source that they are multiplied with.
#[derive(Clone, Copy)]
struct Segment {
    /// First vector of the gradient, within its filter.
    grad: usize,
    /// First vector of the source, within its filter.
    source: usize,
    length: usize,
}

/// Computes the gradient with samples as lanes.
#[expect(clippy::too_many_arguments)]
pub(super) fn by_samples(
    arch: Arch,
    lanes: usize,
    source: Source,
    grad: Source,
    lattice: &Lattice,
    columns: &Columns,
    rows: &Rows,
    out: &mut [f32],
) {
    let packed = samples_to_lanes(source, lanes, columns);
    let packed_grad = samples_to_lanes(grad, lanes, &Columns::new(lattice.size[1], 1));
    // Stretches of whole rows, as many as fit into the cache.
    let [height, width] = lattice.size;
    let high = (STRETCH / (width * lanes * size_of::<f32>()).max(1)).clamp(1, height.max(1));
    let mut stretches = Vec::new();
    for first in (0..height).step_by(high) {
        let shape = (high.min(height - first), width);
        let tile = Tile::new([first, 0], shape, lattice, [source.shape[2], source.shape[3]], columns);
        let mut taps = vec![Vec::new(); lattice.taps.len()];
        for tap in &tile.taps {
            let (from, to) = tap.columns;
            taps[tap.weight].extend((tap.rows.0..tap.rows.1).map(|row| Segment {
                grad: (first + row) * width + from,
                source: tap.start.wrapping_add(row * tap.step),
                length: to - from,
            }));
        }
        stretches.push(taps);
    }
    let work = Work {
        source: packed.as_slice(),
        grad: packed_grad.as_slice(),
        blocks: source.shape[0].div_ceil(lanes),
        channels: source.shape[1],
        source_filter: source.plane(),
        grad_filter: grad.plane(),
        stretches,
    };
    work.run(arch, rows, lattice.taps.len(), out);
}

/// Computes the gradient with positions as lanes.
pub(super) fn by_columns(
    arch: Arch,
    lanes: usize,
    source: Source,
    grad: Source,
    lattice: &Lattice,
    rows: &Rows,
    out: &mut [f32],
) {
    let taps = lattice.taps.len();
    let vectors = (source.shape[0] * lattice.positions()).div_ceil(lanes);
    let width = vectors.min(WIDTH);
    let blocks = vectors.div_ceil(width);
    // The gradient is read at its own positions.
    let here = Lattice { read: [1, 1], taps: vec![Tap { weight: 0, shift: [0, 0] }], ..lattice.clone() };
    let pack = |source: Source, lattice: &Lattice| {
        let copies = Copies::of_taps(lattice, width * lanes);
        let block = source.shape[1] * copies.length;
        let mut packed = Aligned::zeros(blocks * block);
        packed.as_mut_slice().par_chunks_mut(block.max(1)).enumerate().for_each(|(index, packed)| {
            copies.pack(source, lattice, Stretch::Any(index * width * lanes), packed);
        });
        (packed, copies)
    };
    let (packed, copies) = pack(source, lattice);
    let (packed_grad, grad_copies) = pack(grad, &here);
    let segment = |&start: &usize| vec![Segment { grad: 0, source: start / lanes, length: width }];
    let work = Work {
        source: packed.as_slice(),
        grad: packed_grad.as_slice(),
        blocks,
        channels: source.shape[1],
        source_filter: copies.length / lanes,
        grad_filter: grad_copies.length / lanes,
        stretches: vec![copies.taps.iter().map(segment).collect()],
    };
    work.run(arch, rows, taps, out);
}

/// Source and gradient, packed, and the runs to multiply.
struct Work<'a> {
    /// `[block][input filter][vector]`.
    source: &'a [f32],
    /// `[block][output filter][vector]`.
    grad: &'a [f32],
    blocks: usize,
    /// Number of input filters.
    channels: usize,
    /// Vectors of an input filter in a block.
    source_filter: usize,
    /// Vectors of an output filter in a block.
    grad_filter: usize,
    /// `[stretch][tap]`: the runs whose products are summed.
    stretches: Vec<Vec<Vec<Segment>>>,
}

impl Work<'_> {
    /// Fills `out`, `[kernel][tap]`.
    fn run(&self, arch: Arch, rows: &Rows, taps: usize, out: &mut [f32]) {
        let mut tasks = Vec::new();
        let mut rest = out;
        for cut in rows.cuts(TASKS).windows(2) {
            let (now, later) = rest.split_at_mut((rows.start(cut[1]) - rows.start(cut[0])) * taps);
            tasks.push(Task { work: self, rows, range: (cut[0], cut[1]), taps, out: now });
            rest = later;
        }
        tasks.into_par_iter().for_each(|task| arch.dispatch(task));
    }
}

/// The gradients of the kernels of a run of output filters.
struct Task<'a> {
    work: &'a Work<'a>,
    rows: &'a Rows<'a>,
    range: (usize, usize),
    taps: usize,
    /// `[kernel of the run][tap]`.
    out: &'a mut [f32],
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Work { blocks, channels, source_filter, grad_filter, .. } = *self.work;
        let (source, grad) = (S::as_simd_f32s(self.work.source).0, S::as_simd_f32s(self.work.grad).0);
        let outputs = self.rows.len();
        if let [taps] = &self.work.stretches[..]
            && blocks == 1
            && let Some(segments) = taps.iter().map(|of_tap| only(of_tap)).collect::<Option<Vec<_>>>()
        {
            // With a single block no sums have to be kept in memory between blocks.
            let mut out = self.out.chunks_exact_mut(self.taps);
            for row in self.range.0..self.range.1 {
                let part = self.rows.row(row);
                let grad = &grad[row * grad_filter..][..grad_filter];
                for (place, out) in (0..part.len()).zip(&mut out) {
                    let (channel, _) = part.entry(place);
                    let source = &source[channel * source_filter..][..source_filter];
                    for (out, segment) in out.iter_mut().zip(&segments) {
                        let grad = &grad[segment.grad..][..segment.length];
                        let source = &source[segment.source..][..segment.length];
                        let mut sum = simd.splat_f32s(0.0);
                        for (&grad, &source) in grad.iter().zip(source) {
                            sum = mul_add(simd, grad, source, sum);
                        }
                        *out = simd.reduce_sum_f32s(sum);
                    }
                }
            }
            return;
        }
        let mut sums = vec![simd.splat_f32s(0.0); self.taps];
        let mut out = self.out.chunks_exact_mut(self.taps);
        for row in self.range.0..self.range.1 {
            let part = self.rows.row(row);
            for (place, out) in (0..part.len()).zip(&mut out) {
                let (channel, _) = part.entry(place);
                sums.fill(simd.splat_f32s(0.0));
                for block in 0..blocks {
                    let source = &source[(block * channels + channel) * source_filter..][..source_filter];
                    let grad = &grad[(block * outputs + row) * grad_filter..][..grad_filter];
                    for taps in &self.work.stretches {
                        for (sum, segments) in sums.iter_mut().zip(taps) {
                            *sum = simd.add_f32s(*sum, dot(simd, grad, source, segments));
                        }
                    }
                }
                for (out, &sum) in out.iter_mut().zip(&sums) {
                    *out = simd.reduce_sum_f32s(sum);
                }
            }
        }
    }
}

/// Returns the segment of a list that has exactly one.
fn only(segments: &[Segment]) -> Option<Segment> {
    if let [segment] = segments { Some(*segment) } else { None }
}

/// Computes the dot product lane by lane.
#[inline(always)]
fn dot<S: Simd>(simd: S, grad: &[S::f32s], source: &[S::f32s], segments: &[Segment]) -> S::f32s {
    // A sum accepts a product only every fourth cycle, so there are four partial sums.
    let mut sums = [simd.splat_f32s(0.0); 4];
    for segment in segments {
        let grad = &grad[segment.grad..][..segment.length];
        let source = &source[segment.source..][..segment.length];
        let (fours, rest) = grad.as_chunks::<4>();
        let (source_fours, source_rest) = source.as_chunks::<4>();
        for (grad, source) in fours.iter().zip(source_fours) {
            for (sum, (&grad, &source)) in sums.iter_mut().zip(grad.iter().zip(source)) {
                *sum = mul_add(simd, grad, source, *sum);
            }
        }
        for (sum, (&grad, &source)) in sums.iter_mut().zip(rest.iter().zip(source_rest)) {
            *sum = mul_add(simd, grad, source, *sum);
        }
    }
    simd.add_f32s(simd.add_f32s(sums[0], sums[1]), simd.add_f32s(sums[2], sums[3]))
}
