//! Tiles: the output positions whose sums are held in registers, and which of them each tap reaches.

use super::geometry::Lattice;
use super::pack::Columns;

/// Rows and columns of the tiles there is code for.
pub(super) const SHAPES: [(usize, usize); 10] =
    [(4, 4), (2, 8), (2, 7), (1, 8), (1, 7), (2, 4), (1, 4), (2, 2), (1, 2), (1, 1)];

/// A lattice cut into tiles of one shape. The last tile of a row or column overlaps the one before it
/// where the shape does not divide the size.
pub(super) struct Tiling {
    /// Rows and columns of every tile.
    pub(super) shape: (usize, usize),
    pub(super) tiles: Vec<Tile>,
    /// Products of a vector and a weight for each kernel, and what else takes as long.
    pub(super) cost: usize,
}

/// A rectangle of positions of a lattice.
pub(super) struct Tile {
    /// Row and column of the first.
    pub(super) at: [usize; 2],
    /// The taps that reach any of them.
    pub(super) taps: Vec<TileTap>,
    /// Vectors of a channel that the tile reads, about.
    pub(super) window: usize,
}

/// A tap as a tile sees it.
#[derive(Clone, Copy)]
pub(super) struct TileTap {
    /// Place in the kernel.
    pub(super) weight: usize,
    /// Where the row 0 and column `columns.0` of the tile reads within its channel; wraps below zero for a
    /// row that is outside.
    pub(super) start: usize,
    /// From a row of the tile to the next.
    pub(super) step: usize,
    /// First row inside and the one after the last.
    pub(super) rows: (usize, usize),
    /// The same for columns.
    pub(super) columns: (usize, usize),
}

impl Tiling {
    /// The cheapest tiling with the sums of a tile in `registers`; `source` is height and width.
    pub(super) fn new(lattice: &Lattice, source: [usize; 2], columns: &Columns, registers: usize) -> Self {
        let [rows, width] = lattice.size;
        let fits = |&&(high, wide): &&(usize, usize)| {
            high * wide <= registers / 2 && (high <= rows && wide <= width || (high, wide) == (1, 1))
        };
        let cost = |&&(high, wide): &&(usize, usize)| {
            // Every tap of every tile takes a broadcast and some control besides its products.
            rows.div_ceil(high) * width.div_ceil(wide) * (high * wide).max(4) * 16
                + rows.div_ceil(high) * width.div_ceil(wide) * (16 + 4 * high)
        };
        let shape = SHAPES.iter().filter(fits).min_by_key(cost).copied().unwrap_or((1, 1));
        let mut tiles = Vec::new();
        for row in starts(rows, shape.0) {
            for column in starts(width, shape.1) {
                tiles.push(Tile::new([row, column], shape, lattice, source, columns));
            }
        }
        // A sum in a register takes a product every fourth cycle, eight could be had.
        let products = |tap: &TileTap| ((tap.rows.1 - tap.rows.0) * (tap.columns.1 - tap.columns.0)).max(4) + 1;
        let cost = tiles.iter().flat_map(|tile| &tile.taps).map(products).sum();
        Self { shape, tiles, cost }
    }
}

/// Starts of tiles of `side` that cover `length`.
fn starts(length: usize, side: usize) -> impl Iterator<Item = usize> {
    (0..length.div_ceil(side)).map(move |tile| (tile * side).min(length.saturating_sub(side)))
}

impl Tile {
    /// The tile of `shape` at `at`.
    pub(super) fn new(
        at: [usize; 2],
        shape: (usize, usize),
        lattice: &Lattice,
        [height, width]: [usize; 2],
        columns: &Columns,
    ) -> Self {
        let mut taps = Vec::new();
        let (mut low, mut high) = ([isize::MAX; 2], [isize::MIN; 2]);
        for tap in &lattice.taps {
            let row = (at[0] * lattice.read[0]) as isize + tap.shift[0];
            let rows = inside(row, lattice.read[0] as isize, shape.0, height);
            let stride = lattice.read[1] as isize;
            let (place, count) = columns.phase(tap.shift[1].rem_euclid(stride) as usize);
            let column = at[1] as isize + tap.shift[1].div_euclid(stride);
            let reached = inside(column, 1, shape.1, count);
            if rows.0 >= rows.1 || reached.0 >= reached.1 {
                continue;
            }
            let step = lattice.read[0] * width;
            let first = place as isize + column + reached.0 as isize;
            let start = (row.wrapping_mul(width as isize).wrapping_add(first)) as usize;
            taps.push(TileTap { weight: tap.weight, start, step, rows, columns: reached });
            let ends = [
                (row, row + (lattice.read[0] * (shape.0 - 1)) as isize),
                (column * stride, (column + shape.1 as isize - 1) * stride),
            ];
            for axis in 0..2 {
                low[axis] = low[axis].min(ends[axis].0.max(0));
                high[axis] = high[axis].max(ends[axis].1.min([height, width][axis] as isize - 1));
            }
        }
        let span = |axis: usize| (high[axis].saturating_sub(low[axis])).max(0) as usize + 1;
        let window = if taps.is_empty() { 1 } else { span(0) * span(1) };
        Self { at, taps, window }
    }
}

/// The range of `place` below `places` with `0 <= first + step place < length`.
fn inside(first: isize, step: isize, places: usize, length: usize) -> (usize, usize) {
    let from = if first < 0 { (-first + step - 1) / step } else { 0 };
    let to = if (length as isize) > first { (length as isize - first + step - 1) / step } else { 0 };
    (places.min(from as usize), places.min(to as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_is_inside() {
        for (first, step) in (-9..9).flat_map(|first| (1..4).map(move |step| (first, step))) {
            for length in 0..7 {
                let (from, to) = inside(first, step, 5, length);
                for place in 0..5_isize {
                    let at = first + step * place;
                    let expected = 0 <= at && at < length as isize;
                    assert_eq!((from..to).contains(&(place as usize)), expected, "{first} {step} {length} {place}");
                }
            }
        }
    }

    #[test]
    fn tiles_cover_the_lattice() {
        for (rows, width) in (1..20).flat_map(|rows| (1..20).map(move |width| (rows, width))) {
            let lattice = Lattice { size: [rows, width], origin: [0, 0], step: [1, 1], read: [1, 1], taps: vec![] };
            let tiling = Tiling::new(&lattice, [rows, width], &Columns::new(width, 1), 32);
            let mut seen = vec![false; rows * width];
            for tile in &tiling.tiles {
                for (y, x) in (0..tiling.shape.0).flat_map(|y| (0..tiling.shape.1).map(move |x| (y, x))) {
                    seen[(tile.at[0] + y) * width + tile.at[1] + x] = true;
                }
            }
            assert!(seen.iter().all(|&seen| seen));
        }
    }
}
