//! The two passes over the filters of one layer, launched on the device.

use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::prelude::*;
use burn_sfp_kernels::Cuts;

use super::PackedPerformances;
use super::kernel::{BITS, Pass, SizesLaunch, TileShape, product_kernel, reduce_kernel, value_of};
use crate::GpuError;
use crate::device::{Buffer, RowMajor, grid, threads};

/// Means and readout of a layer on the device, and the tiles into which its matrices are cut.
pub(super) struct Layer {
    means: RowMajor,
    readout: RowMajor,
    classes: usize,
    filters: usize,
    positions: usize,
    /// The tile of a cube, in which a thread computes the 32 elements of one word of one row.
    tile: TileShape,
}

impl Layer {
    /// Chooses the tiles for means `[C, F, S]` and a readout `[F, S, C]` of the given lengths C, F, S; C is positive.
    pub(super) fn new(means: RowMajor, readout: RowMajor, [classes, filters, positions]: [usize; 3]) -> Self {
        let words = classes.div_ceil(BITS).next_power_of_two().min(4);
        let threads = threads(&means.client, 256) as usize;
        let words = words.min(threads);
        let rows = classes.next_power_of_two().min(64).min(threads / words).max(1);
        Self { means, readout, classes, filters, positions, tile: TileShape { rows, words } }
    }

    /// Returns the number of words of a row.
    fn words_of_a_row(&self) -> usize {
        self.classes.div_ceil(BITS)
    }

    /// Returns the tiles of one filter: along the rows and along the words of a row.
    fn tiles(&self) -> [usize; 2] {
        [self.classes.div_ceil(self.tile.rows), self.words_of_a_row().div_ceil(self.tile.words)]
    }

    /// Returns the bytes of results per filter.
    pub(super) fn bytes_of_a_filter(&self) -> usize {
        let tiles = self.tiles();
        self.classes.saturating_mul(self.words_of_a_row()).saturating_add(2 * tiles[0] * tiles[1]).saturating_mul(4)
    }

    /// Returns the largest number of filters of one launch; they lie along the second axis of the grid.
    pub(super) fn longest_chunk(&self) -> usize {
        self.client().properties().hardware.max_cube_count.1 as usize
    }

    fn client(&self) -> &Client {
        &self.means.client
    }

    /// Computes `count` filters from `first` on.
    pub(super) fn run(&self, first: usize, count: usize, threshold: f64) -> Result<PackedPerformances, GpuError> {
        let client = self.client();
        let tiles = self.tiles()[0] * self.tiles()[1];
        // Allocated before the first pass, so that a chunk that is too long fails before any work.
        let words = Buffer::uninitialized(client, &[count, self.classes * self.words_of_a_row()])?;
        let partial = Buffer::uninitialized(client, &[count, tiles])?;

        let (no_bounds, no_words) = (Buffer::placeholder(client), Buffer::placeholder(client));
        self.launch(Pass::Largest, first, count, &no_bounds, &no_words, &partial);
        let keys = self.reduce(Pass::Largest, &partial, count, tiles)?;
        let max: Vec<f32> = keys.download(client)?.into_iter().map(value_of).collect();

        let bounds: Vec<f32> = max.iter().flat_map(|&max| bounds(max, threshold)).collect();
        self.launch(Pass::Compare, first, count, &Buffer::upload(client, &bounds), &words, &partial);
        let near = self.reduce(Pass::Compare, &partial, count, tiles)?.download(client)?;
        Ok(PackedPerformances { max, words: words.download(client)?, near })
    }

    /// Launches a pass over `count` filters from `first` on.
    ///
    /// * `bounds`: `[count, 4]`, see [`bounds`]; read by [`Pass::Compare`] only;
    /// * `words`: `[count, C, words of a row]`, written by [`Pass::Compare`] only;
    /// * `partial`: `[count, tiles]`, written: the result of every tile.
    fn launch(
        &self,
        pass: Pass,
        first: usize,
        count: usize,
        bounds: &Buffer<f32>,
        words: &Buffer<u32>,
        partial: &Buffer<u32>,
    ) {
        let client = self.client();
        let [down, across] = self.tiles();
        let tiles = down * across;
        let cubes = tiles.min(client.properties().hardware.max_cube_count.0 as usize);
        let longest = self.means.elements().max(self.readout.elements()).max(words.len()).max(bounds.len());
        // SAFETY: `means` has C * F * S elements and `readout` F * S * C; the kernel reads them at rows and columns below C,
        // positions below S and filters below `first + count`, which is at most F, and at place 0 instead of places outside.
        // Both are read only when there is a position, so place 0 exists. Of `bounds`, `words` and `partial` it uses the
        // entries of filters below `count`, rows below C, words of a row and tiles below `tiles`: their shapes above.
        unsafe {
            product_kernel::launch_unchecked(
                client,
                CubeCount::Static(cubes as u32, count as u32, tiles.div_ceil(cubes) as u32),
                CubeDim::new_2d(self.tile.rows as u32, self.tile.words as u32),
                AddressType::from_len(longest),
                self.means.arg(),
                self.readout.arg(),
                bounds.arg(),
                words.arg(),
                partial.arg(),
                SizesLaunch::new(first, self.classes, self.filters, self.positions, across, tiles),
                pass,
                self.tile,
            );
        }
    }

    /// Combines the results of the tiles of each filter: the largest key, or the sum.
    fn reduce(&self, pass: Pass, partial: &Buffer<u32>, count: usize, tiles: usize) -> Result<Buffer<u32>, GpuError> {
        let client = self.client();
        let result = Buffer::uninitialized(client, &[count])?;
        let cube = threads(client, 64);
        // SAFETY: the kernel uses filters below `count` and tiles below `tiles`; `partial` has `count * tiles` elements and
        // `result` has `count`.
        unsafe {
            reduce_kernel::launch_unchecked(
                client,
                grid(client, count.div_ceil(cube as usize), 1),
                CubeDim::new_1d(cube),
                AddressType::from_len(count * tiles),
                partial.arg(),
                result.arg(),
                count,
                tiles,
                pass,
            );
        }
        Ok(result)
    }
}

/// Returns the values with which a filter's elements are compared: an element is 1 above the first; it is near the
/// threshold from the second up to the third. The fourth is 1 if the filter recognizes anything, else all are 0.
fn bounds(max: f32, threshold: f64) -> [f32; 4] {
    match Cuts::new(threshold, f64::from(max)) {
        Some(Cuts { above, near: (low, end) }) => [above, low, end.next_down(), 1.0],
        None => [0.0; 4],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_filters_that_recognize_nothing_are_off() {
        for max in [0.0, -0.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            assert_eq!(bounds(max, 0.3)[3], 0.0);
        }
        let [cut, low, high, on] = bounds(2.0, 0.25);
        assert_eq!((cut, on), (0.5, 1.0));
        assert!(low < cut && cut < high && high - low < 5e-5);
    }
}
