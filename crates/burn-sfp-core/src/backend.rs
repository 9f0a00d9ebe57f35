//! Which body of a kernel runs on which device.
//!
//! On flex and ndarray a tensor's memory is reached without a copy and the kernels of `burn-sfp-ndarray` work on
//! it, summing in double precision. On the CubeCL runtimes (wgpu, Vulkan, CUDA) the kernels of `burn-sfp-wgpu` work on the
//! device's memory. Every other device, and a fusing backend, whose tensors are not there yet, runs the portable body, made of
//! Burn's own operations; these two sum in the device's `f32`. (Why an enum and not Burn's `#[backend_extension]`: see docs/architecture.md.)

// burn-ndarray is deprecated in 0.22 and supported here as long as it exists.
#![allow(deprecated)]

#[cfg(feature = "wgpu")]
use std::any::Any;

#[cfg(feature = "wgpu")]
use burn::backend::BackendTypes;
#[cfg(feature = "flex")]
use burn::tensor::{AllocationProperty, Bytes};
use burn::tensor::{DType, Int, Tensor, TensorData};
#[cfg(feature = "wgpu")]
use burn_cubecl::tensor::CubeTensor;
#[cfg(feature = "wgpu")]
use burn_sfp_wgpu::GpuError;
use ndarray::{Array2, Array3, ArrayView, Axis, Dim, Dimension, IntoDimension};

use crate::SfpError;

