//! The cut of a map into the tiles that threads compute.
//!
//! A plan is known when a kernel is compiled. So all loops over the outputs of a tile, the taps of a kernel and the
//! positions that they read are unrolled into code without branches, on registers: an element that is read once serves
//! all outputs of the tile that need it, and a weight serves the whole tile.

use crate::device::power_of_two_up_to;

/// Most outputs of a tile; each takes a register.
const MOST_OUTPUTS: usize = 64;
/// Most multiply-adds of a kernel on a tile; each takes an instruction.
const MOST_PRODUCTS: usize = 640;
/// Most positions that a tile reads.
const MOST_READS: usize = 320;
/// Bytes of shared memory per cube, which every device has.
const SHARED_MEMORY: usize = 16384;

/// The positions of a source map that the outputs of a result map read for every tap of a kernel.
///
/// For a convolution, output `at` reads for `tap` the position `at * stride + tap * dilation - padding`. For its gradient
/// with respect to the input (`transposed`), it reads `(at + padding - tap * dilation) / stride` where that is an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Plan {
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) dilation: [usize; 2],
    /// Zeros before each axis.
    pub(crate) padding: [usize; 2],
    pub(crate) transposed: bool,
    /// Rows and columns of a tile; multiples of the stride when transposed.
    pub(crate) tile: [usize; 2],
    /// Rows and columns of the source if one tile is the whole result map; all bounds are then known at compile time.
    pub(crate) whole: Option<[usize; 2]>,
}

impl Plan {
    /// Returns the plan of the least estimated cost for a source and an output of these rows and columns.
    ///
    /// Returns `None` when the code of every tile is too long, when there is no output or nothing to read, and for
    /// source maps whose places exceed the 32-bit signed integers of the tiled kernels.
    pub(crate) fn choose(self, source: [usize; 2], output: [usize; 2]) -> Option<Self> {
        if !(1..=i32::MAX as usize).contains(&source[0].saturating_mul(source[1])) {
            return None;
        }
        let whole = Self { tile: output, whole: Some(source), ..self };
        let step = |axis: usize| if self.transposed { self.stride[axis] } else { 1 };
        let sides = |axis: usize| {
            let sides = [1, 2, 4, 7, 8].into_iter().flat_map(move |side| [side, side * step(axis)]);
            sides.filter(move |side| side.is_multiple_of(step(axis))).collect::<Vec<_>>()
        };
        let cut = sides(0).into_iter().flat_map(|height| sides(1).into_iter().map(move |width| [height, width]));
        let cut = cut.map(|tile| Self { tile, whole: None, ..self });
        let possible = std::iter::once(whole).chain(cut).filter(|plan| plan.is_short());
        possible.min_by_key(|plan| plan.cost(output))
    }

    /// Returns the plan for one output per thread, for kernels too large for tiles.
    pub(crate) fn without_tiles(self) -> Self {
        Self { tile: [1, 1], whole: None, ..self }
    }

    /// Returns whether the code of a tile has a reasonable length.
    fn is_short(&self) -> bool {
        // Checked first: the functions below enumerate outputs times taps.
        if !(1..=MOST_OUTPUTS).contains(&self.tile[0].saturating_mul(self.tile[1]))
            || self.kernel[0].saturating_mul(self.kernel[1]) > MOST_PRODUCTS
        {
            return false;
        }
        let reads = match self.whole {
            Some([height, width]) => height.saturating_mul(width),
            None => self.count(0) * self.count(1),
        };
        reads <= MOST_READS && self.products() <= MOST_PRODUCTS
    }

    /// Returns the estimated cost of all tiles; a read, with its bounds checks, costs more than a multiply-add.
    fn cost(&self, output: [usize; 2]) -> usize {
        let tiles = self.tiles(output);
        let reads = match self.whole {
            Some([height, width]) => 2 * height * width,
            None => 5 * self.count(0) * self.count(1),
        };
        tiles[0] * tiles[1] * (self.products() + reads + 3 * self.taps() + 10)
    }

    /// Returns the number of multiply-adds of one kernel on a tile.
    fn products(&self) -> usize {
        let pairs = |axis: usize| {
            (0..self.tile[axis])
                .map(|at| (0..self.kernel[axis]).filter(|&tap| self.source(axis, at, tap).is_some()).count())
                .sum::<usize>()
        };
        pairs(0) * pairs(1)
    }

    /// Returns the number of outputs of a tile.
    pub(crate) fn outputs(&self) -> usize {
        self.tile[0] * self.tile[1]
    }

    /// Returns the number of taps of a kernel.
    pub(crate) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Returns the tiles of a result map of these rows and columns, along each axis.
    pub(crate) fn tiles(&self, output: [usize; 2]) -> [usize; 2] {
        [output[0].div_ceil(self.tile[0]), output[1].div_ceil(self.tile[1])]
    }

