//! The gradient with respect to the weights, by the same algorithms as the convolution.
//!
//! ```text
//! p[o, t] = A (dy of tile t of filter o) A^T         v[i, t] = B^T d[i, t] B
//! du[o, i] = sum_t p[o, t] * v[i, t]                 * by elements: (m + 2)^2 matrix products
//! dw[o, i] = G^T du[o, i] G
//! ```
//!
//! This is the derivative of the formula by which the convolution is computed. The tiles are cut into blocks by the shapes
//! alone, and each element of `du` is summed up over the blocks in order by one thread at a time, so that the number of
//! threads changes no bit of the result.

use std::cell::Cell;
use std::marker::PhantomData;

use ndarray::{Array4, ArrayView4};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::maps::Maps;
use crate::vector::{Aligned, Vectors};
use crate::{ConvGeometry, KernelError, expect_gradient};

use super::super::products::add_products;
use super::super::start;
use super::lanes::{LANES, Lanes};
use super::plan::{Block, Part, blocks};
use super::tiles::{Lattice, Lists};
use super::transform::{self, Four, Transform, Two};
use super::vectors::{Places, Results};
use super::weights::{KERNEL, WinogradTile, obstacle};

/// Desired bytes of the transformed input and gradient of a block.
const SOURCES: usize = 1 << 23;
/// Least and most tiles of a block: with fewer, the sums would be read and written for too few products.
const TILES: [usize; 2] = [128, 512];
/// Most elements of memory that a thread keeps for its next call.
const KEPT: usize = 1 << 24;

thread_local! {
    /// The memory of the last call: memory that is new would be cleared by the system, page by page.
    static MEMORY: Cell<Option<[Aligned; 2]>> = const { Cell::new(None) };
}

/// Computes the gradient of a 3 x 3 convolution with respect to its weights, by fewer products than
/// [`conv2d_grad_weights`](crate::conv2d_grad_weights).
///
/// * `input`: `[N, I, H, W]`, the input of the convolution; any strides (row-major is fastest);
/// * `grad`: `[N, O, H', W']`, the gradient with respect to its result; any strides (row-major is fastest);
/// * result: `[O, I, 3, 3]`, row-major.
///
/// Any number of threads gives the same bits.
///
/// # Error
/// Against sums in double precision, relative to the sum of the magnitudes of the products of an element, the tests hold
/// the error for values uniform in [-1, 1) to 5e-7 for both tiles.
///
/// # Source
/// The derivative of the algorithms of A. Lavin and S. Gray, "Fast algorithms for convolutional neural networks" (2015),
/// arXiv 1509.09308.
///
/// # Errors
/// [`KernelError::Shape`] when lengths disagree, [`KernelError::Geometry`] for a stride, a dilation or a number of groups
/// other than 1, and those of [`ConvGeometry::output_size`](crate::ConvGeometry::output_size).
///
/// # Example
/// ```
/// use burn_sfp_ndarray::{ConvGeometry, WinogradTile, winograd_conv2d_grad_weights};
/// use ndarray::Array4;
///
/// let x = Array4::from_elem((2, 1, 4, 4), 1.0_f32);
/// let grad = Array4::from_elem((2, 1, 2, 2), 0.5_f32);
/// let dw = winograd_conv2d_grad_weights(x.view(), grad.view(), &ConvGeometry::default(), WinogradTile::Two)?;
/// assert_eq!(dw, Array4::from_elem((1, 1, 3, 3), 4.0));
/// # Ok::<(), burn_sfp_ndarray::KernelError>(())
/// ```
pub fn winograd_conv2d_grad_weights(
    input: ArrayView4<f32>,
    grad: ArrayView4<f32>,
    geometry: &ConvGeometry,
    tile: WinogradTile,
) -> Result<Array4<f32>, KernelError> {
    grad_weights(Arch::new(), input, grad, geometry, tile)
}

