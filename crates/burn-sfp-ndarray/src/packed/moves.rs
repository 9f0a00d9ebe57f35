//! Which elements of a map are copied where: computed once for all filters, since each of them is copied to the same places.

use super::axis::Axis;
use super::plan::Shifted;

/// The copies of a filter.
pub(super) struct Moves {
    /// Distance between the elements of a run in the map.
    stride: usize,
    /// Samples with their runs.
    samples: Vec<(usize, Vec<Run>)>,
    /// Whether there are elements between the runs, which are zero.
    pub(super) has_gaps: bool,
}

/// Elements of a row of the map that are written one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// Place of the first one in the map.
    from: usize,
    /// Place to which it is written.
    to: usize,
    length: usize,
}

impl Moves {
    /// Returns the copies of the rows that some output rows read, phase by phase.
    ///
    /// * `parts`: sample, first output row, number of output rows; each part is written behind the one before.
    pub(super) fn shifted(
        [rows, columns]: [&Axis; 2],
        sizes: &Shifted,
        parts: impl Iterator<Item = (usize, usize, usize)>,
    ) -> Self {
        let mut place = 0;
        let mut samples = Vec::new();
        for (sample, row, height) in parts {
            let mut runs = Vec::with_capacity(sizes.planes() * (height + sizes.reach));
            for &down in &sizes.phases[0] {
                let first = row * rows.stride + down;
                let inside = rows.inside(first, height + sizes.reach);
                for &along in &sizes.phases[1] {
                    let across = columns.inside(along, sizes.length);
                    if !across.is_empty() {
                        let start = columns.element(along + across.start * columns.stride);
                        runs.extend(inside.clone().map(|row| Run {
                            from: rows.element(first + row * rows.stride) * columns.input + start,
                            to: place + row * sizes.pitch + across.start,
                            length: across.len(),
                        }));
                    }
                    place += sizes.plane;
                }
            }
            samples.push((sample, runs));
        }
        Self { stride: columns.stride, samples, has_gaps: true }
    }

    /// Returns the copies of what every tap reads, tap by tap, `width` apart, at the positions of some parts: sample, first position,
    /// number of positions.
    pub(super) fn gathered([rows, columns]: [&Axis; 2], width: usize, parts: &[(usize, usize, usize)]) -> Self {
        let mut samples: Vec<_> = parts.iter().map(|&(sample, ..)| (sample, Vec::new())).collect();
        let mut written = 0;
        for (down, along) in (0..rows.taps()).flat_map(|down| (0..columns.taps()).map(move |along| (down, along))) {
            let across = columns.inside(columns.offset(along), columns.output);
            let mut to = (down * columns.taps() + along) * width;
            for (&(_, first, length), (_, runs)) in parts.iter().zip(&mut samples) {
                let (mut at, end) = (first, first + length);
                while at < end {
                    let (row, column) = (at / columns.output, at % columns.output);
                    let count = (columns.output - column).min(end - at);
                    let padded = row * rows.stride + rows.offset(down);
                    let start = across.start.clamp(column, column + count);
                    let stop = across.end.clamp(start, column + count);
                    if start < stop && !rows.inside(padded, 1).is_empty() {
                        let element = columns.element(columns.offset(along) + start * columns.stride);
                        runs.push(Run {
                            from: rows.element(padded) * columns.input + element,
                            to: to + start - column,
                            length: stop - start,
                        });
                        written += stop - start;
                    }
                    to += count;
                    at += count;
                }
            }
        }
        let positions: usize = parts.iter().map(|&(.., length)| length).sum();
        let has_gaps = written < positions * rows.taps() * columns.taps();
        Self { stride: columns.stride, samples, has_gaps }
    }

