//! How a convolution is cut into units, and where the register tiles of a unit read and write.
//!
//! A tile multiplies the weights of a panel with some vectors per tap of each input filter. What these vectors hold is
//! one of two layouts of the source:
//!
//! * **shifted**: the rows of the input one after another, with zeros between them, split by the remainder of the
//!   stride. A tap is a distance from the place of the output, so each element is copied once. Between the rows of the
//!   output lie some places without one, whose lanes are wasted.
//! * **gathered**: for every tap a copy of the elements that it reads, positions of all samples one after another. No
//!   lane is wasted but at the end of the batch; each element is copied once per tap.
//!
//! The estimate of the time in [`Plan::new`] chooses. Both layouts give the same bits, since a sum runs over
//! inputs and taps in the same order.

use std::ops::Range;

use super::Way;
use super::axis::Axis;
use super::weights::{PackedConv2d, ROWS};

/// Desired bytes of a shifted source for which the rows are cut into strips: most of a half of a usual second-level
/// cache.
const STRIP: usize = 3 << 17;
/// Desired bytes of a shifted source of a depthwise convolution, whose elements are read taps times: most of a half of a usual
/// first-level cache.
const DEPTHWISE: usize = 20 << 10;
/// Most bytes of a shifted source: with more the inputs are cut into blocks. The fewer blocks, the fewer times the sums
/// are stored.
const SHIFTED: usize = 1 << 19;
/// Most bytes of a gathered source, which every panel of weights reads from the second-level cache.
const GATHERED: usize = 1 << 18;
/// Vectors of positions of a gathered unit.
const WIDTH: usize = 6;
/// Most elements of the shifted copy of a filter from which the taps of a unit are gathered.
const COPIED: usize = 1 << 15;
/// Time of copying a vector into the source, in products of two vectors.
const COPY: f64 = 28.0;

/// The cut of a convolution into units, and the layout of their sources.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) rows: Axis,
    pub(super) columns: Axis,
    pub(super) layout: Layout,
    /// Elements of an input filter in the source.
    pub(super) channel: usize,
    /// Where each tap reads in a filter of the source, before the place of the output.
    pub(super) taps: Vec<usize>,
    /// Most input filters that are in the source at once.
    pub(super) block: usize,
    pub(super) units: Vec<Unit>,
}

/// The layout of the source.
#[derive(Debug)]
pub(super) enum Layout {
    Shifted(Shifted),
    /// With the sizes of a shifted copy from which the taps are gathered, where there are several of them.
    Gathered(Option<Shifted>),
}

/// The sizes of a shifted source.
#[derive(Clone, Debug)]
pub(super) struct Shifted {
    /// Remainders that the positions of the taps leave on division by the stride: of rows, of columns.
    pub(super) phases: [Vec<usize>; 2],
    /// Elements of a row, with the zeros on both sides.
    pub(super) length: usize,
    /// Distance between rows; zeros at the end of a row are those at the start of the next one.
    pub(super) pitch: usize,
    /// Rows beyond those of the output.
    pub(super) reach: usize,
    /// Elements of a phase.
    pub(super) plane: usize,
}

/// Output positions that are computed together, for some filters.
#[derive(Debug)]
pub(super) struct Unit {
    /// Vectors of positions.
    pub(super) vectors: usize,
    /// First row of the output (of a shifted unit).
    pub(super) row: usize,
    /// The samples, each with its part of the output map: sample, first position, number of positions.
    pub(super) parts: Vec<(usize, usize, usize)>,
    /// Where the sums of the parts lie, ascending.
    pub(super) spans: Vec<Span>,
}

/// Consecutive sums that are consecutive in the output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// Place of the first sum in the unit.
    pub(super) at: usize,
    pub(super) length: usize,
    /// The part of the unit to which they belong.
    pub(super) part: usize,
    /// Place of the first one in that part.
    pub(super) to: usize,
}

impl Plan {
    /// Returns the plan for `samples` samples with the layout `way`, else with the one that takes less time by an
    /// estimate from the shapes, in products of two vectors. A shifted source that fits into no memory is never chosen.
    pub(super) fn new(
        conv: &PackedConv2d,
        [rows, columns]: [Axis; 2],
        samples: usize,
        lanes: usize,
        way: Option<Way>,
    ) -> Self {
        let (inputs, taps) = (conv.inputs_per_group(), conv.taps());
        let groups = conv.geometry().groups;
        // A register tile of few rows waits for its reads.
        let filters = ((conv.outputs() / groups) as f64).max(2.0);
        let positions = rows.output * columns.output;
        let gathered = (samples * positions).div_ceil(lanes) as f64 * taps as f64 * (filters + COPY);
        if let Some(shifted) = Shifted::new(&rows, &columns) {
            let vectors = (samples * shifted.positions(rows.output, columns.output).div_ceil(lanes)) as f64;
            let copied = samples as f64 * (shifted.channel(rows.output) as f64 / lanes as f64);
            let cheaper =
                if vectors * taps as f64 * filters + copied * COPY <= gathered { Way::Shifted } else { Way::Gathered };
            if way.unwrap_or(cheaper) == Way::Shifted {
                let bytes = if conv.is_depthwise() { DEPTHWISE } else { STRIP };
                return Self::shifted(shifted, [rows, columns], inputs, samples, lanes, bytes);
            }
        }
        Self::gathered(rows, columns, [inputs, taps], samples, lanes)
    }

