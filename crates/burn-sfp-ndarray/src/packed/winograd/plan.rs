//! How a Winograd convolution is cut into blocks of tiles.

use crate::ConvGeometry;

use super::super::weights::ROWS;
use super::weights::WinogradConv2d;

/// Desired bytes of the transformed input of a block, which every panel of weights reads: most of a usual second-level
/// cache.
const SOURCE: usize = 5 << 17;
/// Vectors of tiles for which a block may exceed that: with fewer, the weights would be read for too few products.
const VECTORS: usize = 3;
/// Most tiles of a block.
const TILES: usize = 512;
/// What a block costs besides its vectors of tiles, in vectors of tiles: above all the reading of the weights.
const BLOCK: f64 = 0.5;
/// Desired bytes of the products of some panels, where the transformed input is in the second-level cache and where
/// not: the input is read again for each of these groups of panels.
const PRODUCTS: [usize; 2] = [3 << 16, 1 << 21];

/// The cut of a convolution.
#[derive(Debug)]
pub(super) struct Plan {
    /// Rows and columns of the input.
    pub(super) input: [usize; 2],
    /// Rows and columns of the output.
    pub(super) output: [usize; 2],
    /// Zeros before the rows and columns of the input.
    pub(super) before: [usize; 2],
    /// Tiles of a row of tiles.
    pub(super) across: usize,
    /// Panels whose products are kept at once.
    pub(super) panels: usize,
    pub(super) blocks: Vec<Block>,
}

/// Rows of tiles that are computed together.
#[derive(Debug)]
pub(super) struct Block {
    /// Vectors of tiles.
    pub(super) vectors: usize,
    pub(super) parts: Vec<Part>,
}

/// Consecutive rows of tiles of one sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) sample: usize,
    /// First row of tiles.
    pub(super) row: usize,
    /// Number of rows of tiles.
    pub(super) rows: usize,
    /// Place of the first tile in the block.
    pub(super) at: usize,
}

impl Plan {
    /// Returns the plan for `samples` maps, in vectors of `lanes` tiles, for a number of threads.
    pub(super) fn new(
        conv: &WinogradConv2d,
        geometry: &ConvGeometry,
        input: [usize; 2],
        output: [usize; 2],
        samples: usize,
        lanes: usize,
        threads: usize,
    ) -> Self {
        let side = conv.tile().outputs();
        let (down, across) = (output[0].div_ceil(side), output[1].div_ceil(side));
        let total = samples * down;
        let each = conv.tile().products() * conv.inputs().max(1) * size_of::<f32>();
        let most = (SOURCE / each).max(VECTORS * lanes).min(TILES);
        let height = height(total, across, lanes, most, threads);
        let blocks = blocks([samples, down, across], height, lanes);
        let vectors = (height.min(total) * across).div_ceil(lanes);
        let bytes = PRODUCTS[usize::from(each * vectors * lanes > SOURCE)];
        let rows = bytes / (conv.tile().products() * vectors * lanes * size_of::<f32>()).max(1);
        let before = geometry.padding.map(|[before, _]| before);
        Self { input, output, before, across, panels: (rows / ROWS).max(1), blocks }
    }

    /// Returns the part of an output map that a part of a block covers: first element and number of elements.
    pub(super) fn span(&self, part: &Part, side: usize) -> (usize, usize) {
        let (first, end) = (part.row * side, ((part.row + part.rows) * side).min(self.output[0]));
        (first * self.output[1], (end - first) * self.output[1])
    }
}

/// Cuts the rows of tiles of some samples, `down` rows of `across` tiles each, into blocks of `height` rows.
pub(super) fn blocks([samples, down, across]: [usize; 3], height: usize, lanes: usize) -> Vec<Block> {
    let total = samples * down;
    let mut blocks = Vec::with_capacity(total.div_ceil(height));
    for start in (0..total).step_by(height) {
        let end = total.min(start + height);
        let (mut parts, mut next) = (Vec::new(), start);
        while next < end {
            let (sample, row) = (next / down, next % down);
            let rows = (down - row).min(end - next);
            parts.push(Part { sample, row, rows, at: (next - start) * across });
            next += rows;
        }
        blocks.push(Block { vectors: ((end - start) * across).div_ceil(lanes), parts });
    }
    blocks
}

/// Returns the rows of tiles of a block for which an estimate of the time is least.
fn height(total: usize, across: usize, lanes: usize, most: usize, threads: usize) -> usize {
    let time = |height: usize| {
        let vectors = |rows: usize| (rows * across).div_ceil(lanes) as f64 + BLOCK;
        let (blocks, rest) = (total / height, total % height);
        if blocks < threads {
            // The panels are cut too.
            let all = blocks as f64 * vectors(height) + if rest > 0 { vectors(rest) } else { 0.0 };
            return all / threads as f64;
        }
        let (rounds, left) = (blocks / threads, blocks % threads);
        let last = if left > 0 {
            vectors(height)
        } else if rest > 0 {
            vectors(rest)
        } else {
            0.0
        };
        rounds as f64 * vectors(height) + last
    };
    let highest = (most / across.max(1)).clamp(1, total.max(1));
    (1..=highest).min_by(|&a, &b| time(a).total_cmp(&time(b))).unwrap_or(1)
}

/// Returns the number of parts into which the panels are cut, so that all threads have work; each of them transforms
/// the input again.
pub(super) fn cuts(panels: usize, blocks: usize, threads: usize) -> usize {
    if blocks >= 4 * threads || blocks.is_multiple_of(threads) {
        return 1;
    }
    (threads.div_ceil(blocks.max(1))).min(panels.div_ceil(2)).max(1)
}

#[cfg(test)]
mod tests {
    use ndarray::Array4;

    use super::*;
    use crate::{ConvGeometry, WinogradTile};

    #[test]
    fn blocks_cover_every_row_of_tiles_once() {
        for (samples, size, threads) in [(1, [56, 56], 2), (3, [7, 7], 2), (64, [4, 5], 3), (2, [1, 900], 1)] {
            for tile in [WinogradTile::Two, WinogradTile::Four] {
                let weights = Array4::zeros((8, 64, 3, 3));
                let conv = WinogradConv2d::new(weights.view(), &ConvGeometry::default(), tile).unwrap();
                let plan = Plan::new(&conv, conv.geometry(), size, size, samples, 16, threads);
                let down = size[0].div_ceil(tile.outputs());
                let mut next = 0;
                for block in &plan.blocks {
                    let mut tiles = 0;
                    for part in &block.parts {
                        assert_eq!((part.sample * down + part.row, part.at), (next, tiles));
                        assert!(part.rows > 0 && part.row + part.rows <= down);
                        next += part.rows;
                        tiles += part.rows * plan.across;
                    }
                    assert_eq!(block.vectors, tiles.div_ceil(16));
                }
                assert_eq!(next, samples * down);
            }
        }
    }

    #[test]
    fn threads_have_work() {
        assert_eq!(cuts(64, 1, 2), 2);
        assert_eq!(cuts(64, 2, 2), 1);
        assert_eq!(cuts(64, 100, 2), 1);
        assert_eq!(cuts(1, 1, 8), 1);
        assert_eq!(cuts(0, 1, 8), 1);
    }
}
