//! Forward pass and gradient by the input: every output gathers the products of a row of kernels.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::gather_kernel::{Variant, gather_kernel, plain_gather_kernel};
use super::pattern::Lists;
use super::plan::{Plan, Threads};
use super::tile::maps;
use crate::GpuError;
use crate::device::{Buffer, RowMajor, threads};

/// A gather from `source` `[N, I, H, W]` to a result `[N, O, H', W']` whose channel r sums over the kernels of row r.
pub(super) struct Gather<'a> {
    pub(super) source: RowMajor,
    /// `[K, kh, kw]`.
    pub(super) values: RowMajor,
    /// `[O]`.
    pub(super) bias: Option<RowMajor>,
    /// The rows of kernels, with channels below I.
    pub(super) lists: &'a Lists,
    /// The kernel of every entry of the lists; `None` when entry k has kernel k.
    pub(super) places: Option<&'a Buffer<u32>>,
    /// K.
    pub(super) kernels: usize,
    /// Shape of the source.
    pub(super) from: [usize; 4],
    /// Shape of the result.
    pub(super) to: [usize; 4],
    pub(super) plan: Plan,
    pub(super) element: ElemType,
}

impl Gather<'_> {
    /// Runs the gather with tiles where they fit, else with one thread per output.
    pub(super) fn run(self) -> Result<RowMajor, GpuError> {
        let plan = self.plan.choose([self.from[2], self.from[3]], [self.to[2], self.to[3]]);
        self.run_by(plan)
    }

    /// Runs the gather with a given plan, or without tiles.
    pub(super) fn run_by(self, plan: Option<Plan>) -> Result<RowMajor, GpuError> {
        let output = RowMajor::uninitialized(&self.source, self.to, self.source.dtype)?;
        if output.elements() > 0 {
            match plan {
                Some(plan) => self.tiled(plan, &output),
                None => self.plain(&output),
            }
        }
        Ok(output)
    }

    /// Returns the integer type that counts the elements of every argument.
    fn address(&self, output: &RowMajor) -> AddressType {
        let longest = self.source.elements().max(output.elements()).max(self.values.elements());
        AddressType::from_len(longest)
    }

    /// Returns the arguments for bias and `places`, which are placeholders where there are none.
    fn optional(&self) -> [BufferArg; 2] {
        let placeholder = || Buffer::<u32>::placeholder(&self.source.client).arg();
        [self.bias.as_ref().map_or_else(placeholder, RowMajor::arg), self.places.map_or_else(placeholder, Buffer::arg)]
    }

    fn variant(&self, plan: Plan, threads: Threads) -> Variant {
        Variant { plan, threads, has_bias: self.bias.is_some(), indirect: self.places.is_some() }
    }

    fn tiled(&self, plan: Plan, output: &RowMajor) {
        let client = &self.source.client;
        let [samples, rows, height, width] = self.to;
        let [down, across] = plan.tiles([height, width]);
        let items = samples * down * across;
        let threads = Threads::for_gather(items, rows, self.kernels, plan.outputs(), threads(client, 256) as usize);
        let cubes = items.div_ceil(threads.lanes) * rows;
        let [bias, places] = self.optional();
        // SAFETY: `DevicePattern` guarantees that the offsets ascend to K, channels are below I and kernels below K, and the
        // callers checked that the shapes `from`, `to`, [K, kh, kw] and [O] are those of source, output, values and bias.
        // The kernel reads the source at rows and columns that it compares with H and W, or at the begin of a map, and
        // writes the output at rows and columns that it compares with H' and W'. With `plan.whole` all of them are
        // positions of the one tile, which is the whole map.
        unsafe {
            gather_kernel::launch_unchecked(
                client,
                cubecl::calculate_cube_count_elemwise(client, cubes, CubeDim::new_1d(1)),
                CubeDim::new_2d(threads.lanes as u32, threads.split as u32),
                self.address(output),
                plan.vector(),
                self.source.arg(),
                self.values.arg(),
                bias,
                self.lists.offsets.arg(),
                self.lists.channels.arg(),
                places,
                output.arg(),
                maps(&plan, self.from, self.to),
                cubes,
                self.variant(plan, threads),
                self.element,
            );
        }
    }

    fn plain(&self, output: &RowMajor) {
        let client = &self.source.client;
        let plan = self.plan.without_tiles();
        let cube = CubeDim::new_1d(threads(client, 64));
        let [bias, places] = self.optional();
        // SAFETY: as in `tiled`; the kernel reads the source only at rows and columns that it compares with H and W, and
        // each thread writes one element below the output's length.
        unsafe {
            plain_gather_kernel::launch_unchecked(
                client,
                cubecl::calculate_cube_count_elemwise(client, output.elements(), cube),
                cube,
                self.address(output),
                self.source.arg(),
                self.values.arg(),
                bias,
                self.lists.offsets.arg(),
                self.lists.channels.arg(),
                places,
                output.arg(),
                maps(&plan, self.from, self.to),
                output.elements(),
                self.variant(plan, Threads { lanes: 1, split: 1 }),
                self.element,
            );
        }
    }
}
