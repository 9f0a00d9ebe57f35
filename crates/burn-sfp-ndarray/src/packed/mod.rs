//! Dense convolutions and linear layers whose weights are packed once.
//!
//! ```text
//! sum[n, o, p] = sum_i sum_t w[o, i, t] * x[n, i, stride * p + dilation * t - before]
//! y[n, o, p] = activation(scale[o] * sum[n, o, p] + shift[o] + residual[n, o, p])
//! ```
//!
//! The rows of a register tile are output filters (of a linear layer: samples), its columns vectors of output positions
//! (of a linear layer: outputs). Every sum runs over inputs and taps in order, in one accumulator, so neither the
//! number of threads nor the cut into tiles nor the batch changes any bit of the result.

mod axis;
mod depthwise;
mod fill;
mod grad;
mod grad_bias;
mod grad_input;
mod linear;
mod moves;
mod plan;
mod products;
mod storage;
#[allow(unsafe_code)] // reads of which the furthest is checked
mod taps;
mod task;
mod tile;
#[allow(unsafe_code)] // memory that is not cleared before it is written
mod unwritten;
mod weights;
mod winograd;

use ndarray::{Array4, ArrayView4};
use pulp::{Arch, WithSimd};
use rayon::prelude::*;

use crate::vector::Vectors;
use crate::{ConvGeometry, Epilogue, KernelError, expect_len};

use self::axis::Axis;
use self::plan::{Plan, cuts, parts};
use self::task::{Arrays, Task};
use self::unwritten::{Unwritten, written};
use self::weights::Panel;

pub use self::grad::conv2d_grad_weights;
pub use self::grad_bias::conv2d_grad_bias;
pub use self::grad_input::{conv2d_grad_input, takes_conv2d_grad_input};
pub use self::linear::{PackedLinear, packed_linear};
pub use self::storage::Storage;
pub use self::weights::PackedConv2d;
pub use self::winograd::{ConvShapes, WinogradConv2d, WinogradTile, winograd_conv2d, winograd_conv2d_grad_weights};

/// Computes a two-dimensional convolution with packed weights.
///
/// * `input`: `[N, C, H, W]`, C = groups * inputs per group; any strides (row-major is fastest);
/// * `epilogue`: scale, shift and activation applied to every output element;
/// * `residual`: `[N, O, H', W']`, added before the activation; any strides (row-major is fastest);
/// * result: `[N, O, H', W']`, row-major; H' and W' are
///   [`ConvGeometry::output_size`](crate::ConvGeometry::output_size).
///
/// As usual in deep learning, the kernel is not flipped (cross-correlation). Sums are in single precision; an element
/// has the same bits for any batch that its sample is in.
///
/// # Errors
/// [`KernelError::Shape`] when lengths disagree, [`KernelError::Geometry`] when the result has more elements than fit
/// into memory, and those of [`ConvGeometry::output_size`](crate::ConvGeometry::output_size).
///
/// # Example
/// ```
/// use burn_sfp_ndarray::{ConvGeometry, Epilogue, PackedConv2d, packed_conv2d};
/// use ndarray::{Array4, array};
///
/// let weights = Array4::from_elem((2, 1, 3, 3), 1.0_f32);
/// let geometry = ConvGeometry { stride: [2, 2], padding: [[1, 1], [1, 1]], ..ConvGeometry::default() };
/// let conv = PackedConv2d::new(weights.view(), &geometry)?;
///
/// let x = Array4::from_elem((1, 1, 3, 3), 1.0_f32);
/// let before = Array4::from_elem((1, 2, 2, 2), -3.0_f32);
/// let epilogue = Epilogue { scale: Some(&[1.0, 0.5]), relu: true, ..Epilogue::default() };
/// let y = packed_conv2d(x.view(), &conv, epilogue, Some(before.view()))?;
/// assert_eq!(y, array![[[[1.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]]]);
/// # Ok::<(), burn_sfp_ndarray::KernelError>(())
/// ```
pub fn packed_conv2d(
    input: ArrayView4<f32>,
    conv: &PackedConv2d,
    epilogue: Epilogue,
    residual: Option<ArrayView4<f32>>,
) -> Result<Array4<f32>, KernelError> {
    forward(Arch::new(), None, input, conv, epilogue, residual)
}

/// The layout of the source; see [`plan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Shifted,
    Gathered,
}

