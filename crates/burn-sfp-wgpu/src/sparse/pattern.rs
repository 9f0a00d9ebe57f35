//! Which kernels a sparse convolution has, as lists on the device.

use burn_cubecl::CubeDevice;
use burn_cubecl::cubecl::server::Handle;

use crate::GpuError;
use crate::device::{guarded, upload};

/// The kernels of a convolution that stay, on the device: for each output its inputs, and for each input its
/// outputs, which the gradients need.
///
/// Kernel k leads from input `inputs[k]` of its output's group to the output o with
/// `offsets[o] <= k < offsets[o + 1]`. A pair may occur more than once; its kernels add up.
///
/// # Example
/// ```
/// use burn_sfp_wgpu::{CubeDevice, DevicePattern};
///
/// # let Some(device) = std::panic::catch_unwind(|| {
/// #     let device = CubeDevice::default();
/// #     let _ = device.client();
/// #     device
/// # }).ok() else { println!("skipped: no wgpu adapter"); return Ok(()) };
/// // Three outputs: the first sees inputs 0 and 2, the second none, the third input 1.
/// let pattern = DevicePattern::upload(&device, 3, 1, &[0, 2, 2, 3], &[0, 2, 1])?;
/// assert_eq!((pattern.outputs(), pattern.inputs(), pattern.kernels()), (3, 3, 3));
/// # Ok::<(), burn_sfp_wgpu::GpuError>(())
/// ```
#[derive(Clone, Debug)]
pub struct DevicePattern {
    pub(crate) device: CubeDevice,
    outputs: usize,
    inputs: usize,
    kernels: usize,
    groups: usize,
    /// `[O + 1]` and `[K]`: every output's kernels, and the input (of all) of every kernel.
    pub(crate) rows: Lists,
    /// `[I + 1]` and `[K]`: every input's kernels in another order, and the output of each.
    pub(crate) columns: Lists,
    /// `[K]`: the place in `rows` of every kernel of `columns`.
    pub(crate) places: Handle,
    /// `[K]`: the output of every kernel of `rows`.
    pub(crate) owners: Handle,
}

/// Compressed rows.
#[derive(Clone, Debug)]
pub(crate) struct Lists {
    pub(crate) offsets: Handle,
    pub(crate) channels: Handle,
}

impl DevicePattern {
    /// Checks the lists and copies them to the device.
    ///
    /// * `inputs_per_group`: input channels of a group;
    /// * `groups`: groups of channels; the outputs are shared out among them in order;
    /// * `offsets`: `[O + 1]`, where each output's kernels begin;
    /// * `inputs`: `[K]`, each kernel's input within its group.
    ///
    /// # Errors
    /// [`GpuError::Pattern`] when the offsets do not ascend from 0 to K, an input is not below
    /// `inputs_per_group`, or the groups do not divide the outputs; [`GpuError::OutOfMemory`] and
    /// [`GpuError::Device`] when the runtime refuses the lists.
    pub fn upload(
        device: &CubeDevice,
        inputs_per_group: usize,
        groups: usize,
        offsets: &[u32],
        inputs: &[u32],
    ) -> Result<Self, GpuError> {
        let wrong = |what, index| Err(GpuError::Pattern { what, index });
        let Some(outputs) = offsets.len().checked_sub(1) else {
            return wrong("there must be one offset more than outputs", 0);
        };
        if groups == 0 || !outputs.is_multiple_of(groups) {
            return wrong("the number of groups must divide the number of outputs", outputs);
        }
        if offsets[0] != 0 {
            return wrong("the first offset must be 0", 0);
        }
        if let Some(index) = offsets.windows(2).position(|pair| pair[0] > pair[1]) {
            return wrong("offsets must ascend", index + 1);
        }
        if offsets[outputs] as usize != inputs.len() {
            return wrong("the last offset must be the number of kernels", outputs);
        }
        if let Some(index) = inputs.iter().position(|&input| input as usize >= inputs_per_group) {
            return wrong("an input is not below the number of inputs of a group", index);
        }
        let Some(channels) = inputs_per_group.checked_mul(groups).filter(|&all| all < u32::MAX as usize) else {
            return wrong("there are too many inputs", groups);
        };

        let kernels = inputs.len();
        let (mut channel, mut owner) = (vec![0_u32; kernels], vec![0_u32; kernels]);
        for output in 0..outputs {
            let group = output / (outputs / groups);
            for kernel in offsets[output] as usize..offsets[output + 1] as usize {
                channel[kernel] = (group * inputs_per_group) as u32 + inputs[kernel];
                owner[kernel] = output as u32;
            }
        }
        // Counting sort by input; within an input the outputs ascend.
        let mut starts = vec![0_u32; channels + 1];
        for &input in &channel {
            starts[input as usize + 1] += 1;
        }
        for input in 0..channels {
            starts[input + 1] += starts[input];
        }
        let mut next = starts.clone();
        let (mut places, mut reached) = (vec![0_u32; kernels], vec![0_u32; kernels]);
        for kernel in 0..kernels {
            let slot = &mut next[channel[kernel] as usize];
            places[*slot as usize] = kernel as u32;
            reached[*slot as usize] = owner[kernel];
            *slot += 1;
        }

        guarded(|| {
            let client = device.client();
            let lists = |offsets: &[u32], channels: &[u32]| Lists {
                offsets: upload(&client, offsets),
                channels: upload(&client, channels),
            };
            let pattern = Self {
                device: device.clone(),
                outputs,
                inputs: channels,
                kernels,
                groups,
                rows: lists(offsets, &channel),
                columns: lists(&starts, &reached),
                places: upload(&client, &places),
                owners: upload(&client, &owner),
            };
            let (rows, columns) = (&pattern.rows, &pattern.columns);
            let all = [&rows.offsets, &rows.channels, &columns.offsets, &columns.channels];
            client.check(all.into_iter().chain([&pattern.places, &pattern.owners]))?;
            Ok(pattern)
        })
    }

    /// O, the number of output channels.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// I, the number of input channels of all groups.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// K, the number of kernels that stay.
    pub fn kernels(&self) -> usize {
        self.kernels
    }

    /// Number of groups.
    pub fn groups(&self) -> usize {
        self.groups
    }
}
