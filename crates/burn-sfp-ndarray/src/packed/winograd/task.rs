//! Some panels of a Winograd convolution for one block of tiles, on one thread.

use std::cell::Cell;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::epilogue::Stage;
use crate::vector::Aligned;

use super::super::plan::tile_width;
use super::super::taps::Taps;
use super::super::task::{Arrays, finish};
use super::super::tile::{Product, most_vectors, multiply};
use super::super::unwritten::Unwritten;
use super::super::weights::Panel;
use super::plan::{Block, Plan};
use super::tiles::{Lattice, Lists};
use super::transform::{self, Four, Transform, Two};
use super::vectors::{Places, Products, Results};
use super::weights::{WinogradConv2d, WinogradTile};

/// Most elements of memory that a thread keeps for its next task.
const KEPT: usize = 1 << 21;

/// Most tiles whose outputs are written at once.
const MOST: usize = 8;

thread_local! {
    /// The memory of the last task: memory that is new would be cleared by the system, page by page.
    static MEMORY: Cell<Option<Aligned>> = const { Cell::new(None) };
}

/// Some filters of a block of tiles.
pub(super) struct Task<'a> {
    pub(super) conv: &'a WinogradConv2d,
    pub(super) plan: &'a Plan,
    pub(super) block: &'a Block,
    pub(super) arrays: Arrays<'a>,
    pub(super) panels: Range<usize>,
    /// The parts of the output maps that the block covers, `[part][filter]`.
    pub(super) out: Vec<Unwritten<'a>>,
}

/// The memory of a task.
struct Memory<'a> {
    /// The transformed input, `[product][input][tile]`, with some elements between the products.
    source: &'a mut [f32],
    /// Distance between the products in `source`.
    distance: usize,
    /// The products of some panels, of each `[vectors of a register tile][product][filter][tile]`.
    products: &'a mut [f32],
    /// The elements of the tiles of one filter, as [`Lists`] has them.
    tiles: &'a mut [f32],
    /// The elements of one vector of tiles, `[row][column][tile]`.
    vector: &'a mut [f32],
    /// The outputs of the tiles of one filter, `[row][column][tile]`.
    outputs: &'a mut [f32],
    /// The outputs of one filter in the order of the map, with the elements behind them that whole tiles cover.
    rows: &'a mut [f32],
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        match self.conv.tile() {
            WinogradTile::Two => self.run::<S, Two, 4, 2>(simd),
            WinogradTile::Four => self.run::<S, Four, 6, 4>(simd),
        }
    }
}

