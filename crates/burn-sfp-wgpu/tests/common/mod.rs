//! The device of the tests, and tensors on it.

#![allow(dead_code)] // every test file uses a part of this module

mod limit;

use burn::backend::Cube;
use burn::tensor::{Device, DeviceKind, FloatDType, Tensor, TensorData};
use burn_backend::ops::FloatTensorOps;
use burn_cubecl::{CubeBackend, CubeDevice, tensor::CubeTensor};
use burn_sfp_wgpu::KernelBackend;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Returns the wgpu device, and limits the time of the test; prints a message and returns `None` when there is none.
pub fn device() -> Option<Device> {
    limit::limit_test();
    let device = std::panic::catch_unwind(|| {
        let device = Device::wgpu(DeviceKind::DefaultDevice);
        let _ = Tensor::<1>::zeros([1], &device).into_data();
        device
    });
    if device.is_err() {
        println!("skipped: no wgpu adapter");
    }
    device.ok()
}

pub fn cube<const D: usize>(tensor: Tensor<D>) -> CubeTensor {
    Cube::memory(tensor.try_into_primitive::<Cube>().expect("a tensor of the wgpu device")).expect("its memory")
}

pub fn cube_device(device: &Device) -> CubeDevice {
    cube(Tensor::<1>::zeros([1], device)).device
}

pub fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

pub fn upload<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> CubeTensor {
    cube(tensor(values, shape, device))
}

/// The elements as floats of single precision, whatever the type.
pub fn download(tensor: CubeTensor) -> Vec<f32> {
    burn_sfp_wgpu::read(CubeBackend::float_cast(tensor, FloatDType::F32)).expect("floats")
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

pub fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// Returns values uniform in [-1, 1).
pub fn random(count: usize, seed: u64) -> Vec<f32> {
    let mut rng = rng(seed);
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// Asserts that every element differs by at most 1e-5 times the sum of the absolute values of its terms.
pub fn assert_close(found: &[f32], expected: &[(f64, f64)], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (place, (&found, &(sum, size))) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - sum).abs();
        assert!(error <= 1e-5 * size.max(1e-30), "{what}: {found} for {sum} at {place}");
    }
}
