//! Linear layers: the rows of the register tile are samples, its columns vectors of outputs.

use ndarray::{Array2, ArrayView2, Axis, s};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::vector::{Aligned, mul_add};
use crate::{Epilogue, KernelError, Storage, expect_len};

use super::storage::Stored;

/// Outputs of a panel: with one sample, four sums of the widest vectors hide the time of a sum.
const WIDTH: usize = 64;
/// The width of the last panel is a multiple of this, the lanes of the widest vectors.
const STEP: usize = 16;
/// Samples of a task.
const SAMPLES: usize = 48;
/// Inputs that are multiplied with all samples of a task before the next ones: a quarter of a second-level cache.
const BLOCK: usize = 512;
/// Inputs whose weights are widened at once: a panel of them fits into a first-level cache.
const WIDENED: usize = 64;

/// The weights of a linear layer, packed once for [`packed_linear`].
///
/// # Example
/// ```
/// use burn_sfp_ndarray::PackedLinear;
/// use ndarray::Array2;
///
/// let linear = PackedLinear::new(Array2::<f32>::zeros((512, 10)).view());
/// assert_eq!((linear.inputs(), linear.outputs()), (512, 10));
/// ```
#[derive(Clone, Debug)]
pub struct PackedLinear {
    /// The panels one after another, each `[input][output of the panel]`.
    values: Stored,
    inputs: usize,
    outputs: usize,
}

impl PackedLinear {
    /// Packs `weights`, `[inputs, outputs]` with any strides.
    pub fn new(weights: ArrayView2<f32>) -> Self {
        let (inputs, outputs) = weights.dim();
        let mut values = vec![0.0; inputs * outputs.next_multiple_of(STEP)];
        let mut rest = values.as_mut_slice();
        for first in (0..outputs).step_by(WIDTH) {
            let (width, end) = (width(outputs, first), outputs.min(first + WIDTH));
            let (panel, later) = rest.split_at_mut(inputs * width);
            rest = later;
            let columns = weights.slice(s![.., first..end]);
            for (packed, weights) in panel.chunks_exact_mut(width).zip(columns.axis_iter(Axis(0))) {
                packed.iter_mut().zip(weights).for_each(|(packed, &weight)| *packed = weight);
            }
        }
        Self { values: Stored::Single(values), inputs, outputs }
    }

    /// Stores the weights in another type, rounded to the nearest number of it. What was rounded stays so.
    pub fn stored_as(mut self, storage: Storage) -> Self {
        self.values = self.values.stored_as(storage);
        self
    }

    /// Returns the type in which the weights are stored.
    pub fn storage(&self) -> Storage {
        self.values.storage()
    }

    /// Returns the number of inputs.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Returns the number of outputs.
    pub fn outputs(&self) -> usize {
        self.outputs
    }
}

/// Returns the width of the panel whose first output is `first`.
fn width(outputs: usize, first: usize) -> usize {
    (outputs - first).min(WIDTH).next_multiple_of(STEP)
}

/// Computes a linear layer, `activation(scale[o] * sum_i x[n, i] * w[i, o] + shift[o] + residual[n, o])`, with packed
/// weights.
///
/// * `input`: `[N, inputs]`; any strides (row-major is fastest);
/// * `epilogue`: scale, shift (the bias) and activation applied to every output element;
/// * `residual`: `[N, outputs]`, added before the activation; any strides;
/// * result: `[N, outputs]`, row-major.
///
/// Sums are in single precision, over the inputs in order; an element has the same bits for any batch that its sample
/// is in.
///
/// # Errors
/// [`KernelError::Shape`] when lengths disagree.
///
/// # Example
/// ```
/// use burn_sfp_ndarray::{Epilogue, PackedLinear, packed_linear};
/// use ndarray::array;
///
/// let linear = PackedLinear::new(array![[1.0_f32, 0.0, 2.0], [0.0, 1.0, -1.0]].view());
/// let epilogue = Epilogue { shift: Some(&[0.5, 0.0, 0.0]), relu: true, ..Epilogue::default() };
/// let y = packed_linear(array![[1.0, 4.0]].view(), &linear, epilogue, None)?;
/// assert_eq!(y, array![[1.5, 4.0, 0.0]]);
/// # Ok::<(), burn_sfp_ndarray::KernelError>(())
/// ```
pub fn packed_linear(
    input: ArrayView2<f32>,
    linear: &PackedLinear,
    epilogue: Epilogue,
    residual: Option<ArrayView2<f32>>,
) -> Result<Array2<f32>, KernelError> {
    forward(Arch::new(), input, linear, epilogue, residual)
}

