//! How the positions of a map are cut into the tiles that a thread computes.
//!
//! A plan is known when a kernel is compiled, so that every loop over a tile, a kernel's taps and the positions
//! they read unrolls into straight code on registers: each number that is read is used for all outputs of the
//! tile that it reaches, and each weight for all of the tile.

/// Outputs of a tile at most; each is a register.
const MOST_OUTPUTS: usize = 64;
/// Multiply-adds of a kernel on a tile at most; each is an instruction.
const MOST_PRODUCTS: usize = 640;
/// Positions that a tile reads at most.
const MOST_READS: usize = 320;

/// A gather: outputs on a map, each the sum over a kernel's taps of a source's positions.
///
/// Direct, output `at` reads for `tap` the position `at * stride + tap * dilation - padding`: a convolution.
/// Transposed, it reads `(at + padding - tap * dilation) / stride` where that is whole: its gradient by the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Plan {
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) dilation: [usize; 2],
    /// Before each axis.
    pub(crate) padding: [usize; 2],
    pub(crate) transposed: bool,
    /// Height and width of the tile; a multiple of the stride when transposed.
    pub(crate) tile: [usize; 2],
    /// The source's height and width when one tile is the whole map: then every bound is known.
    pub(crate) whole: Option<[usize; 2]>,
}

impl Plan {
    /// The plan of least estimated cost for this source and output, or `None` when no tile's code is of a
    /// reasonable length or there is no output.
    pub(crate) fn choose(self, source: [usize; 2], output: [usize; 2]) -> Option<Self> {
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

    fn is_short(&self) -> bool {
        let reads = match self.whole {
            Some([height, width]) => height.saturating_mul(width),
            None => self.count(0) * self.count(1),
        };
        // Before anything is enumerated.
        (1..=MOST_OUTPUTS).contains(&self.tile[0].saturating_mul(self.tile[1]))
            && self.kernel[0].saturating_mul(self.kernel[1]) <= MOST_PRODUCTS
            && reads <= MOST_READS
            && self.products() <= MOST_PRODUCTS
    }

    /// Reads, with their bounds, cost more than multiply-adds.
    fn cost(&self, output: [usize; 2]) -> usize {
        let tiles = output[0].div_ceil(self.tile[0]) * output[1].div_ceil(self.tile[1]);
        let reads = match self.whole {
            Some([height, width]) => 2 * height * width,
            None => 5 * self.count(0) * self.count(1),
        };
        tiles * (self.products() + reads + 3 * self.taps() + 10)
    }

    /// Multiply-adds of one kernel on a tile.
    fn products(&self) -> usize {
        let pairs = |axis: usize| {
            (0..self.tile[axis])
                .map(|at| (0..self.kernel[axis]).filter(|&tap| self.source(axis, at, tap).is_some()).count())
                .sum::<usize>()
        };
        pairs(0) * pairs(1)
    }

    pub(crate) fn outputs(&self) -> usize {
        self.tile[0] * self.tile[1]
    }

    pub(crate) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// The position, counted from the tile's, that the tile's output `at` reads for `tap`.
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

    /// [`source`](Self::source) as a place in the row or column that is read; at or beyond [`count`](Self::count) for none.
    pub(crate) fn slot(&self, axis: usize, at: usize, tap: usize) -> usize {
        self.source(axis, at, tap).map_or(usize::MAX, |position| (position - self.first(axis)) as usize)
    }

    fn ends(&self, axis: usize) -> Option<(i32, i32)> {
        let all = (0..self.tile[axis]).flat_map(|at| (0..self.kernel[axis]).map(move |tap| (at, tap)));
        let mut all = all.filter_map(|(at, tap)| self.source(axis, at, tap));
        let first = all.next()?;
        Some(all.fold((first, first), |(low, high), p| (low.min(p), high.max(p))))
    }

    /// The first position that is read, counted from the tile's; 0 when the whole map is.
    pub(crate) fn first(&self, axis: usize) -> i32 {
        if self.whole.is_some() { 0 } else { self.ends(axis).map_or(0, |(low, _)| low) }
    }

    /// Number of positions that are read.
    pub(crate) fn count(&self, axis: usize) -> usize {
        match self.whole {
            Some(size) => size[axis],
            None => self.ends(axis).map_or(0, |(low, high)| (high - low) as usize + 1),
        }
    }

    /// Whether anything reads this place of the axis.
    pub(crate) fn reads(&self, axis: usize, slot: usize) -> bool {
        (0..self.tile[axis]).any(|at| (0..self.kernel[axis]).any(|tap| self.slot(axis, at, tap) == slot))
    }

    /// Positions of the source from one tile to the next.
    pub(crate) fn step(&self, axis: usize) -> usize {
        if self.transposed { self.tile[axis] / self.stride[axis] } else { self.tile[axis] * self.stride[axis] }
    }
}

/// A cube: threads along samples and tiles, times threads that share out a row of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Threads {
    pub(crate) lanes: usize,
    pub(crate) split: usize,
}

impl Threads {
    /// For `items` samples times tiles, `rows` rows of `kernels` kernels in all; a thread keeps `registers`
    /// numbers that the threads of a split exchange.
    pub(crate) fn choose(items: usize, rows: usize, kernels: usize, registers: usize, most: usize) -> Self {
        let lanes = items.next_power_of_two().min(64).min(most);
        // Few threads in all: more of them to a row.
        let wanted = if items * rows >= 1 << 14 { 64 } else { 256 };
        let per_row = kernels.div_ceil(rows.max(1));
        let memory = 16384 / (4 * (registers | 1) * lanes);
        let split = (wanted.min(most) / lanes).min(per_row / 2).min(memory).max(1);
        Self { lanes, split: if split.is_power_of_two() { split } else { split.next_power_of_two() / 2 } }
    }
}
