//! Buffers, launches and reads, with every failure of the runtime turned into a [`GpuError`].
//!
//! CubeCL 0.11 attaches a failed allocation, compilation or launch to the buffers it would have written and
//! reports it at the next question about them. [`checked`] asks that question after the launch, which waits for
//! the runtime's thread but not for the device. Panics of the runtime (wgpu's validation, for one) are caught.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn_backend::cubecl::dtype_to_storage_type;
use burn_backend::{DType, Shape};
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::features::TypeUsage;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::cubecl::server::Handle;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use crate::GpuError;

/// Runs `work`, a panic of the runtime becoming an error.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, GpuError>) -> Result<T, GpuError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(GpuError::from_panic(payload)))
}

/// The tensor, once the runtime has accepted everything that writes it.
pub(crate) fn checked(tensor: CubeTensor) -> Result<CubeTensor, GpuError> {
    tensor.client.check([&tensor.handle])?;
    Ok(tensor)
}

/// The element type of a float tensor that the device can read and convert.
pub(crate) fn float_type(what: &'static str, tensor: &CubeTensor) -> Result<ElemType, GpuError> {
    let refused = || GpuError::Dtype { what, found: tensor.dtype };
    if !matches!(tensor.dtype, DType::F32 | DType::F16 | DType::BF16) {
        return Err(refused());
    }
    let element = dtype_to_storage_type(tensor.dtype);
    let usage = tensor.client.properties().type_usage(element);
    let needed = TypeUsage::Buffer | TypeUsage::Conversion;
    if tensor.dtype == DType::F32 || usage.is_superset(needed) { Ok(element) } else { Err(refused()) }
}

/// Row-major memory, without a copy where it is so already.
pub(crate) fn contiguous(tensor: CubeTensor) -> CubeTensor {
    if elements(&tensor) == 0 { tensor } else { into_contiguous(tensor) }
}

/// A row-major tensor of unspecified contents; one without elements owns a small buffer all the same.
pub(crate) fn empty<const D: usize>(
    like: &CubeTensor,
    shape: [usize; D],
    dtype: DType,
) -> Result<CubeTensor, GpuError> {
    let handle = reserve(&like.client, &shape, dtype.size().max(4))?;
    let shape = Shape::from(shape);
    Ok(CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), shape, handle, dtype))
}

/// A buffer for as many elements as the product of the lengths, and for one at least.
pub(crate) fn reserve(client: &Client, lengths: &[usize], element: usize) -> Result<Handle, GpuError> {
    let bytes = match lengths.contains(&0) {
        true => Some(element),
        false => lengths.iter().try_fold(element, |bytes, &length| bytes.checked_mul(length)),
    };
    // No device has as much, and the runtime's own sums need not overflow.
    let bytes = bytes.filter(|&bytes| bytes < 1 << 48).ok_or(GpuError::OutOfMemory { bytes: None })?;
    let handle = client.empty(bytes);
    client.check([&handle])?;
    Ok(handle)
}

/// Number of elements.
pub(crate) fn elements(tensor: &CubeTensor) -> usize {
    tensor.meta.shape().num_elements()
}

/// A kernel's argument: the tensor's memory, or a buffer never read where it has no elements.
pub(crate) fn buffer(tensor: &CubeTensor) -> BufferArg {
    match elements(tensor) {
        0 => padding(&tensor.client),
        length => slice(&tensor.handle, length),
    }
}

/// A kernel's argument that is never read.
pub(crate) fn padding(client: &Client) -> BufferArg {
    slice(&client.empty(16), 4)
}

/// A kernel's argument: the first `length` elements behind a handle.
pub(crate) fn slice(handle: &Handle, length: usize) -> BufferArg {
    // SAFETY: every caller passes the number of elements the handle was made for.
    unsafe { BufferArg::from_raw_parts(handle.clone(), length) }
}

/// Host numbers on the device, at least one.
pub(crate) fn upload<E: CubeElement>(client: &Client, values: &[E]) -> Handle {
    if values.is_empty() { client.empty(16) } else { client.create_from_slice(E::as_bytes(values)) }
}

/// The first `length` numbers behind a handle, once everything that writes them has run.
pub(crate) fn download<E: CubeElement>(client: &Client, handle: Handle, length: usize) -> Result<Vec<E>, GpuError> {
    if length == 0 {
        return Ok(Vec::new());
    }
    let bytes = client.read_one(handle)?;
    let mut values = E::from_bytes(&bytes).to_vec();
    values.truncate(length);
    Ok(values)
}

/// Units of a one-dimensional cube: 256, or what the device allows.
pub(crate) fn units(client: &Client, wanted: u32) -> u32 {
    let most = client.properties().hardware.max_units_per_cube.max(1);
    if wanted <= most { wanted } else { most.next_power_of_two() / if most.is_power_of_two() { 1 } else { 2 } }
}

/// As many cubes as the grid may have along the first two axes.
pub(crate) fn grid(client: &Client, x: usize, y: usize) -> CubeCount {
    let most = client.properties().hardware.max_cube_count;
    let within = |wanted: usize, most: u32| u32::try_from(wanted).unwrap_or(u32::MAX).min(most);
    CubeCount::Static(within(x, most.0), within(y, most.1), 1)
}
