//! Gradient by the values: every tap of every kernel sums over samples and positions.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::pattern::DevicePattern;
use super::plan::{Plan, Threads};
use super::tile::maps;
use super::values_kernel::{plain_values_kernel, values_kernel};
use crate::GpuError;
use crate::device::{RowMajor, threads};

/// The gradient `[K, kh, kw]` from the input `[N, I, H, W]` and the gradient of the output `[N, O, H', W']`.
pub(super) struct ValuesGradient<'a> {
    pub(super) x: RowMajor,
    pub(super) grad: RowMajor,
    pub(super) pattern: &'a DevicePattern,
    /// Shape of the input.
    pub(super) from: [usize; 4],
    /// Shape of the output.
    pub(super) to: [usize; 4],
    pub(super) plan: Plan,
    pub(super) element: ElemType,
}

impl ValuesGradient<'_> {
    /// Computes the gradient with tiles where they fit, else with one thread per element.
    pub(super) fn run(self) -> Result<RowMajor, GpuError> {
        let plan = self.plan.choose([self.from[2], self.from[3]], [self.to[2], self.to[3]]);
        self.run_by(plan)
    }

    /// Computes the gradient with a given plan, or without tiles.
    pub(super) fn run_by(self, plan: Option<Plan>) -> Result<RowMajor, GpuError> {
        let [height, width] = self.plan.kernel;
        let output = RowMajor::uninitialized(&self.x, [self.pattern.kernels(), height, width], self.x.dtype)?;
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
        AddressType::from_len(self.x.elements().max(self.grad.elements()).max(output.elements()))
    }

    fn tiled(&self, plan: Plan, output: &RowMajor) {
        let client = &self.x.client;
        let kernels = self.pattern.kernels();
        let [down, across] = plan.tiles([self.to[2], self.to[3]]);
        let threads = Threads::for_values(self.to[0] * down * across, plan.taps(), threads(client, 64) as usize);
        // SAFETY: `DevicePattern` guarantees that owners are below O and channels below I for each of the K kernels, and the
        // callers checked that `from` and `to` are the shapes of `x` and `grad`. The kernel reads both at rows and columns
        // that it compares with their sizes, or at the begin of a map, and writes kernels below K.
        unsafe {
            values_kernel::launch_unchecked(
                client,
                cubecl::calculate_cube_count_elemwise(client, kernels.div_ceil(threads.split), CubeDim::new_1d(1)),
                CubeDim::new_2d(threads.lanes as u32, threads.split as u32),
                self.address(output),
                plan.vector(),
                self.x.arg(),
                self.grad.arg(),
                self.pattern.owners.arg(),
                self.pattern.rows.channels.arg(),
                output.arg(),
                maps(&plan, self.from, self.to),
                kernels,
                plan,
                threads,
                self.element,
            );
        }
    }

    fn plain(&self, output: &RowMajor) {
        let client = &self.x.client;
        let plan = self.plan.without_tiles();
        let cube = CubeDim::new_1d(threads(client, 64));
        // SAFETY: as in `tiled`; each thread writes one element below the output's length.
        unsafe {
            plain_values_kernel::launch_unchecked(
                client,
                cubecl::calculate_cube_count_elemwise(client, output.elements(), cube),
                cube,
                self.address(output),
                self.x.arg(),
                self.grad.arg(),
                self.pattern.owners.arg(),
                self.pattern.rows.channels.arg(),
                output.arg(),
                maps(&plan, self.from, self.to),
                self.from[0],
                output.elements(),
                plan,
                self.element,
            );
        }
    }
}