/// Computes [`packed_linear`] with a given instruction set.
pub(super) fn forward(
    arch: Arch,
    input: ArrayView2<f32>,
    linear: &PackedLinear,
    epilogue: Epilogue,
    residual: Option<ArrayView2<f32>>,
) -> Result<Array2<f32>, KernelError> {
    let (samples, inputs) = input.dim();
    let outputs = linear.outputs;
    expect_len("inputs of the samples", linear.inputs, inputs)?;
    epilogue.check(outputs)?;
    if let Some(residual) = &residual {
        expect_len("samples of the residual", samples, residual.nrows())?;
        expect_len("outputs of the residual", outputs, residual.ncols())?;
    }
    let bytes = samples.checked_mul(outputs).and_then(|elements| elements.checked_mul(size_of::<f32>()));
    if bytes.is_none_or(|bytes| isize::try_from(bytes).is_err()) {
        return Err(KernelError::Geometry { what: "the result has more elements than fit into memory" });
    }
    let mut result = Array2::zeros((samples, outputs));
    let input = input.as_standard_layout();
    let residual = residual.as_ref().map(|residual| residual.as_standard_layout());
    let (Some(from), Some(out)) = (input.as_slice(), result.as_slice_mut()) else { return Ok(result) };
    if out.is_empty() {
        return Ok(result);
    }
    let mut tasks = Vec::new();
    for (block, out) in out.chunks_mut(SAMPLES * outputs).enumerate() {
        let begin = tasks.len();
        tasks.extend((0..outputs).step_by(WIDTH).map(|first| Task {
            from: &from[(block * SAMPLES * inputs).min(from.len())..],
            linear,
            first,
            epilogue,
            residual:
                residual.as_ref().and_then(|residual| residual.as_slice()).map(|all| &all[block * SAMPLES * outputs..]),
            out: Vec::with_capacity(SAMPLES),
        }));
        for row in out.chunks_exact_mut(outputs) {
            for (task, part) in tasks[begin..].iter_mut().zip(row.chunks_mut(WIDTH)) {
                task.out.push(part);
            }
        }
    }
    if tasks.len() == 1 {
        tasks.into_iter().for_each(|task| arch.dispatch(task));
    } else {
        tasks.into_par_iter().for_each(|task| arch.dispatch(task));
    }
    Ok(result)
}

/// A panel with some samples.
struct Task<'a> {
    /// `[sample][input]`, from the first sample of the task on.
    from: &'a [f32],
    linear: &'a PackedLinear,
    /// First output of the panel.
    first: usize,
    epilogue: Epilogue<'a>,
    /// `[sample][output]`, from the first sample of the task on, all outputs.
    residual: Option<&'a [f32]>,
    /// The outputs of the panel for each sample.
    out: Vec<&'a mut [f32]>,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let PackedLinear { ref values, inputs, outputs } = *self.linear;
        let width = width(outputs, self.first);
        let panel = self.first * inputs;
        let mut wide = Aligned::default();
        let mut sums = [0.0; SAMPLES * WIDTH];
        let sums = &mut sums[..self.out.len() * width];
        // Few samples read each weight once anyway.
        let block = match (values.storage(), self.out.len()) {
            (Storage::BFloat16, _) => WIDENED,
            (_, 7..) => BLOCK,
            _ => inputs.max(1),
        };
        for start in (0..inputs).step_by(block) {
            let end = inputs.min(start + block);
            let weights = values.single(panel + start * width, (end - start) * width, &mut wide);
            let (mut sample, mut rest) = (0, &mut *sums);
            while !rest.is_empty() {
                let rows = match self.out.len() - sample {
                    6.. => 6,
                    4 | 5 => 4,
                    2 | 3 => 2,
                    _ => 1,
                };
                let (now, later) = rest.split_at_mut(rows * width);
                rest = later;
                let tile = Tile { from: &self.from[sample * inputs..], inputs, start, weights, width, sums: now };
                match rows {
                    6 => tile.columns::<S, 6>(simd),
                    4 => tile.columns::<S, 4>(simd),
                    2 => tile.columns::<S, 2>(simd),
                    _ => tile.columns::<S, 1>(simd),
                }
                sample += rows;
            }
        }
        for (sample, (out, sums)) in self.out.iter_mut().zip(sums.chunks_exact(width)).enumerate() {
            let place = sample * outputs + self.first;
            finish(&self.epilogue, self.first, sums, self.residual.map(|residual| &residual[place..]), out);
        }
    }
}

