//! The elements of a map that the tiles of a block cover, in lists from which the transforms read whole vectors.
//!
//! Tiles are `step` rows and columns apart. Elements are split by their row and column modulo `step`, so that in a list
//! the same element of consecutive tiles is consecutive:
//!
//! ```text
//! element (i, j) of tile t of row r of tiles: list (i % step, j % step), row r + i / step, column t + j / step
//! ```
//!
//! Each element is copied once, although tiles overlap.

use pulp::Simd;

use super::super::moves::copy_all;
use super::plan::Part;
use super::vectors::{Elements, Places, gather};

/// Columns of a list that are split off a row at once, by shuffles.
const COLUMNS: usize = 8;
/// Elements behind a list that whole vectors read; most lanes of an instruction set.
const BEHIND: usize = 16;

/// How tiles lie on a map: tile t of a row of tiles starts at column `step * t - before[1]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lattice {
    /// Rows and columns of the map.
    pub(super) map: [usize; 2],
    /// Rows and columns of the first tile that lie before the map.
    pub(super) before: [usize; 2],
    /// Distance between tiles.
    pub(super) step: usize,
    /// Rows and columns of a tile, at most `2 * step`.
    pub(super) side: usize,
    /// Tiles of a row of tiles.
    pub(super) across: usize,
}

/// Where the elements of a block lie in the lists.
#[derive(Debug)]
pub(super) struct Lists {
    lattice: Lattice,
    /// Elements of a row of a list.
    pitch: usize,
    /// Elements of a list and of what is read behind it.
    length: usize,
    /// The rows of the map that each part reads.
    rows: Vec<Vec<Row>>,
    /// Tiles of a vector that are consecutive in a list.
    piece: usize,
    /// The first tile of each vector. They cover all tiles; what a vector has behind a row of tiles are places of tiles
    /// that the next one covers, or of none.
    pub(super) vectors: Vec<usize>,
    /// Where the pieces of the vectors lie in a list, vector after vector.
    starts: Vec<usize>,
}

/// A row of the map.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// Place of its first element in the map.
    from: usize,
    /// Place of its row in the first list of its row of a tile.
    to: usize,
}

impl Lattice {
    /// Returns where the elements of some parts lie, for vectors of `lanes` tiles.
    pub(super) fn lists(&self, parts: &[Part], lanes: usize) -> Lists {
        let (step, across) = (self.step, self.across);
        // A tile reads the column of the next one, too.
        let pitch = (across + 1).max(COLUMNS);
        let all: usize = parts.iter().map(|part| part.rows + 1).sum();
        let length = (all * pitch).next_multiple_of(BEHIND) + BEHIND;
        // A vector of short rows of tiles is put together of several, where they fill it.
        let piece = if across.is_power_of_two() { across.min(lanes) } else { lanes };
        let (mut vectors, mut starts, mut first) = (Vec::new(), Vec::new(), 0);
        let mut rows = Vec::with_capacity(parts.len());
        for part in parts {
            let inside = |line: usize| {
                let y = (part.row * step + line).checked_sub(self.before[0]).filter(|&y| y < self.map[0])?;
                let to = line % step * step * length + (first + line / step) * pitch;
                Some(Row { from: y * self.map[1], to })
            };
            rows.push((0..(part.rows - 1) * step + self.side).filter_map(inside).collect());
            for row in 0..part.rows {
                for tile in (0..across).step_by(lanes) {
                    // The last vector overlaps the one before it, where there are several.
                    let tile = tile.min(across.saturating_sub(lanes));
                    if starts.len() % (lanes / piece) == 0 {
                        vectors.push(part.at + row * across + tile);
                    }
                    starts.push((first + row) * pitch + tile);
                }
            }
            first += part.rows + 1;
        }
        // Places without a tile.
        starts.resize(vectors.len() * (lanes / piece), 0);
        Lists { lattice: *self, pitch, length, rows, piece, vectors, starts }
    }
}

impl Lists {
    /// Returns the number of elements that [`Self::load`] needs.
    pub(super) fn elements(&self) -> usize {
        self.lines() + self.lattice.step * self.lattice.step * self.length
    }

