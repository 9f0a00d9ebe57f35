//! Transformed weights in the order in which the register tiles read them.

use std::marker::PhantomData;

use burn_sfp_kernels::LONGEST_AXIS;
use ndarray::ArrayView4;
use pulp::{Arch, Simd, WithSimd};

use crate::{ConvGeometry, KernelError};

use super::super::start;
use super::super::weights::{Panel, ROWS, panels};
use super::lanes::{LANES, Lanes};
use super::transform::{Four, Transform, Two, weights};

/// The kernel of every Winograd convolution here.
pub(super) const KERNEL: [usize; 2] = [3, 3];

/// The outputs that [`winograd_conv2d`](crate::winograd_conv2d) computes together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WinogradTile {
    /// F(2x2, 3x3): 2 x 2 outputs by 16 products per input filter instead of 36.
    Two,
    /// F(4x4, 3x3): 4 x 4 outputs by 36 products per input filter instead of 144; less exact.
    Four,
}

impl WinogradTile {
    /// Returns the outputs of a tile along one axis.
    pub fn outputs(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    /// Returns the products of a tile.
    pub(super) fn products(self) -> usize {
        (self.outputs() + 2).pow(2)
    }
}

/// The weights of a 3 x 3 convolution, transformed once for [`winograd_conv2d`](crate::winograd_conv2d).
///
/// The transform is computed in double precision and stored in single precision: 16 or 36 numbers per kernel of nine.
///
/// # Example
/// ```
/// use burn_sfp_ndarray::{ConvGeometry, WinogradConv2d, WinogradTile};
/// use ndarray::Array4;
///
/// let weights = Array4::<f32>::zeros((6, 4, 3, 3));
/// let geometry = ConvGeometry { padding: [[1, 1], [1, 1]], ..ConvGeometry::default() };
/// let conv = WinogradConv2d::new(weights.view(), &geometry, WinogradTile::Four)?;
/// assert_eq!((conv.outputs(), conv.inputs()), (6, 4));
/// # Ok::<(), burn_sfp_ndarray::KernelError>(())
/// ```
#[derive(Clone, Debug)]
pub struct WinogradConv2d {
    /// The panels one after another, each `[product][input][filter of the panel]`.
    values: Vec<f32>,
    panels: Vec<Panel>,
    outputs: usize,
    inputs: usize,
    tile: WinogradTile,
    geometry: ConvGeometry,
}

impl WinogradConv2d {
    /// Transforms `weights`, `[O, I, 3, 3]` with any strides.
    ///
    /// # Errors
    /// [`KernelError::Geometry`] for a kernel other than 3 x 3, a stride, a dilation or a number of groups other
    /// than 1, and as [`ConvGeometry::output_size`] returns it. Use [`PackedConv2d`](crate::PackedConv2d) for these.
    ///
    /// # Example
    /// ```
    /// use burn_sfp_ndarray::{ConvGeometry, KernelError, WinogradConv2d, WinogradTile};
    /// use ndarray::Array4;
    ///
    /// let weights = Array4::<f32>::zeros((5, 4, 3, 3));
    /// let geometry = ConvGeometry { stride: [2, 2], ..ConvGeometry::default() };
    /// let error = WinogradConv2d::new(weights.view(), &geometry, WinogradTile::Two).unwrap_err();
    /// assert!(matches!(error, KernelError::Geometry { .. }));
    /// ```
    pub fn new(weights: ArrayView4<f32>, geometry: &ConvGeometry, tile: WinogradTile) -> Result<Self, KernelError> {
        let (outputs, inputs, height, width) = weights.dim();
        match geometry.output_size([LONGEST_AXIS; 2], [height, width]) {
            // Whether the kernel fits is known when there is an input.
            Ok(_) | Err(KernelError::SmallInput { .. }) => (),
            Err(error) => return Err(error),
        }
        if let Some(what) = obstacle([height, width], geometry) {
            return Err(KernelError::Geometry { what });
        }
        let panels = panels(outputs, 1, inputs * tile.products());
        let values = match tile {
            WinogradTile::Two => transformed::<Two, 4, 2>(weights, &panels),
            WinogradTile::Four => transformed::<Four, 6, 4>(weights, &panels),
        };
        Ok(Self { values, panels, outputs, inputs, tile, geometry: *geometry })
    }

