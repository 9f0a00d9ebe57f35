//! Copies of the source of a convolution, rearranged so that the lanes of a vector undergo the same operations.

use rayon::prelude::*;

use crate::vector::Aligned;

use super::geometry::Lattice;

/// Positions that are copied together when samples become lanes; their vectors fit into the first-level cache.
const STRIP: usize = 64;

/// A row-major source `[N, C, H, W]`.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) elements: &'a [f32],
    /// `[N, C, H, W]`.
    pub(super) shape: [usize; 4],
}

impl Source<'_> {
    /// Returns the number of elements of a channel of one sample.
    pub(super) fn plane(&self) -> usize {
        self.shape[2] * self.shape[3]
    }
}

/// The order of the columns in packed rows: columns equal modulo the stride are adjacent.
///
/// So the columns that neighbouring output positions read are neighbours for any stride.
pub(super) struct Columns {
    stride: usize,
    width: usize,
}

impl Columns {
    pub(super) fn new(width: usize, stride: usize) -> Self {
        Self { stride, width }
    }

    /// Returns the first packed place of the columns equal to `phase` modulo the stride, and their number.
    pub(super) fn phase(&self, phase: usize) -> (usize, usize) {
        let count = |phase: usize| (self.width + self.stride - 1 - phase) / self.stride;
        // The phases that hold one column more than the others come first.
        let (whole, more) = (self.width / self.stride, self.width % self.stride);
        (phase * whole + phase.min(more), count(phase))
    }

    /// Returns the packed place of every column.
    fn places(&self) -> Vec<usize> {
        (0..self.width).map(|column| self.phase(column % self.stride).0 + column / self.stride).collect()
    }
}

/// Copies the source so that samples become lanes: `[block of samples][channel][row][packed column][lane]`.
///
/// Lanes without a sample are zero.
pub(super) fn samples_to_lanes(source: Source, lanes: usize, columns: &Columns) -> Aligned {
    let [samples, channels, height, width] = source.shape;
    let plane = source.plane();
    let mut packed = Aligned::zeros(samples.div_ceil(lanes) * channels * plane * lanes);
    if plane == 0 || channels == 0 {
        return packed;
    }
    let places = columns.places();
    let places: Vec<usize> = (0..height).flat_map(|row| places.iter().map(move |place| row * width + place)).collect();
    let in_order = columns.stride == 1;
    packed.as_mut_slice().par_chunks_mut(plane * lanes).with_min_len(8).enumerate().for_each(|(index, to)| {
        let (block, channel) = (index / channels, index % channels);
        let live = (block * lanes..samples.min((block + 1) * lanes)).enumerate();
        for strip in (0..plane).step_by(STRIP) {
            for (lane, sample) in live.clone() {
                let from = &source.elements[(sample * channels + channel) * plane..][..plane];
                let from = &from[strip..plane.min(strip + STRIP)];
                if in_order {
                    let to = to[strip * lanes..].chunks_exact_mut(lanes);
                    for (to, &from) in to.zip(from) {
                        to[lane] = from;
                    }
                } else {
                    for (&place, &from) in places[strip..].iter().zip(from) {
                        to[place * lanes + lane] = from;
                    }
                }
            }
        }
    });
    packed
}

/// The place that stands for padding; it is beyond the end of every source.
const PADDING: usize = usize::MAX / 2;
/// Elements of a cache line; copies start at a multiple of it.
const LINE: usize = 16;
/// Channels that one task packs.
const CHANNELS: usize = 16;

/// A run of positions of a lattice that become lanes together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stretch {
    /// Positions from this one on, counted over all samples.
    Any(usize),
    /// Positions of one sample: the sample and its first position.
    Of(usize, usize),
}

/// A shifted copy of a channel, which one tap, or all taps of one column of the kernel, read.
struct Copy {
    shift: [isize; 2],
    /// Start within the packed channel.
    start: usize,
    positions: usize,
}