/// Computes [`winograd_conv2d_grad_weights`] with a given instruction set.
pub(in super::super) fn grad_weights(
    arch: Arch,
    input: ArrayView4<f32>,
    grad: ArrayView4<f32>,
    geometry: &ConvGeometry,
    tile: WinogradTile,
) -> Result<Array4<f32>, KernelError> {
    if let Some(what) = obstacle(KERNEL, geometry) {
        return Err(KernelError::Geometry { what });
    }
    let ((samples, inputs, height, width), (of_grad, outputs, rows, columns)) = (input.dim(), grad.dim());
    let size = geometry.output_size([height, width], KERNEL)?;
    expect_gradient([samples, outputs, size[0], size[1]], [of_grad, outputs, rows, columns])?;
    let mut result = Array4::zeros((outputs, inputs, KERNEL[0], KERNEL[1]));
    let (input, grad) = (input.as_standard_layout(), grad.as_standard_layout());
    let (Some(input), Some(grad), Some(out)) = (input.as_slice(), grad.as_slice(), result.as_slice_mut()) else {
        return Ok(result);
    };
    if input.is_empty() || grad.is_empty() || out.is_empty() {
        return Ok(result);
    }
    let before = geometry.padding.map(|[before, _]| before);
    let work = Work {
        arch,
        samples,
        input: Tiled::new(input, inputs, [height, width], before),
        grad: Tiled::new(grad, outputs, size, [0, 0]),
    };
    match tile {
        WinogradTile::Two => work.run::<Two, 4, 2>(out),
        WinogradTile::Four => work.run::<Four, 6, 4>(out),
    }
    Ok(result)
}

/// Maps of all samples, and how tiles lie on them.
#[derive(Clone, Copy)]
struct Tiled<'a> {
    maps: Maps<'a>,
    size: [usize; 2],
    /// Rows and columns of the first tile that lie before the map.
    before: [usize; 2],
}

impl<'a> Tiled<'a> {
    fn new(values: &'a [f32], channels: usize, size: [usize; 2], before: [usize; 2]) -> Self {
        Self { maps: Maps { values, channels, elements: size[0] * size[1] }, size, before }
    }
}

struct Work<'a> {
    arch: Arch,
    samples: usize,
    input: Tiled<'a>,
    grad: Tiled<'a>,
}

impl Work<'_> {
    fn run<X: Transform<N, M> + Send + Sync, const N: usize, const M: usize>(&self, out: &mut [f32]) {
        let (inputs, outputs) = (self.input.maps.channels, self.grad.maps.channels);
        let [down, across] = self.grad.size.map(|length| length.div_ceil(M));
        let lanes = Vectors::of(self.arch).lanes;
        let each = (inputs + outputs) * N * N * size_of::<f32>();
        let tiles = (SOURCES / each).clamp(TILES[0], TILES[1]);
        let height = (tiles / across).clamp(1, self.samples * down);
        // Products at a distance of a power of two would share few lines of the caches.
        let distance = (height * across).next_multiple_of(lanes) + 16;
        let [mut sources, mut sums] = MEMORY.take().unwrap_or_default();
        sources.reserve((inputs + outputs) * N * N * distance);
        sums.reserve(N * N * outputs * inputs);
        let du = &mut sums.as_mut_slice()[..N * N * outputs * inputs];
        du.fill(0.0);
        for block in blocks([self.samples, down, across], height, lanes) {
            let (of_input, of_grad) = sources.as_mut_slice().split_at_mut(inputs * N * N * distance);
            self.transform::<X, N, M>(&block, across, distance, of_input, of_grad);
            let tiles: usize = block.parts.iter().map(|part| part.rows * across).sum();
            let (of_input, of_grad) = (&*of_input, &*of_grad);
            let left = |product: usize, output: usize| &of_grad[(output * N * N + product) * distance..];
            let right = |product: usize| &of_input[product * distance..];
            add_products(du, [outputs, inputs, tiles], N * N * distance, left, right);
        }
        finish::<X, N, M>(self.arch, du, inputs, out);
        if sources.len().max(sums.len()) <= KEPT {
            MEMORY.set(Some([sources, sums]));
        }
    }

    /// Transforms the tiles of a block of all filters, to `[filter][product][tile]`.
    fn transform<X: Transform<N, M> + Send + Sync, const N: usize, const M: usize>(
        &self,
        block: &Block,
        across: usize,
        distance: usize,
        of_input: &mut [f32],
        of_grad: &mut [f32],
    ) {
        let lanes = Vectors::of(self.arch).lanes;
        let lists = |of: &Tiled, side: usize| {
            let lattice = Lattice { map: of.size, before: of.before, step: M, side, across };
            lattice.lists(&block.parts, lanes)
        };
        let (input_lists, grad_lists) = (lists(&self.input, N), lists(&self.grad, M));
        let each = N * N * distance;
        let inputs = of_input.par_chunks_mut(each).enumerate().map(|filter| (true, filter));
        let outputs = of_grad.par_chunks_mut(each).enumerate().map(|filter| (false, filter));
        let all = inputs.chain(outputs.take(self.grad.maps.channels));
        all.for_each_init(Aligned::default, |elements, (is_input, (filter, to))| {
            let (maps, lists) = if is_input { (self.input.maps, &input_lists) } else { (self.grad.maps, &grad_lists) };
            elements.reserve(lists.elements() + N * N * lanes);
            let (elements, vector) = elements.as_mut_slice().split_at_mut(lists.elements());
            let parts = &block.parts;
            let task = Loading::<X, N, M> {
                maps,
                filter,
                parts,
                lists,
                distance,
                is_input,
                elements,
                vector,
                to,
                algorithm: PhantomData,
            };
            self.arch.dispatch(task);
        });
    }
}

