//! Tiles: groups of output positions whose sums stay in registers, and the positions that each tap contributes to.

use super::geometry::Lattice;
use super::pack::Columns;

/// Rows and columns of the tiles for which the inner loop is compiled.
pub(super) const SHAPES: [(usize, usize); 10] =
    [(4, 4), (2, 8), (2, 7), (1, 8), (1, 7), (2, 4), (1, 4), (2, 2), (1, 2), (1, 1)];

/// A lattice cut into tiles of one shape.
///
/// Where the shape does not divide the size, the last tile of a row or column overlaps the one before it.
pub(super) struct Tiling {
    /// Rows and columns of every tile.
    pub(super) shape: (usize, usize),
    pub(super) tiles: Vec<Tile>,
    /// Estimated time of one kernel on all tiles, in products of a vector and a weight.
    pub(super) cost: usize,
}

/// A rectangle of positions of a lattice.
pub(super) struct Tile {
    /// Row and column of the first position.
    pub(super) at: [usize; 2],
    /// The taps that contribute to at least one position.
    pub(super) taps: Vec<TileTap>,
    /// Estimated number of vectors of a channel that the tile reads.
    pub(super) window: usize,
}

/// A tap within one tile.
#[derive(Clone, Copy)]
pub(super) struct TileTap {
    /// Index in the kernel.
    pub(super) weight: usize,
    /// Place in the channel that row 0 and column `columns.0` of the tile read. It wraps below zero when row 0 reads
    /// padding; such a row is outside `rows`.
    pub(super) start: usize,
    /// Distance in the channel from one row of the tile to the next.
    pub(super) step: usize,
    /// The range of rows that read inside the map.
    pub(super) rows: (usize, usize),
    /// The range of columns that read inside the map.
    pub(super) columns: (usize, usize),
}

impl Tiling {
    /// Returns the cheapest tiling whose sums fit into half of the `registers`; `source` is rows and columns of the
    /// source.
    pub(super) fn new(lattice: &Lattice, source: [usize; 2], columns: &Columns, registers: usize) -> Self {
        let [rows, width] = lattice.size;
        let fits = |&&(high, wide): &&(usize, usize)| {
            high * wide <= registers / 2 && (high <= rows && wide <= width || (high, wide) == (1, 1))
        };
        let cost = |&&(high, wide): &&(usize, usize)| {
            // Besides its products, every tap of every tile costs a broadcast and branches.
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
        // Each sum accepts a product every fourth cycle, so a tap with fewer than four sums takes as long as four.
        let products = |tap: &TileTap| ((tap.rows.1 - tap.rows.0) * (tap.columns.1 - tap.columns.0)).max(4) + 1;
        let cost = tiles.iter().flat_map(|tile| &tile.taps).map(products).sum();
        Self { shape, tiles, cost }
    }
}

/// Iterates over the starts of tiles of length `side` that cover `length`.
fn starts(length: usize, side: usize) -> impl Iterator<Item = usize> {
    (0..length.div_ceil(side)).map(move |tile| (tile * side).min(length.saturating_sub(side)))
}

impl Tile {
    /// Computes the taps of the tile of `shape` whose first position is `at`.
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

/// Returns the range of `place`, below `places`, with `0 <= first + step * place < length`.
fn inside(first: isize, step: isize, places: usize, length: usize) -> (usize, usize) {
    let from = if first < 0 { (-first + step - 1) / step } else { 0 };
    let to = if (length as isize) > first { (length as isize - first + step - 1) / step } else { 0 };
    (places.min(from as usize), places.min(to as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_the_places_inside() {
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
