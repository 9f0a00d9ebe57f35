//! Whether tiles are worth their transforms, and which, by the shapes alone: the same on every machine.
//!
//! The constants are fitted to times on two cores with AVX-512 (the layers of a VGG-11 at a batch of 100): what a number of products
//! costs, and what an algorithm costs beside them, in products. Where they are wrong, the result is as good and takes longer.

use crate::{ConvGeometry, WinogradConv2d, WinogradTile};

/// Filters on the narrower side below which tiles are not worth their transforms.
const NARROW: usize = 16;

/// The shapes of a convolution, by which an algorithm is chosen.
///
/// # Example
/// ```
/// use burn_sfp_ndarray::{ConvGeometry, ConvShapes, WinogradTile};
///
/// let geometry = ConvGeometry { padding: [[1, 1], [1, 1]], ..ConvGeometry::default() };
/// let shapes = ConvShapes { kernel: [3, 3], inputs: 64, outputs: 64, size: [56, 56], samples: 8 };
/// assert_eq!(shapes.tile(&geometry), Some(WinogradTile::Four));
/// assert_eq!(ConvShapes { inputs: 3, ..shapes }.tile(&geometry), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShapes {
    /// Rows and columns of a kernel.
    pub kernel: [usize; 2],
    /// Input filters.
    pub inputs: usize,
    /// Output filters.
    pub outputs: usize,
    /// Rows and columns of the result.
    pub size: [usize; 2],
    /// Samples of the batch.
    pub samples: usize,
}

impl ConvShapes {
    fn positions(&self) -> usize {
        self.size.iter().fold(self.samples, |product, &length| product.saturating_mul(length))
    }

    fn tiles(&self, side: usize) -> usize {
        self.size.iter().fold(self.samples, |product, length| product.saturating_mul(length.div_ceil(side)))
    }

    /// Returns the tile that is estimated to take the least time, the transform of the weights included, and `None` where
    /// [`packed_conv2d`](crate::packed_conv2d) is.
    pub fn tile(&self, geometry: &ConvGeometry) -> Option<WinogradTile> {
        if !WinogradConv2d::supports(self.kernel, geometry) || self.inputs.min(self.outputs) < NARROW {
            return None;
        }
        let cost = |products: usize, of: usize, beside: usize| products.saturating_mul(of.saturating_add(beside));
        let direct = cost(9, self.positions(), 0);
        let (two, four) = (cost(16, self.tiles(2), 120), cost(36, self.tiles(4), 330));
        match () {
            () if direct <= two.min(four) => None,
            () if two <= four => Some(WinogradTile::Two),
            () => Some(WinogradTile::Four),
        }
    }

    /// Returns the tile with which [`winograd_conv2d_grad_weights`](crate::winograd_conv2d_grad_weights) is estimated to take the least time,
    /// and `None` where [`conv2d_grad_weights`](crate::conv2d_grad_weights) is.
    ///
    /// # Example
    /// ```
    /// use burn_sfp_ndarray::{ConvGeometry, ConvShapes, WinogradTile};
    ///
    /// let shapes = ConvShapes { kernel: [3, 3], inputs: 512, outputs: 512, size: [4, 4], samples: 100 };
    /// assert_eq!(shapes.tile_of_grad_weights(&ConvGeometry::default()), Some(WinogradTile::Four));
    /// assert_eq!(ConvShapes { samples: 1, ..shapes }.tile_of_grad_weights(&ConvGeometry::default()), None);
    /// ```
    pub fn tile_of_grad_weights(&self, geometry: &ConvGeometry) -> Option<WinogradTile> {
        let four = 36_usize.saturating_mul(self.tiles(4).saturating_add(60));
        let supported = WinogradConv2d::supports(self.kernel, geometry);
        (supported && four < self.positions().saturating_mul(11)).then_some(WinogradTile::Four)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_the_number_of_tiles() {
        let geometry = ConvGeometry { padding: [[1, 1], [1, 1]], ..ConvGeometry::default() };
        let shapes = |samples, filters, side| ConvShapes {
            kernel: [3, 3],
            inputs: filters,
            outputs: filters,
            size: [side, side],
            samples,
        };
        assert_eq!(shapes(100, 64, 32).tile(&geometry), Some(WinogradTile::Four));
        assert_eq!(shapes(100, 512, 4).tile(&geometry), Some(WinogradTile::Two));
        assert_eq!(shapes(1, 512, 4).tile(&geometry), None);
        assert_eq!(shapes(100, 3, 32).tile(&geometry), None);
        let strided = ConvGeometry { stride: [2, 2], ..geometry };
        let shapes = shapes(usize::MAX, 64, 32);
        assert_eq!((shapes.tile(&strided), shapes.tile_of_grad_weights(&strided)), (None, None));
        assert!(shapes.tile(&geometry).is_none_or(|tile| tile == WinogradTile::Four), "no overflow");
    }
}
