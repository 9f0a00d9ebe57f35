//! Measures the kernels on this machine: `cargo run --release -p burn-sfp-ndarray --example timing`.

use std::hint::black_box;
use std::time::Instant;

use burn_sfp_ndarray::{KernelError, cholesky_solve, class_sums, filter_performances, find_non_finite, gram_update};
use ndarray::{Array2, Array3, ArrayViewMut};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Prints the shortest time of some runs, in milliseconds.
fn best<T>(name: &str, runs: usize, mut job: impl FnMut() -> T) {
    let times = (0..runs).map(|_| {
        let start = Instant::now();
        black_box(job());
        start.elapsed().as_secs_f64() * 1e3
    });
    println!("{name:<60} {:9.2} ms", times.fold(f64::INFINITY, f64::min));
}

fn fill<D: ndarray::Dimension>(mut array: ArrayViewMut<f32, D>, seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    array.map_inplace(|value| *value = rng.random_range(-1.0..1.0));
}

fn main() -> Result<(), KernelError> {
    let large = std::env::args().any(|argument| argument == "--large");

    // Filters and positions of the layers of VGG-11 on 32 x 32 images, after a pooling that follows.
    let layers =
        [(64, 1024), (64, 256), (128, 256), (128, 64), (256, 64), (256, 64), (256, 16), (512, 16), (512, 16), (512, 4)];
    let mut layers: Vec<_> =
        layers.iter().map(|&(f, s)| (Array3::<f32>::zeros((256, f, s)), Array3::<f64>::zeros((100, f, s)))).collect();
    for (acts, _) in &mut layers {
        fill(acts.view_mut(), 1);
    }
    let labels: Vec<usize> = (0..256).map(|sample| sample * 37 % 100).collect();
    let elements: usize = layers.iter().map(|(acts, _)| acts.len()).sum();
    best(&format!("class_sums, 256 images, ten layers, {elements} elements"), 9, || {
        layers.iter_mut().try_for_each(|(acts, sums)| class_sums(acts.view(), &labels, sums.view_mut()))
    });
    best(&format!("find_non_finite, {elements} elements"), 9, || {
        layers.iter().filter_map(|(acts, _)| find_non_finite(acts.view())).count()
    });
    drop(layers);

    for (c, f, s) in [(100, 512, 4), (100, 512, 16), (100, 256, 64), (1000, 1280, 1)] {
        let mut means = Array3::zeros((c, f, s));
        let mut readout = Array3::zeros((f, s, c));
        fill(means.view_mut(), 2);
        fill(readout.view_mut(), 3);
        best(&format!("filter_performances, C {c}, F {f}, S {s}"), 5, || {
            filter_performances(means.view(), readout.view(), 0.3)
        });
    }

    if large {
        filters_against_gemm();
    }

    for k in if large { vec![2048, 4096, 8192] } else { vec![1024, 2048] } {
        let mut x = Array2::zeros((256, k));
        fill(x.view_mut(), 4);
        let mut gram = Array2::zeros((k, k));
        gram_update(x.view(), gram.view_mut())?;
        let mut rhs = Array2::<f32>::zeros((k, 100));
        fill(rhs.view_mut(), 5);
        let rhs = rhs.mapv(f64::from);
        best(&format!("gram_update, N 256, K {k}"), 5, || gram_update(x.view(), gram.view_mut()));
        let mut copies: Vec<_> = (0..if k > 4000 { 1 } else { 5 }).map(|_| (gram.clone(), rhs.clone())).collect();
        best(&format!("cholesky_solve, K {k}, C 100"), copies.len(), || {
            copies.pop().map(|(gram, rhs)| cholesky_solve(gram, 1.0, rhs))
        });
    }
    Ok(())
}

/// Measures the largest case of the analysis, a copy of its inputs and a matrix product of as many multiplications.
fn filters_against_gemm() {
    let (c, f, s) = (1000, 2048, 49);
    let mut means = Array3::zeros((c, f, s));
    let mut readout = Array3::zeros((f, s, c));
    fill(means.view_mut(), 6);
    fill(readout.view_mut(), 7);
    best(&format!("filter_performances, C {c}, F {f}, S {s}"), 3, || {
        filter_performances(means.view(), readout.view(), 0.3)
    });
    if let Ok(status) = std::fs::read_to_string("/proc/self/status")
        && let Some(line) = status.lines().find(|line| line.starts_with("VmHWM"))
    {
        println!("peak memory with both inputs: {line}");
    }
    best("a copy of both inputs", 3, || (means.clone(), readout.clone()));
    // [1000, 49 * 2048] x [49 * 2048, 1000]: the same elements and as many multiplications, but a single result.
    let (Ok(means), Ok(readout)) = (means.into_shape_with_order((c, f * s)), readout.into_shape_with_order((f * s, c)))
    else {
        return; // unreachable: row-major arrays take any shape of as many elements
    };
    let mut product = Array2::<f32>::zeros((c, c));
    best("one product of as many multiplications", 3, || {
        // SAFETY: the three arrays are row-major and have exactly these shapes, so every access is inside one of them;
        // `product` is a separate allocation, so it overlaps neither input.
        unsafe {
            gemm::gemm(
                c,
                c,
                f * s,
                product.as_mut_ptr(),
                1,
                c as isize,
                false,
                means.as_ptr(),
                1,
                (f * s) as isize,
                readout.as_ptr(),
                1,
                c as isize,
                1.0_f32,
                1.0_f32,
                false,
                false,
                false,
                gemm::Parallelism::Rayon(0),
            );
        }
    });
}
