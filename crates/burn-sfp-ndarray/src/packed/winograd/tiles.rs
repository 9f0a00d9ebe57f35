//! The elements of a map that the tiles of a block cover.

use pulp::Simd;

use super::super::fill::copy;
use super::plan::Part;

/// How tiles lie on a map: tile t of a row of tiles starts at column `step * t - before[1]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lattice {
    /// Rows and columns of the map.
    pub(super) map: [usize; 2],
    /// Rows and columns of the first tile that lie before the map.
    pub(super) before: [usize; 2],
    /// Distance between tiles.
    pub(super) step: usize,
    /// Rows and columns of a tile.
    pub(super) side: usize,
    /// Tiles of a row of tiles.
    pub(super) across: usize,
}

/// Elements of the tiles that lie on the map and are a fixed distance apart in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// Place of the first element in the map.
    from: usize,
    /// Place of its copy.
    to: usize,
    length: usize,
}

impl Lattice {
    /// Returns what is copied of a map for each of the parts of a block, to `[row][column][tile]` with `width` places for tiles.
    pub(super) fn runs(&self, parts: &[Part], width: usize) -> Vec<Vec<Run>> {
        let ([height, wide], [above, before], step) = (self.map, self.before, self.step);
        let runs = |part: &Part| {
            let mut runs = Vec::with_capacity(part.rows * self.side * self.side);
            for (line, row, column) in ndarray::indices((part.rows, self.side, self.side)) {
                let y = ((part.row + line) * step + row).checked_sub(above).filter(|&y| y < height);
                let Some(y) = y else { continue };
                let start = before.saturating_sub(column).div_ceil(step).min(self.across);
                let end = (before + wide).saturating_sub(column).div_ceil(step).clamp(start, self.across);
                if start < end {
                    let from = y * wide + start * step + column - before;
                    let to = (row * self.side + column) * width + part.at + line * self.across + start;
                    runs.push(Run { from, to, length: end - start });
                }
            }
            runs
        };
        parts.iter().map(runs).collect()
    }
}

/// Copies what the runs of a part name, `step` apart in the map.
#[inline(always)]
pub(super) fn load<S: Simd>(simd: S, map: &[f32], step: usize, runs: &[Run], tiles: &mut [f32]) {
    for run in runs {
        copy(simd, &map[run.from..], step, &mut tiles[run.to..][..run.length]);
    }
}