    /// Elements of the rows of the map that the parts read.
    fn lines(&self) -> usize {
        let rows: usize = self.rows.iter().map(Vec::len).sum();
        (rows * self.lattice.step * self.pitch).next_multiple_of(BEHIND)
    }

    /// Returns where the elements (i, j) of a tile lie behind the place of the tile.
    pub(super) fn places<const N: usize>(&self) -> Places<N> {
        let step = self.lattice.step;
        let mut places = [[0; N]; N];
        for (row, column) in ndarray::indices((N, N)) {
            let list = row % step * step + column % step;
            places[row][column] = list * self.length + row / step * self.pitch + column / step;
        }
        Places::new(places)
    }

    /// Splits what the tiles read of one filter and returns the lists.
    ///
    /// * `map`: returns the map of a sample;
    /// * `memory`: [`Self::elements`] zeros, or what an earlier call has left.
    #[inline(always)]
    pub(super) fn load<'a, 'b, const M: usize>(
        &self,
        parts: &[Part],
        map: impl Fn(usize) -> &'a [f32],
        memory: &'b mut [f32],
    ) -> &'b [f32] {
        let (lines, lists) = memory.split_at_mut(self.lines());
        let wide = M * self.pitch;
        let before = self.lattice.before[1].min(wide);
        let length = self.lattice.map[1].min(wide - before);
        // All of them are copied before the first one is read: by then it is in the cache.
        let mut to = lines.chunks_exact_mut(wide);
        for (part, rows) in parts.iter().zip(&self.rows) {
            let map = map(part.sample);
            for (row, line) in rows.iter().zip(&mut to) {
                copy_all(&map[row.from..][..length], &mut line[before..][..length]);
            }
        }
        for (row, line) in self.rows.iter().flatten().zip(lines.chunks_exact(wide)) {
            split::<M>(line, &mut lists[row.to..], self.length, self.pitch);
        }
        lists
    }

    /// Returns the elements of a vector of tiles.
    ///
    /// * `memory`: `N * N` vectors, for those that are put together of pieces.
    #[inline(always)]
    pub(super) fn vector<'a, S: Simd, const N: usize>(
        &self,
        lists: &'a [f32],
        vector: usize,
        [places, together]: [&'a Places<N>; 2],
        memory: &'a mut [f32],
    ) -> Elements<'a, N> {
        let pieces = S::F32_LANES / self.piece;
        let starts = &self.starts[vector * pieces..][..pieces];
        match self.piece {
            piece if piece == S::F32_LANES => return Elements::new::<S>(&lists[starts[0]..], places),
            8 => gather::<S, 8, N>(lists, starts, places, memory),
            4 => gather::<S, 4, N>(lists, starts, places, memory),
            2 => gather::<S, 2, N>(lists, starts, places, memory),
            _ => gather::<S, 1, N>(lists, starts, places, memory),
        }
        Elements::new::<S>(memory, together)
    }
}

/// Splits a row into its columns modulo `M`, `pitch` of each; the lists are `distance` apart.
#[inline(always)]
fn split<const M: usize>(line: &[f32], lists: &mut [f32], distance: usize, pitch: usize) {
    for at in (0..pitch).step_by(COLUMNS) {
        // The last ones overlap those before.
        let at = at.min(pitch - COLUMNS);
        let (line, lists) = (&line[M * at..], &mut lists[at..]);
        // Constant lengths are compiled to shuffles.
        match M {
            2 => split_some::<2, { 2 * COLUMNS }>(line, lists, distance),
            _ => split_some::<4, { 4 * COLUMNS }>(line, lists, distance),
        }
    }
}

/// Splits `L` elements into `M` columns.
#[inline(always)]
fn split_some<const M: usize, const L: usize>(line: &[f32], lists: &mut [f32], distance: usize) {
    let Some(&line) = line.first_chunk::<L>() else { return };
    for column in 0..M {
        let Some(list) = lists[column * distance..].first_chunk_mut::<COLUMNS>() else { return };
        for place in 0..COLUMNS {
            list[place] = line[M * place + column];
        }
    }
}
