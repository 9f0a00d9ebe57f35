//! Kernels on the tensors of Burn's CubeCL backend, whether it fuses operations or not.
//!
//! With Burn's feature `fusion` (on for whoever enables `burn/wgpu` with the default features) a tensor of these runtimes is a
//! promise of [`Fusion`], not memory. A crate cannot see whether that feature is on, so the two backends share a trait.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use burn_backend::backend::Backend;
use burn_backend::tensor::FloatTensor;
use burn_backend::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use burn_fusion::custom::{CustomOpIr, HandleContainer, Operation, OperationIr, OperationOutput, StreamId, TensorIr};
use burn_fusion::{ExecutionError, Fusion, FusionBackend, FusionRuntime};

use crate::GpuError;
use crate::device::{RowMajor, guarded, values};
use crate::error::expect_f32;

/// A backend whose tensors the kernels of this crate can work on: [`CubeBackend`], and [`Fusion`] of it.
///
/// `burn::backend::Cube` is one or the other, by Burn's feature `fusion`; code that is written against this trait compiles with both.
///
/// # Example
/// ```
/// use burn::backend::Cube;
/// use burn::tensor::{DType, Tensor};
/// use burn_sfp_wgpu::{KernelBackend, class_sums};
///
/// # let Some(device) = std::panic::catch_unwind(|| {
/// #     let device = burn::tensor::Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
/// #     let _ = Tensor::<1>::zeros([1], &device).into_data();
/// #     device
/// # }).ok() else { println!("skipped: no wgpu adapter"); return Ok(()) };
/// let acts = Tensor::<3>::from_data([[[1.0, 2.0]], [[10.0, 20.0]], [[100.0, 200.0]]], &device);
/// let acts = acts.try_into_primitive::<Cube>().unwrap();
/// let sums = Cube::launch([acts], [2, 1, 2].into(), DType::F32, |[acts]| class_sums(acts, &[1, 0, 1], 2, None))?;
/// let sums = Tensor::<3>::from_primitive::<Cube>(sums);
/// assert_eq!(sums.into_data().try_to_vec::<f32>().unwrap(), [10.0, 20.0, 101.0, 202.0]);
/// # Ok::<(), burn_sfp_wgpu::GpuError>(())
/// ```
pub trait KernelBackend: Backend {
    /// Whether operations are queued, and run later, together.
    const FUSES: bool;

    /// The tensor's memory. A fusing backend runs what it has queued on the tensor's stream first.
    ///
    /// # Errors
    /// [`GpuError::Device`] or [`GpuError::OutOfMemory`] where an operation that the tensor depends on failed.
    fn memory(tensor: FloatTensor<Self>) -> Result<CubeTensor, GpuError>;

    /// Runs a kernel whose result has this shape and type. A fusing backend puts it in its queue, as one operation, without running
    /// what is there.
    ///
    /// # Errors
    /// Those of the kernel. A fusing backend cannot know them yet: there, reading the result reports them.
    fn launch<const N: usize>(
        inputs: [FloatTensor<Self>; N],
        shape: Shape,
        dtype: DType,
        kernel: impl Fn([CubeTensor; N]) -> Result<CubeTensor, GpuError> + Send + Sync + 'static,
    ) -> Result<FloatTensor<Self>, GpuError>;
}

impl KernelBackend for CubeBackend {
    const FUSES: bool = false;

    fn memory(tensor: CubeTensor) -> Result<CubeTensor, GpuError> {
        Ok(tensor)
    }

    fn launch<const N: usize>(
        inputs: [CubeTensor; N],
        _shape: Shape,
        _dtype: DType,
        kernel: impl Fn([CubeTensor; N]) -> Result<CubeTensor, GpuError> + Send + Sync + 'static,
    ) -> Result<CubeTensor, GpuError> {
        kernel(inputs)
    }
}

impl<B: FusionBackend + KernelBackend> KernelBackend for Fusion<B> {
    const FUSES: bool = true;

