//! Copies of the input that the register tiles read.

use pulp::Simd;

use super::axis::Axis;
use super::plan::{Layout, Plan, Shifted, Unit};

/// What the copies into the source of a unit need besides the input.
pub(super) struct Filler<'a> {
    plan: &'a Plan,
    unit: &'a Unit,
    /// The rows that the parts of a gathered unit read, in the shifted layout, part after part.
    rows: Vec<f32>,
    /// Consecutive positions of a gathered unit that are consecutive in `rows`: place there, length.
    runs: Vec<(usize, usize)>,
    /// Where each tap of a gathered unit reads in `rows`, before the place of a run.
    taps: Vec<usize>,
}

impl<'a> Filler<'a> {
    pub(super) fn new(plan: &'a Plan, unit: &'a Unit, lanes: usize) -> Self {
        let (mut rows, mut runs, mut taps) = (Vec::new(), Vec::new(), Vec::new());
        if let Layout::Gathered(Some(sizes)) = &plan.layout {
            let width = plan.columns.output;
            for (part, &(_, first, length)) in unit.parts.iter().enumerate() {
                let (mut at, end) = (first, first + length);
                while at < end {
                    let column = at % width;
                    let count = (width - column).min(end - at);
                    let row = at / width - first / width;
                    runs.push((part * sizes.planes() * sizes.plane + row * sizes.pitch + column, count));
                    at += count;
                }
            }
            taps = sizes.taps(&plan.rows, &plan.columns);
            // A run is copied in whole vectors.
            rows = vec![0.0; unit.parts.len() * sizes.planes() * sizes.plane + lanes];
        }
        Self { plan, unit, rows, runs, taps }
    }

    /// Copies one input filter into the source, of which `channel` is the part from that filter on.
    ///
    /// * `plane`: returns the map of that filter for a sample.
    #[inline(always)]
    pub(super) fn fill<'b, S: Simd>(&mut self, simd: S, plane: impl Fn(usize) -> &'b [f32], channel: &mut [f32]) {
        let (plan, unit) = (self.plan, self.unit);
        match &plan.layout {
            Layout::Shifted(sizes) => {
                let (sample, _, length) = unit.parts[0];
                let height = length / plan.columns.output;
                shifted(simd, plan, sizes, [unit.row, height], plane(sample), &mut channel[..plan.channel]);
            }
            Layout::Gathered(Some(sizes)) => {
                let each = sizes.planes() * sizes.plane;
                let width = plan.columns.output;
                for (&(sample, first, length), rows) in unit.parts.iter().zip(self.rows.chunks_exact_mut(each)) {
                    let row = first / width;
                    let height = (first + length - 1) / width + 1 - row;
                    shifted(simd, plan, sizes, [row, height], plane(sample), rows);
                }
                for (tap, &from) in self.taps.iter().enumerate() {
                    let mut to = tap * plan.width();
                    // What is written behind a run belongs to the next one, or tap, or filter.
                    for &(place, length) in &self.runs {
                        copy_vectors::<S>(&self.rows[from + place..], length, &mut channel[to..]);
                        to += length;
                    }
                }
            }
            Layout::Gathered(None) => {
                let axes = [&plan.rows, &plan.columns];
                gathered(simd, axes, plan.width(), &unit.parts, plane, &mut channel[..plan.channel]);
            }
        }
    }
}

/// Copies some elements in whole vectors: what lies behind them is overwritten.
#[inline(always)]
fn copy_vectors<S: Simd>(from: &[f32], length: usize, to: &mut [f32]) {
    let vectors = length.div_ceil(S::F32_LANES);
    let from = &S::as_simd_f32s(from).0[..vectors];
    for (to, &from) in S::as_mut_simd_f32s(to).0[..vectors].iter_mut().zip(from) {
        *to = from;
    }
}

/// Writes the rows that `height` output rows from `row` on read, phase by phase.
#[inline(always)]
fn shifted<S: Simd>(
    simd: S,
    plan: &Plan,
    sizes: &Shifted,
    [row, height]: [usize; 2],
    plane: &[f32],
    channel: &mut [f32],
) {
    let (rows, columns) = (&plan.rows, &plan.columns);
    let count = height + sizes.reach;
    let mut planes = channel.chunks_exact_mut(sizes.plane);
    for &down in &sizes.phases[0] {
        let first = row * rows.stride + down;
        let inside = rows.inside(first, count);
        for (&along, to) in sizes.phases[1].iter().zip(&mut planes) {
            let across = columns.inside(along, sizes.length);
            if across.len() < sizes.pitch || inside.len() < count {
                to.fill(0.0);
            }
            if across.is_empty() {
                continue;
            }
            let start = columns.element(along + across.start * columns.stride);
            for row in inside.clone() {
                let from = rows.element(first + row * rows.stride) * columns.input + start;
                let to = &mut to[row * sizes.pitch + across.start..][..across.len()];
                copy(simd, &plane[from..], columns.stride, to);
            }
        }
    }
}

