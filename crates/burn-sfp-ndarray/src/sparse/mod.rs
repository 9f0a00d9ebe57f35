//! Sparse convolution: only the kernels that a [`KernelPattern`] lists are computed. A linear layer is the case
//! of 1 x 1 maps and 1 x 1 kernels.
//!
//! ```text
//! y[n, o, p] = activation(scale[o] * sum_(i in row o) sum_t values[k(o, i), t] * x[n, i, stride * p + dilation * t - before] + shift[o])
//! ```
//!
//! The lanes of a vector hold either the same position of neighbouring samples (`samples`, for large batches) or
//! neighbouring positions (`columns`, for small batches, with a shifted copy of the source for every tap). The shapes
//! alone decide which. In both layouts the inner loop walks the list of kernels and multiplies vectors by one broadcast
//! weight after another. The gradient with respect to the input runs the same code on the transposed pattern. Each sum
//! is computed by one thread in a fixed order, so the number of threads does not change any bit of the result.

mod columns;
mod geometry;
mod grad_values;
mod pack;
mod rows;
mod samples;
mod tile;
#[allow(unsafe_code)] // reads whose bounds are checked when the list of places is made
mod windows;

use ndarray::{Array3, Array4, ArrayView3, ArrayView4};
use pulp::Arch;

use crate::vector::Vectors;
use crate::{ConvGeometry, Epilogue, KernelError, KernelPattern, expect_gradient, expect_len};

use self::columns::Blocks;
use self::geometry::{Lattice, Problem};
use self::pack::{Columns, Source};
use self::rows::Rows;
use self::tile::Tiling;

/// Everything that the inner loops read besides the source.
struct Convolution<'a> {
    /// `[kernel][tap]`.
    values: &'a [f32],
    /// Number of taps of a kernel.
    taps: usize,
    rows: Rows<'a>,
    lattices: Vec<Lattice>,
    /// Height and width of the result.
    out_size: [usize; 2],
    epilogue: Epilogue<'a>,
}

/// Computes a two-dimensional convolution with the kernels of a pattern.
///
/// * `x`: `[N, I, H, W]`, I = groups * inputs per group; any strides (row-major is fastest);
/// * `values`: `[K, kh, kw]`, the kernels in the order of the pattern; any strides;
/// * `epilogue`: scale, shift and activation applied to every output element;
/// * result: `[N, O, H', W']`, row-major; H' and W' are [`ConvGeometry::output_size`].
///
/// As usual in deep learning, the kernel is not flipped (cross-correlation). Sums are in single precision.
///
/// # Errors
/// [`KernelError::Shape`] when lengths disagree, [`KernelError::Groups`] when the number of groups does not divide
/// the output filters, and those of [`ConvGeometry::output_size`].
///
/// # Example
/// ```
/// use burn_sfp_ndarray::{ConvGeometry, Epilogue, KernelPattern, sparse_conv2d};
/// use ndarray::{Array3, Array4, array};
///
/// let x = Array4::from_elem((1, 2, 3, 3), 1.0_f32);
/// // Output 0 reads both inputs, output 1 only the second.
/// let pattern = KernelPattern::new(2, vec![0, 2, 3], vec![0, 1, 1])?;
/// let values = Array3::from_elem((3, 3, 3), 1.0_f32);
/// let geometry = ConvGeometry { stride: [2, 2], padding: [[1, 1], [1, 1]], dilation: [1, 1], groups: 1 };
/// let y = sparse_conv2d(x.view(), values.view(), &pattern, &geometry, Epilogue::default())?;
/// assert_eq!(y, array![[[[8.0, 8.0], [8.0, 8.0]], [[4.0, 4.0], [4.0, 4.0]]]]);
/// # Ok::<(), burn_sfp_ndarray::KernelError>(())
/// ```
pub fn sparse_conv2d(
    x: ArrayView4<f32>,
    values: ArrayView3<f32>,
    pattern: &KernelPattern,
    geometry: &ConvGeometry,
    epilogue: Epilogue,
) -> Result<Array4<f32>, KernelError> {
    forward(Arch::new(), None, x, values, pattern, geometry, epilogue)
}