    fn memory(tensor: FloatTensor<Self>) -> Result<CubeTensor, GpuError> {
        // Burn panics where the operation that makes the tensor failed.
        guarded(|| {
            let client = tensor.client.clone();
            B::memory(client.resolve_tensor_float::<B>(tensor))
        })
    }

    fn launch<const N: usize>(
        inputs: [FloatTensor<Self>; N],
        shape: Shape,
        dtype: DType,
        kernel: impl Fn([CubeTensor; N]) -> Result<CubeTensor, GpuError> + Send + Sync + 'static,
    ) -> Result<FloatTensor<Self>, GpuError> {
        const { assert!(N > 0, "an operation is queued on the stream of its first input") };
        guarded(|| {
            let client = inputs[0].client.clone();
            let inputs = inputs.map(|tensor| tensor.into_ir());
            let output = TensorIr::uninit(client.create_empty_handle(), shape, dtype);
            let operation = OperationIr::Custom(CustomOpIr::new("burn-sfp", &inputs, std::slice::from_ref(&output)));
            let kernel = Queued::<B, _, N> { inputs, output, kernel: Arc::new(kernel), backend: PhantomData };
            let [made] = client.register(StreamId::current(), operation, kernel).outputs();
            Ok(made)
        })
    }
}

/// A kernel in a fusing backend's queue.
struct Queued<B, K, const N: usize> {
    inputs: [TensorIr; N],
    output: TensorIr,
    kernel: Arc<K>,
    backend: PhantomData<B>,
}

impl<B, K, const N: usize> fmt::Debug for Queued<B, K, N> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Queued").field("inputs", &self.inputs).field("output", &self.output).finish()
    }
}

impl<B, K, const N: usize> Operation<B::FusionRuntime> for Queued<B, K, N>
where
    B: FusionBackend + KernelBackend,
    K: Fn([CubeTensor; N]) -> Result<CubeTensor, GpuError> + Send + Sync + 'static,
{
    fn execute(
        &self,
        handles: &mut HandleContainer<<B::FusionRuntime as FusionRuntime>::FusionHandle>,
    ) -> Result<(), ExecutionError> {
        let inputs = self.inputs.each_ref().map(|input| handles.get_float_tensor::<B>(input));
        let kernel = self.kernel.clone();
        let made = B::launch(inputs, self.output.shape.clone(), self.output.dtype, move |inputs| kernel(inputs))
            .map_err(|error| ExecutionError::with_context(error.to_string()))?;
        handles.register_float_tensor::<B>(&self.output.id, made);
        Ok(())
    }
}

/// Reads the elements of an f32 tensor in row-major order, once everything that writes them has run.
///
/// # Errors
/// [`GpuError::Dtype`] where the elements have another type; [`GpuError::Device`] where the device is lost, or an operation that the
/// tensor depends on failed.
///
/// # Example
/// ```
/// use burn::backend::Cube;
/// use burn::tensor::Tensor;
/// use burn_sfp_wgpu::{KernelBackend, read};
///
/// # let Some(device) = std::panic::catch_unwind(|| {
/// #     let device = burn::tensor::Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
/// #     let _ = Tensor::<1>::zeros([1], &device).into_data();
/// #     device
/// # }).ok() else { println!("skipped: no wgpu adapter"); return Ok(()) };
/// let tensor = Tensor::<2>::from_data([[1.0, 2.0], [3.0, 4.0]], &device).transpose();
/// let memory = Cube::memory(tensor.try_into_primitive::<Cube>().unwrap())?;
/// assert_eq!(read(memory)?, [1.0, 3.0, 2.0, 4.0]);
/// # Ok::<(), burn_sfp_wgpu::GpuError>(())
/// ```
pub fn read(tensor: CubeTensor) -> Result<Vec<f32>, GpuError> {
    expect_f32("tensor", &tensor)?;
    guarded(|| values(RowMajor::new(tensor)?))
}