    /// Returns the number of elements that a thread can read together: it divides the width of a whole map.
    pub(crate) fn vector(&self) -> usize {
        match self.whole {
            Some(size) if size[1].is_multiple_of(4) => 4,
            Some(size) if size[1].is_multiple_of(2) => 2,
            _ => 1,
        }
    }

    /// Returns the position, relative to the tile, that the tile's output `at` reads for `tap`; `None` when there is none.
    pub(crate) fn source(&self, axis: usize, at: usize, tap: usize) -> Option<i32> {
        let (stride, padding) = (self.stride[axis] as i32, self.padding[axis] as i32);
        let tap = (tap * self.dilation[axis]) as i32;
        let position = if self.transposed {
            let steps = at as i32 + padding - tap;
            (steps.rem_euclid(stride) == 0).then(|| steps.div_euclid(stride))
        } else {
            Some(at as i32 * stride + tap - padding)
        };
        position.filter(|&p| self.whole.is_none_or(|size| (0..size[axis] as i32).contains(&p)))
    }

    /// Returns [`source`](Self::source) as a place in the row or column that is read; `usize::MAX` when there is none.
    pub(crate) fn slot(&self, axis: usize, at: usize, tap: usize) -> usize {
        self.source(axis, at, tap).map_or(usize::MAX, |position| (position - self.first(axis)) as usize)
    }

    /// Returns the first and the last position that a tile reads, relative to the tile.
    fn ends(&self, axis: usize) -> Option<(i32, i32)> {
        let all = (0..self.tile[axis]).flat_map(|at| (0..self.kernel[axis]).map(move |tap| (at, tap)));
        let mut all = all.filter_map(|(at, tap)| self.source(axis, at, tap));
        let first = all.next()?;
        Some(all.fold((first, first), |(low, high), p| (low.min(p), high.max(p))))
    }

    /// Returns the first position that is read, relative to the tile; 0 when the tile is the whole map.
    pub(crate) fn first(&self, axis: usize) -> i32 {
        if self.whole.is_some() { 0 } else { self.ends(axis).map_or(0, |(low, _)| low) }
    }

    /// Returns the number of positions that are read along an axis.
    pub(crate) fn count(&self, axis: usize) -> usize {
        match self.whole {
            Some(size) => size[axis],
            None => self.ends(axis).map_or(0, |(low, high)| (high - low) as usize + 1),
        }
    }

    /// Returns whether any output reads this place of the axis.
    pub(crate) fn reads(&self, axis: usize, slot: usize) -> bool {
        (0..self.tile[axis]).any(|at| (0..self.kernel[axis]).any(|tap| self.slot(axis, at, tap) == slot))
    }

    /// Returns the distance in the source from one tile to the next.
    pub(crate) fn step(&self, axis: usize) -> usize {
        if self.transposed { self.tile[axis] / self.stride[axis] } else { self.tile[axis] * self.stride[axis] }
    }
}

/// The threads of a cube: `lanes` along samples and tiles, times `split` threads among which the kernels of a row are
/// divided. Both are powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Threads {
    pub(crate) lanes: usize,
    pub(crate) split: usize,
}

impl Threads {
    /// Chooses the threads for a gather.
    ///
    /// * `items`: samples times tiles;
    /// * `rows`, `kernels`: rows of kernels, and kernels of all rows;
    /// * `registers`: sums of a thread, which the threads of a split exchange through shared memory;
    /// * `most`: most threads of a cube, a power of two.
    pub(crate) fn for_gather(items: usize, rows: usize, kernels: usize, registers: usize, most: usize) -> Self {
        let lanes = items.next_power_of_two().min(64).min(most);
        // With few threads in all, more of them work on one row.
        let wanted = if items * rows >= 1 << 14 { 64 } else { 256 };
        let per_row = kernels.div_ceil(rows.max(1));
        let memory = exchanges(registers) / lanes;
        let split = (wanted.min(most) / lanes).min(per_row / 2).min(memory);
        Self { lanes, split: power_of_two_up_to(split) }
    }

    /// Chooses the threads for the gradient by the values: `lanes` among which samples and tiles are divided, times
    /// `split` kernels.
    ///
    /// * `items`: samples times tiles;
    /// * `registers`: sums of a thread, which the lanes exchange through shared memory;
    /// * `most`: most threads of a cube.
    pub(crate) fn for_values(items: usize, registers: usize, most: usize) -> Self {
        let most = power_of_two_up_to(most.min(exchanges(registers)));
        let lanes = items.next_power_of_two().min(32).min(most);
        Self { lanes, split: most / lanes }
    }
}

/// Returns the number of threads whose sums fit into shared memory.
fn exchanges(registers: usize) -> usize {
    SHARED_MEMORY / (4 * (registers | 1))
}