    /// Returns a plan with strips of rows of about `bytes` bytes.
    fn shifted(
        mut shifted: Shifted,
        [rows, columns]: [Axis; 2],
        inputs: usize,
        samples: usize,
        lanes: usize,
        bytes: usize,
    ) -> Self {
        let line = shifted.planes() * shifted.pitch * inputs.max(1) * size_of::<f32>();
        let most = (bytes / line).saturating_sub(shifted.reach);
        // With fewer positions a panel of weights would be read for few products.
        let least = (WIDTH * lanes).div_ceil(shifted.pitch);
        let strips = rows.output.div_ceil(most.max(least));
        let height = rows.output.div_ceil(strips.max(1)).max(1);
        shifted.set_height(height);
        let channel = shifted.planes() * shifted.plane;
        let mut units = Vec::with_capacity(samples * strips);
        for sample in 0..samples {
            for row in (0..rows.output).step_by(height) {
                let height = height.min(rows.output - row);
                let width = columns.output;
                let (spans, places) = if shifted.pitch == width {
                    (vec![Span { at: 0, length: height * width, part: 0, to: 0 }], height * width)
                } else {
                    let span = |y| Span { at: y * shifted.pitch, length: width, part: 0, to: y * width };
                    ((0..height).map(span).collect(), shifted.positions(height, width))
                };
                let parts = vec![(sample, row * width, height * width)];
                units.push(Unit { vectors: places.div_ceil(lanes), row, parts, spans });
            }
        }
        let taps = shifted.taps(&rows, &columns);
        let block = (SHIFTED / (channel * size_of::<f32>()).max(1)).clamp(1, inputs.max(1));
        Self { rows, columns, layout: Layout::Shifted(shifted), channel, taps, block, units }
    }

    fn gathered(rows: Axis, columns: Axis, [inputs, taps]: [usize; 2], samples: usize, lanes: usize) -> Self {
        let positions = rows.output * columns.output;
        let total = samples * positions;
        let vectors = total.div_ceil(lanes);
        let width = vectors.div_ceil(vectors.div_ceil(WIDTH).max(1)).max(1) * lanes;
        let units: Vec<Unit> = cut(samples, positions, width)
            .map(|parts| {
                let (mut spans, mut at) = (Vec::with_capacity(parts.len()), 0);
                for (part, &(.., length)) in parts.iter().enumerate() {
                    spans.push(Span { at, length, part, to: 0 });
                    at += length;
                }
                Unit { vectors: at.div_ceil(lanes), row: 0, parts, spans }
            })
            .collect();
        let sizes = if taps > 1 { Shifted::new(&rows, &columns) } else { None };
        let sizes = sizes.and_then(|mut sizes| {
            // A unit has at most one row per position; where it begins inside a row, it ends in one more.
            let height = rows.output.min(width / columns.output + 2);
            sizes.set_height(height);
            let most = units.iter().map(|unit: &Unit| unit.parts.len()).max().unwrap_or(0);
            (most * sizes.planes() * sizes.plane <= COPIED).then_some(sizes)
        });
        let channel = taps * width;
        let block = (GATHERED / (channel * size_of::<f32>()).max(1)).clamp(1, inputs.max(1));
        let taps = (0..taps).map(|tap| tap * width).collect();
        Self { rows, columns, layout: Layout::Gathered(sizes), channel, taps, block, units }
    }

    /// Returns the distance between the copies of two taps in a gathered source.
    pub(super) fn width(&self) -> usize {
        self.channel / self.taps.len().max(1)
    }

    /// Returns the number of elements of the source of a unit of `vectors` vectors, with those behind the last filter
    /// that are read for lanes without a position, or written with a vector that holds fewer.
    pub(super) fn source(&self, vectors: usize, lanes: usize) -> usize {
        let last = self.taps.iter().max().map_or(0, |last| last + vectors * lanes);
        self.block * self.channel + last.saturating_sub(self.channel) + lanes
    }
}

