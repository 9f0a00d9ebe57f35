//! Access to a tensor's memory, for kernels: as an `ndarray` view on the CPU backends, as a `CubeTensor` on the CubeCL runtimes.
//!
//! Where a tensor is on another device, the functions go through Burn's own operations or return `None`.

// burn-ndarray is deprecated in 0.22 and supported here as long as it exists.
#![allow(deprecated)]

#[cfg(feature = "wgpu")]
mod cube;

#[cfg(feature = "flex")]
use std::sync::{Mutex, PoisonError};

#[cfg(feature = "flex")]
use burn::tensor::{AllocationProperty, Bytes};
use burn::tensor::{DType, Device, Tensor, TensorData};
use ndarray::{Array, Array3, ArrayView, Dim, Dimension, IntoDimension};

use crate::NnError;

#[cfg(feature = "wgpu")]
pub use cube::{CubePrimitive, cube_primitive, fuses, on_cube, wgpu_device};

/// Calls `work` with a view of the tensor's memory and returns its result, or `None` where the tensor is not in host memory, not
/// `f32`, or on an autodiff device.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_sfp_nn::tensor::on_host;
///
/// let tensor = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, 4.0]], &Device::flex());
/// assert_eq!(on_host(&tensor, |view| view.sum()), Some(10.0));
/// assert_eq!(on_host(&tensor.autodiff(), |view| view.sum()), None);
/// ```
pub fn on_host<const D: usize, R>(
    tensor: &Tensor<D>,
    work: impl FnOnce(ArrayView<'_, f32, Dim<[usize; D]>>) -> R,
) -> Option<R>
where
    Dim<[usize; D]>: Dimension,
    [usize; D]: IntoDimension<Dim = Dim<[usize; D]>>,
{
    let shape = tensor.dims();
    #[cfg(feature = "flex")]
    if let Ok(flex) = tensor.clone().try_into_primitive::<burn_flex::Flex>() {
        if flex.dtype() != DType::F32 {
            return None;
        }
        let flex = if flex.is_contiguous() { flex } else { flex.to_contiguous() };
        return ArrayView::from_shape(shape, flex.as_slice::<f32>()?).ok().map(work);
    }
    #[cfg(feature = "ndarray")]
    if let Ok(burn_ndarray::NdArrayTensor::F32(storage)) = tensor.clone().try_into_primitive::<burn_ndarray::NdArray>()
    {
        return storage.view().into_dimensionality::<Dim<[usize; D]>>().ok().map(work);
    }
    None
}

/// The address of a tensor's memory, where [`on_host`] reads it without a copy. While a clone of the tensor is held, no other tensor has it,
/// and what lies there does not change: whoever writes to shared memory copies it first.
pub(crate) fn address<const D: usize>(tensor: &Tensor<D>) -> Option<usize>
where
    Dim<[usize; D]>: Dimension,
    [usize; D]: IntoDimension<Dim = Dim<[usize; D]>>,
{
    let shares = false;
    #[cfg(feature = "flex")]
    let shares =
        shares || tensor.clone().try_into_primitive::<burn_flex::Flex>().is_ok_and(|flex| flex.is_contiguous());
    // What ndarray borrows of a file is copied by each clone.
    #[cfg(feature = "ndarray")]
    let shares = shares
        || match tensor.clone().try_into_primitive::<burn_ndarray::NdArray>() {
            Ok(burn_ndarray::NdArrayTensor::F32(storage)) => storage.is_owned() && storage.view().is_standard_layout(),
            _ => false,
        };
    if shares { on_host(tensor, |view| view.as_ptr() as usize) } else { None }
}

/// Turns an array into a tensor, without a copy of its elements.
pub(crate) fn from_array<const D: usize, Dim: Dimension>(array: Array<f32, Dim>, device: &Device) -> Tensor<D>
where
    [usize; D]: IntoDimension<Dim = Dim>,
{
    let shape = array.shape().to_vec();
    let (values, offset) = array.into_raw_vec_and_offset();
    debug_assert!(offset.unwrap_or(0) == 0, "a fresh array starts at its first element");
    Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
}

/// A tensor's data in shared memory: clones cost nothing, and on flex nothing is copied at all. Writing to the tensor or to a clone
/// copies first.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_sfp_nn::tensor::shared_data;
///
/// let data = shared_data(Tensor::<1>::from_floats([1.0, 2.0], &Device::flex()));
/// assert_eq!(data.as_slice::<f32>().unwrap(), [1.0, 2.0]);
/// ```
pub fn shared_data<const D: usize>(tensor: Tensor<D>) -> TensorData {
    #[cfg(feature = "flex")]
    if let Ok(flex) = tensor.clone().try_into_primitive::<burn_flex::Flex>() {
        let (shape, dtype) = (tensor.shape(), flex.dtype());
        // The memory of a view of a part is larger than its shape.
        if flex.is_contiguous() && flex.bytes().len() == shape.num_elements() * dtype.size() {
            let owner = bytes::Bytes::from_owner(Memory(flex));
            return TensorData::from_bytes(Bytes::from_shared(owner, AllocationProperty::Native), shape, dtype);
        }
    }
    let (bytes, shape, dtype) = tensor.into_data().into_parts();
    TensorData::from_bytes(bytes.shared(), shape, dtype)
}

/// Returns a tensor of zeros. On flex all such tensors share one piece of memory, which no page of the system backs until it is written to:
/// modules whose parameters have no values are as good as free.
///
/// ```
/// use burn::tensor::{DType, Device, Tensor};
/// use burn_sfp_nn::tensor::shared_zeros;
///
/// let zeros: Tensor<2> = shared_zeros([3, 4], DType::F32, &Device::flex());
/// assert_eq!((zeros.dims(), zeros.sum().into_scalar::<f32>()), ([3, 4], 0.0));
/// ```
pub fn shared_zeros<const D: usize>(shape: [usize; D], dtype: DType, device: &Device) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if matches!(device.as_dispatch(), burn::backend::DispatchDevice::Flex(_)) {
        let bytes = zero_bytes(shape.iter().product::<usize>() * dtype.size());
        return Tensor::from_data(TensorData::from_bytes(bytes, shape, dtype), (device, dtype));
    }
    Tensor::zeros(shape, (device, dtype))
}