    /// Copies a filter.
    ///
    /// * `map`: returns the map of that filter for a sample; what lies behind it is read faster where it is there.
    #[inline(always)]
    pub(super) fn copy<'a>(&self, map: impl Fn(usize) -> &'a [f32], to: &mut [f32]) {
        for (sample, runs) in &self.samples {
            let map = map(*sample);
            let runs = runs.iter();
            match self.stride {
                1 => runs.for_each(|run| copy_all(&map[run.from..][..run.length], &mut to[run.to..][..run.length])),
                2 => runs.for_each(|run| copy_some::<2, 32, 16, 8>(&map[run.from..], &mut to[run.to..][..run.length])),
                4 => runs.for_each(|run| copy_some::<4, 64, 32, 16>(&map[run.from..], &mut to[run.to..][..run.length])),
                stride => runs.for_each(|run| copy_every(&map[run.from..], stride, &mut to[run.to..][..run.length])),
            }
        }
    }
}

/// Copies slices of the same length, in vectors of which the last one overlaps the one before it.
#[inline(always)]
pub(super) fn copy_all(from: &[f32], to: &mut [f32]) {
    match to.len() {
        16.. => copy_whole::<16>(from, to),
        8.. => copy_whole::<8>(from, to),
        4.. => copy_whole::<4>(from, to),
        _ => to.iter_mut().zip(from).for_each(|(to, &from)| *to = from),
    }
}

/// Copies at least `N` elements.
#[inline(always)]
fn copy_whole<const N: usize>(from: &[f32], to: &mut [f32]) {
    if let (Some(to), Some(from)) = (to.last_chunk_mut::<N>(), from.last_chunk::<N>()) {
        *to = *from;
    }
    for (to, from) in to.as_chunks_mut::<N>().0.iter_mut().zip(from.as_chunks::<N>().0) {
        *to = *from;
    }
}

/// Copies every `S`-th element; `T`, `E` and `F` are `16 * S`, `8 * S` and `4 * S`.
#[inline(always)]
fn copy_some<const S: usize, const T: usize, const E: usize, const F: usize>(from: &[f32], to: &mut [f32]) {
    match to.len() {
        16.. => copy_vectors::<S, 16, T>(from, to),
        8.. => copy_vectors::<S, 8, E>(from, to),
        4.. => copy_vectors::<S, 4, F>(from, to),
        _ => copy_every(from, S, to),
    }
}

/// Copies every `S`-th element, at least `N`, which are as many as a vector holds; `D` is `S * N`.
#[inline(always)]
fn copy_vectors<const S: usize, const N: usize, const D: usize>(from: &[f32], to: &mut [f32]) {
    let length = to.len();
    for at in (0..length).step_by(N) {
        // The last ones overlap those before.
        let at = at.min(length - N);
        let (from, to) = (&from[S * at..], &mut to[at..at + N]);
        match from.first_chunk::<D>() {
            // Constant places are compiled to shuffles.
            Some(from) => {
                let mut some = [0.0; N];
                for place in 0..N {
                    some[place] = from[S * place];
                }
                to.copy_from_slice(&some);
            }
            None => copy_every(from, S, to),
        }
    }
}

/// Copies every `stride`-th element.
#[inline(always)]
fn copy_every(from: &[f32], stride: usize, to: &mut [f32]) {
    for (to, &from) in to.iter_mut().zip(from.iter().step_by(stride)) {
        *to = from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_stride() {
        let from: Vec<f32> = (0..400).map(|value| value as f32).collect();
        for stride in 1_usize..6 {
            for length in 0..70 {
                // With and without elements behind the last one that is read.
                for end in [(stride * length).saturating_sub(stride - 1), from.len()] {
                    let run = Run { from: 0, to: 2, length };
                    let moves = Moves { stride, samples: vec![(3, vec![run])], has_gaps: true };
                    let mut to = vec![-1.0; length + 5];
                    moves.copy(|sample| if sample == 3 { &from[..end] } else { &[] }, &mut to);
                    let copied = (0..length).map(|place| (stride * place) as f32);
                    let expected: Vec<f32> = [-1.0; 2].into_iter().chain(copied).chain([-1.0; 3]).collect();
                    assert_eq!(to, expected, "{stride}, {length}");
                }
            }
        }
    }
}
