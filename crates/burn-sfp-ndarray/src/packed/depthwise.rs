//! Filters of a depthwise convolution, each of which reads one input filter, on one thread.
//!
//! Such a filter has as many products per element as taps, so copying and storing take the time that they take in the general task many
//! times over. Here a row is copied in whole vectors, whose last one brings zeros for the padding behind the row, and what lies between
//! rows is cleared once for all filters, since each filter is copied to the same places. Rows of the result are stored in whole vectors,
//! too: what is written behind a row belongs to the next one.
//!
//! The sums are those of the general task, bit for bit.

use pulp::Simd;

use crate::epilogue::Stage;
use crate::vector::Aligned;

use super::fill::copy;
use super::plan::{Shifted, tile_width};
use super::task::{Task, load};
use super::tile::{Product, most_vectors, multiply};

impl Task<'_> {
    /// Computes the panels of a depthwise convolution from a shifted source.
    #[inline(always)]
    pub(super) fn depthwise<S: Simd>(
        &mut self,
        simd: S,
        sizes: &Shifted,
        places: &[u32],
        [source, sums, wide]: [&mut Aligned; 3],
    ) {
        let (conv, plan, unit) = (self.conv, self.plan, self.unit);
        let (sample, position, length) = unit.parts[0];
        let width = plan.columns.output;
        let height = length / width;
        let source = &mut source.as_mut_slice()[..plan.source(unit.vectors, S::F32_LANES)];
        source.fill(0.0);
        sums.reserve((unit.vectors + 1) * S::F32_LANES);
        let panels = &conv.panels()[self.panels.clone()];
        for (panel, out) in panels.iter().zip(&mut self.out) {
            let filter = panel.first;
            let from = &self.arrays.input[(sample * conv.inputs() + filter) * self.arrays.input_map..];
            self.plan.shift(simd, sizes, [unit.row, height], from, source);
            let weights = conv.weights(panel, 0, 1, wide);
            let mut vector = 0;
            while vector < unit.vectors {
                let tile = tile_width(unit.vectors - vector, most_vectors::<S>(1));
                let at = vector * S::F32_LANES;
                let source = &source[at..];
                let sums = &mut sums.as_mut_slice()[at..at + tile * S::F32_LANES];
                multiply(simd, 1, tile, Product { weights, places, source, sums, add: false });
                vector += tile;
            }
            let residual = self.arrays.residual.map(|residual| {
                let map = (sample * conv.outputs() + filter) * self.arrays.output_map;
                &residual[map + position..][..length]
            });
            let stage = Stage::new(simd, &self.arrays.epilogue, filter);
            store(simd, stage, sums.as_slice(), [sizes.pitch, width], residual, out);
        }
    }
}

impl super::plan::Plan {
    /// Writes the rows that `height` output rows from `row` on read, phase by phase, to where zeros or the rows of another filter are.
    #[inline(always)]
    fn shift<S: Simd>(&self, simd: S, sizes: &Shifted, [row, height]: [usize; 2], map: &[f32], source: &mut [f32]) {
        let (rows, columns) = (&self.rows, &self.columns);
        let mut plane = 0;
        for &down in &sizes.phases[0] {
            let first = row * rows.stride + down;
            let inside = rows.inside(first, height + sizes.reach);
            for &along in &sizes.phases[1] {
                let across = columns.inside(along, sizes.length);
                if !across.is_empty() {
                    let start = columns.element(along + across.start * columns.stride);
                    for row in inside.clone() {
                        let from = &map[rows.element(first + row * rows.stride) * columns.input + start..];
                        let to = &mut source[plane + row * sizes.pitch + across.start..];
                        if columns.stride == 1 {
                            copy_row(simd, &from[..across.len()], to);
                        } else {
                            copy(simd, from, columns.stride, &mut to[..across.len()]);
                        }
                    }
                }
                plane += sizes.plane;
            }
        }
    }
}

/// Copies a row in whole vectors, the last of them with zeros behind the row.
#[inline(always)]
fn copy_row<S: Simd>(simd: S, from: &[f32], to: &mut [f32]) {
    let (whole, tail) = S::as_simd_f32s(from);
    let (to, last) = S::as_mut_simd_f32s(to).0.split_at_mut(whole.len());
    to.copy_from_slice(whole);
    if let (false, Some(last)) = (tail.is_empty(), last.first_mut()) {
        *last = simd.partial_load_f32s(tail);
    }
}

/// Applies the epilogue to the sums of one filter, whose rows are `pitch` apart, and stores the rows, `width` long, one after another.
#[inline(always)]
fn store<S: Simd>(
    simd: S,
    stage: Stage<S>,
    sums: &[f32],
    [pitch, width]: [usize; 2],
    residual: Option<&[f32]>,
    to: &mut [f32],
) {
    for (row, start) in (0..to.len()).step_by(width).enumerate() {
        for at in (0..width).step_by(S::F32_LANES) {
            let Some(&sum) = S::as_simd_f32s(&sums[row * pitch + at..]).0.first() else { return };
            let place = start + at;
            let sum = match residual {
                None => stage.apply(simd, sum),
                Some(residual) => stage.apply_with(simd, sum, load(simd, &residual[place..])),
            };
            let (vectors, tail) = S::as_mut_simd_f32s(&mut to[place..]);
            match vectors.first_mut() {
                Some(to) => *to = sum,
                None => simd.partial_store_f32s(tail, sum),
            }
        }
    }
}