/// Writes what every tap reads, tap by tap, `width` apart, at the positions of some parts: sample, first position, number of positions.
#[inline(always)]
pub(super) fn gathered<'a, S: Simd>(
    simd: S,
    [rows, columns]: [&Axis; 2],
    width: usize,
    parts: &[(usize, usize, usize)],
    plane: impl Fn(usize) -> &'a [f32],
    channel: &mut [f32],
) {
    let mut taps = channel.chunks_exact_mut(width);
    for down in 0..rows.taps() {
        for (along, to) in (0..columns.taps()).zip(&mut taps) {
            let across = columns.inside(columns.offset(along), columns.output);
            let mut rest = to;
            for &(sample, first, length) in parts {
                let plane = plane(sample);
                let (mut at, end) = (first, first + length);
                while at < end {
                    let (row, column) = (at / columns.output, at % columns.output);
                    let count = (columns.output - column).min(end - at);
                    let (to, later) = rest.split_at_mut(count);
                    rest = later;
                    at += count;
                    let padded = row * rows.stride + rows.offset(down);
                    let start = across.start.clamp(column, column + count);
                    let stop = across.end.clamp(start, column + count);
                    if rows.inside(padded, 1).is_empty() || start == stop {
                        to.fill(0.0);
                        continue;
                    }
                    let from = rows.element(padded) * columns.input
                        + columns.element(columns.offset(along) + start * columns.stride);
                    to[..start - column].fill(0.0);
                    copy(simd, &plane[from..], columns.stride, &mut to[start - column..stop - column]);
                    to[stop - column..].fill(0.0);
                }
            }
        }
    }
}

/// Copies every `stride`-th element.
#[inline(always)]
pub(super) fn copy<S: Simd>(simd: S, from: &[f32], stride: usize, to: &mut [f32]) {
    match (stride, to.len()) {
        (1, _) => copy_all(simd, &from[..to.len()], to),
        // Constant lengths are compiled to shuffles.
        (2, 16..) => copy_every::<2, 16, 31>(from, to),
        (2, 8..) => copy_every::<2, 8, 15>(from, to),
        (2, 4..) => copy_every::<2, 4, 7>(from, to),
        (4, 16..) => copy_every::<4, 16, 61>(from, to),
        (4, 8..) => copy_every::<4, 8, 29>(from, to),
        (4, 4..) => copy_every::<4, 4, 13>(from, to),
        _ => {
            for (to, &from) in to.iter_mut().zip(from.iter().step_by(stride)) {
                *to = from;
            }
        }
    }
}

/// Copies slices of the same length.
#[inline(always)]
pub(super) fn copy_all<S: Simd>(simd: S, from: &[f32], to: &mut [f32]) {
    let length = to.len();
    let (vectors, rest) = S::as_mut_simd_f32s(to);
    let (whole, tail) = S::as_simd_f32s(from);
    for (to, &from) in vectors.iter_mut().zip(whole) {
        *to = from;
    }
    if rest.is_empty() {
        return;
    }
    match length.checked_sub(S::F32_LANES) {
        // A vector that overlaps the one before it takes less time than a part of a vector.
        Some(last) => copy_vectors::<S>(&from[last..], S::F32_LANES, &mut to[last..]),
        None => simd.partial_store_f32s(rest, simd.partial_load_f32s(tail)),
    }
}

/// Copies every `S`-th element, `N` at a time, which lie among `M` = `S` (`N` - 1) + 1; at least `N` in all.
#[inline(always)]
fn copy_every<const S: usize, const N: usize, const M: usize>(from: &[f32], to: &mut [f32]) {
    let length = to.len();
    for at in (0..length).step_by(N) {
        // The last ones overlap those before.
        let at = at.min(length - N);
        if let (Some(to), Some(from)) = (to[at..].first_chunk_mut::<N>(), from[S * at..].first_chunk::<M>()) {
            for place in 0..N {
                to[place] = from[S * place];
            }
        }
    }
}
