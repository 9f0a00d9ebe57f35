//! Convolutions with kernels of 3 x 3 by minimal filtering algorithms, with fewer products than the formula has.
//!
//! ```text
//! u[o, i] = G w[o, i] G^T                       once
//! v[i, t] = B^T d[i, t] B                       d[i, t]: the (m + 2)^2 inputs of tile t, which overlap
//! y[o, t] = A^T (sum_i u[o, i] * v[i, t]) A     * by elements; m x m outputs
//! ```
//!
//! A. Lavin and S. Gray, "Fast algorithms for convolutional neural networks" (2015), arXiv 1509.09308. The sums are
//! (m + 2)^2 matrix products, computed by the register tiles of the other convolutions: rows are output filters,
//! columns vectors of tiles. Each of the sums runs over the inputs in order, in one accumulator, and a tile has the
//! same place in its map for any cut, so neither threads nor blocks nor the batch change any bit of the result.

mod choice;
mod grad;
mod lanes;
mod plan;
mod task;
mod tiles;
mod transform;
#[allow(unsafe_code)] // reads and writes whose furthest place is checked
mod vectors;
mod weights;

use ndarray::{Array4, ArrayView4, s};
use pulp::Arch;

use crate::vector::Vectors;
use crate::{ConvGeometry, Epilogue, KernelError};

use super::task::Arrays;
use super::unwritten::{Unwritten, written};
use super::{check, distribute, filters, start};

use self::plan::{Plan, cuts};
use self::task::Task;
use self::weights::KERNEL;

pub use self::choice::ConvShapes;
#[cfg(test)]
pub(super) use self::grad::grad_weights;
pub use self::grad::winograd_conv2d_grad_weights;
pub use self::weights::{WinogradConv2d, WinogradTile};

/// Most columns of the output that are computed at once: a block of tiles has whole rows.
const COLUMNS: usize = 1 << 10;

/// Computes a two-dimensional convolution with transformed weights of 3 x 3, by fewer products than
/// [`packed_conv2d`](crate::packed_conv2d).
///
/// * `input`: `[N, I, H, W]`; any strides (row-major is fastest);
/// * `epilogue`: scale, shift and activation applied to every output element;
/// * `residual`: `[N, O, H', W']`, added before the activation; any strides (row-major is fastest);
/// * result: `[N, O, H', W']`, row-major; H' and W' are
///   [`ConvGeometry::output_size`](crate::ConvGeometry::output_size).
///
/// An element has the same bits for any batch that its sample is in and for any number of threads. An input that is
/// infinite or NaN reaches all outputs of its tiles.
///
/// # Error
/// Against sums in double precision, relative to the sum of the magnitudes of the products of an output, for 64 inputs
/// uniform in [-1, 1) and in an emulation in single precision without fused operations, the root of the mean square is
/// 1.4e-8 for [`WinogradTile::Two`], 4.3e-8 for [`WinogradTile::Four`], and 2.5e-8 for sums in order as
/// [`packed_conv2d`](crate::packed_conv2d) has them. The tests hold the error of an output to 5e-7 and 2e-6 times the
/// largest magnitude of the input times the sum of the magnitudes of the weights of its filter. An output much smaller
/// than the other outputs of its tile is less exact than this relative to itself.
///
/// # When it is faster
/// On two cores with AVX-512, `Four` took between 0.45 and 0.75 of the time of `packed_conv2d` for most layers of 64
/// filters or more with 16 tiles of 4 x 4 or more in the batch. With fewer tiles its weights, four times as large, take
/// most of the time: `Two` is faster down to about 16 tiles of 2 x 2 where there are at most 256 filters, and
/// `packed_conv2d` for a single map of 7 x 7 with 512 filters or of 4 x 4.
///
/// # Source
/// A. Lavin and S. Gray, "Fast algorithms for convolutional neural networks" (2015), arXiv 1509.09308.
///
/// # Errors
/// [`KernelError::Shape`] when lengths disagree, [`KernelError::Geometry`] when the result has more elements than fit
/// into memory, and those of [`ConvGeometry::output_size`](crate::ConvGeometry::output_size).
///
/// # Example
/// ```
/// use burn_sfp_ndarray::{ConvGeometry, Epilogue, WinogradConv2d, WinogradTile, winograd_conv2d};
/// use ndarray::{Array4, array};
///
/// let weights = Array4::from_elem((1, 1, 3, 3), 1.0_f32);
/// let geometry = ConvGeometry { padding: [[1, 1], [1, 1]], ..ConvGeometry::default() };
/// let conv = WinogradConv2d::new(weights.view(), &geometry, WinogradTile::Two)?;
///
/// let x = Array4::from_elem((1, 1, 2, 3), 1.0_f32);
/// let epilogue = Epilogue { shift: Some(&[-5.0]), relu: true, ..Epilogue::default() };
/// let y = winograd_conv2d(x.view(), &conv, epilogue, None)?;
/// assert_eq!(y, array![[[[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]]]);
/// # Ok::<(), burn_sfp_ndarray::KernelError>(())
/// ```
pub fn winograd_conv2d(
    input: ArrayView4<f32>,
    conv: &WinogradConv2d,
    epilogue: Epilogue,
    residual: Option<ArrayView4<f32>>,
) -> Result<Array4<f32>, KernelError> {
    forward(Arch::new(), input, conv, epilogue, residual)
}

