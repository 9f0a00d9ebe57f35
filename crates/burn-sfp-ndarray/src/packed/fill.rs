//! Copies of the input that the register tiles read.

use pulp::Simd;

use super::moves::Moves;
use super::plan::{Layout, Plan, Unit};

/// What the copies into the source of a unit need besides the input.
pub(super) struct Filler {
    /// From the maps into the source or, where there are several taps to gather, into `rows`.
    moves: Moves,
    /// The rows that the parts of a gathered unit read, in the shifted layout, part after part.
    rows: Vec<f32>,
    /// Consecutive positions of a gathered unit that are consecutive in `rows`: place there, length.
    runs: Vec<(usize, usize)>,
    /// Where each tap of a gathered unit reads in `rows`, before the place of a run.
    taps: Vec<usize>,
    /// Distance between the copies of two taps.
    width: usize,
}

impl Filler {
    pub(super) fn new(plan: &Plan, unit: &Unit, lanes: usize) -> Self {
        let axes = [&plan.rows, &plan.columns];
        let width = plan.columns.output;
        let (mut rows, mut runs, mut taps) = (Vec::new(), Vec::new(), Vec::new());
        // The rows of the output on which the positions of a part lie.
        let heights = unit.parts.iter().map(|&(sample, first, length)| {
            let row = first / width;
            (sample, row, (first + length).div_ceil(width) - row)
        });
        let moves = match &plan.layout {
            Layout::Shifted(sizes) => Moves::shifted(axes, sizes, heights),
            Layout::Gathered(None) => Moves::gathered(axes, plan.width(), &unit.parts),
            Layout::Gathered(Some(sizes)) => {
                for (part, &(_, first, length)) in unit.parts.iter().enumerate() {
                    let (mut at, end) = (first, first + length);
                    while at < end {
                        let column = at % width;
                        let count = (width - column).min(end - at);
                        let row = at / width - first / width;
                        runs.push((part * sizes.planes() * sizes.plane + row * sizes.pitch + column, count));
                        at += count;
                    }
                }
                taps = sizes.taps(&plan.rows, &plan.columns);
                // A run is copied in whole vectors.
                rows = vec![0.0; unit.parts.len() * sizes.planes() * sizes.plane + lanes];
                Moves::shifted(axes, sizes, heights)
            }
        };
        Self { moves, rows, runs, taps, width: plan.width() }
    }

    /// Clears a source where filters leave zeros between what is copied: at the same places in each.
    pub(super) fn clear(&self, source: &mut [f32]) {
        if self.rows.is_empty() && self.moves.has_gaps {
            source.fill(0.0);
        }
    }

    /// Copies one input filter into the source, of which `channel` is the part from that filter on.
    ///
    /// * `map`: returns the map of that filter for a sample, and what lies behind it.
    #[inline(always)]
    pub(super) fn fill<'b, S: Simd>(&mut self, map: impl Fn(usize) -> &'b [f32], channel: &mut [f32]) {
        if self.rows.is_empty() {
            return self.moves.copy(map, channel);
        }
        self.moves.copy(map, &mut self.rows);
        for (tap, &from) in self.taps.iter().enumerate() {
            let mut to = tap * self.width;
            // What is written behind a run belongs to the next one, or tap, or filter.
            for &(place, length) in &self.runs {
                copy_vectors::<S>(&self.rows[from + place..], length, &mut channel[to..]);
                to += length;
            }
        }
    }
}

/// Copies some elements in whole vectors: what lies behind them is overwritten.
#[inline(always)]
fn copy_vectors<S: Simd>(from: &[f32], length: usize, to: &mut [f32]) {
    let vectors = length.div_ceil(S::F32_LANES);
    let from = &S::as_simd_f32s(from).0[..vectors];
    for (to, &from) in S::as_mut_simd_f32s(to).0[..vectors].iter_mut().zip(from) {
        *to = from;
    }
}
