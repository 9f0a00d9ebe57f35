//! The gradient with respect to the weights, for every geometry: a matrix product over samples and positions.
//!
//! ```text
//! dw[o, i, t] = sum_n sum_p dy[n, o, p] * x[n, i, stride * p + dilation * t - before]
//! ```
//!
//! What each tap reads is copied, for a block of positions of all samples at a time. The blocks are cut by the shapes alone,
//! and each element of `dw` is summed up over them in order by one thread at a time, so that the number of threads changes
//! no bit of the result.

use std::cell::Cell;

use ndarray::{Array4, ArrayView4};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::maps::Maps;
use crate::vector::Aligned;
use crate::{ConvGeometry, KernelError, expect_gradient};

use super::axis::Axis;
use super::moves::Moves;
use super::plan::cut;
use super::products::add_products;

/// Positions of a block.
const POSITIONS: usize = 512;
/// Most elements of memory that a thread keeps for its next call.
const KEPT: usize = 1 << 22;

thread_local! {
    /// The copies of the last call: memory that is new would be cleared by the system, page by page.
    static MEMORY: Cell<Option<Aligned>> = const { Cell::new(None) };
}

/// Computes the gradient of a two-dimensional convolution with respect to its weights.
///
/// * `input`: `[N, C, H, W]`, the input of the convolution, C = groups * inputs per group; any strides (row-major is
///   fastest);
/// * `grad`: `[N, O, H', W']`, the gradient with respect to its result; any strides (row-major is fastest);
/// * `kernel`: rows and columns of a kernel;
/// * result: `[O, C / groups, kh, kw]`, row-major.
///
/// Sums are in single precision. Any number of threads gives the same bits.
///
/// # Errors
/// [`KernelError::Groups`] when the number of groups does not divide the filters, [`KernelError::Shape`] when lengths
/// disagree, and those of [`ConvGeometry::output_size`](crate::ConvGeometry::output_size).
///
/// # Example
/// ```
/// use burn_sfp_ndarray::{ConvGeometry, conv2d_grad_weights};
/// use ndarray::{Array4, array};
///
/// let x = Array4::from_shape_fn((2, 1, 1, 3), |(.., column)| column as f32);
/// let grad = Array4::from_elem((2, 1, 1, 2), 0.5_f32);
/// let dw = conv2d_grad_weights(x.view(), grad.view(), &ConvGeometry::default(), [1, 2])?;
/// assert_eq!(dw, array![[[[1.0, 3.0]]]]);
/// # Ok::<(), burn_sfp_ndarray::KernelError>(())
/// ```
pub fn conv2d_grad_weights(
    input: ArrayView4<f32>,
    grad: ArrayView4<f32>,
    geometry: &ConvGeometry,
    kernel: [usize; 2],
) -> Result<Array4<f32>, KernelError> {
    grad_weights(Arch::new(), input, grad, geometry, kernel)
}

/// Computes [`conv2d_grad_weights`] with a given instruction set.
pub(super) fn grad_weights(
    arch: Arch,
    input: ArrayView4<f32>,
    grad: ArrayView4<f32>,
    geometry: &ConvGeometry,
    kernel: [usize; 2],
) -> Result<Array4<f32>, KernelError> {
    let ((samples, inputs, height, width), (of_grad, outputs, rows, columns)) = (input.dim(), grad.dim());
    let size = geometry.output_size([height, width], kernel)?;
    let groups = geometry.groups;
    for filters in [inputs, outputs] {
        if filters % groups != 0 {
            return Err(KernelError::Groups { filters, groups });
        }
    }
    expect_gradient([samples, outputs, size[0], size[1]], [of_grad, outputs, rows, columns])?;
    let mut result = Array4::zeros((outputs, inputs / groups, kernel[0], kernel[1]));
    let (input, grad) = (input.as_standard_layout(), grad.as_standard_layout());
    let (Some(input), Some(grad), Some(out)) = (input.as_slice(), grad.as_slice(), result.as_slice_mut()) else {
        return Ok(result);
    };
    if input.is_empty() || grad.is_empty() || out.is_empty() {
        return Ok(result);
    }
    let [down, along] = Axis::both(geometry, [height, width], size, kernel);
    let work = Work {
        arch,
        input: Maps { values: input, channels: inputs, elements: height * width },
        grad: Maps { values: grad, channels: outputs, elements: size[0] * size[1] },
        axes: [&down, &along],
        taps: kernel[0] * kernel[1],
        groups,
    };
    let mut memory = MEMORY.take().unwrap_or_default();
    memory.reserve((inputs * work.taps + outputs) * work.pitch(samples));
    for parts in cut(samples, work.grad.elements, POSITIONS) {
        work.add(&parts, work.pitch(samples), memory.as_mut_slice(), out);
    }
    if memory.len() <= KEPT {
        MEMORY.set(Some(memory));
    }
    Ok(result)
}

struct Work<'a> {
    arch: Arch,
    input: Maps<'a>,
    grad: Maps<'a>,
    axes: [&'a Axis; 2],
    taps: usize,
    groups: usize,
}

impl Work<'_> {
    /// The distance between rows of copies: not a power of two, at which rows would share few lines of the caches.
    fn pitch(&self, samples: usize) -> usize {
        (samples * self.grad.elements).min(POSITIONS).next_multiple_of(16) + 16
    }

    /// Adds the products at the positions of some parts to the result.
    fn add(&self, parts: &[(usize, usize, usize)], pitch: usize, memory: &mut [f32], out: &mut [f32]) {
        let (inputs, outputs) = (self.input.channels, self.grad.channels);
        let (of_input, of_grad) = memory.split_at_mut(inputs * self.taps * pitch);
        let of_grad = &mut of_grad[..outputs * pitch];
        let moves = Moves::gathered(self.axes, pitch, parts);
        of_input.par_chunks_mut(self.taps * pitch).enumerate().for_each(|(filter, to)| {
            self.arch.dispatch(Gathering { input: self.input, moves: &moves, filter, to });
        });
        of_grad.par_chunks_mut(pitch).enumerate().for_each(|(filter, to)| {
            let mut rest = to;
            for &(sample, first, length) in parts {
                let (to, behind) = rest.split_at_mut(length);
                to.copy_from_slice(&self.grad.map(sample, filter)[first..][..length]);
                rest = behind;
            }
        });
        let (of_input, of_grad) = (&*of_input, &*of_grad);
        let positions: usize = parts.iter().map(|part| part.2).sum();
        let (per_group, width) = (outputs / self.groups, inputs / self.groups * self.taps);
        let left = |group: usize, row: usize| &of_grad[(group * per_group + row) * pitch..];
        let right = |group: usize| &of_input[group * width * pitch..];
        add_products(out, [per_group, width, positions], pitch, left, right);
    }
}

/// The copies of one input filter.
struct Gathering<'a> {
    input: Maps<'a>,
    moves: &'a Moves,
    filter: usize,
    to: &'a mut [f32],
}

impl WithSimd for Gathering<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        if self.moves.has_gaps {
            self.to.fill(0.0);
        }
        self.moves.copy(|sample| self.input.map(sample, self.filter), self.to);
    }
}
