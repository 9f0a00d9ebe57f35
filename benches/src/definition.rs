//! Performance matrices from class means, against their definition: the fields of every sample.

use burn_sfp::graph::latency::{Latency, LatencyConfig};
use burn_sfp_ndarray::{KernelError, class_sums, performance_matrix};
use gemm::Parallelism;
use ndarray::{Array2, Array3, ArrayView3, Axis, s};
use rayon::prelude::*;

use crate::Result;
use crate::measure::{Kind, Pairs, Row, Unit, seconds};
use crate::product::{product, random};
use crate::subject::Session;

/// Name of the row.
pub const NAME: &str = "class_means_vs_definition";
/// What it measures.
pub const ABOUT: &str = "performance matrices of the VGG-11's last convolution and 10,000 samples from the fields of every \
                         sample, over those from class means; wanted: 50";

const SAMPLES: usize = 10_000;
const CLASSES: usize = 100;
const FILTERS: usize = 512;
const POSITIONS: usize = 4;
/// Samples of a product: the fields of one filter stay in the cache.
const CHUNK: usize = 250;
/// Filters of a thread at a time: they use whole cache lines of a sample.
const BLOCK: usize = 16;

/// Measures the row.
///
/// # Errors
/// As the kernels, and two ways that differ.
pub fn run(session: &Session) -> Result<Row> {
    // Behind a ReLU half of the activations are zero.
    let acts = random((SAMPLES, FILTERS, POSITIONS), -1.0, 1).mapv_into(|x| x.max(0.0));
    let readout = random((FILTERS, POSITIONS, CLASSES), -1.0, 2);
    let labels: Vec<usize> = (0..SAMPLES).map(|sample| sample * 37 % CLASSES).collect();
    let (means, fields) =
        (by_means(&acts, &labels, &readout, |m| m)?, by_fields(acts.view(), &labels, &readout, |m| m));
    let largest = fields.iter().flatten().fold(0.0_f32, |largest, x| largest.max(x.abs()));
    let off = means.iter().zip(&fields).flat_map(|(a, b)| a.iter().zip(b)).map(|(a, b)| (a - b).abs() / largest);
    let off = off.fold(0.0, f32::max);
    if off.is_nan() || off > 1e-4 {
        return Err(format!("the two ways differ by {off} of the largest element").into());
    }
    drop((means, fields));
    let ours = || {
        seconds(|| {
            std::hint::black_box(by_means(&acts, &labels, &readout, largest_of)?);
            Ok(())
        })
    };
    let against = || {
        seconds(|| {
            std::hint::black_box(by_fields(acts.view(), &labels, &readout, largest_of));
            Ok(())
        })
    };
    let pairs = Pairs::in_turn(session.pairs, ours, against)?;
    let numbers_read = acts.as_slice().ok_or("the activations are row-major")?;
    let reads = Latency::measure(&LatencyConfig::new(), || {
        let largest = |part: &[f32]| part.iter().map(|x| x.to_bits()).max();
        std::hint::black_box(numbers_read.par_chunks(1 << 16).map(largest).max());
        Ok::<(), KernelError>(())
    })?;
    let (fields, numbers) = ((SAMPLES * FILTERS * CLASSES) as f64, (SAMPLES * FILTERS * POSITIONS) as f64);
    let note = format!(
        "{FILTERS} filters with {POSITIONS} positions, {SAMPLES} samples, {CLASSES} labels, {} threads: class sums, means, matrices, \
         against the fields of every sample, filter and label ({CHUNK} samples and a filter a product with the gemm crate, {BLOCK} \
         filters a task), summed by label; of each matrix its largest element is kept; the matrices differ by {off:.0e} of the largest \
         element; wanted: 50; floor: {:.2} GB of activations, which take {:.4} s to read, and {:.0} M multiply-adds, against {:.2} G \
         multiply-adds and {:.2} G additions",
        rayon::current_num_threads(),
        4e-9 * numbers,
        reads.median,
        1e-6 * (FILTERS * POSITIONS * CLASSES * CLASSES) as f64,
        1e-9 * fields * POSITIONS as f64,
        1e-9 * fields
    );
    Ok(pairs.row(NAME, Kind::Speedup, Unit::Seconds, note))
}

/// Samples of each label.
fn counts(labels: &[usize]) -> Vec<f32> {
    let mut counts = vec![0.0; CLASSES];
    labels.iter().for_each(|&label| counts[label] += 1.0);
    counts
}

fn largest_of(matrix: Array2<f32>) -> f32 {
    matrix.iter().fold(f32::NEG_INFINITY, |largest, x| largest.max(*x))
}

/// `keep`: what is wanted of a matrix.
fn by_means<T: Send>(
    acts: &Array3<f32>,
    labels: &[usize],
    readout: &Array3<f32>,
    keep: impl Fn(Array2<f32>) -> T + Sync,
) -> std::result::Result<Vec<T>, KernelError> {
    let (_, filters, positions) = acts.dim();
    let mut sums = Array3::<f64>::zeros((CLASSES, filters, positions));
    class_sums(acts.view(), labels, sums.view_mut())?;
    let mut means = Array3::<f32>::zeros(sums.dim());
    for ((mut mean, sum), count) in means.outer_iter_mut().zip(sums.outer_iter()).zip(counts(labels)) {
        mean.zip_mut_with(&sum, |mean, sum| *mean = (sum / f64::from(count)) as f32);
    }
    let matrix = |filter| performance_matrix(means.view(), readout.view(), filter);
    (0..filters).into_par_iter().map(|filter| matrix(filter).map(&keep)).collect()
}

/// `P_f[i][j] = mean over the samples n of label i of sum_s A[n, f, s] R[f, s, j]`.
fn by_fields<T: Send>(
    acts: ArrayView3<f32>,
    labels: &[usize],
    readout: &Array3<f32>,
    keep: impl Fn(Array2<f32>) -> T + Sync,
) -> Vec<T> {
    let (samples, filters, _) = acts.dim();
    let counts = counts(labels);
    let blocks = (0..filters.div_ceil(BLOCK)).into_par_iter();
    let of_block = |block: usize| {
        let own = block * BLOCK..((block + 1) * BLOCK).min(filters);
        let mut matrices = vec![Array2::<f32>::zeros((CLASSES, CLASSES)); own.len()];
        let mut fields = Array2::<f32>::zeros((CHUNK, CLASSES));
        for start in (0..samples).step_by(CHUNK) {
            let end = (start + CHUNK).min(samples);
            for (matrix, filter) in matrices.iter_mut().zip(own.clone()) {
                let mut fields = fields.slice_mut(s![..end - start, ..]);
                let (left, right) = (acts.slice(s![start..end, filter, ..]), readout.index_axis(Axis(0), filter));
                product(fields.view_mut(), left, right, Parallelism::None);
                let (Some(fields), Some(sums)) = (fields.as_slice(), matrix.as_slice_mut()) else { continue };
                for (field, &label) in fields.chunks_exact(CLASSES).zip(&labels[start..end]) {
                    let sums = &mut sums[label * CLASSES..][..CLASSES];
                    sums.iter_mut().zip(field).for_each(|(sum, field)| *sum += field);
                }
            }
        }
        for matrix in &mut matrices {
            matrix.outer_iter_mut().zip(&counts).for_each(|(mut row, count)| row /= *count);
        }
        matrices.into_iter().map(&keep).collect::<Vec<T>>()
    };
    blocks.flat_map_iter(of_block).collect()
}
