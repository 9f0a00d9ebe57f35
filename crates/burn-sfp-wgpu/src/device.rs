//! Buffers, launches and reads on the device; every failure of the runtime becomes a [`GpuError`].
//!
//! CubeCL 0.11 attaches a failed allocation, compilation or launch to the buffers that it would have written, and reports
//! the failure when these buffers are next asked about. [`checked`] asks after the launch; it waits for the runtime's
//! thread, but not for the device. Panics of the runtime, for example in wgpu's validation, are caught.
//!
//! Kernels are launched without bounds checks, so a kernel argument must declare no more elements than its memory holds.
//! [`Buffer`] and [`RowMajor`] guarantee this: they are made here only, and they are the only source of arguments.

use std::marker::PhantomData;
use std::ops::Deref;
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

/// Bytes of a buffer that no kernel reads; runtimes reject buffers without bytes.
const PLACEHOLDER: usize = 16;

/// Runs `work` and turns a panic of the runtime into an error.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, GpuError>) -> Result<T, GpuError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(GpuError::from_panic(payload)))
}

/// Returns the tensor once the runtime has accepted everything that writes it.
pub(crate) fn checked(tensor: RowMajor) -> Result<CubeTensor, GpuError> {
    tensor.client.check([&tensor.handle])?;
    Ok(tensor.0)
}

/// Returns the element type of a float tensor if the device can read and convert it.
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

/// A float tensor whose elements are contiguous in row-major order, in a buffer that holds all of them.
#[derive(Clone, Debug)]
pub(crate) struct RowMajor(CubeTensor);

impl RowMajor {
    /// Returns the tensor in row-major order; copies it only when its order is different.
    pub(crate) fn new(tensor: CubeTensor) -> Result<Self, GpuError> {
        let tensor = if elements(&tensor) == 0 { tensor } else { into_contiguous(tensor) };
        let (needed, held) = (elements(&tensor) as u64 * tensor.dtype.size() as u64, tensor.handle.size_in_used());
        if held < needed {
            let message = format!("a tensor of {needed} bytes is in a buffer of {held} bytes");
            return Err(GpuError::Device { message, lost: false });
        }
        Ok(Self(tensor))
    }

    /// Allocates a tensor of unspecified contents on the device of `like`.
    pub(crate) fn uninitialized<const D: usize>(
        like: &CubeTensor,
        shape: [usize; D],
        dtype: DType,
    ) -> Result<Self, GpuError> {
        let handle = allocate(&like.client, &shape, dtype.size().max(4))?;
        let shape = Shape::from(shape);
        Self::new(CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), shape, handle, dtype))
    }

    /// Returns the tensor itself if nothing else refers to its memory, else a copy.
    pub(crate) fn exclusive(self) -> Result<Self, GpuError> {
        if self.can_mut() { Ok(self) } else { Self::new(self.copy()) }
    }

    /// Returns the number of elements.
    pub(crate) fn elements(&self) -> usize {
        elements(&self.0)
    }

    /// Returns the tensor's memory as a kernel argument; a tensor without elements gets a buffer that is never read.
    pub(crate) fn arg(&self) -> BufferArg {
        match self.elements() {
            0 => Buffer::<f32>::placeholder(&self.client).arg(),
            // SAFETY: `new`, the only constructor, made sure that the handle's memory holds all elements.
            length => unsafe { BufferArg::from_raw_parts(self.handle.clone(), length) },
        }
    }
}

impl Deref for RowMajor {
    type Target = CubeTensor;

    fn deref(&self) -> &CubeTensor {
        &self.0
    }
}

/// A buffer on the device for a known number of elements of type `E`.
#[derive(Clone, Debug)]
pub(crate) struct Buffer<E> {
    handle: Handle,
    /// Invariant: the handle's memory holds at least as many elements.
    length: usize,
    element: PhantomData<E>,
}