#[cfg(feature = "flex")]
fn zero_bytes(length: usize) -> Bytes {
    static ZEROS: Mutex<bytes::Bytes> = Mutex::new(bytes::Bytes::new());
    let mut zeros = ZEROS.lock().unwrap_or_else(PoisonError::into_inner);
    if zeros.len() < length {
        *zeros = bytes::Bytes::from(vec![0u8; length]);
    }
    Bytes::from_shared(zeros.slice(..length), AllocationProperty::Native)
}

/// Keeps the memory of a tensor alive.
#[cfg(feature = "flex")]
struct Memory(burn_flex::FlexTensor);

#[cfg(feature = "flex")]
impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// Reads a tensor into a host array, from any device and float type.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_sfp_nn::tensor::to_array3;
///
/// let array = to_array3(&Tensor::<3>::ones([2, 3, 4], &Device::flex()))?;
/// assert_eq!((array.dim(), array.sum()), ((2, 3, 4), 24.0));
/// # Ok::<(), burn_sfp_nn::NnError>(())
/// ```
///
/// # Errors
/// [`NnError::Read`] where the device does not give the values.
pub fn to_array3(tensor: &Tensor<3>) -> Result<Array3<f32>, NnError> {
    if let Some(array) = on_host(tensor, |view| view.to_owned()) {
        return Ok(array);
    }
    let shape = tensor.dims();
    Array3::from_shape_vec(shape, to_vec(tensor.clone().into_data())?).map_err(|error| unreadable(&error))
}

/// The elements of a tensor's data as `f32`.
///
/// ```
/// use burn::tensor::TensorData;
/// use burn_sfp_nn::tensor::to_vec;
///
/// assert_eq!(to_vec(TensorData::new(vec![1.0_f64, 2.0], [2]))?, [1.0, 2.0]);
/// # Ok::<(), burn_sfp_nn::NnError>(())
/// ```
///
/// # Errors
/// [`NnError::Read`] where the data cannot be converted.
pub fn to_vec(data: TensorData) -> Result<Vec<f32>, NnError> {
    data.convert::<f32>().try_into_vec::<f32>().map_err(|error| unreadable(&format!("{error:?}")))
}

fn unreadable(message: &dyn std::fmt::Display) -> NnError {
    NnError::Read { message: message.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn shared_data_stays_what_it_was() {
        for device in [Device::flex(), Device::ndarray()] {
            let tensor = Tensor::<2>::from_floats([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], &device);
            let data = shared_data(tensor.clone());
            let mut other = data.clone();
            // In place where a backend can: the shared memory must be left alone by either side.
            let changed = tensor.mul_scalar(2.0).into_data();
            other.as_mut_slice::<f32>().unwrap()[0] = 7.0;
            assert_eq!(data.as_slice::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
            assert_eq!(changed.as_slice::<f32>().unwrap(), [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]);
            // Views of a part, in another order.
            let whole = Tensor::<2>::from_floats([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], &device);
            let column = whole.clone().slice([0..2, 1..2]);
            assert_eq!(shared_data(column).as_slice::<f32>().unwrap(), [2.0, 5.0]);
            assert_eq!(shared_data(whole.clone().slice([1..2, 0..3])).as_slice::<f32>().unwrap(), [4.0, 5.0, 6.0]);
            assert_eq!(shared_data(whole.transpose()).as_slice::<f32>().unwrap(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        }
    }
}