/// Computes the gradient of [`sparse_conv2d`], without its epilogue, with respect to the input.
///
/// * `grad`: `[N, O, H', W']`, the gradient with respect to the output; any strides;
/// * `values`: `[K, kh, kw]`, the kernels in the order of the pattern; any strides;
/// * `input_shape`: `[N, I, H, W]`;
/// * result: `[N, I, H, W]`, row-major.
///
/// # Errors
/// Those of [`sparse_conv2d`].
///
/// # Example
/// ```
/// use burn_sfp_ndarray::{ConvGeometry, KernelPattern, sparse_conv2d_grad_input};
/// use ndarray::{Array4, array};
///
/// let pattern = KernelPattern::new(2, vec![0, 1], vec![1])?; // one output filter, which reads input 1
/// let values = array![[[1.0_f32, 10.0]]];
/// let geometry = ConvGeometry { stride: [1, 1], padding: [[0, 0], [0, 0]], dilation: [1, 1], groups: 1 };
/// let grad = Array4::from_elem((1, 1, 1, 2), 1.0_f32);
/// let to_input = sparse_conv2d_grad_input(grad.view(), values.view(), &pattern, &geometry, [1, 2, 1, 3])?;
/// assert_eq!(to_input, array![[[[0.0, 0.0, 0.0]], [[1.0, 11.0, 10.0]]]]);
/// # Ok::<(), burn_sfp_ndarray::KernelError>(())
/// ```
pub fn sparse_conv2d_grad_input(
    grad: ArrayView4<f32>,
    values: ArrayView3<f32>,
    pattern: &KernelPattern,
    geometry: &ConvGeometry,
    input_shape: [usize; 4],
) -> Result<Array4<f32>, KernelError> {
    grad_input(Arch::new(), None, grad, values, pattern, geometry, input_shape)
}

/// Computes the gradient of [`sparse_conv2d`], without its epilogue, with respect to the kernels kept.
///
/// * `x`: `[N, I, H, W]`; any strides;
/// * `grad`: `[N, O, H', W']`, the gradient with respect to the output; any strides;
/// * `kernel`: `[kh, kw]`;
/// * result: `[K, kh, kw]` in the order of the pattern, row-major.
///
/// # Errors
/// Those of [`sparse_conv2d`].
///
/// # Example
/// ```
/// use burn_sfp_ndarray::{ConvGeometry, KernelPattern, sparse_conv2d_grad_values};
/// use ndarray::{Array4, array};
///
/// let pattern = KernelPattern::new(2, vec![0, 1], vec![1])?; // one output filter, which reads input 1
/// let geometry = ConvGeometry { stride: [1, 1], padding: [[0, 0], [0, 0]], dilation: [1, 1], groups: 1 };
/// let x = array![[[[9.0_f32, 9.0, 9.0]], [[1.0, 2.0, 3.0]]]];
/// let grad = Array4::from_elem((1, 1, 1, 2), 1.0_f32);
/// let to_values = sparse_conv2d_grad_values(x.view(), grad.view(), &pattern, &geometry, [1, 2])?;
/// assert_eq!(to_values, array![[[3.0, 5.0]]]);
/// # Ok::<(), burn_sfp_ndarray::KernelError>(())
/// ```
pub fn sparse_conv2d_grad_values(
    x: ArrayView4<f32>,
    grad: ArrayView4<f32>,
    pattern: &KernelPattern,
    geometry: &ConvGeometry,
    kernel: [usize; 2],
) -> Result<Array3<f32>, KernelError> {
    grad_values(Arch::new(), None, x, grad, pattern, geometry, kernel)
}

/// The layout of vectors: the elements that their lanes hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The same position of neighbouring samples.
    Samples,
    /// Neighbouring positions.
    Columns,
}

/// Computes [`sparse_conv2d`] with a given instruction set and, for tests, a given layout.
fn forward(
    arch: Arch,
    way: Option<Way>,
    x: ArrayView4<f32>,
    values: ArrayView3<f32>,
    pattern: &KernelPattern,
    geometry: &ConvGeometry,
    epilogue: Epilogue,
) -> Result<Array4<f32>, KernelError> {
    let problem = Problem::new(shape(&x), kernel_of(&values), pattern, geometry)?;
    expect_len("kernels, one for each that the pattern lists", pattern.kept(), values.dim().0)?;
    epilogue.check(pattern.outputs())?;
    let values = values.as_standard_layout();
    let lists = pattern.rows(geometry.groups)?;
    let convolution = Convolution {
        values: values.as_slice().unwrap_or_default(),
        taps: problem.taps(),
        rows: Rows::new(&lists),
        lattices: vec![problem.forward()],
        out_size: [problem.output[2], problem.output[3]],
        epilogue,
    };
    Ok(convolve(arch, way, x, &convolution, problem.output))
}

/// Computes [`sparse_conv2d_grad_input`] with a given instruction set and, for tests, a given layout.
fn grad_input(
    arch: Arch,
    way: Option<Way>,
    grad: ArrayView4<f32>,
    values: ArrayView3<f32>,
    pattern: &KernelPattern,
    geometry: &ConvGeometry,
    input_shape: [usize; 4],
) -> Result<Array4<f32>, KernelError> {
    let problem = Problem::new(input_shape, kernel_of(&values), pattern, geometry)?;
    expect_len("kernels, one for each that the pattern lists", pattern.kept(), values.dim().0)?;
    expect_gradient(problem.output, shape(&grad))?;
    let values = values.as_standard_layout();
    let lists = pattern.transposed(geometry.groups)?;
    let convolution = Convolution {
        values: values.as_slice().unwrap_or_default(),
        taps: problem.taps(),
        rows: Rows::new(&lists),
        lattices: problem.backward(),
        out_size: [input_shape[2], input_shape[3]],
        epilogue: Epilogue::default(),
    };
    Ok(convolve(arch, way, grad, &convolution, input_shape))
}

