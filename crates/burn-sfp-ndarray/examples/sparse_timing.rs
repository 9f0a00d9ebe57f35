//! Measures the sparse convolution on this machine:
//! `cargo run --release -p burn-sfp-ndarray --example sparse_timing`.
//!
//! Three arguments (batch, side of the map, side of the kernel) select a single case.
//!
//! The layers have 512 input and 512 output filters. GFLOP/s count all taps of the kernels kept, including taps on
//! padding; "x dense" compares with a dense convolution at 150 GFLOP/s, counted in the same way.

use std::hint::black_box;
use std::time::Instant;

use burn_sfp_ndarray::{
    ConvGeometry, Epilogue, KernelError, KernelPattern, sparse_conv2d, sparse_conv2d_grad_input,
    sparse_conv2d_grad_values,
};
use ndarray::{Array3, Array4, Ix3, Ix4, ShapeBuilder};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Returns the shortest time of several runs, in milliseconds.
fn best<T>(mut job: impl FnMut() -> T) -> f64 {
    let start = Instant::now();
    let mut best = f64::INFINITY;
    for run in 0..400 {
        let begin = Instant::now();
        black_box(job());
        best = best.min(begin.elapsed().as_secs_f64() * 1e3);
        if run > 4 && start.elapsed().as_secs_f64() > 0.6 {
            break;
        }
    }
    best
}

fn random<D: ndarray::Dimension>(shape: impl ShapeBuilder<Dim = D>, seed: u64) -> ndarray::Array<f32, D> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    ndarray::Array::from_shape_simple_fn(shape, || rng.random_range(-1.0_f32..1.0))
}

fn main() -> Result<(), KernelError> {
    println!("batch  map  removed   forward ms  GFLOP/s  x dense   grad_input ms  GFLOP/s   grad_values ms  GFLOP/s");
    let layers = [(1, 4), (1, 8), (64, 4), (64, 8)].map(|(batch, side)| (batch, side, 3));
    let linear = [(1, 1, 1), (64, 1, 1), (64, 8, 1)];
    let only: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    for (batch, side, kernel) in layers.into_iter().chain(linear) {
        if only.len() == 3 && only != [batch, side, kernel] {
            continue;
        }
        for removed in [0.0, 0.5, 0.75, 0.9, 0.95] {
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            let pattern = KernelPattern::from_fn(512, 512, |_, _| rng.random_bool(1.0 - removed));
            let padding = [[kernel / 2; 2]; 2];
            let geometry = ConvGeometry { stride: [1, 1], padding, dilation: [1, 1], groups: 1 };
            let x: Array4<f32> = random::<Ix4>((batch, 512, side, side), 2);
            let grad: Array4<f32> = random::<Ix4>((batch, 512, side, side), 3);
            let values: Array3<f32> = random::<Ix3>((pattern.kept(), kernel, kernel), 4);
            let shift = vec![0.1; 512];
            let epilogue = Epilogue { shift: Some(&shift), relu: true, ..Epilogue::default() };
            sparse_conv2d(x.view(), values.view(), &pattern, &geometry, epilogue)?;
            let forward = best(|| sparse_conv2d(x.view(), values.view(), &pattern, &geometry, epilogue));
            let shape = [batch, 512, side, side];
            let to_input = best(|| sparse_conv2d_grad_input(grad.view(), values.view(), &pattern, &geometry, shape));
            let to_values = best(|| sparse_conv2d_grad_values(x.view(), grad.view(), &pattern, &geometry, [kernel; 2]));
            let products = 2e-6 * (kernel * kernel * batch * side * side) as f64;
            let kept = products * pattern.kept() as f64;
            let dense = products * 512.0 * 512.0 / 150.0;
            println!(
                "{batch:5} {side}x{side}x{kernel} {:6} %  {forward:11.3} {:8.0} {:8.1}  {to_input:14.3} {:8.0} {to_values:16.3} {:8.0}",
                removed * 100.0,
                kept / forward,
                dense / forward,
                kept / to_input,
                kept / to_values,
            );
        }
    }
    Ok(())
}