/// Some samples and a panel.
struct Tile<'a> {
    /// `[sample][input]`.
    from: &'a [f32],
    /// Inputs of a sample.
    inputs: usize,
    /// First input.
    start: usize,
    /// `[input][output]`, from that input on.
    weights: &'a [f32],
    /// Outputs of the panel.
    width: usize,
    /// `[sample][output]`.
    sums: &'a mut [f32],
}

impl Tile<'_> {
    /// Adds the products of `R` samples with the panel to their sums.
    #[inline(always)]
    fn columns<S: Simd, const R: usize>(self, simd: S) {
        let Tile { from, inputs, start, weights, width, sums } = self;
        let count = weights.len() / width;
        let mut rows = [from; R];
        for (row, from) in rows.iter_mut().enumerate() {
            *from = &from[row * inputs + start..][..count];
        }
        let mut at = 0;
        while at < width {
            let vectors = (width - at) / S::F32_LANES;
            at += S::F32_LANES
                * if S::REGISTER_COUNT < 32 && R > 1 {
                    add::<S, R, 2>(simd, &rows, weights, width, at, sums)
                } else {
                    match vectors {
                        4.. => add::<S, R, 4>(simd, &rows, weights, width, at, sums),
                        3 => add::<S, R, 3>(simd, &rows, weights, width, at, sums),
                        2 => add::<S, R, 2>(simd, &rows, weights, width, at, sums),
                        _ => add::<S, R, 1>(simd, &rows, weights, width, at, sums),
                    }
                };
        }
    }
}

/// Adds the products for `V` vectors of outputs from `at` on; returns `V`.
#[inline(always)]
fn add<S: Simd, const R: usize, const V: usize>(
    simd: S,
    rows: &[&[f32]; R],
    weights: &[f32],
    width: usize,
    at: usize,
    sums: &mut [f32],
) -> usize {
    let mut totals = [[simd.splat_f32s(0.0); V]; R];
    for (total, sums) in totals.iter_mut().zip(sums.chunks_exact(width)) {
        total.copy_from_slice(&S::as_simd_f32s(&sums[at..]).0[..V]);
    }
    for (input, weights) in weights.chunks_exact(width).enumerate() {
        let weights = S::as_simd_f32s(&weights[at..at + V * S::F32_LANES]).0;
        let mut factors = [simd.splat_f32s(0.0); V];
        factors.copy_from_slice(&weights[..V]);
        for row in 0..R {
            let value = simd.splat_f32s(rows[row][input]);
            for vector in 0..V {
                totals[row][vector] = mul_add(simd, value, factors[vector], totals[row][vector]);
            }
        }
    }
    for (total, sums) in totals.iter().zip(sums.chunks_exact_mut(width)) {
        S::as_mut_simd_f32s(&mut sums[at..]).0[..V].copy_from_slice(total);
    }
    V
}

/// Applies the epilogue to the sums of a sample for the outputs from `first` on.
#[inline(always)]
fn finish(epilogue: &Epilogue, first: usize, sums: &[f32], residual: Option<&[f32]>, out: &mut [f32]) {
    let length = out.len();
    out.copy_from_slice(&sums[..length]);
    if let Some(scale) = epilogue.scale {
        out.iter_mut().zip(&scale[first..]).for_each(|(out, scale)| *out *= scale);
    }
    if let Some(shift) = epilogue.shift {
        out.iter_mut().zip(&shift[first..]).for_each(|(out, shift)| *out += shift);
    }
    if let Some(residual) = residual {
        out.iter_mut().zip(residual).for_each(|(out, residual)| *out += residual);
    }
    if epilogue.relu {
        out.iter_mut().for_each(|out| *out = if *out < 0.0 { 0.0 } else { *out });
    }
    if let Some(most) = epilogue.most {
        out.iter_mut().for_each(|out| *out = if *out > most { most } else { *out });
    }
}