impl Task<'_> {
    #[inline(always)]
    fn run<S: Simd, X: Transform<N, M>, const N: usize, const M: usize>(&mut self, simd: S) {
        let (conv, plan, block) = (self.conv, self.plan, self.block);
        let width = block.vectors * S::F32_LANES;
        // Products at a distance of a power of two would share few lines of the caches.
        let distance = conv.inputs().max(1) * width + 16;
        let panels = &conv.panels()[self.panels.clone()];
        let first = panels.first().map_or(0, |panel| panel.first);
        let group = |panels: &[Panel]| panels.iter().map(|panel| panel.rows).sum::<usize>() * N * N * width;
        let products = panels.chunks(plan.panels).map(group).max().unwrap_or(0);
        let longest = block.parts.iter().map(|part| plan.span(part, M).1).max().unwrap_or(0);
        let lattice = Lattice { map: plan.input, before: plan.before, step: M, side: N, across: plan.across };
        let lists = lattice.lists(&block.parts, S::F32_LANES);
        let behind = M * MOST;
        let lengths = [
            N * N * distance,
            products,
            lists.elements(),
            N * N * S::F32_LANES,
            M * M * width + MOST,
            longest + behind,
        ]
        .map(|length| length.next_multiple_of(16));
        let mut memory = MEMORY.take().unwrap_or_default();
        memory.reserve(lengths.iter().sum());
        let (source, rest) = memory.as_mut_slice().split_at_mut(lengths[0]);
        let (products, rest) = rest.split_at_mut(lengths[1]);
        let (tiles, rest) = rest.split_at_mut(lengths[2]);
        let (vector, rest) = rest.split_at_mut(lengths[3]);
        let (outputs, rows) = rest.split_at_mut(lengths[4]);
        let mut parts = Memory { source, distance, products, tiles, vector, outputs, rows };
        self.load::<S, X, N, M>(simd, width, &lists, &mut parts);
        let taps = Taps::new((0..conv.inputs()).map(|input| (input * width) as u32).collect());
        for panels in panels.chunks(plan.panels) {
            self.multiply::<S, N>(simd, panels, &taps, &mut parts);
            self.store::<S, X, N, M>(simd, panels, first, width, &mut parts);
        }
        if memory.len() <= KEPT {
            MEMORY.set(Some(memory));
        }
    }

    /// Transforms the tiles of all input filters.
    #[inline(always)]
    fn load<S: Simd, X: Transform<N, M>, const N: usize, const M: usize>(
        &self,
        simd: S,
        width: usize,
        lists: &Lists,
        memory: &mut Memory,
    ) {
        let (inputs, map) = (self.conv.inputs(), self.arrays.input_map);
        let (places, together) = (lists.places::<N>(), Places::matrix(S::F32_LANES));
        // Elements outside of the input are the same for all filters: zero.
        memory.tiles.fill(0.0);
        for input in 0..inputs {
            let plane = |sample: usize| &self.arrays.input[(sample * inputs + input) * map..][..map];
            let elements = lists.load::<M>(&self.block.parts, plane, memory.tiles);
            let to = &mut memory.source[input * width..];
            for (vector, &tile) in lists.vectors.iter().enumerate() {
                let from = lists.vector::<S, N>(elements, vector, [&places, &together], memory.vector);
                transform::input::<S, X, N, M>(simd, from, Results::new::<S>(&mut to[tile..], memory.distance));
            }
        }
    }

    /// Multiplies the transformed input with the weights of some panels.
    #[inline(always)]
    fn multiply<S: Simd, const N: usize>(&self, simd: S, panels: &[Panel], taps: &Taps, memory: &mut Memory) {
        let width = self.block.vectors * S::F32_LANES;
        for product in 0..N * N {
            let source = &memory.source[product * memory.distance..];
            let mut start = 0;
            for panel in panels {
                let weights = self.conv.weights(panel, product);
                let most = most_vectors::<S>(panel.rows);
                let mut vector = 0;
                while vector < self.block.vectors {
                    let vectors = tile_width(self.block.vectors - vector, most);
                    let at = vector * S::F32_LANES;
                    let each = panel.rows * vectors * S::F32_LANES;
                    let sums = &mut memory.products[start + N * N * panel.rows * at + product * each..][..each];
                    let source = &source[at..];
                    multiply(simd, panel.rows, vectors, Product { weights, taps, source, sums, add: false });
                    vector += vectors;
                }
                start += N * N * panel.rows * width;
            }
        }
    }

    /// Transforms the products of some panels, applies the epilogue and stores the outputs.
    #[inline(always)]
    fn store<S: Simd, X: Transform<N, M>, const N: usize, const M: usize>(
        &mut self,
        simd: S,
        panels: &[Panel],
        first: usize,
        width: usize,
        memory: &mut Memory,
    ) {
        let mut start = 0;
        for panel in panels {
            let most = most_vectors::<S>(panel.rows);
            for row in 0..panel.filters {
                let mut vector = 0;
                while vector < self.block.vectors {
                    let vectors = tile_width(self.block.vectors - vector, most);
                    let at = vector * S::F32_LANES;
                    let wide = vectors * S::F32_LANES;
                    let from = &memory.products[start + N * N * panel.rows * at + row * wide..];
                    for place in (0..wide).step_by(S::F32_LANES) {
                        let from = Products::new::<S>(&from[place..], panel.rows * wide);
                        let to = Results::new::<S>(&mut memory.outputs[at + place..], width);
                        transform::output::<S, X, N, M>(simd, from, to);
                    }
                    vector += vectors;
                }
                self.finish::<S, M>(simd, panel.first + row, first, width, memory);
            }
            start += N * N * panel.rows * width;
        }
    }

    /// Writes the outputs of the tiles of one filter; `first` is the first filter of the task.
    #[inline(always)]
    fn finish<S: Simd, const M: usize>(
        &mut self,
        simd: S,
        filter: usize,
        first: usize,
        width: usize,
        memory: &mut Memory,
    ) {
        let (plan, across) = (self.plan, self.plan.across);
        let filters = self.out.len() / self.block.parts.len();
        let stage = Stage::new(simd, &self.arrays.epilogue, filter);
        for (place, part) in self.block.parts.iter().enumerate() {
            let (position, length) = plan.span(part, M);
            // Columns behind the map are overwritten by the next row.
            for (row, to) in (0..length).step_by(plan.output[1]).enumerate() {
                let from = (row % M) * M * width + part.at + row / M * across;
                interleave::<M>(&memory.outputs[from..], width, across, &mut memory.rows[to..]);
            }
            let residual = self.arrays.residual.map(|residual| {
                let map = (part.sample * self.conv.outputs() + filter) * self.arrays.output_map;
                &residual[map + position..]
            });
            let target = &mut self.out[place * filters + filter - first];
            finish(simd, stage, memory.rows, residual, length, target);
        }
    }
}

/// Writes elements of `M` lists, `pitch` apart, in turn: `count` of each and some of those behind.
#[inline(always)]
fn interleave<const M: usize>(from: &[f32], pitch: usize, count: usize, to: &mut [f32]) {
    match count {
        5.. => interleave_some::<M, 8, 16, 32>(from, pitch, count, to),
        2.. => interleave_some::<M, 4, 8, 16>(from, pitch, count, to),
        _ => interleave_some::<M, 1, 2, 4>(from, pitch, count, to),
    }
}

/// Writes `count` elements of each list and those behind them up to a multiple of `N`; `D` and `Q` are `2 * N` and `4 * N`.
#[inline(always)]
fn interleave_some<const M: usize, const N: usize, const D: usize, const Q: usize>(
    from: &[f32],
    pitch: usize,
    count: usize,
    to: &mut [f32],
) {
    for at in (0..count).step_by(N) {
        let mut lists = [[0.0; N]; M];
        for (place, list) in lists.iter_mut().enumerate() {
            list.copy_from_slice(&from[place * pitch + at..][..N]);
        }
        let to = &mut to[M * at..];
        match M {
            2 => to[..D].copy_from_slice(&zip::<N, D>(lists[0], lists[1])),
            _ => {
                let (even, odd) = (zip::<N, D>(lists[0], lists[2 % M]), zip::<N, D>(lists[1], lists[3 % M]));
                to[..Q].copy_from_slice(&zip::<D, Q>(even, odd));
            }
        }
    }
}

/// Returns the elements of two lists in turn, which is compiled to shuffles.
#[inline(always)]
fn zip<const N: usize, const D: usize>(first: [f32; N], second: [f32; N]) -> [f32; D] {
    let mut both = [0.0; D];
    for place in 0..N {
        both[2 * place] = first[place];
        both[2 * place + 1] = second[place];
    }
    both
}