/// Computes [`winograd_conv2d`] with a given instruction set.
fn forward(
    arch: Arch,
    input: ArrayView4<f32>,
    conv: &WinogradConv2d,
    epilogue: Epilogue,
    residual: Option<ArrayView4<f32>>,
) -> Result<Array4<f32>, KernelError> {
    let filters = [conv.inputs(), conv.outputs()];
    let shape = check(&input, filters, KERNEL, conv.geometry(), &epilogue, &residual)?;
    let width = shape[3];
    if width <= COLUMNS && !shape.contains(&0) {
        return Ok(run(arch, conv, conv.geometry(), input, residual, epilogue, shape));
    }
    let mut result = Array4::zeros(shape);
    if result.is_empty() {
        return Ok(result);
    }
    let before = conv.geometry().padding[1][0];
    for start in (0..width).step_by(COLUMNS) {
        let end = width.min(start + COLUMNS);
        // The columns of the input that these outputs read, and the zeros before them.
        let from = start.saturating_sub(before).min(input.dim().3);
        let to = (end + KERNEL[1] - 1).saturating_sub(before).clamp(from, input.dim().3);
        let mut geometry = *conv.geometry();
        geometry.padding[1][0] = (from + before).saturating_sub(start);
        let columns = s![.., .., .., start..end];
        let shape = [shape[0], shape[1], shape[2], end - start];
        let residual = residual.as_ref().map(|residual| residual.slice(columns));
        let input = input.slice(s![.., .., .., from..to]);
        let strip = run(arch, conv, &geometry, input, residual, epilogue, shape);
        result.slice_mut(columns).assign(&strip);
    }
    Ok(result)
}

/// Computes an output of a shape that is not empty, with at most [`COLUMNS`] columns, from arguments that agree.
fn run(
    arch: Arch,
    conv: &WinogradConv2d,
    geometry: &ConvGeometry,
    input: ArrayView4<f32>,
    residual: Option<ArrayView4<f32>>,
    epilogue: Epilogue,
    shape: [usize; 4],
) -> Array4<f32> {
    let (samples, _, height, width) = input.dim();
    let size = [shape[2], shape[3]];
    let threads = rayon::current_num_threads();
    let plan = Plan::new(conv, geometry, [height, width], size, samples, Vectors::of(arch).lanes, threads);
    let input = input.as_standard_layout();
    let residual = residual.as_ref().map(|residual| residual.as_standard_layout());
    let Some(arrays) = Arrays::new(&input, residual.as_ref(), size, epilogue) else { return Array4::zeros(shape) };
    let cuts = cuts(conv.panels().len(), plan.blocks.len(), threads);
    written(shape, |out| start(arch, tasks(conv, &plan, arrays, cuts, samples, out)))
}

/// Returns the tasks: each block of tiles with each of `cuts` parts of the panels.
fn tasks<'a>(
    conv: &'a WinogradConv2d,
    plan: &'a Plan,
    arrays: Arrays<'a>,
    cuts: usize,
    samples: usize,
    out: Unwritten<'a>,
) -> Vec<Task<'a>> {
    let count = conv.panels().len();
    let mut tasks = Vec::with_capacity(plan.blocks.len() * cuts);
    for block in &plan.blocks {
        tasks.extend((0..cuts).map(|cut| {
            let panels = count * cut / cuts..count * (cut + 1) / cuts;
            Task { conv, plan, block, arrays, panels, out: Vec::new() }
        }));
    }
    let each: Vec<usize> = (tasks[..cuts].iter()).map(|task| filters(&conv.panels()[task.panels.clone()])).collect();
    // The parts of a map follow one another, in the order of the blocks.
    let mut covers = vec![Vec::new(); samples];
    for (block, parts) in plan.blocks.iter().map(|block| &block.parts).enumerate() {
        for part in parts {
            covers[part.sample].push((block, plan.span(part, conv.tile().outputs()).1));
        }
    }
    distribute(out, &each, &covers, |place, part| tasks[place].out.push(part));
    tasks
}

#[cfg(test)]
mod tests;
