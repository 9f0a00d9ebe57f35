//! Tensors of the CubeCL runtimes (wgpu, Vulkan, CUDA), with and without Burn's feature `fusion`.

use std::panic::catch_unwind;
use std::sync::OnceLock;

use burn::backend::{BackendTypes, Cube};
use burn::tensor::{Device, DeviceKind, Tensor};
use burn_cubecl::tensor::CubeTensor;
use burn_sfp_wgpu::{GpuError, KernelBackend};

/// The primitive behind a tensor of Burn's CubeCL backend: its memory, or what stands for it while operations are fused.
pub type CubePrimitive = <Cube as BackendTypes>::FloatTensorPrimitive;

/// The memory of a tensor; `None` where its device is not a CubeCL runtime, or an autodiff device. Where Burn fuses operations, those
/// that wait on the tensor's stream run first.
///
/// ```no_run
/// use burn::tensor::{Device, DeviceKind, Tensor};
/// use burn_sfp_nn::tensor::on_cube;
///
/// let tensor = Tensor::<1>::ones([3], &Device::wgpu(DeviceKind::DefaultDevice));
/// if let Some(memory) = on_cube(&tensor) {
///     assert_eq!(burn_sfp_wgpu::read(memory?)?, [1.0; 3]);
/// }
/// # Ok::<(), burn_sfp_wgpu::GpuError>(())
/// ```
pub fn on_cube<const D: usize>(tensor: &Tensor<D>) -> Option<Result<CubeTensor, GpuError>> {
    Some(Cube::memory(cube_primitive(tensor)?))
}

/// The primitive of a tensor, for [`KernelBackend::launch`]; `None` where its device is not a CubeCL runtime, or an autodiff device.
///
/// ```no_run
/// use burn::backend::Cube;
/// use burn::tensor::{DType, Device, DeviceKind, Tensor};
/// use burn_sfp_nn::tensor::cube_primitive;
/// use burn_sfp_wgpu::{KernelBackend, class_sums};
///
/// let acts = Tensor::<3>::ones([4, 2, 1], &Device::wgpu(DeviceKind::DefaultDevice));
/// if let Some(acts) = cube_primitive(&acts) {
///     let sums = Cube::launch([acts], [2, 2, 1].into(), DType::F32, |[acts]| class_sums(acts, &[0, 1, 1, 1], 2, None))?;
///     let sums = Tensor::<3>::from_primitive::<Cube>(sums);
///     assert_eq!(sums.into_data().to_vec::<f32>().unwrap(), [1.0, 1.0, 3.0, 3.0]);
/// }
/// # Ok::<(), burn_sfp_wgpu::GpuError>(())
/// ```
pub fn cube_primitive<const D: usize>(tensor: &Tensor<D>) -> Option<CubePrimitive> {
    tensor.clone().try_into_primitive::<Cube>().ok()
}

/// Whether Burn fuses the operations of the CubeCL runtimes in this build: its feature `fusion` is on.
///
/// ```
/// println!("operations on GPUs are {}", if burn_sfp_nn::tensor::fuses() { "fused" } else { "run one by one" });
/// ```
pub fn fuses() -> bool {
    <Cube as KernelBackend>::FUSES
}

/// The default wgpu device, `None` where there is no adapter.
///
/// The adapter is asked once; Burn itself panics where there is none.
pub fn wgpu_device() -> Option<Device> {
    static DEVICE: OnceLock<Option<Device>> = OnceLock::new();
    let ask = || {
        let device = Device::wgpu(DeviceKind::DefaultDevice);
        let _ = Tensor::<1>::zeros([1], &device).into_data();
        device
    };
    DEVICE.get_or_init(|| catch_unwind(ask).ok()).clone()
}
