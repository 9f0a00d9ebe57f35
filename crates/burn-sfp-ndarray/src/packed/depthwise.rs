//! Filters of a depthwise convolution, each of which reads one input filter, on one thread.
//!
//! Such a filter has as many products per element as taps, so copying and storing take the time that they take in the general task many
//! times over. So nothing else is done for a filter here: its rows are copied to where those of the filter before lie, and what lies between
//! them is cleared once.
//!
//! The sums are those of the general task, bit for bit.

use pulp::Simd;

use crate::epilogue::Stage;
use crate::vector::Aligned;

use super::moves::Moves;
use super::plan::{Shifted, tile_width};
use super::taps::Taps;
use super::task::{Task, finish};
use super::tile::{Product, most_vectors, multiply};

impl Task<'_> {
    /// Computes the panels of a depthwise convolution from a shifted source.
    #[inline(always)]
    pub(super) fn depthwise<S: Simd>(
        &mut self,
        simd: S,
        sizes: &Shifted,
        taps: &Taps,
        [source, sums, wide]: [&mut Aligned; 3],
    ) {
        let (conv, plan, unit) = (self.conv, self.plan, self.unit);
        let (sample, position, length) = unit.parts[0];
        let width = plan.columns.output;
        let height = length / width;
        let source = &mut source.as_mut_slice()[..plan.source(unit.vectors, S::F32_LANES)];
        source.fill(0.0);
        sums.reserve((unit.vectors + 1) * S::F32_LANES);
        let part = std::iter::once((sample, unit.row, height));
        let moves = Moves::shifted([&plan.rows, &plan.columns], sizes, part);
        let panels = &conv.panels()[self.panels.clone()];
        for (panel, out) in panels.iter().zip(&mut self.out) {
            let filter = panel.first;
            let from = &self.arrays.input[(sample * conv.inputs() + filter) * self.arrays.input_map..];
            moves.copy(|_| from, source);
            let weights = conv.weights(panel, 0, 1, wide);
            let mut vector = 0;
            while vector < unit.vectors {
                let tile = tile_width(unit.vectors - vector, most_vectors::<S>(1));
                let at = vector * S::F32_LANES;
                let source = &source[at..];
                let sums = &mut sums.as_mut_slice()[at..at + tile * S::F32_LANES];
                multiply(simd, 1, tile, Product { weights, taps, source, sums, add: false });
                vector += tile;
            }
            let stage = Stage::new(simd, &self.arrays.epilogue, filter);
            let residual = self.arrays.residual.map(|residual| {
                let map = (sample * conv.outputs() + filter) * self.arrays.output_map;
                &residual[map + position..]
            });
            for row in 0..height {
                let residual = residual.map(|residual| &residual[row * width..]);
                finish(simd, stage, &sums.as_slice()[row * sizes.pitch..], residual, width, out);
            }
        }
    }
}
