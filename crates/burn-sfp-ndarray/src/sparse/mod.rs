//! Convolution of which most kernels are gone: only the pairs of filters that a [`KernelPattern`] lists
//! take part. A linear layer is the case of 1 x 1 maps and 1 x 1 kernels.
//!
//! ```text
//! y[n, o, p] = activation(scale[o] * sum_(i in row o) sum_t values[k(o, i), t] x[n, i, stride p + dilation t - before] + shift[o])
//! ```
//!
//! What makes it fast is the way numbers meet in vectors, of which there are two: `samples` (the same
//! position of neighbouring samples) for large batches and `columns` (neighbouring positions, with a
//! shifted copy of the source for every tap) for small ones; the shapes alone decide. Both then go through
//! the list of kernels, a broadcast weight at a time. The gradient with respect to the input is the same
//! code with the transposed pattern. Each sum is made by one thread in a fixed order, so the number of
//! threads changes no bit.

mod columns;
mod epilogue;
mod geometry;
mod grad_values;
mod pack;
mod pattern;
mod samples;
mod tile;
#[allow(unsafe_code)] // reads at places checked beforehand
mod windows;

use ndarray::{Array3, Array4, ArrayView3, ArrayView4};
use pulp::Arch;

use crate::KernelError;
use crate::error::expect_len;
use crate::vector::Vectors;

use self::columns::Blocks;
use self::geometry::{Lattice, Problem};
use self::pack::{Columns, Source};
use self::pattern::Rows;
use self::tile::Tiling;

pub use self::epilogue::Epilogue;
pub use self::geometry::ConvGeometry;
pub use self::pattern::KernelPattern;

/// Everything a kernel loop needs to know besides the source.
struct Convolution<'a> {
    /// `[kernel][tap]`.
    values: &'a [f32],
    /// Taps of a kernel.
    taps: usize,
    rows: Rows<'a>,
    lattices: Vec<Lattice>,
    /// Height and width of the result.
    out_size: [usize; 2],
    epilogue: Epilogue<'a>,
}

/// Two-dimensional convolution with the kernels of a pattern.
///
/// * `x`: `[N, I, H, W]`, I = groups * inputs of a group; any strides (row-major is fastest);
/// * `values`: `[K, kh, kw]`, the kernels in the order of the pattern; any strides;
/// * result: `[N, O, H', W']`, row-major, with the size of [`ConvGeometry::output_size`].
///
/// Like the convolutions of deep learning it does not flip the kernel. Sums are in single precision.
///
/// # Errors
/// [`KernelError::Shape`] when lengths disagree, [`KernelError::Groups`] when the groups do not divide the
/// output filters, and those of [`ConvGeometry::output_size`].
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

/// The gradient of [`sparse_conv2d`], without its epilogue, with respect to the input.
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
/// let pattern = KernelPattern::new(2, vec![0, 1], vec![1])?; // one output, which reads input 1
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

/// The gradient of [`sparse_conv2d`], without its epilogue, with respect to the kernels that are left.
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
/// let pattern = KernelPattern::new(2, vec![0, 1], vec![1])?; // one output, which reads input 1
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

/// The two ways numbers meet in vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Samples,
    Columns,
}

/// [`sparse_conv2d`] with given instructions and, for tests, a given way.
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
    expect_len("kernels, one for each that the pattern keeps", pattern.kept(), values.dim().0)?;
    epilogue.check(pattern.outputs())?;
    let values = values.as_standard_layout();
    let convolution = Convolution {
        values: values.as_slice().unwrap_or_default(),
        taps: problem.taps(),
        rows: pattern.rows(geometry.groups),
        lattices: vec![problem.forward()],
        out_size: [problem.output[2], problem.output[3]],
        epilogue,
    };
    Ok(convolve(arch, way, x, &convolution, problem.output))
}

