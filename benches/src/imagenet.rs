//! What the filters of a wide layer recognise of a thousand labels, over the least that it could take.

use std::hint::black_box;

use burn_sfp_ndarray::filter_performances;
use gemm::Parallelism;
use ndarray::{Array3, Axis};

use crate::Result;
use crate::measure::{Kind, Pairs, Row, Unit, seconds};
use crate::memory::{peak_in_child, print_peak};
use crate::product::{product, random};
use crate::subject::Session;

/// Name of the row.
pub const NAME: &str = "performance_imagenet";
/// What it measures.
pub const ABOUT: &str = "performance matrices and clusters of 2,048 filters with 49 positions and 1,000 labels over a matrix \
                         product of as many multiply-adds and a copy of the inputs; at most 3, in 1 GiB";

const CLASSES: usize = 1_000;
const FILTERS: usize = 2_048;
const POSITIONS: usize = 49;
const THRESHOLD: f64 = 0.3;
/// One run takes seconds.
const PAIRS: usize = 3;
/// Rows and columns of the product; its inner length makes up for the multiply-adds.
const SIDE: usize = 4_096;

/// Measures the row.
///
/// # Errors
/// As the kernel, and a child that fails.
pub fn run(session: &Session) -> Result<Row> {
    let peak = peak_in_child("--child-imagenet", &[])?;
    let (means, readout) = inputs();
    let macs = FILTERS * POSITIONS * CLASSES * CLASSES;
    let inner = macs / (SIDE * SIDE);
    let (left, right) = (random((1, SIDE, inner), -1.0, 3), random((1, inner, SIDE), -1.0, 4));
    let (left, right) = (left.index_axis(Axis(0), 0), right.index_axis(Axis(0), 0));
    let (mut made, mut copy) = (ndarray::Array2::zeros((SIDE, SIDE)), vec![0.0_f32; means.len()]);
    let mut clusters = 0;
    let ours = || {
        seconds(|| {
            let filters = filter_performances(means.view(), readout.view(), THRESHOLD)?;
            clusters = filters.iter().map(|filter| filter.clusters.len()).sum();
            Ok(())
        })
    };
    let floor = || {
        seconds(|| {
            product(made.view_mut(), left, right, Parallelism::Rayon(0));
            for input in [&means, &readout] {
                copy.copy_from_slice(black_box(input).as_slice().ok_or("the inputs are row-major")?);
                black_box(&mut copy);
            }
            Ok(())
        })
    };
    let pairs = Pairs::in_turn(session.pairs.min(PAIRS), ours, floor)?;
    let note = format!(
        "{FILTERS} filters with {POSITIONS} positions, {CLASSES} labels, random means and readouts, {clusters} clusters, {} threads, \
         {PAIRS} pairs at most; against the floor: a product of {SIDE} x {inner} and {inner} x {SIDE} ({:.0} G multiply-adds) with the \
         gemm crate on the same threads, and a copy of both inputs ({:.2} GB); peak memory of a process that does it once {peak:.0} MiB \
         (wanted: less than 1,024), {:.0} MiB of it inputs; wanted: at most 3",
        rayon::current_num_threads(),
        1e-9 * macs as f64,
        8e-9 * means.len() as f64,
        8.0 * means.len() as f64 / f64::from(1 << 20)
    );
    Ok(pairs.row(NAME, Kind::Cost, Unit::Seconds, note))
}

/// The child's part: once, then its peak.
///
/// # Errors
/// As the kernel, and a system without `/proc`.
pub fn child() -> Result<()> {
    let (means, readout) = inputs();
    black_box(filter_performances(means.view(), readout.view(), THRESHOLD)?);
    print_peak()
}

/// Means `[C, F, S]` and readout `[F, S, C]`.
fn inputs() -> (Array3<f32>, Array3<f32>) {
    (random((CLASSES, FILTERS, POSITIONS), 0.0, 1), random((FILTERS, POSITIONS, CLASSES), -1.0, 2))
}