/// Calls `work` with a view of the tensor's memory, where the tensor lives in host memory as `f32` without autodiff.
pub(crate) fn on_host<const D: usize, R>(
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

/// The tensor of a CubeCL runtime; `None` on other devices and of a fusing backend.
#[cfg(feature = "wgpu")]
pub(crate) fn on_cube<const D: usize>(tensor: &Tensor<D>) -> Option<CubeTensor> {
    let primitive = tensor.clone().try_into_primitive::<burn::backend::Cube>().ok()?;
    // Which type `Cube` stands for depends on Burn's feature `fusion`, which this crate cannot see.
    let primitive: Box<dyn Any> = Box::new(primitive);
    primitive.downcast::<CubeTensor>().ok().map(|tensor| *tensor)
}

/// The other way round.
#[cfg(feature = "wgpu")]
pub(crate) fn from_cube<const D: usize>(tensor: CubeTensor) -> Option<Tensor<D>> {
    let tensor: Box<dyn Any> = Box::new(tensor);
    let primitive = tensor.downcast::<<burn::backend::Cube as BackendTypes>::FloatTensorPrimitive>().ok()?;
    Some(Tensor::from_primitive::<burn::backend::Cube>(*primitive))
}

#[cfg(feature = "wgpu")]
pub(crate) fn device_error(path: &str, error: &GpuError) -> SfpError {
    let out_of_memory = matches!(error, GpuError::OutOfMemory { .. });
    SfpError::Device { path: path.to_string(), out_of_memory, message: error.to_string() }
}

/// A tensor's data, shared: clones cost nothing, and on flex nothing is copied at all. Whoever writes to either side gets a
/// copy of its own.
pub(crate) fn shared_data<const D: usize>(tensor: Tensor<D>) -> TensorData {
    #[cfg(feature = "flex")]
    if let Ok(flex) = tensor.clone().try_into_primitive::<burn_flex::Flex>() {
        let (shape, dtype) = (tensor.shape(), flex.dtype());
        // A view of a part would not fill its shape.
        if flex.is_contiguous() && flex.bytes().len() == shape.num_elements() * dtype.size() {
            let owner = bytes::Bytes::from_owner(Memory(flex));
            return TensorData::from_bytes(Bytes::from_shared(owner, AllocationProperty::Native), shape, dtype);
        }
    }
    let (bytes, shape, dtype) = tensor.into_data().into_parts();
    TensorData::from_bytes(bytes.shared(), shape, dtype)
}

/// Keeps a tensor's memory alive.
#[cfg(feature = "flex")]
struct Memory(burn_flex::FlexTensor);

#[cfg(feature = "flex")]
impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// A tensor as a host array, whatever its device and float type.
pub(crate) fn to_array3(tensor: &Tensor<3>) -> Result<Array3<f32>, SfpError> {
    if let Some(array) = on_host(tensor, |view| view.to_owned()) {
        return Ok(array);
    }
    let shape = tensor.dims();
    Array3::from_shape_vec(shape, to_vec(tensor.clone().into_data())?).map_err(|error| unreadable(&error))
}

/// The numbers of a float tensor's data.
pub(crate) fn to_vec(data: TensorData) -> Result<Vec<f32>, SfpError> {
    data.convert::<f32>().try_into_vec::<f32>().map_err(|error| unreadable(&format!("{error:?}")))
}

fn unreadable(message: &dyn std::fmt::Display) -> SfpError {
    SfpError::Capture(format!("a tensor could not be read from the device: {message}"))
}

/// Sums of activations by label, `[C, F, S]`.
#[allow(clippy::large_enum_variant)] // one a layer
pub(crate) enum ClassSums {
    Host(Array3<f64>),
    Device(Tensor<3>),
}

impl ClassSums {
    /// Adds a batch `[N, F, S]`; the labels were checked to be below `classes`.
    pub(crate) fn add(
        this: &mut Option<Self>,
        acts: &Tensor<3>,
        labels: &[usize],
        classes: usize,
        path: &str,
    ) -> Result<(), SfpError> {
        let [_, filters, positions] = acts.dims();
        let host = on_host(acts, |view| {
            let state = this.get_or_insert_with(|| Self::Host(Array3::zeros((classes, filters, positions))));
            match state {
                Self::Host(sums) => Some(burn_sfp_ndarray::class_sums(view, labels, sums.view_mut())),
                Self::Device(_) => None,
            }
        });
        if let Some(Some(done)) = host {
            return done.map_err(|source| SfpError::Kernel { path: path.to_string(), source });
        }
        #[cfg(feature = "wgpu")]
        if let Some(cube) = on_cube(acts) {
            let before = match this.take() {
                Some(Self::Device(sums)) => on_cube(&sums),
                _ => None,
            };
            let sums =
                burn_sfp_wgpu::class_sums(cube, labels, classes, before).map_err(|error| device_error(path, &error))?;
            *this = from_cube(sums).map(Self::Device);
            return Ok(());
        }
        let batch = portable_class_sums(acts, labels, classes);
        *this = Some(match this.take() {
            None => Self::Device(batch),
            Some(Self::Device(sums)) => Self::Device(sums + batch),
            Some(Self::Host(sums)) => Self::Host(sums + to_array3(&batch)?.mapv(f64::from)),
        });
        Ok(())
    }

    pub(crate) fn into_host(self) -> Result<Array3<f64>, SfpError> {
        match self {
            Self::Host(sums) => Ok(sums),
            Self::Device(sums) => Ok(to_array3(&sums)?.mapv(f64::from)),
        }
    }
}

/// The portable body: one product of the one-hot labels with the activations.
pub(crate) fn portable_class_sums(acts: &Tensor<3>, labels: &[usize], classes: usize) -> Tensor<3> {
    let [samples, filters, positions] = acts.dims();
    let device = acts.device();
    let labels: Vec<i64> = labels.iter().map(|&label| label as i64).collect();
    let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [samples]), &device);
    let one_hot = labels.one_hot::<2>(classes).float().cast(DType::F32).transpose();
    let acts = acts.clone().cast(DType::F32).reshape([samples, filters * positions]);
    one_hot.matmul(acts).reshape([classes, filters, positions])
}

/// The Gram matrix of a layer's activations, `[K, K]` with K = F·S.
#[allow(clippy::large_enum_variant)] // one a layer
pub(crate) enum Gram {
    /// Lower triangle, double precision.
    Host(Array2<f64>),
    Device(Tensor<2>),
}