/// [`sparse_conv2d_grad_input`] with given instructions and, for tests, a given way.
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
    expect_len("kernels, one for each that the pattern keeps", pattern.kept(), values.dim().0)?;
    expect_gradient(&problem, shape(&grad))?;
    let values = values.as_standard_layout();
    let convolution = Convolution {
        values: values.as_slice().unwrap_or_default(),
        taps: problem.taps(),
        rows: pattern.transposed(geometry.groups),
        lattices: problem.backward(),
        out_size: [input_shape[2], input_shape[3]],
        epilogue: Epilogue::default(),
    };
    Ok(convolve(arch, way, grad, &convolution, input_shape))
}

/// [`sparse_conv2d_grad_values`] with given instructions and, for tests, a given way.
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
    expect_gradient(&problem, shape(&grad))?;
    let mut result = Array3::zeros((pattern.kept(), kernel[0], kernel[1]));
    let (x, grad) = (x.as_standard_layout(), grad.as_standard_layout());
    let source = Source { numbers: x.as_slice().unwrap_or_default(), shape: problem.input };
    let grad = Source { numbers: grad.as_slice().unwrap_or_default(), shape: problem.output };
    if let Some(out) = result.as_slice_mut()
        && !out.is_empty()
        && !grad.numbers.is_empty()
        && !source.numbers.is_empty()
    {
        let lattice = problem.forward();
        let rows = pattern.rows(geometry.groups);
        let Vectors { lanes, registers } = Vectors::of(arch);
        let columns = Columns::new(problem.input[3], lattice.read[1]);
        let tiling = Tiling::new(&lattice, [problem.input[2], problem.input[3]], &columns, registers);
        let blocks = Blocks::new(&lattice, problem.input[0], lanes, registers);
        let sample_blocks = problem.input[0].div_ceil(lanes);
        let way = way.unwrap_or_else(|| cheaper(sample_blocks, &[tiling], &[blocks], std::slice::from_ref(&lattice)));
        // One way into the pool instead of one for every step.
        rayon::scope(|_| match way {
            Way::Samples => grad_values::by_samples(arch, lanes, source, grad, &lattice, &columns, &rows, out),
            Way::Columns => grad_values::by_columns(arch, lanes, source, grad, &lattice, &rows, out),
        });
    }
    Ok(result)
}

/// Runs a convolution whose shapes are checked, in the cheaper way unless one is given.
fn convolve(
    arch: Arch,
    way: Option<Way>,
    x: ArrayView4<f32>,
    convolution: &Convolution,
    output: [usize; 4],
) -> Array4<f32> {
    let mut result = Array4::zeros(output);
    let x = x.as_standard_layout();
    let source = Source { numbers: x.as_slice().unwrap_or_default(), shape: shape(&x.view()) };
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
        // One way into the pool instead of one for every step.
        rayon::scope(|_| match way {
            Way::Samples => samples::run(arch, lanes, source, convolution, &columns, &tilings, out),
            Way::Columns => columns::run(arch, lanes, source, convolution, &blocks, out),
        });
    }
    result
}

/// The way that takes fewer products for each kernel, by the shapes alone.
fn cheaper(sample_blocks: usize, tilings: &[Tiling], blocks: &[Blocks], lattices: &[Lattice]) -> Way {
    let by_samples: usize = tilings.iter().map(|tiling| sample_blocks * tiling.cost).sum();
    let by_columns: usize = blocks.iter().zip(lattices).map(|(blocks, lattice)| blocks.cost(lattice)).sum();
    if by_samples <= by_columns { Way::Samples } else { Way::Columns }
}

fn shape(array: &ArrayView4<f32>) -> [usize; 4] {
    let (n, c, h, w) = array.dim();
    [n, c, h, w]
}

/// Height and width of the kernels.
fn kernel_of(values: &ArrayView3<f32>) -> [usize; 2] {
    [values.dim().1, values.dim().2]
}

/// The gradient with respect to the output has the shape of the output.
fn expect_gradient(problem: &Problem, found: [usize; 4]) -> Result<(), KernelError> {
    let names =
        ["samples of the gradient", "filters of the gradient", "rows of the gradient", "columns of the gradient"];
    (names.into_iter().zip(problem.output.into_iter().zip(found)))
        .try_for_each(|(name, (expected, found))| expect_len(name, expected, found))
}

#[cfg(test)]
mod tests;