/// Computes [`sparse_conv2d_grad_values`] with a given instruction set and, for tests, a given layout.
fn grad_values(
    arch: Arch,
    way: Option<Way>,
    x: ArrayView4<f32>,
    grad: ArrayView4<f32>,
    pattern: &KernelPattern,
    geometry: &ConvGeometry,
    kernel: [usize; 2],
) -> Result<Array3<f32>, KernelError> {
    let problem = Problem::new(shape(&x), kernel, pattern, geometry)?;
    expect_gradient(problem.output, shape(&grad))?;
    let mut result = Array3::zeros((pattern.kept(), kernel[0], kernel[1]));
    let (x, grad) = (x.as_standard_layout(), grad.as_standard_layout());
    let source = Source { elements: x.as_slice().unwrap_or_default(), shape: problem.input };
    let grad = Source { elements: grad.as_slice().unwrap_or_default(), shape: problem.output };
    if let Some(out) = result.as_slice_mut()
        && !out.is_empty()
        && !grad.elements.is_empty()
        && !source.elements.is_empty()
    {
        let lattice = problem.forward();
        let lists = pattern.rows(geometry.groups)?;
        let rows = Rows::new(&lists);
        let Vectors { lanes, registers } = Vectors::of(arch);
        let columns = Columns::new(problem.input[3], lattice.read[1]);
        let tiling = Tiling::new(&lattice, [problem.input[2], problem.input[3]], &columns, registers);
        let blocks = Blocks::new(&lattice, problem.input[0], lanes, registers);
        let sample_blocks = problem.input[0].div_ceil(lanes);
        let way = way.unwrap_or_else(|| cheaper(sample_blocks, &[tiling], &[blocks], std::slice::from_ref(&lattice)));
        // The thread pool is entered once instead of once per step.
        rayon::scope(|_| match way {
            Way::Samples => grad_values::by_samples(arch, lanes, source, grad, &lattice, &columns, &rows, out),
            Way::Columns => grad_values::by_columns(arch, lanes, source, grad, &lattice, &rows, out),
        });
    }
    Ok(result)
}

/// Runs a convolution whose shapes are checked, with the cheaper layout unless one is given.
fn convolve(
    arch: Arch,
    way: Option<Way>,
    x: ArrayView4<f32>,
    convolution: &Convolution,
    output: [usize; 4],
) -> Array4<f32> {
    let mut result = Array4::zeros(output);
    let x = x.as_standard_layout();
    let source = Source { elements: x.as_slice().unwrap_or_default(), shape: shape(&x.view()) };
    let [samples, _, height, width] = source.shape;
    if let Some(out) = result.as_slice_mut()
        && !out.is_empty()
    {
        let Vectors { lanes, registers } = Vectors::of(arch);
        let lattices = &convolution.lattices;
        // All lattices of a convolution read with the same stride.
        let columns = Columns::new(width, lattices.first().map_or(1, |lattice| lattice.read[1]));
        let tilings: Vec<_> =
            lattices.iter().map(|lattice| Tiling::new(lattice, [height, width], &columns, registers)).collect();
        let blocks: Vec<_> = lattices.iter().map(|lattice| Blocks::new(lattice, samples, lanes, registers)).collect();
        let way = way.unwrap_or_else(|| cheaper(samples.div_ceil(lanes), &tilings, &blocks, lattices));
        // The thread pool is entered once instead of once per step.
        rayon::scope(|_| match way {
            Way::Samples => samples::run(arch, lanes, source, convolution, &columns, &tilings, out),
            Way::Columns => columns::run(arch, lanes, source, convolution, &blocks, out),
        });
    }
    result
}

/// Returns the layout that takes fewer products per kernel; it depends on the shapes alone.
fn cheaper(sample_blocks: usize, tilings: &[Tiling], blocks: &[Blocks], lattices: &[Lattice]) -> Way {
    let by_samples: usize = tilings.iter().map(|tiling| sample_blocks * tiling.cost).sum();
    let by_columns: usize = blocks.iter().zip(lattices).map(|(blocks, lattice)| blocks.cost(lattice)).sum();
    if by_samples <= by_columns { Way::Samples } else { Way::Columns }
}

/// Returns the shape as an array.
fn shape(array: &ArrayView4<f32>) -> [usize; 4] {
    let (n, c, h, w) = array.dim();
    [n, c, h, w]
}

/// Returns rows and columns of a kernel.
fn kernel_of(values: &ArrayView3<f32>) -> [usize; 2] {
    [values.dim().1, values.dim().2]
}

#[cfg(test)]
mod tests;