impl<E: CubeElement> Buffer<E> {
    /// Allocates a buffer of unspecified contents for as many elements as the product of the lengths.
    pub(crate) fn uninitialized(client: &Client, lengths: &[usize]) -> Result<Self, GpuError> {
        let handle = allocate(client, lengths, size_of::<E>())?;
        // The product does not overflow, since the number of bytes did not.
        let length = lengths.iter().product::<usize>().max(1);
        Ok(Self { handle, length, element: PhantomData })
    }

    /// Copies values to the device; without values the buffer is a [`placeholder`](Self::placeholder).
    pub(crate) fn upload(client: &Client, values: &[E]) -> Self {
        if values.is_empty() {
            return Self::placeholder(client);
        }
        let handle = client.create_from_slice(E::as_bytes(values));
        Self { handle, length: values.len(), element: PhantomData }
    }

    /// Allocates a small buffer for a kernel argument that is never read.
    pub(crate) fn placeholder(client: &Client) -> Self {
        Self { handle: client.empty(PLACEHOLDER), length: PLACEHOLDER / size_of::<E>(), element: PhantomData }
    }

    /// Returns the handle, to ask the runtime about it.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Returns the number of elements.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Returns the buffer as a kernel argument.
    pub(crate) fn arg(&self) -> BufferArg {
        // SAFETY: the handle's memory holds `length` elements by the invariant of the field.
        unsafe { BufferArg::from_raw_parts(self.handle.clone(), self.length) }
    }

    /// Reads the elements, once everything that writes them has run.
    pub(crate) fn download(self, client: &Client) -> Result<Vec<E>, GpuError> {
        let bytes = client.read_one(self.handle)?;
        let mut values = E::from_bytes(&bytes).to_vec();
        values.truncate(self.length);
        Ok(values)
    }
}

/// Reads the elements of an f32 tensor.
pub(crate) fn values(tensor: RowMajor) -> Result<Vec<f32>, GpuError> {
    let length = tensor.elements();
    if length == 0 {
        return Ok(Vec::new());
    }
    let CubeTensor { client, handle, .. } = tensor.0;
    Buffer { handle, length, element: PhantomData }.download(&client)
}

/// Allocates memory for as many elements of `size` bytes as the product of the lengths, and for one at least.
fn allocate(client: &Client, lengths: &[usize], size: usize) -> Result<Handle, GpuError> {
    let bytes = match lengths.contains(&0) {
        true => Some(size),
        false => lengths.iter().try_fold(size, |bytes, &length| bytes.checked_mul(length)),
    };
    // No device has this much memory; below it the runtime's own sums do not overflow.
    let bytes = bytes.filter(|&bytes| bytes < 1 << 48).ok_or(GpuError::OutOfMemory { bytes: None })?;
    let handle = client.empty(bytes);
    client.check([&handle])?;
    Ok(handle)
}

/// Returns the number of elements of a tensor.
fn elements(tensor: &CubeTensor) -> usize {
    tensor.meta.shape().num_elements()
}

/// Returns the number of threads of a cube: `wanted`, or the largest power of two that the device allows.
pub(crate) fn threads(client: &Client, wanted: u32) -> u32 {
    let most = client.properties().hardware.max_units_per_cube.max(1);
    if wanted <= most { wanted } else { 1 << most.ilog2() }
}

/// Returns the largest power of two that is not greater than `value`; 1 for 0.
pub(crate) fn power_of_two_up_to(value: usize) -> usize {
    1 << value.max(1).ilog2()
}

/// Returns a grid of `x` times `y` cubes, with at most as many along each axis as the device allows.
pub(crate) fn grid(client: &Client, x: usize, y: usize) -> CubeCount {
    let most = client.properties().hardware.max_cube_count;
    let within = |wanted: usize, most: u32| u32::try_from(wanted).unwrap_or(u32::MAX).min(most);
    CubeCount::Static(within(x, most.0), within(y, most.1), 1)
}