    /// Returns whether [`new`](Self::new) takes a kernel of these rows and columns in this geometry.
    ///
    /// # Example
    /// ```
    /// use burn_sfp_ndarray::{ConvGeometry, WinogradConv2d};
    ///
    /// assert!(WinogradConv2d::supports([3, 3], &ConvGeometry::default()));
    /// assert!(!WinogradConv2d::supports([1, 1], &ConvGeometry::default()));
    /// ```
    pub fn supports(kernel: [usize; 2], geometry: &ConvGeometry) -> bool {
        obstacle(kernel, geometry).is_none()
    }

    /// Returns the number of output filters.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Returns the number of input filters.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Returns the outputs that are computed together.
    pub fn tile(&self) -> WinogradTile {
        self.tile
    }

    /// Returns the geometry, of which the padding alone may differ from the default.
    pub fn geometry(&self) -> &ConvGeometry {
        &self.geometry
    }

    /// Returns the panels, ascending by filter.
    pub(super) fn panels(&self) -> &[Panel] {
        &self.panels
    }

    /// Returns the weights of a panel for one of the products of a tile, `[input][filter of the panel]`.
    pub(super) fn weights(&self, panel: &Panel, product: usize) -> &[f32] {
        let each = self.inputs * panel.rows;
        &self.values[panel.start + product * each..][..each]
    }
}

/// Returns what the algorithms cannot do, if anything.
pub(super) fn obstacle(kernel: [usize; 2], geometry: &ConvGeometry) -> Option<&'static str> {
    let ones = [1, 1];
    [
        (kernel != KERNEL, "a Winograd convolution has a kernel of 3 x 3"),
        (geometry.stride != ones, "a Winograd convolution has the strides 1 and 1"),
        (geometry.dilation != ones, "a Winograd convolution has the dilations 1 and 1"),
        (geometry.groups != 1, "a Winograd convolution has one group"),
    ]
    .into_iter()
    .find_map(|(wrong, what)| wrong.then_some(what))
}

/// Returns the panels one after another, each `[product][input][filter of the panel]`.
fn transformed<X: Transform<N, M> + Send, const N: usize, const M: usize>(
    kernels: ArrayView4<f32>,
    panels: &[Panel],
) -> Vec<f32> {
    let inputs = kernels.dim().1;
    let mut values = vec![0.0; panels.last().map_or(0, |panel| panel.start + panel.rows * inputs * N * N)];
    let (mut tasks, mut rest) = (Vec::with_capacity(panels.len()), values.as_mut_slice());
    for panel in panels {
        let (packed, behind) = rest.split_at_mut(panel.rows * inputs * N * N);
        rest = behind;
        tasks.push(Transforming::<X, N, M> { kernels, panel, packed, algorithm: PhantomData });
    }
    start(Arch::new(), tasks);
    values
}

/// The transform of the kernels of a panel.
struct Transforming<'a, X, const N: usize, const M: usize> {
    kernels: ArrayView4<'a, f32>,
    panel: &'a Panel,
    /// `[product][input][filter of the panel]`
    packed: &'a mut [f32],
    algorithm: PhantomData<X>,
}

impl<X: Transform<N, M>, const N: usize, const M: usize> WithSimd for Transforming<'_, X, N, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { kernels, panel, packed, .. } = self;
        let inputs = kernels.dim().1;
        for input in 0..inputs {
            let mut kernel = [[Lanes::ZERO; 3]; 3];
            for row in 0..panel.filters {
                for y in 0..3 {
                    for x in 0..3 {
                        kernel[y][x].0[row] = f64::from(kernels[[panel.first + row, input, y, x]]);
                    }
                }
            }
            let products = weights::<X, N, M>(kernel);
            let places = packed[input * panel.rows..].chunks_mut(inputs * panel.rows);
            for (to, product) in places.zip(products.as_flattened()) {
                for (to, &weight) in to.iter_mut().zip(&product.0).take(panel.rows) {
                    *to = weight as f32;
                }
            }
        }
    }
}

const _: () = assert!(ROWS == LANES, "a panel is transformed at once");