impl Gram {
    pub(crate) fn add(this: &mut Option<Self>, acts: &Tensor<3>, path: &str) -> Result<(), SfpError> {
        let [samples, filters, positions] = acts.dims();
        let features = filters * positions;
        let host = on_host(acts, |view| {
            let state = this.get_or_insert_with(|| Self::Host(Array2::zeros((features, features))));
            let flat = view.to_shape((samples, features));
            match (state, flat) {
                (Self::Host(gram), Ok(flat)) => Some(burn_sfp_ndarray::gram_update(flat.view(), gram.view_mut())),
                _ => None,
            }
        });
        if let Some(Some(done)) = host {
            return done.map_err(|source| SfpError::Kernel { path: path.to_string(), source });
        }
        let flat = acts.clone().cast(DType::F32).reshape([samples, features]);
        let batch = flat.clone().transpose().matmul(flat);
        *this = Some(match this.take() {
            Some(Self::Device(gram)) => Self::Device(gram + batch),
            _ => Self::Device(batch),
        });
        Ok(())
    }

    pub(crate) fn into_host(self) -> Result<Array2<f64>, SfpError> {
        match self {
            Self::Host(gram) => Ok(gram),
            Self::Device(gram) => {
                let host = to_array3(&gram.unsqueeze::<3>())?.mapv(f64::from);
                Ok(host.index_axis_move(Axis(0), 0))
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use burn::tensor::Device;

    /// The default wgpu device, where there is an adapter.
    #[cfg(feature = "wgpu")]
    pub(crate) fn gpu() -> Option<Device> {
        let found = std::panic::catch_unwind(|| {
            let device = Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
            let _ = Tensor::<1>::zeros([1], &device).into_data();
            device
        });
        if found.is_err() {
            println!("skipped: no wgpu adapter");
        }
        found.ok()
    }

    #[test]
    #[cfg(feature = "wgpu")]
    fn sums_on_the_gpu_agree() {
        let Some(device) = gpu() else { return };
        let acts = Tensor::<3>::random([6, 5, 3], burn::tensor::Distribution::Default, &device);
        let labels = [2, 0, 2, 1, 2, 0];
        let mut sums = None;
        ClassSums::add(&mut sums, &acts, &labels, 4, "layer").unwrap();
        ClassSums::add(&mut sums, &acts, &labels, 4, "layer").unwrap();
        let found = sums.unwrap().into_host().unwrap();
        let portable = to_array3(&portable_class_sums(&acts, &labels, 4)).unwrap();
        assert!(found.iter().zip(&portable).all(|(a, b)| (a - 2.0 * f64::from(*b)).abs() < 1e-5));
    }

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

    #[test]
    fn portable_and_host_bodies_agree() {
        for device in [Device::flex(), Device::ndarray()] {
            let values: Vec<f32> = (0..5 * 3 * 4).map(|k| ((k * 37 % 19) as f32).sin()).collect();
            let acts = Tensor::<3>::from_data(TensorData::new(values.clone(), [5, 3, 4]), &device);
            let labels = [1, 0, 1, 2, 1];
            let mut sums = None;
            ClassSums::add(&mut sums, &acts, &labels, 4, "layer").unwrap();
            assert!(matches!(sums, Some(ClassSums::Host(_))), "no copy-free view on {device:?}");
            let host = sums.unwrap().into_host().unwrap();
            let portable = to_array3(&portable_class_sums(&acts, &labels, 4)).unwrap();
            for ((c, f, s), &sum) in host.indexed_iter() {
                let reference: f64 =
                    (0..5).filter(|&n| labels[n] == c).map(|n| f64::from(values[(n * 3 + f) * 4 + s])).sum();
                assert!((sum - reference).abs() < 1e-12);
                assert!((f64::from(portable[[c, f, s]]) - reference).abs() < 1e-5);
            }
        }
    }
}