impl Shifted {
    /// Returns the sizes for all rows; `None` where a filter would not fit into any memory.
    fn new(rows: &Axis, columns: &Axis) -> Option<Self> {
        let phases = [rows.phases(), columns.phases()];
        let (reach, beyond) = (rows.reach(), columns.reach());
        let length = columns.output + beyond;
        let mut shared = beyond;
        for &phase in &phases[1] {
            let inside = columns.inside(phase, length);
            if !inside.is_empty() {
                shared = shared.min(inside.start).min(length - inside.end);
            }
        }
        let sizes = Self { phases, length, pitch: length - shared, reach, plane: 0 };
        // Places are 32 bits wide in the inner loop.
        (sizes.channel(rows.output) < u128::from(u32::MAX / 2)).then_some(sizes)
    }

    /// Returns the number of planes of a filter.
    pub(super) fn planes(&self) -> usize {
        self.phases[0].len() * self.phases[1].len()
    }

    /// Returns about the number of elements of a filter for `height` rows of the output.
    fn channel(&self, height: usize) -> u128 {
        self.planes() as u128 * ((height + self.reach) as u128 * self.pitch as u128 + self.length as u128)
    }

    /// Returns the number of places from the first to the last position of `height` rows.
    fn positions(&self, height: usize, width: usize) -> usize {
        if height == 0 { 0 } else { (height - 1) * self.pitch + width }
    }

    fn set_height(&mut self, height: usize) {
        self.plane = (height + self.reach) * self.pitch + (self.length - self.pitch);
        // Filters at a distance of a power of two would share few lines of the first-level cache.
        if self.plane.is_multiple_of(256) {
            self.plane += 16;
        }
    }

    /// Returns where each tap reads.
    pub(super) fn taps(&self, rows: &Axis, columns: &Axis) -> Vec<usize> {
        let place = |axis: &Axis, phases: &[usize], tap: usize| {
            let offset = axis.offset(tap);
            let phase = phases.binary_search(&(offset % axis.stride)).unwrap_or_default();
            (phase, offset / axis.stride)
        };
        let mut taps = Vec::with_capacity(rows.taps() * columns.taps());
        for (row, down) in (0..rows.taps()).map(|tap| place(rows, &self.phases[0], tap)) {
            for (column, along) in (0..columns.taps()).map(|tap| place(columns, &self.phases[1], tap)) {
                let plane = row * self.phases[1].len() + column;
                taps.push(plane * self.plane + down * self.pitch + along);
            }
        }
        taps
    }
}

/// Cuts the positions of some samples into blocks of `width`: of each the samples, first positions and numbers of positions.
pub(super) fn cut(samples: usize, positions: usize, width: usize) -> impl Iterator<Item = Vec<(usize, usize, usize)>> {
    let total = samples * positions;
    (0..total).step_by(width).map(move |start| {
        let (mut parts, mut at, end) = (Vec::new(), start, total.min(start + width));
        while at < end {
            let (sample, first) = (at / positions, at % positions);
            let length = (positions - first).min(end - at);
            parts.push((sample, first, length));
            at += length;
        }
        parts
    })
}

/// Returns the number of parts into which the panels are cut, so that all threads have work: as few as possible where a
/// part fills the source again.
pub(super) fn parts(conv: &PackedConv2d, units: usize, threads: usize) -> usize {
    let groups = conv.geometry().groups;
    let panels = conv.panels().len();
    if threads == 1 || units >= 3 * threads {
        return 1;
    }
    if groups >= 4 * threads {
        return (4 * threads).div_ceil(units.max(1)).min(groups);
    }
    // A part of a single panel would spend its time on the source.
    (threads / common_divisor(units.max(1), threads)).min(panels.div_ceil(2)).max(1)
}

/// Returns the panels of each part: whole groups where there are enough.
pub(super) fn cuts(conv: &PackedConv2d, parts: usize) -> Vec<Range<usize>> {
    let (panels, groups) = (conv.panels().len(), conv.geometry().groups);
    let (pieces, each) = if groups >= parts { (groups, panels / groups) } else { (panels, 1) };
    (0..parts).map(|part| each * (pieces * part / parts)..each * (pieces * (part + 1) / parts)).collect()
}

fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// The vectors of a tile when `left` vectors are left and a tile has at most `most`: tiles of about equal width, since
/// a narrow one waits for its sums.
pub(super) fn tile_width(left: usize, most: usize) -> usize {
    left.div_ceil(left.div_ceil(most))
}

const _: () = assert!(ROWS == 8, "the register tiles are compiled for panels of 1, 2, 4 and 8 rows");
