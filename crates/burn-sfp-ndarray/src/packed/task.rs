//! Some panels of a convolution at the positions of one unit, on one thread.

use std::cell::Cell;
use std::ops::Range;

use ndarray::{CowArray, Ix4};
use pulp::{Simd, WithSimd};

use crate::Epilogue;
use crate::epilogue::Stage;
use crate::vector::Aligned;

use super::fill::Filler;
use super::plan::{Layout, Plan, Span, Unit, tile_width};
use super::taps::Taps;
use super::tile::{Product, most_vectors, multiply};
use super::unwritten::Unwritten;
use super::weights::{PackedConv2d, Panel};

/// Most elements of memory that a thread keeps for its next task.
const KEPT: usize = 1 << 20;

thread_local! {
    /// The source, the sums and the widened weights of the last task: memory that is new would be cleared by the system, page by page.
    static MEMORY: Cell<Option<[Aligned; 3]>> = const { Cell::new(None) };
}

/// The arrays of a convolution, row-major.
#[derive(Clone, Copy)]
pub(super) struct Arrays<'a> {
    /// `[N, I, H, W]`
    pub(super) input: &'a [f32],
    /// Elements of a map of the input.
    pub(super) input_map: usize,
    /// `[N, O, H', W']`, added before the activation.
    pub(super) residual: Option<&'a [f32]>,
    /// Elements of a map of the output.
    pub(super) output_map: usize,
    pub(super) epilogue: Epilogue<'a>,
}

impl<'a> Arrays<'a> {
    /// Returns the arrays of a convolution whose result has maps of `size` rows and columns; `None` where the input is not row-major.
    pub(super) fn new(
        input: &'a CowArray<f32, Ix4>,
        residual: Option<&'a CowArray<f32, Ix4>>,
        size: [usize; 2],
        epilogue: Epilogue<'a>,
    ) -> Option<Self> {
        let (_, _, height, width) = input.dim();
        Some(Self {
            input: input.as_slice()?,
            input_map: height * width,
            residual: residual.and_then(|residual| residual.as_slice()),
            output_map: size[0] * size[1],
            epilogue,
        })
    }
}

/// The sums of some panels at the positions of a unit.
pub(super) struct Task<'a> {
    pub(super) conv: &'a PackedConv2d,
    pub(super) plan: &'a Plan,
    pub(super) unit: &'a Unit,
    pub(super) arrays: Arrays<'a>,
    pub(super) panels: Range<usize>,
    /// The parts of the output maps that the unit covers, `[part][filter]`.
    pub(super) out: Vec<Unwritten<'a>>,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let [mut source, mut sums, mut wide] = MEMORY.take().unwrap_or_default();
        source.reserve(self.plan.source(self.unit.vectors, S::F32_LANES));
        // Where the vectors of each input and tap begin in the source; the same for every block of inputs but the last.
        let block = self.plan.block.min(self.conv.inputs_per_group());
        let taps = (0..block)
            .flat_map(|channel| self.plan.taps.iter().map(move |tap| (channel * self.plan.channel + tap) as u32));
        let taps = Taps::new(taps.collect());
        let memory = [&mut source, &mut sums, &mut wide];
        match &self.plan.layout {
            Layout::Shifted(sizes) if self.conv.is_depthwise() => self.depthwise(simd, sizes, &taps, memory),
            _ => self.general(simd, &taps, memory),
        }
        if source.len().max(sums.len()).max(wide.len()) <= KEPT {
            MEMORY.set(Some([source, sums, wide]));
        }
    }
}