/// The transform of the tiles of one filter.
struct Loading<'a, X, const N: usize, const M: usize> {
    maps: Maps<'a>,
    filter: usize,
    parts: &'a [Part],
    lists: &'a Lists,
    distance: usize,
    is_input: bool,
    /// The elements of the tiles, as [`Lists`] has them.
    elements: &'a mut [f32],
    /// The elements of one vector of tiles, `[row][column][tile]`.
    vector: &'a mut [f32],
    /// `[product][tile]`, `distance` apart.
    to: &'a mut [f32],
    algorithm: PhantomData<X>,
}

impl<X: Transform<N, M>, const N: usize, const M: usize> WithSimd for Loading<'_, X, N, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { maps, filter, parts, lists, distance, is_input, elements, vector: memory, to, .. } = self;
        // Elements outside of the map.
        elements.fill(0.0);
        let elements = lists.load::<M>(parts, |sample| maps.map(sample, filter), elements);
        let inputs = [&lists.places::<N>(), &Places::matrix(S::F32_LANES)];
        let outputs = [&lists.places::<M>(), &Places::matrix(S::F32_LANES)];
        for (vector, &tile) in lists.vectors.iter().enumerate() {
            let to = Results::new::<S>(&mut to[tile..], distance);
            if is_input {
                let from = lists.vector::<S, N>(elements, vector, inputs, memory);
                transform::input::<S, X, N, M>(simd, from, to);
            } else {
                let from = lists.vector::<S, M>(elements, vector, outputs, memory);
                transform::output_gradient::<S, X, N, M>(simd, from, to);
            }
        }
    }
}

/// Transforms the gradient of the transformed weights, `[product][output][input]`, to that of the weights.
fn finish<X: Transform<N, M> + Send, const N: usize, const M: usize>(
    arch: Arch,
    du: &[f32],
    inputs: usize,
    out: &mut [f32],
) {
    let distance = du.len() / (N * N);
    let tasks = out.chunks_mut(inputs * 9).enumerate().map(|(output, to)| {
        let from = &du[output * inputs..];
        Finishing::<X, N, M> { from, distance, to, algorithm: PhantomData }
    });
    start(arch, tasks.collect());
}

/// The kernels of one output filter.
struct Finishing<'a, X, const N: usize, const M: usize> {
    /// `[product][input]`, `distance` apart.
    from: &'a [f32],
    distance: usize,
    to: &'a mut [f32],
    algorithm: PhantomData<X>,
}

impl<X: Transform<N, M>, const N: usize, const M: usize> WithSimd for Finishing<'_, X, N, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { from, distance, to, .. } = self;
        for (group, to) in to.chunks_mut(9 * LANES).enumerate() {
            let count = to.len() / 9;
            let mut u = [[Lanes::ZERO; N]; N];
            for row in 0..N {
                for column in 0..N {
                    let values = &from[(row * N + column) * distance + group * LANES..][..count];
                    for (lane, &value) in u[row][column].0.iter_mut().zip(values) {
                        *lane = f64::from(value);
                    }
                }
            }
            let w = transform::weights_gradient::<X, N, M>(u);
            for lane in 0..count {
                for tap in 0..9 {
                    to[9 * lane + tap] = w[tap / 3][tap % 3].0[lane] as f32;
                }
            }
        }
    }
}
