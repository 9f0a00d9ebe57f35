//! Which algorithm computes a convolution and its gradients, by the shapes alone: the same on every machine.
//!
//! The constants are fitted to times on two cores with AVX-512 (VGG-11's layers at a batch of 100): what a number of products costs,
//! and what an algorithm costs beside them, in products. Where they are wrong, the result is as good and takes longer.

use burn_sfp_ndarray::{ConvGeometry, WinogradConv2d, WinogradTile};

/// Filters on the narrower side below which tiles are not worth their transforms.
const NARROW: usize = 16;

/// The shapes of a convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shapes<'a> {
    pub geometry: &'a ConvGeometry,
    pub kernel: [usize; 2],
    pub inputs: usize,
    pub outputs: usize,
    /// Rows and columns of what is computed, for each sample.
    pub size: [usize; 2],
    pub samples: usize,
}

impl Shapes<'_> {
    fn positions(&self) -> usize {
        self.samples * self.size[0] * self.size[1]
    }

    fn tiles(&self, side: usize) -> usize {
        self.samples * self.size[0].div_ceil(side) * self.size[1].div_ceil(side)
    }

    /// The tile of a convolution (forward, or of the gradient by the input), `None` for the formula on packed weights.
    pub fn tile(&self) -> Option<WinogradTile> {
        if !WinogradConv2d::supports(self.kernel, self.geometry) || self.inputs.min(self.outputs) < NARROW {
            return None;
        }
        // Weights are transformed in each pass: four times as many as the kernel has for a tile of four.
        let (direct, two, four) = (9 * self.positions(), 16 * (self.tiles(2) + 120), 36 * (self.tiles(4) + 330));
        match () {
            () if direct <= two.min(four) => None,
            () if two <= four => Some(WinogradTile::Two),
            () => Some(WinogradTile::Four),
        }
    }

    /// The tile of the gradient by the weights, `None` for the matrix product over copies.
    pub fn tile_of_weights(&self) -> Option<WinogradTile> {
        let supported = WinogradConv2d::supports(self.kernel, self.geometry);
        (supported && 36 * (self.tiles(4) + 60) < 11 * self.positions()).then_some(WinogradTile::Four)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_the_number_of_tiles() {
        let geometry = ConvGeometry { padding: [[1, 1], [1, 1]], ..ConvGeometry::default() };
        let shapes = |samples, filters, side| Shapes {
            geometry: &geometry,
            kernel: [3, 3],
            inputs: filters,
            outputs: filters,
            size: [side, side],
            samples,
        };
        assert_eq!(shapes(100, 64, 32).tile(), Some(WinogradTile::Four));
        assert_eq!(shapes(100, 512, 4).tile(), Some(WinogradTile::Two));
        assert_eq!(shapes(1, 512, 4).tile(), None);
        assert_eq!(shapes(100, 3, 32).tile(), None);
        assert_eq!(shapes(100, 512, 4).tile_of_weights(), Some(WinogradTile::Four));
        assert_eq!(shapes(1, 512, 4).tile_of_weights(), None);
        let strided = ConvGeometry { stride: [2, 2], ..geometry };
        let strided = Shapes { geometry: &strided, ..shapes(100, 64, 32) };
        assert_eq!((strided.tile(), strided.tile_of_weights()), (None, None));
    }
}
