//! The kernels that a sparse convolution keeps, as lists on the device.

use burn_cubecl::CubeDevice;
use burn_sfp_kernels::KernelPattern;

use crate::GpuError;
use crate::device::{Buffer, guarded};

/// The kernels that a sparse convolution keeps, on a device: for each output its inputs, and for each input its outputs,
/// which the gradients read.
///
/// # Example
/// ```
/// use burn_sfp_wgpu::{CubeDevice, DevicePattern, KernelPattern};
///
/// # let Some(device) = std::panic::catch_unwind(|| {
/// #     let device = CubeDevice::default();
/// #     let _ = device.client();
/// #     device
/// # }).ok() else { println!("skipped: no wgpu adapter"); return Ok(()) };
/// // Three outputs: the first reads inputs 0 and 2, the second none, the third input 1.
/// let pattern = KernelPattern::new(3, vec![0, 2, 2, 3], vec![0, 2, 1])?;
/// let uploaded = DevicePattern::upload(&device, &pattern, 1)?;
/// assert_eq!((uploaded.outputs(), uploaded.inputs(), uploaded.kernels()), (3, 3, 3));
/// # Ok::<(), burn_sfp_wgpu::GpuError>(())
/// ```
#[derive(Clone, Debug)]
pub struct DevicePattern {
    pub(crate) device: CubeDevice,
    outputs: usize,
    inputs: usize,
    kernels: usize,
    groups: usize,
    /// The kernels of every output, and the input (numbered over all groups) of every kernel.
    pub(crate) rows: Lists,
    /// The kernels of every input, and the output of each; their order is that of `places`.
    pub(crate) columns: Lists,
    /// `[K]`: the kernel of every entry of `columns`.
    pub(crate) places: Buffer<u32>,
    /// `[K]`: the output of every kernel.
    pub(crate) owners: Buffer<u32>,
}

/// Compressed rows.
#[derive(Clone, Debug)]
pub(crate) struct Lists {
    /// The offsets of the rows, one more than there are rows.
    pub(crate) offsets: Buffer<u32>,
    /// `[K]`: the channel of every entry.
    pub(crate) channels: Buffer<u32>,
}

impl DevicePattern {
    /// Copies a pattern to the device.
    ///
    /// * `pattern`: the kernels kept;
    /// * `groups`: number of groups of the convolution; group g of the outputs reads group g of the inputs.
    ///
    /// # Errors
    /// [`GpuError::Argument`] when the number of groups does not divide the outputs or there are too many inputs;
    /// [`GpuError::OutOfMemory`] and [`GpuError::Device`] when the runtime rejects the lists.
    pub fn upload(device: &CubeDevice, pattern: &KernelPattern, groups: usize) -> Result<Self, GpuError> {
        let (rows, columns) = (pattern.rows(groups)?, pattern.transposed(groups)?);
        // All of these fit into 32 bits: `rows` rejects more inputs or outputs, and a pattern has at most 2^32 - 1 kernels.
        let (owners, inputs): (Vec<u32>, Vec<u32>) =
            rows.iter().map(|(output, input, _)| (output as u32, input as u32)).unzip();
        let (outputs, places): (Vec<u32>, Vec<u32>) =
            columns.iter().map(|(_, output, kernel)| (output as u32, kernel as u32)).unzip();
        guarded(|| {
            let client = device.client();
            let lists = |offsets: &[u32], channels: &[u32]| Lists {
                offsets: Buffer::upload(&client, offsets),
                channels: Buffer::upload(&client, channels),
            };
            let uploaded = Self {
                device: device.clone(),
                outputs: rows.len(),
                inputs: columns.len(),
                kernels: pattern.kept(),
                groups,
                rows: lists(rows.offsets(), &inputs),
                columns: lists(columns.offsets(), &outputs),
                places: Buffer::upload(&client, &places),
                owners: Buffer::upload(&client, &owners),
            };
            let (rows, columns) = (&uploaded.rows, &uploaded.columns);
            let all = [&rows.offsets, &rows.channels, &columns.offsets, &columns.channels];
            client.check(all.into_iter().chain([&uploaded.places, &uploaded.owners]).map(Buffer::handle))?;
            Ok(uploaded)
        })
    }

    /// Returns O, the number of output channels.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Returns I, the number of input channels of all groups.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Returns K, the number of kernels kept.
    pub fn kernels(&self) -> usize {
        self.kernels
    }

    /// Returns the number of groups.
    pub fn groups(&self) -> usize {
        self.groups
    }
}