impl Task<'_> {
    /// Computes all panels, group by group.
    #[inline(always)]
    fn general<S: Simd>(&mut self, simd: S, taps: &Taps, [source, sums, wide]: [&mut Aligned; 3]) {
        let panels = &self.conv.panels()[self.panels.clone()];
        let first = panels.first().map_or(0, |panel| panel.first);
        let mut filler = Filler::new(self.plan, self.unit, S::F32_LANES);
        filler.clear(&mut source.as_mut_slice()[..self.plan.source(self.unit.vectors, S::F32_LANES)]);
        for panels in panels.chunk_by(|a, b| a.group == b.group) {
            self.group(simd, panels, first, &mut filler, taps, [source, sums, wide]);
        }
    }

    /// Computes panels of one group; `first` is the first filter of the task.
    #[inline(always)]
    fn group<S: Simd>(
        &mut self,
        simd: S,
        panels: &[Panel],
        first: usize,
        filler: &mut Filler,
        taps: &Taps,
        [source, sums, wide]: [&mut Aligned; 3],
    ) {
        let (conv, plan, unit) = (self.conv, self.plan, self.unit);
        let inputs = conv.inputs_per_group();
        let blocks = inputs.div_ceil(plan.block).max(1);
        // The sums of all panels are kept from block to block; of a single block, those of a tile.
        let each = unit.vectors * S::F32_LANES;
        let rows: usize = panels.iter().map(|panel| panel.rows).sum();
        sums.reserve(if blocks > 1 { rows * each } else { 32 * S::F32_LANES });
        for block in 0..blocks {
            let start = block * plan.block;
            let count = plan.block.min(inputs - start);
            self.load::<S>(filler, panels[0].group * inputs + start, count, source.as_mut_slice());
            let mut rest = sums.as_mut_slice();
            for panel in panels {
                let weights = conv.weights(panel, start, count, wide);
                let most = most_vectors::<S>(panel.rows);
                let mut vector = 0;
                while vector < unit.vectors {
                    let width = tile_width(unit.vectors - vector, most);
                    let length = panel.rows * width * S::F32_LANES;
                    let at = vector * S::F32_LANES;
                    let source = &source.as_slice()[at..];
                    let sums = &mut rest[..length];
                    let product = Product { weights, taps, source, sums, add: block > 0 };
                    multiply(simd, panel.rows, width, product);
                    if block + 1 == blocks {
                        self.store(simd, panel, first, at, &rest[..length]);
                    }
                    if blocks > 1 {
                        rest = &mut std::mem::take(&mut rest)[length..];
                    }
                    vector += width;
                }
            }
        }
    }

    /// Copies `count` input filters from `first` on into the source.
    #[inline(always)]
    fn load<S: Simd>(&self, filler: &mut Filler, first: usize, count: usize, source: &mut [f32]) {
        let (map, channels) = (self.arrays.input_map, self.conv.inputs());
        for place in 0..count {
            let map = |sample: usize| &self.arrays.input[(sample * channels + first + place) * map..];
            filler.fill::<S>(map, &mut source[place * self.plan.channel..]);
        }
    }

    /// Applies the epilogue to the sums of a tile, `[row][position]` from place `at` on, and stores those at positions.
    #[inline(always)]
    fn store<S: Simd>(&mut self, simd: S, panel: &Panel, first: usize, at: usize, sums: &[f32]) {
        let unit = self.unit;
        let length = sums.len() / panel.rows;
        let filters = self.out.len() / unit.parts.len();
        let begin = unit.spans.partition_point(|span| span.at + span.length <= at);
        for row in 0..panel.filters {
            let filter = panel.first + row;
            let stage = Stage::new(simd, &self.arrays.epilogue, filter);
            for &Span { at: start, length: wide, part, to } in &unit.spans[begin..] {
                if start >= at + length {
                    break;
                }
                let from = start.max(at);
                let count = (start + wide).min(at + length) - from;
                let (sample, position, _) = unit.parts[part];
                let residual = self.arrays.residual.map(|residual| {
                    let map = (sample * self.conv.outputs() + filter) * self.arrays.output_map;
                    &residual[map + position + to + from - start..]
                });
                let target = &mut self.out[part * filters + filter - first];
                finish(simd, stage, &sums[row * length + from - at..], residual, count, target);
            }
        }
    }
}

/// Writes the next `count` elements of one filter, whose sums are at the start of a slice, and what is added to them at that of another one.
/// Both may be longer.
#[inline(always)]
pub(super) fn finish<S: Simd>(
    simd: S,
    stage: Stage<S>,
    sums: &[f32],
    other: Option<&[f32]>,
    count: usize,
    to: &mut Unwritten,
) {
    for at in (0..count).step_by(S::F32_LANES) {
        let sum = load(simd, &sums[at..]);
        let sum = match other {
            Some(other) => stage.apply_with(simd, sum, load(simd, &other[at..])),
            None => stage.apply(simd, sum),
        };
        to.push::<S>(sum, count - at);
    }
}

/// Returns the vector at the start of a slice, or what there is of it.
#[inline(always)]
pub(super) fn load<S: Simd>(simd: S, from: &[f32]) -> S::f32s {
    match S::as_simd_f32s(from).0.first() {
        Some(&vector) => vector,
        None => simd.partial_load_f32s(from),
    }
}
