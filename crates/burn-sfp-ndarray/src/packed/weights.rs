//! Weights of a convolution in the order in which the register tiles read them.

use ndarray::ArrayView4;

use burn_sfp_kernels::LONGEST_AXIS;

use crate::vector::Aligned;
use crate::{ConvGeometry, KernelError, Storage};

use super::storage::Stored;

/// Most output filters of a panel, which are the rows of a register tile.
pub(super) const ROWS: usize = 8;

/// The weights of a two-dimensional convolution, packed once for [`packed_conv2d`](crate::packed_conv2d).
///
/// Packing depends on the shape of the weights alone, not on the machine or on the input.
///
/// # Example
/// ```
/// use burn_sfp_ndarray::{ConvGeometry, PackedConv2d};
/// use ndarray::Array4;
///
/// let weights = Array4::<f32>::zeros((6, 4, 3, 3)); // six output filters in two groups of four inputs each
/// let geometry = ConvGeometry { groups: 2, ..ConvGeometry::default() };
/// let conv = PackedConv2d::new(weights.view(), &geometry)?;
/// assert_eq!((conv.outputs(), conv.inputs()), (6, 8));
/// # Ok::<(), burn_sfp_ndarray::KernelError>(())
/// ```
#[derive(Clone, Debug)]
pub struct PackedConv2d {
    /// The panels one after another, each `[input][tap][filter of the panel]`.
    values: Stored,
    panels: Vec<Panel>,
    outputs: usize,
    inputs_per_group: usize,
    kernel: [usize; 2],
    geometry: ConvGeometry,
}

/// Output filters that are computed together: up to [`ROWS`] neighbours in one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Panel {
    /// The group of the filters.
    pub(super) group: usize,
    /// The first filter.
    pub(super) first: usize,
    /// Number of filters.
    pub(super) filters: usize,
    /// Rows of the register tile: 1, 2, 4 or 8, at least `filters`; the weights of the others are zero.
    pub(super) rows: usize,
    /// Place of the first weight.
    pub(super) start: usize,
}

impl PackedConv2d {
    /// Packs `weights`, `[O, I, kh, kw]` with any strides; O output filters in `geometry.groups` groups of I inputs
    /// each.
    ///
    /// # Errors
    /// [`KernelError::Groups`] when the number of groups does not divide the output filters, and
    /// [`KernelError::Geometry`] as [`ConvGeometry::output_size`] returns it.
    ///
    /// # Example
    /// ```
    /// use burn_sfp_ndarray::{ConvGeometry, KernelError, PackedConv2d};
    /// use ndarray::Array4;
    ///
    /// let weights = Array4::<f32>::zeros((5, 4, 3, 3));
    /// let geometry = ConvGeometry { groups: 2, ..ConvGeometry::default() };
    /// let error = PackedConv2d::new(weights.view(), &geometry).unwrap_err();
    /// assert_eq!(error, KernelError::Groups { filters: 5, groups: 2 });
    /// ```
    pub fn new(weights: ArrayView4<f32>, geometry: &ConvGeometry) -> Result<Self, KernelError> {
        let (outputs, inputs_per_group, height, width) = weights.dim();
        let kernel = [height, width];
        match geometry.output_size([LONGEST_AXIS; 2], kernel) {
            // Whether the kernel fits is known when there is an input.
            Ok(_) | Err(KernelError::SmallInput { .. }) => (),
            Err(error) => return Err(error),
        }
        if outputs % geometry.groups != 0 {
            return Err(KernelError::Groups { filters: outputs, groups: geometry.groups });
        }
        let depth = inputs_per_group * height * width;
        let panels = panels(outputs, geometry.groups, depth);
        let mut values = vec![0.0; panels.last().map_or(0, |panel| panel.start + panel.rows * depth)];
        for panel in &panels {
            let packed = &mut values[panel.start..][..panel.rows * depth];
            for row in 0..panel.filters {
                let filter = weights.index_axis(ndarray::Axis(0), panel.first + row);
                for (place, &weight) in packed.iter_mut().skip(row).step_by(panel.rows).zip(&filter) {
                    *place = weight;
                }
            }
        }
        let values = Stored::Single(values);
        Ok(Self { values, panels, outputs, inputs_per_group, kernel, geometry: *geometry })
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

    /// Returns the number of output filters.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Returns the number of input filters, those of all groups.
    pub fn inputs(&self) -> usize {
        self.inputs_per_group.saturating_mul(self.geometry.groups)
    }

    /// Returns rows and columns of a kernel.
    pub fn kernel(&self) -> [usize; 2] {
        self.kernel
    }

    /// Returns stride, padding, dilation and groups.
    pub fn geometry(&self) -> &ConvGeometry {
        &self.geometry
    }

    /// Returns the number of input filters of a group.
    pub(super) fn inputs_per_group(&self) -> usize {
        self.inputs_per_group
    }

    /// Returns whether each output filter reads an input filter of its own.
    pub(super) fn is_depthwise(&self) -> bool {
        self.inputs_per_group == 1 && self.outputs == self.geometry.groups
    }

    /// Returns the number of elements of a kernel.
    pub(super) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Returns the panels, ascending by filter.
    pub(super) fn panels(&self) -> &[Panel] {
        &self.panels
    }

    /// Returns the weights of a panel for `inputs` input filters of its group from `first` on, in the buffer where they are stored otherwise.
    #[inline(always)]
    pub(super) fn weights<'a>(
        &'a self,
        panel: &Panel,
        first: usize,
        inputs: usize,
        buffer: &'a mut Aligned,
    ) -> &'a [f32] {
        let each = self.taps() * panel.rows;
        self.values.single(panel.start + first * each, inputs * each, buffer)
    }
}

/// Cuts the filters of every group into panels of `depth` weights per filter.
pub(super) fn panels(outputs: usize, groups: usize, depth: usize) -> Vec<Panel> {
    let mut panels = Vec::new();
    let per_group = outputs / groups;
    let (mut first, mut start) = (0, 0);
    while first < outputs {
        let group = first / per_group;
        let left = (group + 1) * per_group - first;
        // Seven filters are one panel of eight, six are four and two: a zero row costs as much as another one.
        let (filters, rows) = match left {
            ROWS.. => (ROWS, ROWS),
            7 => (7, ROWS),
            4..=6 => (4, 4),
            3 => (3, 4),
            few => (few, few),
        };
        panels.push(Panel { group, first, filters, rows, start });
        first += filters;
        start += rows * depth;
    }
    panels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_cover_every_filter_and_stay_in_their_group() {
        for (outputs, groups) in [(0, 3), (1, 1), (15, 1), (30, 2), (39, 3), (5, 5), (24, 4)] {
            let mut next = (0, 0);
            for panel in panels(outputs, groups, 10) {
                assert_eq!((panel.first, panel.start), next);
                let group = |filter: usize| filter / (outputs / groups);
                assert_eq!((panel.group, panel.group), (group(panel.first), group(panel.first + panel.filters - 1)));
                assert!(panel.filters <= panel.rows && [1, 2, 4, 8].contains(&panel.rows));
                next = (panel.first + panel.filters, panel.start + panel.rows * 10);
            }
            assert_eq!(next.0, outputs);
        }
    }
}