/// Computes [`packed_conv2d`] with a given instruction set and, for tests, a given layout.
fn forward(
    arch: Arch,
    way: Option<Way>,
    input: ArrayView4<f32>,
    conv: &PackedConv2d,
    epilogue: Epilogue,
    residual: Option<ArrayView4<f32>>,
) -> Result<Array4<f32>, KernelError> {
    let (samples, _, height, width) = input.dim();
    let filters = [conv.inputs(), conv.outputs()];
    let shape = check(&input, filters, conv.kernel(), conv.geometry(), &epilogue, &residual)?;
    let size = [shape[2], shape[3]];
    if shape.contains(&0) {
        return Ok(Array4::zeros(shape));
    }
    let input = input.as_standard_layout();
    let residual = residual.as_ref().map(|residual| residual.as_standard_layout());
    let Some(arrays) = Arrays::new(&input, residual.as_ref(), size, epilogue) else { return Ok(Array4::zeros(shape)) };
    let axes = Axis::both(conv.geometry(), [height, width], size, conv.kernel());
    let plan = Plan::new(conv, axes, samples, Vectors::of(arch).lanes, way);
    Ok(written(shape, |out| run(arch, conv, &plan, arrays, samples, out)))
}

/// Checks the arguments of a convolution of `filters`, inputs and outputs; returns the shape of its result.
fn check(
    input: &ArrayView4<f32>,
    filters: [usize; 2],
    kernel: [usize; 2],
    geometry: &ConvGeometry,
    epilogue: &Epilogue,
    residual: &Option<ArrayView4<f32>>,
) -> Result<[usize; 4], KernelError> {
    let (samples, channels, height, width) = input.dim();
    let size = geometry.output_size([height, width], kernel)?;
    expect_len("filters of the input", filters[0], channels)?;
    let shape = [samples, filters[1], size[0], size[1]];
    epilogue.check(filters[1])?;
    check_residual(residual, shape)?;
    let elements = shape.iter().try_fold(size_of::<f32>(), |product, &length| product.checked_mul(length));
    if elements.is_none_or(|bytes| isize::try_from(bytes).is_err()) {
        return Err(KernelError::Geometry { what: "the result has more elements than fit into memory" });
    }
    Ok(shape)
}

/// Checks that a residual has the shape of the result.
fn check_residual(residual: &Option<ArrayView4<f32>>, shape: [usize; 4]) -> Result<(), KernelError> {
    let names =
        ["samples of the residual", "filters of the residual", "rows of the residual", "columns of the residual"];
    let Some(residual) = residual else { return Ok(()) };
    (names.into_iter().zip(shape).zip(residual.shape()))
        .try_for_each(|((name, expected), &found)| expect_len(name, expected, found))
}

/// Runs the tasks: each unit with each part of the panels.
fn run(arch: Arch, conv: &PackedConv2d, plan: &Plan, arrays: Arrays, samples: usize, out: Unwritten) {
    let cuts = cuts(conv, parts(conv, plan.units.len(), rayon::current_num_threads()));
    let mut tasks = Vec::with_capacity(plan.units.len() * cuts.len());
    for unit in &plan.units {
        tasks.extend(cuts.iter().map(|panels| {
            let filters = filters(&conv.panels()[panels.clone()]);
            let out = Vec::with_capacity(filters * unit.parts.len());
            Task { conv, plan, unit, arrays, panels: panels.clone(), out }
        }));
    }
    // The units that cover each sample, in the order of the map.
    let mut covers = vec![Vec::new(); samples];
    for (unit, parts) in plan.units.iter().map(|unit| &unit.parts).enumerate() {
        for &(sample, _, length) in parts {
            covers[sample].push((unit, length));
        }
    }
    let filters: Vec<usize> = cuts.iter().map(|panels| filters(&conv.panels()[panels.clone()])).collect();
    distribute(out, &filters, &covers, |place, part| tasks[place].out.push(part));
    start(arch, tasks);
}

/// Returns the number of output filters of some panels.
fn filters(panels: &[Panel]) -> usize {
    panels.iter().map(|panel| panel.filters).sum()
}

/// Hands each part of the result, `[N, O, H' * W']`, to its task: `give` receives `unit * filters.len() + cut` and the part.
///
/// `filters` are the output filters of each cut of the panels, and `covers` for each sample the units and the lengths of the parts of a map,
/// which follow one another.
fn distribute<'a>(
    mut out: Unwritten<'a>,
    filters: &[usize],
    covers: &[Vec<(usize, usize)>],
    mut give: impl FnMut(usize, Unwritten<'a>),
) {
    for cover in covers {
        for (cut, &count) in filters.iter().enumerate() {
            for _ in 0..count {
                for &(unit, length) in cover {
                    let (part, rest) = out.split_at(length);
                    give(unit * filters.len() + cut, part);
                    out = rest;
                }
            }
        }
    }
}

/// Runs tasks, several at once where there are several.
fn start<T: WithSimd<Output = ()> + Send>(arch: Arch, tasks: Vec<T>) {
    if tasks.len() == 1 {
        tasks.into_iter().for_each(|task| arch.dispatch(task));
    } else {
        tasks.into_par_iter().with_max_len(1).for_each(|task| arch.dispatch(task));
    }
}

#[cfg(test)]
mod grad_tests;
#[cfg(test)]
mod tests;