/// The layout of a packed channel when positions become lanes.
pub(super) struct Copies {
    copies: Vec<Copy>,
    /// The place that each tap of the lattice reads for the first position.
    pub(super) taps: Vec<usize>,
    /// Elements of a packed channel.
    pub(super) length: usize,
}

impl Copies {
    /// Lays out a copy of `positions` elements for every tap.
    pub(super) fn of_taps(lattice: &Lattice, positions: usize) -> Self {
        let mut layout = Self { copies: Vec::new(), taps: Vec::new(), length: 0 };
        for tap in &lattice.taps {
            layout.taps.push(layout.length);
            layout.add(tap.shift, positions);
        }
        layout
    }

    /// Lays out a copy for every column of the kernel; taps of other rows read it some rows further on.
    ///
    /// Only for lattices that read every row, and for positions of one sample at a time.
    pub(super) fn of_columns(lattice: &Lattice, positions: usize) -> Self {
        let mut layout = Self { copies: Vec::new(), taps: Vec::new(), length: 0 };
        for tap in &lattice.taps {
            let of_column = || lattice.taps.iter().map(|tap| tap.shift).filter(|shift| shift[1] == tap.shift[1]);
            let lowest = of_column().map(|shift| shift[0]).min().unwrap_or(0);
            let highest = of_column().map(|shift| shift[0]).max().unwrap_or(0);
            let shift = [lowest, tap.shift[1]];
            let start = match layout.copies.iter().find(|copy| copy.shift == shift) {
                Some(copy) => copy.start,
                None => layout.add(shift, positions + highest.abs_diff(lowest) * lattice.size[1]),
            };
            layout.taps.push(start + tap.shift[0].abs_diff(lowest) * lattice.size[1]);
        }
        layout
    }

    /// Adds a copy and returns its start.
    fn add(&mut self, shift: [isize; 2], positions: usize) -> usize {
        let start = self.length;
        self.copies.push(Copy { shift, start, positions });
        self.length += positions.next_multiple_of(LINE);
        start
    }

    /// Writes `[channel][copy][position]` for the positions of a stretch to `packed`; zero where a tap reads padding or
    /// the position does not exist.
    pub(super) fn pack(&self, source: Source, lattice: &Lattice, stretch: Stretch, packed: &mut [f32]) {
        let [samples, channels, height, width] = source.shape;
        let (plane, each) = (source.plane(), lattice.positions());
        if packed.is_empty() || self.length == 0 || each == 0 {
            return;
        }
        let mut places = vec![PADDING; self.length];
        for copy in &self.copies {
            let at = |place: usize| match stretch {
                Stretch::Any(first) => ((first + place) / each, (first + place) % each),
                Stretch::Of(sample, first) => (sample, first + place),
            };
            for (index, place) in places[copy.start..][..copy.positions].iter_mut().enumerate() {
                let (sample, position) = at(index);
                let inside = |axis: usize, at: usize, length: usize| {
                    (at * lattice.read[axis]).checked_add_signed(copy.shift[axis]).filter(|&at| at < length)
                };
                let row = inside(0, position / lattice.size[1], height);
                let column = inside(1, position % lattice.size[1], width);
                if let (Some(row), Some(column)) = (row, column)
                    && sample < samples
                {
                    *place = sample * channels * plane + row * width + column;
                }
            }
        }
        // Runs of consecutive places are copied as slices where they are long enough on average.
        let runs = runs(&places);
        let long = places.len() >= 8 * runs.len();
        let length = places.len();
        packed.par_chunks_mut(CHANNELS * length).with_min_len(2).enumerate().for_each(|(group, packed)| {
            let from = source.elements.get(group * CHANNELS * plane..).unwrap_or_default();
            if plane < LINE {
                // A cache line of the source holds several channels, so the loop over the channels is the inner one.
                for (lane, &place) in places.iter().enumerate() {
                    for (channel, to) in packed.chunks_exact_mut(length).enumerate() {
                        to[lane] = from.get(place + channel * plane).copied().unwrap_or(0.0);
                    }
                }
                return;
            }
            for (channel, to) in packed.chunks_exact_mut(length).enumerate() {
                let from = from.get(channel * plane..).unwrap_or_default();
                if long {
                    for &(start, end) in &runs {
                        match from.get(places[start]..).and_then(|from| from.get(..end - start)) {
                            Some(from) => to[start..end].copy_from_slice(from),
                            None => to[start..end].fill(0.0),
                        }
                    }
                } else {
                    for (to, &place) in to.iter_mut().zip(&places) {
                        *to = from.get(place).copied().unwrap_or(0.0);
                    }
                }
            }
        });
    }
}

