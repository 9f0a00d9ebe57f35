//! Measures the sparse convolution and Burn's dense convolution on one wgpu device: 3x3, padding 1, 512 to 512 channels.
//!
//! `cargo run --release -p burn-sfp-wgpu --example gpu_timing`. Every time is the shortest of several, each for a call and
//! the reading of its whole output. The features of the build choose Burn's dense convolution (without autotuning, its
//! direct kernel).

use std::time::Instant;

use burn::backend::Cube;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, DeviceKind, Tensor, TensorData};
use burn_sfp_wgpu::{ConvGeometry, CubeTensor, DevicePattern, KernelBackend, KernelPattern};
use burn_sfp_wgpu::{sparse_conv2d, sparse_conv2d_grad_input, sparse_conv2d_grad_values};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const CHANNELS: usize = 512;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    let geometry = ConvGeometry { padding: [[1, 1]; 2], ..ConvGeometry::default() };
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let weight = random::<4>(&mut rng, [CHANNELS, CHANNELS, 3, 3], &device);
    println!("map batch pruned  dense ms  sparse ms  ratio   grad input ms  grad values ms");
    for side in [4, 8] {
        for batch in [1, 64] {
            let shape = [batch, CHANNELS, side, side];
            let x = random::<4>(&mut rng, shape, &device);
            let repeats = if batch == 1 { 20 } else { 3 };
            let dense = least(repeats, || {
                let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
                let y = conv2d(x.clone(), weight.clone(), None, options);
                look(y)
            });
            for pruned in [0.75, 0.9, 0.95] {
                let pattern = KernelPattern::from_fn(CHANNELS, CHANNELS, |_, _| rng.random_range(0.0..1.0) >= pruned);
                let cube = primitive(x.clone());
                let pattern = DevicePattern::upload(&cube.device, &pattern, 1)?;
                let values = primitive(random::<3>(&mut rng, [pattern.kernels(), 3, 3], &device));
                let sparse = least(repeats, || {
                    read(sparse_conv2d(cube.clone(), values.clone(), None, &pattern, &geometry).unwrap())
                });
                let input = least(repeats, || {
                    let x = sparse_conv2d_grad_input(cube.clone(), values.clone(), &pattern, &geometry, shape);
                    read(x.unwrap())
                });
                let kernels = least(repeats, || {
                    let x = sparse_conv2d_grad_values(cube.clone(), cube.clone(), &pattern, &geometry, [3, 3]);
                    read(x.unwrap())
                });
                println!(
                    "{side}x{side} {batch:5}  {:.0} % {dense:10.2} {sparse:10.2} {:6.1} {input:15.2} {kernels:15.2}",
                    100.0 * pruned,
                    dense / sparse
                );
            }
        }
    }
    Ok(())
}

fn random<const D: usize>(rng: &mut ChaCha8Rng, shape: [usize; D], device: &Device) -> Tensor<D> {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn primitive<const D: usize>(tensor: Tensor<D>) -> CubeTensor {
    Cube::memory(tensor.try_into_primitive::<Cube>().expect("a tensor of the wgpu device")).expect("its memory")
}

/// Reads a whole tensor, so that all of it is computed; returns the number of elements that are not zero.
fn read(tensor: CubeTensor) -> usize {
    burn_sfp_wgpu::read(tensor).expect("floats").into_iter().filter(|&value| value != 0.0).count()
}

/// Returns the number of nonzero bytes; it reads every byte, since data may be copied from the device only on access.
fn look<const D: usize>(tensor: Tensor<D>) -> usize {
    tensor.into_data().as_bytes().iter().filter(|&&byte| byte != 0).count()
}

/// Returns the shortest time of a call in milliseconds, after two calls that are not measured.
fn least(repeats: usize, mut call: impl FnMut() -> usize) -> f64 {
    let time = |_| {
        let start = Instant::now();
        assert!(call() > 0);
        start.elapsed().as_secs_f64() * 1e3
    };
    (0..repeats + 2).map(time).skip(2).fold(f64::INFINITY, f64::min)
}