/// Returns start and end of each run of places that are consecutive or all padding.
fn runs(places: &[usize]) -> Vec<(usize, usize)> {
    let mut runs = Vec::new();
    let mut start = 0;
    for end in 1..=places.len() {
        let follows = end < places.len()
            && match places[end - 1] {
                PADDING => places[end] == PADDING,
                before => places[end] == before + 1,
            };
        if !follows {
            runs.push((start, end));
            start = end;
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparse::geometry::Tap;

    #[test]
    fn samples_are_adjacent() {
        let shape = [5, 3, 2, 7];
        let elements: Vec<f32> = (0..210).map(|place| place as f32 + 1.0).collect();
        for stride in 1..9 {
            let columns = Columns::new(7, stride);
            let packed = samples_to_lanes(Source { elements: &elements, shape }, 4, &columns);
            let packed = packed.as_slice();
            assert_eq!(packed.len(), 2 * 3 * 14 * 4);
            for (n, c, y, x) in (0..8).flat_map(|n| (0..42).map(move |p| (n, p / 14, p % 14 / 7, p % 7))) {
                let place = columns.phase(x % stride).0 + x / stride;
                assert!(x / stride < columns.phase(x % stride).1);
                let expected = if n < 5 { elements[((n * 3 + c) * 2 + y) * 7 + x] } else { 0.0 };
                assert_eq!(packed[((((n / 4) * 3 + c) * 2 + y) * 7 + place) * 4 + n % 4], expected);
            }
        }
    }

    #[test]
    fn positions_are_adjacent() {
        let shape = [2, 3, 4, 20];
        let elements: Vec<f32> = (0..480).map(|place| place as f32 + 1.0).collect();
        for (read, columns) in [(1, 20), (3, 7)] {
            let taps = [[0, 0], [-1, 2], [2, 0]].iter().enumerate();
            let taps = taps.map(|(weight, &shift)| Tap { weight, shift }).collect();
            let lattice = Lattice { size: [4, columns], origin: [0, 0], step: [1, 1], read: [1, read], taps };
            let taps = Copies::of_taps(&lattice, 24);
            let columns_of = Copies::of_columns(&lattice, 24);
            for first in [0, 8, 8 * (columns - 1)] {
                // Every row is read, so the taps of a column may also share a copy.
                for (layout, stretch) in [(&taps, Stretch::Any(first)), (&columns_of, Stretch::Of(1, first))] {
                    let mut packed = vec![f32::NAN; 3 * layout.length];
                    layout.pack(Source { elements: &elements, shape }, &lattice, stretch, &mut packed);
                    for (channel, (tap, lane)) in (0..3).flat_map(|c| (0..3 * 24).map(move |t| (c, (t / 24, t % 24)))) {
                        let (n, at) = match stretch {
                            Stretch::Any(first) => ((first + lane) / (4 * columns), (first + lane) % (4 * columns)),
                            Stretch::Of(sample, first) => (sample, first + lane),
                        };
                        let shift = lattice.taps[tap].shift;
                        let row = (at / columns).checked_add_signed(shift[0]);
                        let column = (at % columns * read).checked_add_signed(shift[1]);
                        let expected = match (row, column) {
                            (Some(y), Some(x)) if n < 2 && y < 4 && x < 20 => {
                                elements[((n * 3 + channel) * 4 + y) * 20 + x]
                            }
                            _ => 0.0,
                        };
                        assert_eq!(packed[channel * layout.length + layout.taps[tap] + lane], expected);
                    }
                }
            }
        }
    }
}
